"""One lane of benchmarks/training.py in a process of its own; prints one JSON line.

    python benchmarks/training_lane.py make FOLDER DOCUMENTS     write model, data and reference losses
    python benchmarks/training_lane.py LANE FOLDER               train one epoch

A document's first token says which document it is, so that a batch of any lane tells what is in it.
"""

from __future__ import annotations

import contextlib
import json
import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

VOCABULARY, LONGEST, PADDED_BATCH = 8192, 1536, 8
FIRST_NAME = 16
"""Token ids from here on are the names of documents; contents come after them."""
RATE = 1e-3
CHECKED_BATCHES = 2


def make(folder: Path, count: int) -> None:
    """A 10.1M Llama, and documents of log-normal lengths (38 to 1,497 tokens), their last two thirds labelled."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    from azft.data.dataset_writer import write_dataset

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=256,
        intermediate_size=704,
        num_hidden_layers=8,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=6,
    )
    model = LlamaForCausalLM(config).eval()
    model.save_pretrained(folder / "model")
    words = {"<bos>": 0, "<pad>": 1, "<unk>": 2} | {f"w{n}": n for n in range(3, VOCABULARY)}
    tokenizer = Tokenizer(WordLevel(words, unk_token="<unk>"))
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<bos>", eos_token="w6", pad_token="<pad>", unk_token="<unk>"
    ).save_pretrained(folder / "model")
    random = np.random.default_rng(5)
    contents = FIRST_NAME + count
    documents = []
    for name in range(count):
        length = int(np.clip(random.lognormal(5.0, 0.9), 38, 1497))
        ids = contents + np.minimum(random.zipf(1.3, length) - 1, VOCABULARY - contents - 1)
        ids[0] = FIRST_NAME + name
        mask = np.arange(length) >= length // 3
        documents.append((ids.astype(np.int64), mask))
    for kind, packing in (("packed", True), ("unpacked", False)):
        with write_dataset(
            folder / kind,
            splits=["train"],
            vocab_size=VOCABULARY,
            max_length=LONGEST,
            packing=packing,
            tokenizer="bench",
        ) as writer:
            for ids, mask in documents:
                writer.splits["train"].add(ids, mask)
    reference = [naive_loss(model, ids, mask) for ids, mask in documents]
    rows = [{"ids": ids.tolist(), "mask": mask.tolist()} for ids, mask in documents]
    (folder / "work.json").write_text(json.dumps({"documents": rows, "reference": reference}))


@torch.no_grad()
def naive_loss(model: Any, ids: Any, mask: Any) -> tuple[float, int]:
    """Summed loss and number of labels of one document alone."""
    logits = model(input_ids=torch.from_numpy(ids)[None]).logits[0, :-1]
    keep = torch.from_numpy(mask[1:])
    loss = torch.nn.functional.cross_entropy(logits[keep], torch.from_numpy(ids[1:])[keep], reduction="sum")
    return float(loss), int(keep.sum())


class Work:
    """What `make` wrote, and the naive loss of any set of documents."""

    def __init__(self, folder: Path) -> None:
        work = json.loads((folder / "work.json").read_text())
        self.folder = folder
        self.documents = work["documents"]
        self.reference = work["reference"]
        self.tokens = sum(len(document["ids"]) for document in self.documents)

    def expected(self, input_ids: torch.Tensor) -> float:
        """Mean loss per label of the documents that are named in a batch."""
        names = input_ids.flatten() - FIRST_NAME
        found = names[(names >= 0) & (names < len(self.documents))].tolist()
        return sum(self.reference[n][0] for n in found) / sum(self.reference[n][1] for n in found)


@contextlib.contextmanager
def clock(result: dict[str, Any], tokens: int) -> Iterator[None]:
    cpu, wall = time.process_time(), time.perf_counter()
    yield
    result["cpu_seconds"] = time.process_time() - cpu
    result["wall_seconds"] = time.perf_counter() - wall
    result["rate"] = tokens / result["cpu_seconds"]


def azft(work: Work, *, packed: bool) -> dict[str, Any]:
    """The finetune step itself; its clock is read from outside, and its checkpoint left out, as peers save none."""
    from azft.parameters import FinetuneParameters
    from azft.recipe import Recipe
    from azft.training.finetune import finetune
    from azft.training.loop import Loop

    batch = 1 if packed else PADDED_BATCH
    training = {
        "epochs": 1,
        "learning_rate": RATE,
        "schedule": "linear",
        "warmup_ratio": 0,
        "global_batch_size": batch,
        "micro_batch_size": batch,
        "max_length": LONGEST,
        "precision": "fp32",
        "packing": packed,
    }
    recipe = {"name": "bench", "task": "chat-completion", "model": "bench", "data": {"train": "train.jsonl"}}
    parameters = FinetuneParameters.of(
        Recipe.model_validate(recipe | {"technique": {"name": "full"}, "training": training})
    )
    result: dict[str, Any] = {}
    run = Loop.run

    def timed(loop: Loop, *arguments: Any) -> Any:
        differences = []
        for sequences in ([0], [1]) if packed else (list(range(8)), list(range(8, 16))):
            losses, _ = loop.accumulate(sequences)
            ids = np.concatenate([document.tokens for s in sequences for document in loop.train.sequence(s)])
            mean = sum(loss for _, loss in losses) / int(loop.train.label_counts[sequences].sum())
            differences.append(abs(mean - work.expected(torch.from_numpy(ids.astype(np.int64)))))
            loop.optimizer.zero_grad(set_to_none=True)
        result["loss_difference"] = max(differences)
        loop.save = lambda _progress: None  # type: ignore[method-assign]
        with clock(result, work.tokens):
            return run(loop, *arguments)

    Loop.run = timed  # type: ignore[method-assign]
    output = work.folder / f"out-{time.time_ns()}"
    with contextlib.redirect_stdout(sys.stderr):
        finetune(
            parameters,
            model=work.folder / "model",
            dataset=work.folder / ("packed" if packed else "unpacked"),
            trained=output / "trained",
            checkpoints=output / "checkpoints",
            metrics=output / "metrics",
        )
    lines = [json.loads(line) for line in (output / "metrics" / "metrics.jsonl").read_text().splitlines()]
    return result | {"steps": len(lines), "final_loss": lines[-1]["loss"]}


def labelled(work: Work) -> Any:
    from datasets import Dataset

    labels = [[i if kept else -100 for i, kept in zip(d["ids"], d["mask"], strict=True)] for d in work.documents]
    ids = [d["ids"] for d in work.documents]
    return Dataset.from_dict({"input_ids": ids, "labels": labels})


COMMON = {
    "learning_rate": RATE,
    "num_train_epochs": 1,
    "logging_steps": 1,
    "report_to": [],
    "save_strategy": "no",
    "use_cpu": True,
    "disable_tqdm": True,
    "bf16": False,
    "seed": 0,
}


def sft(work: Work, **settings: Any) -> dict[str, Any]:
    """TRL's SFTTrainer with the same labels; whatever `settings` don't name is its default, bf16 and length apart."""
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    options = COMMON | {"max_length": LONGEST, "per_device_train_batch_size": PADDED_BATCH} | settings
    trainer = SFTTrainer(
        AutoModelForCausalLM.from_pretrained(work.folder / "model", dtype=torch.float32),
        SFTConfig(str(work.folder / "trl"), **options),
        train_dataset=labelled(work),
        processing_class=AutoTokenizer.from_pretrained(work.folder / "model"),
    )
    return peer(work, trainer)


def hf(work: Work, strategy: str) -> dict[str, Any]:
    """Transformers' Trainer."""
    from transformers import (
        AutoModelForCausalLM,
        AutoTokenizer,
        DataCollatorForSeq2Seq,
        Trainer,
        TrainingArguments,
    )

    arguments = TrainingArguments(
        str(work.folder / "hf"),
        per_device_train_batch_size=PADDED_BATCH,
        train_sampling_strategy=strategy,
        length_column_name="length",
        **COMMON,
    )
    data = labelled(work)
    trainer = Trainer(
        AutoModelForCausalLM.from_pretrained(work.folder / "model", dtype=torch.float32),
        arguments,
        train_dataset=data.add_column("length", [len(ids) for ids in data["input_ids"]]),
        data_collator=DataCollatorForSeq2Seq(AutoTokenizer.from_pretrained(work.folder / "model")),
    )
    return peer(work, trainer)


