"""One lane of benchmarks/tasks.py in a process of its own.

    python benchmarks/tasks_lane.py TASK:make FOLDER DOCUMENTS     write model, data and each document's own loss
    python benchmarks/tasks_lane.py TASK:LANE FOLDER               train one epoch for each line of stdin

Prints one JSON line, a round each: so lanes take turns without starting anew for each.
"""

from __future__ import annotations

import contextlib
import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.tasks_data import Work, build, make
from benchmarks.training_lane import COMMON, RATE, clock, peer

BETA = 0.1
CHECKED_BATCHES = 2


def azft(work: Work) -> dict[str, Any]:
    """The finetune step itself; its clock is read from outside, and its checkpoint left out, as peers save none."""
    from azft.parameters import FinetuneParameters
    from azft.recipe import Recipe
    from azft.training.finetune import finetune
    from azft.training.loop import Loop
    from azft.training.objectives import OBJECTIVES

    batch = work.task.batch
    recipe = {
        "name": "bench",
        "task": work.task.task,
        "model": "bench",
        "data": {"train": "train.jsonl"},
        "technique": {"name": "full"},
        "training": {
            "epochs": 1,
            "learning_rate": RATE,
            "schedule": "linear",
            "warmup_ratio": 0,
            "global_batch_size": batch,
            "micro_batch_size": min(batch, 4),
            "max_length": work.task.longest,
            "precision": "fp32",
            "packing": work.task.packed,
            "dpo_beta": BETA,
        },
    }
    result: dict[str, Any] = {}
    run = Loop.run

    def timed(loop: Loop, *arguments: Any) -> Any:
        differences = []
        loop.module.eval()
        for start in range(0, min(CHECKED_BATCHES * batch, len(loop.train)), batch):
            sequences = list(range(start, min(start + batch, len(loop.train))))
            losses, _ = loop.accumulate(sequences)
            told = int(loop.train.label_counts[sequences].sum())
            starts = [document.tokens[:2].tolist() for s in sequences for document in loop.train.sequence(s)]
            differences.append(abs(sum(loss for _, loss in losses) / told - work.expected(torch.tensor(starts))))
            loop.optimizer.zero_grad(set_to_none=True)
        result["loss_difference"] = max(differences)
        loop.save = lambda _progress: None  # type: ignore[method-assign]
        with clock(result, work.tokens):
            return run(loop, *arguments)

    objective, asked = OBJECTIVES[work.task.objective], [0.0]
    ask = objective.reference

    def timed_reference(*arguments: Any) -> Any:
        assert ask is not None
        started = time.process_time()
        answers = ask(*arguments)
        asked[0] += time.process_time() - started
        return answers

    if ask is not None:  # the peer asks it in every step, so it is part of the work
        object.__setattr__(objective, "reference", timed_reference)
    output = work.folder / f"out-{time.time_ns()}"
    try:
        with contextlib.redirect_stdout(sys.stderr), patch.object(Loop, "run", timed):
            finetune(
                FinetuneParameters.of(Recipe.model_validate(recipe)),
                model=work.folder / "model",
                dataset=work.folder / "dataset",
                trained=output / "trained",
                checkpoints=output / "checkpoints",
                metrics=output / "metrics",
            )
    finally:
        object.__setattr__(objective, "reference", ask)
    result["cpu_seconds"] += asked[0]
    result["rate"] = work.tokens / result["cpu_seconds"]
    lines = [json.loads(line) for line in (output / "metrics" / "metrics.jsonl").read_text().splitlines()]
    return result | {"steps": len(lines), "final_loss": lines[-1]["loss"]}


