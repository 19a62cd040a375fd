"""Azure's own MLflow server, for models that are asked with rows: what a request is, by `MLmodel`, and what comes back.

After the scoring script of no-code deployments and what it calls (mlflow_score_script.py of Azure/azureml-assets,
inference-schema, azureml-evaluate-mlflow's predictors, mlflow.transformers; read in November 2026). Three ways in:

    a signature in Azure's own flavor    {"columns": [...], "index": [...], "data": [[...]]}, a table, and no settings
    none                                 {"input_string": [...], "parameters": {...}}
    MLflow's own flavor                  ["..."], or {"question": ..., "context": ...}, and settings in "params"
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from azft.emulator.http import ApiError
from azft.emulator.serving import ModelServers

if TYPE_CHECKING:
    from azft.emulator.app import Emulator

INPUT = "input_string"
_PAIR = ("question", "context")
_OWN_FLAVORS = ("hftransformersv2", "hftransformers")
_MLFLOW = "transformers"
_TASKS = {
    "text-classification": (INPUT,),
    "token-classification": (INPUT,),
    "question-answering": _PAIR,
    "summarization": (INPUT,),
    "translation": (INPUT,),
    "text-generation": (INPUT,),
}
"""Task types of models that are asked with rows, and what a row is made of."""
_SPLIT = {"columns", "index", "data"}


@dataclass(frozen=True)
class ServedModel:
    """What a model's `MLmodel` says of how it is served."""

    task: str
    own_flavor: bool
    """Whether Azure's package loads it, and not MLflow's own flavor."""
    signature: tuple[str, ...] | None
    """The names of its inputs, "" for one without; None where there is no signature."""

    def rows(self, given: Any) -> tuple[list[dict[str, str]], dict[str, Any]]:
        """The rows of a request's `input_data`, and the settings in it. Raises `ApiError` (400)."""
        if not self.own_flavor:
            return self._plain(given), {}
        if self.signature is not None:
            return self._table(given), {}
        if not isinstance(given, dict):
            raise _bad("The HF flavor does not support List input types as of now.")
        columns = {**given.get("inputs", given)}
        settings = columns.pop("parameters", given.get("parameters") or {})
        if not all(isinstance(values, list) for values in columns.values()):
            raise _bad("Each input must be a list.")
        if len({len(values) for values in columns.values()}) != 1:
            raise _bad("All arrays must be of the same length")
        rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        return self._named(rows), settings

    def _plain(self, given: Any) -> list[dict[str, str]]:
        wanted = dict if len(_TASKS[self.task]) > 1 else list
        if not isinstance(given, wanted):
            raise _bad(f"Invalid input data type to parse. Expected: {wanted} but got {type(given)}")
        return self._named([given] if isinstance(given, dict) else [{INPUT: text} for text in given])

    def _table(self, given: Any) -> list[dict[str, str]]:
        if not isinstance(given, dict):
            raise _bad("The input must be a table in pandas' form `split`.")
        if unexpected := set(given) - _SPLIT:
            raise _bad(f"JSON data had unexpected key(s): {', '.join(sorted(unexpected))}")
        columns = given.get("columns") or []
        if missing := [name for name in self.signature or () if name and name not in columns]:
            raise _bad(f"Model is missing inputs {missing}.")
        return self._named([dict(zip(columns, values, strict=False)) for values in given.get("data") or []])

    def _named(self, rows: list[dict[str, Any]]) -> list[dict[str, str]]:
        names = _TASKS[self.task]
        if len(names) == 1:
            rows = [{INPUT: next(iter(row.values()), None)} for row in rows]
        for row in rows:
            if not all(isinstance(row.get(name), str) for name in names):
                raise _bad(f"Each row needs the texts {', '.join(names)}.")
        if not rows:
            raise _bad("There is no row in the request.")
        return [{name: row[name] for name in names} for row in rows]


def served_model(folder: Path) -> ServedModel | None:
    """What the model's `MLmodel` says; None for one that is asked in conversation, or says nothing."""
    file = folder / "MLmodel"
    described = (yaml.safe_load(file.read_text("utf-8")) if file.is_file() else None) or {}
    flavors = described.get("flavors") or {}
    name = next((name for name in (_MLFLOW, *_OWN_FLAVORS) if name in flavors), None)
    if name is None:
        return None
    task = str(flavors[name].get("task_type") or flavors[name].get("task") or "")
    if task not in _TASKS:
        return None
    inputs = json.loads((described.get("signature") or {}).get("inputs") or "null")
    return ServedModel(task, name != _MLFLOW, None if inputs is None else tuple(str(i.get("name", "")) for i in inputs))


def score(emu: Emulator, folder: Path, model: ServedModel, body: dict[str, Any]) -> list[Any]:
    """The answer to a request: one thing for each row."""
    rows, settings = model.rows(body.get("input_data"))
    settings = settings or body.get("params") or {}
    try:
        asked = {
            "max_tokens": int(settings.get("max_new_tokens") or 64),
            "temperature": float(settings.get("temperature") or 0) if settings.get("do_sample") else 0.0,
        }
    except (TypeError, ValueError) as error:
        raise _bad(f"A parameter is no number: {error}") from None
    answers = []
    for row in rows:
        told = emu.part(ModelServers).ask(folder, {"row": row, **asked}).get("told")
        if not isinstance(told, dict):
            raise _failed("The model's server told nothing.")
        if model.task == "text-generation" and settings.get("return_full_text", True):
            told = {"text": f"{row[INPUT]}{told.get('text', '')}"}
        answers.append(_as_own(told) if model.own_flavor else _as_mlflows(told))
    return answers


def _as_own(told: Mapping[str, Any]) -> dict[str, str]:
    """A table of one column without a name; lists as Python writes them."""
    return {"0": next(write(told) for key, write in _OWN.items() if key in told)}


def _as_mlflows(told: Mapping[str, Any]) -> Any:
    """A text, or a label with its score. Of tags only those that are something, which fails where none is."""
    if "tags" in told:
        some = [tag for tag in told["tags"] if tag != "O"]
        if not some:
            raise _failed("list index out of range")  # mlflow.transformers looks at the first of them
        return ",".join(some)
    return next(write(told) for key, write in _MLFLOWS.items() if key in told)


_OWN: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "label": lambda told: str(told["label"]),
    "labels": lambda told: str([one["label"] for one in told["labels"]]),
    "tags": lambda told: str(list(told["tags"])),
    "answer": lambda told: str(told["answer"]),
    "text": lambda told: str(told["text"]),
}
_MLFLOWS: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    "label": lambda told: {"label": told["label"], "score": told.get("score", 1.0)},
    "labels": lambda told: list(told["labels"]),
    "answer": lambda told: str(told["answer"]),
    "text": lambda told: str(told["text"]),
}


def _bad(message: str) -> ApiError:
    return ApiError(400, "BadRequest", message)


def _failed(message: str) -> ApiError:
    return ApiError(424, "ModelError", message)