def peer(
    work: Any,
    trainer: Any,
    expected: Callable[[Any], float] | None = None,
    measured: Callable[[Any, Any], float] | None = None,
) -> dict[str, Any]:
    """Check the loss of a Trainer's first batches, then let it train.

    `expected` says what a batch's loss should be, `measured` (model, batch) what it is where not the Trainer's own.
    """
    from transformers import TrainerCallback

    result: dict[str, Any] = {}
    differences = []
    trainer.model.train()
    for number, batch in enumerate(trainer.get_train_dataloader()):
        if number == CHECKED_BATCHES:
            break
        given = {k: v for k, v in batch.items() if k != "length"}
        with torch.no_grad():
            own = measured or (lambda model, given: float(trainer.compute_loss(model, given)))
            loss = own(trainer.model, given)
        wanted = work.expected(batch["input_ids"]) if expected is None else expected(batch)
        differences.append(abs(loss - wanted))
    result["loss_difference"] = max(differences)

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self.clock = clock(result, work.tokens)
            self.clock.__enter__()

        def on_train_end(self, *_: Any, **__: Any) -> None:
            self.clock.__exit__(None, None, None)

    trainer.add_callback(Clock())
    with contextlib.redirect_stdout(sys.stderr):
        trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return result | {"steps": trainer.state.global_step, "final_loss": float(losses[-1])}


