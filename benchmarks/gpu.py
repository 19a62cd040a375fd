"""Training on a GPU: a model of Phi-4-mini's shape under full, LoRA and QLoRA, beside TRL with Liger kernels.

For each technique and length: real tokens per second, peak memory, and the model FLOPs utilisation, that is the FLOPs
that the model's matrix products need (no recomputation counted) over what the GPU's tensor cores can do in dense bf16.
Weights are random; every lane is a fresh process with the same documents, one warm-up epoch of 4 steps before 12 that
are timed. A lane that runs out of memory is shown as void, with what it asked for.

    python benchmarks/gpu.py [--json] [--lengths 1024 4096 8192] [--techniques lora qlora full] [--tiny]

`--tiny` is a small model, on whatever device there is: it shows that every lane runs, and its figures mean nothing.
Needs the extras `train`, `quant`, `kernels` and `bench`; TRL's lane takes flash_attn where it is installed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

PHI_4_MINI = {
    "vocab_size": 200064, "hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 32,
    "num_attention_heads": 24, "num_key_value_heads": 8,
}  # fmt: skip
"""Of the published config.json."""
TINY = {
    "vocab_size": 512, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2,
}  # fmt: skip
PEAK_TFLOPS = {"H100": 989.4, "H200": 989.4, "A100": 312.0, "L40S": 362.0, "A10": 125.0, "V100": 125.0, "T4": 65.0}
"""Dense bf16 (fp16 before Ampere) of the tensor cores, from NVIDIA's data sheets; SXM versions where there are two."""
WARM_UP, TIMED, BATCH = 4, 12, 4
RANK = 16


