"""One lane of benchmarks/tasks.py in a process of its own; prints one JSON line.

    python benchmarks/tasks_lane.py TASK:make FOLDER DOCUMENTS     write model, data and each document's own loss
    python benchmarks/tasks_lane.py TASK:LANE FOLDER               train one epoch

A document's second token says which document it is, so that a batch of any lane tells what is in it.
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

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.training_lane import COMMON, RATE, clock, peer

VOCABULARY, LONGEST, BATCH = 8192, 512, 16
FIRST_NAME = 16
BETA, CLASSES = 0.1, 4
CHECKED_BATCHES = 2
OBJECTIVES = {"classify": "class", "tag": "tag", "translate": "sequence-to-sequence", "prefer": "preference"}
TASKS = {
    "classify": "text-classification",
    "tag": "token-classification",
    "translate": "translation",
    "prefer": "preference-tuning",
}


def build(task: str) -> Any:
    """The model: random weights, no dropout, so that losses can be compared."""
    from transformers import (
        BertConfig,
        BertForSequenceClassification,
        BertForTokenClassification,
        LlamaConfig,
        LlamaForCausalLM,
        T5Config,
        T5ForConditionalGeneration,
    )

    torch.manual_seed(0)
    if task in ("classify", "tag"):
        config = BertConfig(
            vocab_size=VOCABULARY,
            hidden_size=256,
            intermediate_size=1024,
            num_hidden_layers=8,
            num_attention_heads=4,
            max_position_embeddings=LONGEST,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            num_labels=CLASSES,
            id2label={n: f"c{n}" for n in range(CLASSES)},
            label2id={f"c{n}": n for n in range(CLASSES)},
            pad_token_id=1,
        )
        return (BertForSequenceClassification if task == "classify" else BertForTokenClassification)(config).eval()
    if task == "translate":
        return T5ForConditionalGeneration(
            T5Config(
                vocab_size=VOCABULARY,
                d_model=256,
                d_kv=64,
                d_ff=704,
                num_layers=6,
                num_decoder_layers=6,
                num_heads=4,
                dropout_rate=0.0,
                pad_token_id=1,
                eos_token_id=6,
                decoder_start_token_id=1,
            )
        ).eval()
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=256,
            intermediate_size=704,
            num_hidden_layers=8,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=1024,
            pad_token_id=1,
            bos_token_id=0,
            eos_token_id=6,
        )
    ).eval()


def make(task: str, folder: Path, count: int) -> None:
    """The model's folder, the dataset, the same rows for the peers, and every row's own loss."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    from azft.data.dataset_writer import write_dataset

    model = build(task)
    model.save_pretrained(folder / "model")
    words = {"<bos>": 0, "<pad>": 1, "<unk>": 2} | {f"w{n}": n for n in range(3, VOCABULARY)}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel(words, unk_token="<unk>")),
        bos_token="<bos>",
        eos_token="w6",
        pad_token="<pad>",
        unk_token="<unk>",
    )
    tokenizer.save_pretrained(folder / "model")
    random = np.random.default_rng(5)
    rows = [ROWS[task](random, FIRST_NAME + n, FIRST_NAME + count) for n in range(count)]
    objective = OBJECTIVES[task]
    named = tuple(f"c{n}" for n in range(CLASSES)) if task in ("classify", "tag") else ()
    with write_dataset(
        folder / "dataset",
        splits=["train"],
        vocab_size=VOCABULARY,
        max_length=LONGEST,
        packing=False,
        tokenizer="bench",
        objective=objective,
        target_width=1 if named else 0,
        labels=named,
        documents_per_row=2 if task == "prefer" else 1,
    ) as writer:
        for row in rows:
            for ids, mask, told in row["documents"]:
                targets = None if told is None else np.array(told, dtype=np.int32).reshape(-1, 1)
                writer.splits["train"].add(ids, mask, targets)
    with torch.no_grad():
        losses = [LOSSES[task](model, row) for row in rows]
    kept = [{key: value for key, value in row.items() if key != "documents"} for row in rows]
    tokens = sum(len(document[0]) for row in rows for document in row["documents"])
    (folder / "work.json").write_text(json.dumps({"rows": kept, "losses": losses, "tokens": tokens}))