def hf(work: Work, strategy: str, *, longest: bool = False) -> dict[str, Any]:
    """Transformers' Trainer, as its example scripts use it; `longest` fills every row up to the longest possible."""
    import transformers
    from datasets import Dataset

    tokenizer = transformers.AutoTokenizer.from_pretrained(work.folder / "model")
    model = type(build(work.name)).from_pretrained(work.folder / "model", dtype=torch.float32)
    padding: dict[str, Any] = {"padding": "max_length", "max_length": work.task.longest} if longest else {}
    collator = {
        "tag": lambda: transformers.DataCollatorForTokenClassification(tokenizer),
        "sequence-to-sequence": lambda: transformers.DataCollatorForSeq2Seq(tokenizer, model=model),
    }.get(work.task.objective, lambda: transformers.DataCollatorWithPadding(tokenizer, **padding))()
    writes = "Seq2Seq" if work.task.objective == "sequence-to-sequence" else ""
    arguments = getattr(transformers, f"{writes}TrainingArguments")(
        str(work.folder / "hf"),
        train_sampling_strategy=strategy,
        length_column_name="length",
        per_device_train_batch_size=work.task.batch,
        **COMMON,
    )
    data = Dataset.from_list(work.rows)
    trainer = getattr(transformers, f"{writes}Trainer")(
        model,
        arguments,
        train_dataset=data.add_column("length", [len(row["input_ids"]) for row in work.rows]),
        data_collator=collator,
    )
    return peer(work, trainer, measured=span_loss if work.task.objective == "span" else None)


def span_loss(model: Any, batch: Any) -> float:
    """Loss of the answers' ends among tokens. The Trainer's own counts filler too, as transformers' model does."""
    given = {key: batch[key] for key in ("input_ids", "attention_mask", "token_type_ids")}
    output = model(**given)
    ends = torch.stack([output.start_logits, output.end_logits], 1).masked_fill(
        batch["attention_mask"][:, None] == 0, float("-inf")
    )
    right = torch.stack([batch["start_positions"], batch["end_positions"]], 1)
    return float(torch.nn.functional.cross_entropy(ends.flatten(0, 1), right.flatten()))


def sft(work: Work, **settings: Any) -> dict[str, Any]:
    """TRL's SFTTrainer, the loss on completions only, without gradient checkpointing."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    options = COMMON | {"max_length": work.task.longest, "per_device_train_batch_size": 16} | settings
    trainer = SFTTrainer(
        AutoModelForCausalLM.from_pretrained(work.folder / "model", dtype=torch.float32),
        SFTConfig(str(work.folder / "trl"), completion_only_loss=True, gradient_checkpointing=False, **options),
        train_dataset=Dataset.from_list(work.rows),
        processing_class=AutoTokenizer.from_pretrained(work.folder / "model"),
    )
    return peer(work, trainer)


def dpo(work: Work, **settings: Any) -> dict[str, Any]:
    """TRL's DPOTrainer with the same tokens; whatever `settings` don't name is its default, bf16 and length apart."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    tokenizer = AutoTokenizer.from_pretrained(work.folder / "model")

    def tokenized(rows: Any) -> Any:
        return Dataset.from_list([{key + "_ids": value for key, value in row.items()} for row in rows])

    model = AutoModelForCausalLM.from_pretrained(work.folder / "model", dtype=torch.float32)
    options = COMMON | {"per_device_train_batch_size": work.task.batch} | settings
    with patch.object(DPOTrainer, "_prepare_dataset", lambda _self, dataset, *_arguments, **_named: dataset):
        trainer = DPOTrainer(
            model,
            args=DPOConfig(str(work.folder / "trl"), beta=BETA, max_length=work.task.longest, **options),
            train_dataset=tokenized(work.rows),
            processing_class=tokenizer,
        )
    return peer(work, trainer, lambda _batch: float(np.log(2)))  # nothing has moved


LANES: dict[str, Callable[[Work], dict[str, Any]]] = {
    "azft": azft,
    "trainer-padded": lambda work: hf(work, "random"),
    "trainer-grouped": lambda work: hf(work, "group_by_length"),
    "trainer-longest": lambda work: hf(work, "random", longest=True),
    "sft-grouped": lambda work: sft(work, train_sampling_strategy="group_by_length"),
    "sft-padding-free": lambda work: sft(work, padding_free=True, max_length=None),
    "sft-packed": lambda work: sft(work, packing=True, per_device_train_batch_size=work.task.batch),
    "trl": dpo,
    "trl-plain": lambda work: dpo(work, gradient_checkpointing=False),
}


def main() -> None:
    (task, _, lane), folder = sys.argv[1].partition(":"), Path(sys.argv[2])
    if lane == "make":
        make(task, folder, int(sys.argv[3]))
        print(json.dumps({"made": True}))
        return
    for _ in sys.stdin:
        result = LANES[lane](Work(task, folder))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(json.dumps(result | {"peak_gib": round(peak, 3)}), flush=True)


if __name__ == "__main__":
    main()