def make(folder: Path, length: int, tiny: bool) -> None:
    """The model's folder, written on the GPU where there is one, and documents whose lengths are log-normal."""
    import numpy as np
    import torch
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

    from azft.data.dataset_writer import write_dataset

    shape = TINY if tiny else PHI_4_MINI
    config = AutoConfig.for_model(
        "phi3", **shape, max_position_embeddings=max(length, 4096), original_max_position_embeddings=max(length, 4096),
        pad_token_id=1, bos_token_id=0, eos_token_id=2, tie_word_embeddings=True, dtype="bfloat16",
    )  # fmt: skip
    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(folder / "model")
    words = {"<bos>": 0, "<pad>": 1, "<eos>": 2, "<unk>": 3}
    PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel(words, unk_token="<unk>")), bos_token="<bos>", eos_token="<eos>",
        pad_token="<pad>", unk_token="<unk>",
    ).save_pretrained(folder / "model")  # fmt: skip
    random = np.random.default_rng(5)
    documents, tokens = [], 0
    while tokens < (WARM_UP + TIMED) * BATCH * length:
        size = int(np.clip(random.lognormal(np.log(length / 4), 0.8), 16, length))
        documents.append(random.integers(4, shape["vocab_size"], size))
        tokens += size
    masks = [np.arange(len(ids)) >= len(ids) // 3 for ids in documents]
    with write_dataset(
        folder / "dataset", splits=["train"], vocab_size=shape["vocab_size"], max_length=length, packing=True,
        tokenizer="bench",
    ) as writer:  # fmt: skip
        for ids, mask in zip(documents, masks, strict=True):
            writer.splits["train"].add(ids, mask)
    rows = [{"ids": ids.tolist(), "mask": mask.tolist()} for ids, mask in zip(documents, masks, strict=True)]
    (folder / "work.json").write_text(json.dumps(rows))


class Clock:
    """Times the steps after the warm-up; waits for the GPU at both ends."""

    def __init__(self) -> None:
        self.steps, self.tokens, self.seconds, self.began = 0, 0, 0.0, 0.0

    def step_ended(self, tokens: int) -> None:
        """Count one step."""
        self.steps += 1
        if self.steps == WARM_UP:
            self.began = self._now()
        elif self.steps > WARM_UP:
            self.tokens += tokens
            self.seconds = self._now() - self.began

    def result(self) -> dict[str, Any]:
        """Tokens a second and peak memory."""
        import torch

        peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
        steps = self.steps - WARM_UP
        return {"rate": self.tokens / self.seconds, "peak_gib": peak / 2**30, "steps": steps, "tokens": self.tokens}

    @staticmethod
    def _now() -> float:
        import torch

        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter()


def azft(folder: Path, technique: str, length: int) -> dict[str, Any]:
    """The finetune step itself, without its checkpoint, as the peer saves none."""
    from azft.parameters import FinetuneParameters
    from azft.recipe import Recipe
    from azft.training.finetune import finetune
    from azft.training.loop import Loop

    recipe = {
        "name": "bench", "task": "chat-completion", "model": "bench", "data": {"train": "train.jsonl"},
        "technique": {"name": technique} | ({} if technique == "full" else {"rank": RANK, "alpha": 2 * RANK}),
        "training": {
            "max_steps": WARM_UP + TIMED, "global_batch_size": BATCH, "micro_batch_size": 1, "max_length": length,
            "precision": "auto", "gradient_checkpointing": True, "warmup_ratio": 0, "logging_steps": 1,
        },
    }  # fmt: skip
    clock, step = Clock(), Loop.step

    def timed(loop: Loop, *arguments: Any) -> Any:
        done = step(loop, *arguments)
        clock.step_ended(done.tokens)
        return done

    class DoneError(Exception):
        """Training is over; writing the result is not what is measured."""

    def ended(_loop: Loop, *_: Any) -> None:
        raise DoneError

    Loop.step, Loop.save = timed, ended  # type: ignore[method-assign]
    with contextlib.redirect_stdout(sys.stderr), contextlib.suppress(DoneError):
        finetune(
            FinetuneParameters.of(Recipe.model_validate(recipe)), model=folder / "model", dataset=folder / "dataset",
            trained=folder / "trained", checkpoints=folder / "checkpoints", metrics=folder / "metrics",
        )  # fmt: skip
    return clock.result()


def trl(folder: Path, technique: str, length: int) -> dict[str, Any]:
    """TRL's SFTTrainer, packed, with Liger kernels where a GPU can run them."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    rows = json.loads((folder / "work.json").read_text())
    labels = [[i if kept else -100 for i, kept in zip(row["ids"], row["mask"], strict=True)] for row in rows]
    data = Dataset.from_dict({"input_ids": [row["ids"] for row in rows], "labels": labels})
    four_bits = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )  # fmt: skip
    gpu = torch.cuda.is_available()
    model = AutoModelForCausalLM.from_pretrained(
        folder / "model",
        dtype=torch.bfloat16 if gpu else torch.float32,
        device_map={"": 0} if gpu else None,
        **({"quantization_config": four_bits} if technique == "qlora" else {}),
        **({"attn_implementation": "flash_attention_2"} if gpu and _has("flash_attn") else {}),
    )
    clock = Clock()
    per_step = sum(len(row["ids"]) for row in rows) // (WARM_UP + TIMED)

    class Steps(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_: Any, **__: Any) -> None:
            clock.step_ended(per_step)

    adapter = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM")
    trainer = SFTTrainer(
        model,
        SFTConfig(
            str(folder / "trl"), max_length=length, packing=True, per_device_train_batch_size=1,
            gradient_accumulation_steps=BATCH, max_steps=WARM_UP + TIMED, gradient_checkpointing=True, bf16=gpu,
            use_cpu=not gpu, use_liger_kernel=gpu and _has("liger_kernel"), report_to=[], save_strategy="no",
            logging_steps=1, disable_tqdm=True,
        ),
        train_dataset=data,
        processing_class=AutoTokenizer.from_pretrained(folder / "model"),
        peft_config=None if technique == "full" else adapter,
        callbacks=[Steps()],
    )  # fmt: skip
    with contextlib.redirect_stdout(sys.stderr):
        trainer.train()
    return clock.result()


def _has(module: str) -> bool:
    from importlib.util import find_spec

    return find_spec(module) is not None


def flops_a_token(shape: dict[str, int], length: int, technique: str) -> float:
    """FLOPs of forward and backward pass a token (Kaplan et al. 2020, arXiv:2001.08361, section 2.1, table 1).

    Two for each weight and pass; the gradient of weights, a third of it, is not needed where they are frozen. Causal
    attention takes 2 x 2 x length / 2 x width a layer in the forward pass and twice that back.
    """
    width, heads = shape["hidden_size"], shape["num_attention_heads"]
    keys = width // heads * shape["num_key_value_heads"]
    layer = 2 * width * width + 2 * width * keys + 3 * width * shape["intermediate_size"]
    weights = shape["num_hidden_layers"] * layer + shape["vocab_size"] * width
    passes = 3 if technique == "full" else 2
    attention = 3 * 2 * length * width * shape["num_hidden_layers"]
    return 2.0 * passes * weights + attention


def device() -> tuple[str, float | None]:
    """The GPU's name and what it can do in TFLOPs; the CPU has no figure."""
    try:
        query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        name = subprocess.run(query, capture_output=True, text=True, check=True).stdout.splitlines()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return "CPU", None
    return name, next((peak for part, peak in PEAK_TFLOPS.items() if part in name), None)


def run(*arguments: str) -> dict[str, Any]:
    """One child process: its JSON line, or `{"void": why}`."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    result = subprocess.run(
        [sys.executable, __file__, "--lane", *arguments], capture_output=True, text=True, check=False, env=environment
    )
    if result.returncode:
        lines = result.stderr.strip().splitlines() or ["no message"]
        return {"void": f"it does not run here: {lines[-1][:200]}"}
    answer: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return answer


def measure(techniques: list[str], lengths: list[int], tiny: bool) -> list[dict[str, Any]]:
    """A row for each technique, length and lane; `ratio` is how many times faster azft is."""
    shape, (name, peak) = TINY if tiny else PHI_4_MINI, device()
    rows = []
    for length in lengths:
        with tempfile.TemporaryDirectory() as folder:
            made = run("make", folder, str(length), "tiny" if tiny else "real")
            for technique in techniques:
                azft_rate = None
                for lane in ("azft", "trl"):
                    words = "azft" if lane == "azft" else "TRL with Liger"
                    row: dict[str, Any] = {"row": f"{technique}, {length:,} tokens: {words}, on {name}"}
                    result = made if "void" in made else run(f"{lane}:{technique}", folder, str(length))
                    print(f"{row['row']}: {json.dumps(result)}", file=sys.stderr, flush=True)
                    if "void" in result:
                        rows.append(row | {"void": result["void"]})
                        continue
                    rate = result["rate"]
                    azft_rate = rate if lane == "azft" else azft_rate
                    note = f"peak {result['peak_gib']:.1f} GiB"
                    if peak:
                        note += f", MFU {rate * flops_a_token(shape, length, technique) / peak / 1e12:.1%}"
                    row |= {"value": round(rate), "unit": "tokens/s", "note": note}
                    if lane == "trl" and azft_rate:
                        row["ratio"] = round(azft_rate / rate, 2)
                    rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--lengths", nargs="+", type=int, default=[1024, 4096, 8192])
    parser.add_argument("--techniques", nargs="+", default=["lora", "qlora", "full"])
    parser.add_argument("--lane", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.lane:
        what, folder, length, *rest = options.lane
        if what == "make":
            make(Path(folder), int(length), rest == ["tiny"])
            print(json.dumps({"made": True}))
            return
        lane, _, technique = what.partition(":")
        print(json.dumps((azft if lane == "azft" else trl)(Path(folder), technique, int(length))))
        return
    rows = measure(options.techniques, options.lengths, options.tiny)
    if options.json:
        print(json.dumps(rows))
        return
    for row in rows:
        ratio = f"{row['ratio']:.2f}x" if row.get("ratio") else ""
        print(row.get("void") or f"{row['value']:>9,} tokens/s  {ratio:>6}  {row['row']} ({row['note']})")


if __name__ == "__main__":
    main()
