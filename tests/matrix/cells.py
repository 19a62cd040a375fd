"""The cells of the matrix: every task on every kind of model that can do it, under every technique.

Tasks, kinds and techniques come from azft's own tables; a row that is added there is a row or column here, and only its
example rows have to be written down.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from azft.catalog import load_catalog
from azft.data.dataset import TokenDataset, open_dataset
from azft.data.prepare import prepare
from azft.errors import AzftError
from azft.parameters import PrepareParameters
from azft.recipe import Recipe
from azft.tasks import TASKS
from azft.techniques import TECHNIQUES
from azft.training.stand_in import StandInSpec, make
from tests.helpers.painters import picture_rows, write_painter

THINGS = ("bread", "a tart", "rolls", "the cake", "buns", "a pie", "rye", "toast", "plums", "seeds")
ROWS: dict[str, list[dict[str, Any]]] = {
    "chat-completion": [
        {
            "messages": [
                {"role": "user", "content": f"Have you got {x}?"},
                {"role": "assistant", "content": f"Yes, {x} is here."},
                {"role": "user", "content": "Fine."},
                {"role": "assistant", "content": "Anything else?"},
            ]
        }
        for x in THINGS
    ],
    "text-generation": [
        {"text": f"Today we bake {x}."} if n % 2 else {"prompt": f"We bake {x}", "completion": " and sell it."}
        for n, x in enumerate(THINGS)
    ],
    "question-answering": [
        {
            "question": f"What is on shelf {n}?",
            "context": f"On shelf {n} is {x}, and no more.",
            "answers": {"text": [x], "answer_start": [len(f"On shelf {n} is ")]},
        }
        for n, x in enumerate(THINGS)
    ],
    "translation": [{"source": f"I like {x}.", "target": f"{x} me gusta."} for x in THINGS],
    "summarization": [{"document": f"We had {x} and ate it all day.", "summary": f"{x}, eaten"} for x in THINGS],
    "preference-tuning": [{"prompt": f"Any {x}?", "chosen": f"Yes, {x}.", "rejected": "No!"} for x in THINGS],
    "text-classification": [
        {"text": f"I {('like', 'hate')[n % 2]} {x}.", "label": ("good", "bad")[n % 2]} for n, x in enumerate(THINGS)
    ],
    "token-classification": [
        {"tokens": ["Buy", *x.split(), "now"], "tags": ["O", "B-FOOD", *["I-FOOD"] * (len(x.split()) - 1), "O"]}
        for x in THINGS
    ],
    "music-generation": [
        {"prompt": f"A tune about {x}", "completion": f"X:{n}\nT:{x}\nK:G\nGAB|"} for n, x in enumerate(THINGS)
    ],
    "svg-generation": [
        {"prompt": f"Draw {x}", "completion": f'<svg><circle r="{n}"/></svg>'} for n, x in enumerate(THINGS)
    ],
    "text-to-image": picture_rows(len(THINGS)),
}
"""Ten rows of each task, so short that a step takes milliseconds."""

MODELS = {"decoder": "Phi3ForCausalLM", "encoder": "BertModel", "encoder-decoder": "T5ForConditionalGeneration",
          "diffusion": "StableDiffusionPipeline"}  # fmt: skip
"""The architecture that stands for each kind of model."""

SETTINGS: dict[str, dict[str, Any]] = {
    "prompt-tuning": {"virtual_tokens": 3},
    "prefix-tuning": {"virtual_tokens": 3},
    "p-tuning": {"virtual_tokens": 3, "hidden_size": 16},
    "freeze": {"layers": 1},
    **{name: {"rank": 4} for name in ("lora", "dora", "qlora")},
}


@dataclass(frozen=True)
class Cell:
    """A task, the kind of model that does it, and a technique."""

    task: str
    kind: str
    technique: str

    def __str__(self) -> str:
        return f"{self.task}-{self.kind}-{self.technique}"

    def recipe(self, **training: Any) -> Recipe:
        """The cell's recipe, which ends after two steps."""
        return Recipe.model_validate(
            {
                "name": "cell",
                "task": self.task,
                "model": "tiny",
                "data": {"train": "train.jsonl", "validation": "validation.jsonl"},
                "technique": {"name": self.technique, **SETTINGS.get(self.technique, {})},
                "training": {
                    "max_steps": 2, "global_batch_size": 4, "micro_batch_size": 2, "max_length": 64,
                    "precision": "fp32", "warmup_ratio": 0, "schedule": "constant", **training,
                },
                "evaluation": {"samples": 1, "max_new_tokens": 2},
            }
        )  # fmt: skip


def cells() -> Iterator[Cell]:
    """All of them, task by task, so that a worker that takes neighbours prepares data once."""
    for task in TASKS.values():
        for kind in MODELS:
            if task.rendering_for(kind) is not None:
                for technique in TECHNIQUES:
                    yield Cell(task.name, kind, technique)


class Bench:
    """Models and prepared data in a folder, each made when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def model(self, kind: str) -> Path:
        """The folder of the model of a kind: 2 layers, 32 wide, a tokenizer trained on all tasks' rows."""
        folder = self.folder / kind
        if kind == "diffusion" and not folder.exists():
            return write_painter(folder)
        if not folder.exists():
            texts = [row for task, some in ROWS.items() if task != "text-to-image" for row in some]
            rows = _write(self.folder / f"{kind}.jsonl", texts)
            architecture = MODELS[kind]
            catalog = load_catalog()
            row = next(model for model in catalog.models if model.architecture == architecture)
            family = catalog.families[row.family]
            spec = StandInSpec.model_validate(
                {
                    "architecture": architecture,
                    "chat_template": family.chat_template,
                    "special_tokens": family.special_tokens,
                    "data": rows,
                    "data_sha256": "0",
                    "hidden_size": 32,
                    "intermediate_size": 48,
                    "context_length": 128,
                }
            )
            make(spec, folder)
        return folder

    def dataset(self, cell: Cell) -> Path:
        """The prepared rows of a cell's task, for its kind of model: 8 to train on, 2 held out."""
        folder = self.folder / f"{cell.task}-{cell.kind}"
        if not folder.exists():
            rows = ROWS[cell.task]
            prepare(
                PrepareParameters.of(cell.recipe()),
                model=self.model(cell.kind),
                train=_write(self.folder / "train.jsonl", rows[:8]),
                validation=_write(self.folder / "validation.jsonl", rows[8:]),
                output=folder,
                progress=lambda line: None,
            )
        return folder

    def train(self, cell: Cell) -> TokenDataset:
        """The cell's training rows."""
        return open_dataset(self.dataset(cell), "train")


def reason(error: AzftError) -> str:
    """Why a cell is refused, as the docs say it."""
    return error.message


def _write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