def contents(random: Any, name: int, first: int, low: int, high: int) -> list[int]:
    """Words of log-normal number: the name of the document is the second."""
    length = int(np.clip(random.lognormal(4.3, 0.8), low, high))
    ids = first + np.minimum(random.zipf(1.3, length) - 1, VOCABULARY - first - 1)
    ids[0], ids[1] = 3, name
    return [int(i) for i in ids]


def classified(random: Any, name: int, first: int) -> dict[str, Any]:
    ids = contents(random, name, first, 12, LONGEST)
    label = int(random.integers(CLASSES))
    mask = [1] + [0] * (len(ids) - 1)
    return {"input_ids": ids, "labels": label, "documents": [(ids, mask, [label])]}


def tagged(random: Any, name: int, first: int) -> dict[str, Any]:
    ids = contents(random, name, first, 12, LONGEST)
    mask = [int(n > 1 and random.random() < 0.7) for n in range(len(ids))]
    mask[-1] = 1
    told = [int(t) for t in random.integers(0, CLASSES, sum(mask))]
    following = iter(told)
    labels = [next(following) if counts else -100 for counts in mask]
    return {"input_ids": ids, "labels": labels, "documents": [(ids, mask, told)]}


def translated(random: Any, name: int, first: int) -> dict[str, Any]:
    source = contents(random, name, first, 12, 250)
    target = [*contents(random, name, first, 12, 250)[: max(8, int(len(source) * 0.9))], 6]
    mask = [0] * len(source) + [1] * len(target)
    return {"input_ids": source, "labels": target, "documents": [(source + target, mask, None)]}


def preferred(random: Any, name: int, first: int) -> dict[str, Any]:
    prompt = contents(random, name, first, 12, 200)
    chosen, rejected = ([*contents(random, name, first, 8, 250)[2:], 6] for _ in range(2))
    documents = [(prompt + answer, [0] * len(prompt) + [1] * len(answer), None) for answer in (chosen, rejected)]
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected, "documents": documents}


ROWS = {"classify": classified, "tag": tagged, "translate": translated, "prefer": preferred}


def own_loss(model: Any, row: dict[str, Any]) -> tuple[float, int]:
    """Summed loss and number of labels of one row alone."""
    labels = torch.tensor([row["labels"]])
    count = int((labels != -100).sum())
    loss = model(input_ids=torch.tensor([row["input_ids"]]), labels=labels).loss
    return float(loss) * count, count


LOSSES: dict[str, Callable[[Any, Any], tuple[float, int]]] = {
    "classify": lambda model, row: own_loss(model, {**row, "labels": row["labels"]}),
    "tag": own_loss,
    "translate": own_loss,
    "prefer": lambda _model, _row: (float(np.log(2)), 1),  # nothing has moved
}


class Work:
    """What `make` wrote, and the mean loss of any set of rows."""

    def __init__(self, task: str, folder: Path) -> None:
        work = json.loads((folder / "work.json").read_text())
        self.task, self.folder = task, folder
        self.rows, self.losses, self.tokens = work["rows"], work["losses"], work["tokens"]

    def expected(self, ids: torch.Tensor) -> float:
        """Mean loss of the rows that are named in a batch."""
        names = ids[:, 1] - FIRST_NAME
        found = [n for n in names.tolist() if 0 <= n < len(self.rows)]
        return sum(self.losses[n][0] for n in found) / sum(self.losses[n][1] for n in found)