LANES = {
    "azft": lambda work: azft(work, packed=True),
    "azft-unpacked": lambda work: azft(work, packed=False),
    "sft-default": sft,
    "sft-padded": lambda work: sft(work, gradient_checkpointing=False),
    "sft-grouped": lambda work: sft(work, gradient_checkpointing=False, train_sampling_strategy="group_by_length"),
    "sft-padding-free": lambda work: sft(work, gradient_checkpointing=False, padding_free=True, max_length=None),
    "sft-packed": lambda work: sft(work, gradient_checkpointing=False, packing=True, per_device_train_batch_size=1),
    "trainer-padded": lambda work: hf(work, "random"),
    "trainer-grouped": lambda work: hf(work, "group_by_length"),
}


def gemm() -> dict[str, Any]:
    """FLOPs a CPU second of fp32 matrix products of the model's own shapes, the best of many."""
    from benchmarks.gpu import flops_a_token

    rows, width, inner = LONGEST, 256, 704
    left, right = torch.randn(rows, width), torch.randn(width, inner)
    best = 0.0
    for _ in range(20):
        began = time.process_time()
        for _ in range(20):
            left @ right
        best = max(best, 20 * 2 * rows * width * inner / (time.process_time() - began))
    shape = {
        "vocab_size": VOCABULARY * 2 // 3,  # the head is asked at labelled tokens only, two thirds of them
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": 8,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    }
    return {"flops": best, "flops_a_token": flops_a_token(shape, 280, "full")}


def main() -> None:
    lane, folder = sys.argv[1], Path(sys.argv[2])
    if lane == "gemm":
        print(json.dumps(gemm()))
        return
    if lane == "make":
        make(folder, int(sys.argv[3]))
        print(json.dumps({"made": True}))
        return
    result = LANES[lane](Work(folder))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps(result | {"peak_gib": round(peak, 3)}))


if __name__ == "__main__":
    main()