def azft(work: Work) -> dict[str, Any]:
    """The finetune step itself; its clock is read from outside, and its checkpoint left out, as peers save none."""
    from azft.parameters import FinetuneParameters
    from azft.recipe import Recipe
    from azft.training.finetune import finetune
    from azft.training.loop import Loop
    from azft.training.objectives import OBJECTIVES as OBJECTIVE_ROWS

    recipe = {
        "name": "bench",
        "task": TASKS[work.task],
        "model": "bench",
        "data": {"train": "train.jsonl"},
        "technique": {"name": "full"},
        "training": {
            "epochs": 1,
            "learning_rate": RATE,
            "schedule": "linear",
            "warmup_ratio": 0,
            "global_batch_size": BATCH,
            "micro_batch_size": 4,
            "max_length": LONGEST,
            "precision": "fp32",
            "packing": False,
            "dpo_beta": BETA,
        },
    }
    result: dict[str, Any] = {}
    run = Loop.run

    def timed(loop: Loop, *arguments: Any) -> Any:
        differences = []
        loop.module.eval()
        for start in range(0, CHECKED_BATCHES * BATCH, BATCH):
            sequences = list(range(start, start + BATCH))
            losses, _ = loop.accumulate(sequences)
            told = int(loop.train.label_counts[sequences].sum())
            ids = torch.tensor([[int(t) for t in loop.train.sequence(s)[0].tokens[:2]] for s in sequences])
            differences.append(abs(sum(loss for _, loss in losses) / told - work.expected(ids)))
            loop.optimizer.zero_grad(set_to_none=True)
        result["loss_difference"] = max(differences)
        loop.save = lambda _progress: None  # type: ignore[method-assign]
        with clock(result, work.tokens):
            return run(loop, *arguments)

    objective, asked = OBJECTIVE_ROWS[OBJECTIVES[work.task]], [0.0]
    if (ask := objective.reference) is not None:  # the peer asks it in every step, so it is part of the work

        def timed_reference(*arguments: Any) -> Any:
            started = time.process_time()
            answers = ask(*arguments)
            asked[0] += time.process_time() - started
            return answers

        object.__setattr__(objective, "reference", timed_reference)
    Loop.run = timed  # type: ignore[method-assign]
    output = work.folder / f"out-{time.time_ns()}"
    began = time.process_time()
    with contextlib.redirect_stdout(sys.stderr):
        finetune(
            FinetuneParameters.of(Recipe.model_validate(recipe)),
            model=work.folder / "model",
            dataset=work.folder / "dataset",
            trained=output / "trained",
            checkpoints=output / "checkpoints",
            metrics=output / "metrics",
        )
    result["process_seconds"] = time.process_time() - began
    result["cpu_seconds"] += asked[0]
    result["rate"] = work.tokens / result["cpu_seconds"]
    lines = [json.loads(line) for line in (output / "metrics" / "metrics.jsonl").read_text().splitlines()]
    return result | {"steps": len(lines), "final_loss": lines[-1]["loss"]}


SETTINGS = COMMON | {"per_device_train_batch_size": BATCH}


def hf(work: Work, strategy: str) -> dict[str, Any]:
    """Transformers' Trainer, as its example scripts use it."""
    from datasets import Dataset
    from transformers import (
        AutoTokenizer,
        DataCollatorForSeq2Seq,
        DataCollatorForTokenClassification,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
    )

    tokenizer = AutoTokenizer.from_pretrained(work.folder / "model")
    model = type(build(work.task)).from_pretrained(work.folder / "model", dtype=torch.float32)
    collator = {
        "classify": lambda: DataCollatorWithPadding(tokenizer),
        "tag": lambda: DataCollatorForTokenClassification(tokenizer),
        "translate": lambda: DataCollatorForSeq2Seq(tokenizer, model=model),
    }[work.task]()
    data = Dataset.from_list(work.rows)
    trainer = Trainer(
        model,
        TrainingArguments(
            str(work.folder / "hf"), train_sampling_strategy=strategy, length_column_name="length", **SETTINGS
        ),
        train_dataset=data.add_column("length", [len(row["input_ids"]) for row in work.rows]),
        data_collator=collator,
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
    original = DPOTrainer._prepare_dataset
    DPOTrainer._prepare_dataset = lambda _self, dataset, *_arguments, **_named: dataset
    try:
        trainer = DPOTrainer(
            model,
            args=DPOConfig(str(work.folder / "trl"), beta=BETA, max_length=LONGEST, **SETTINGS, **settings),
            train_dataset=tokenized(work.rows),
            processing_class=tokenizer,
        )
    finally:
        DPOTrainer._prepare_dataset = original
    return peer(work, trainer, lambda _batch: float(np.log(2)))  # nothing has moved


LANES = {
    "azft": azft,
    "trainer-padded": lambda work: hf(work, "random"),
    "trainer-grouped": lambda work: hf(work, "group_by_length"),
    "trl": dpo,
    "trl-plain": lambda work: dpo(work, gradient_checkpointing=False),
}


def main() -> None:
    (task, _, lane), folder = sys.argv[1].partition(":"), Path(sys.argv[2])
    if lane == "make":
        make(task, folder, int(sys.argv[3]))
        print(json.dumps({"made": True}))
        return
    result = LANES[lane](Work(task, folder))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps(result | {"peak_gib": round(peak, 3)}))


if __name__ == "__main__":
    main()
