"""How Azure's own MLflow server is asked for a row and answers, by the model's `MLmodel`. One row a task.

Sources, read in November 2026: the scoring script of no-code deployments (Azure/azureml-assets,
mlflow_score_script.py), the predictors that it calls (azureml-evaluate-mlflow, _task_based_predictors.py and
ner_pipeline.py; mlflow.transformers), the signatures that fine-tuning writes (azureml-assets,
finetune_acft_hf_nlp/src/finetune/finetune.py: MLFLOW_MODEL_SIGNATURES), and the samples of the registry's model cards
and of azureml-examples (foundation-models/system/finetune). Nobody compared it with the service.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from azft.asking import Answer, context_of, label_answer, labels_answer, reads_of, span_answer, tags_answer, text_answer
from azft.azureml.errors import ServiceError
from azft.azureml.resources import Resources
from azft.azureml.run_outputs import store_path
from azft.errors import UsageError
from azft.redact import redact

if TYPE_CHECKING:
    from azft.azureml.connection import Connection

Row = Mapping[str, Any]

_TRANSFORMERS = "transformers"
_FLAVORS = (_TRANSFORMERS, "hftransformersv2", "hftransformers")
"""Of MLflow itself, and of Azure's own package; the first that a model has is the one that its server loads."""
_INPUT = "input_string"
"""What Azure's package calls the one text of a row."""


def _one(column: str) -> Callable[[Row], dict[str, str]]:
    """A row that is one text."""
    return lambda row: {_INPUT: str(row[column])}


def _first_of_pair(row: Row) -> dict[str, str]:
    if row.get("text_pair"):
        raise UsageError(
            "Azure's own server takes one text a row: the signature of a model that its pipelines tune has no second.",
            fix="Leave out text_pair. azft's own model tells about two: azft chat RUN --row ...",
        )
    return {_INPUT: str(row["text"])}


def _question(row: Row) -> dict[str, str]:
    return {"question": str(row["question"]), "context": context_of(row)}


@dataclass(frozen=True)
class _Asked:
    """What of a task's row is sent, by the server's names, and how the first row of its answer is read."""

    send: Callable[[Row], dict[str, str]]
    read: Callable[[Any, Row], Answer]
    writes: bool = False
    """Whether the answer is written, so that there are settings for it."""
    repeats: bool = False
    """Whether what is written would begin with what was asked, unless it is told not to."""


def _label(found: Any, _: Row) -> Answer:
    """A label; with its score, or each one's; or Python's text of a list, where several may be right."""
    if isinstance(found, str):
        several = _python_list(found)
        return label_answer(found) if several is None else labels_answer([(name, None) for name in several])
    every = [one for one in _values(found) if isinstance(one, Mapping) and "label" in one]
    if not every:
        raise _unreadable(found, "label")
    best = max(every, key=lambda one: float(one.get("score") or 0))
    return label_answer(str(best["label"]), None if best.get("score") is None else float(best["score"]))


def _tags(found: Any, row: Row) -> Answer:
    """Python's text of a list with a tag for each word; MLflow's own flavor names only those that are something."""
    if isinstance(found, str):
        several = _python_list(found)
        tags: list[Any] = [tag for tag in found.split(",") if tag] if several is None else list(several)
    else:
        tags = [_entity(one) for one in _values(found)]
    if not all(isinstance(tag, str) for tag in tags):
        raise _unreadable(found, "tags")
    return tags_answer(row["tokens"] if len(row["tokens"]) == len(tags) else (), tags)


def _entity(one: Any) -> Any:
    return one.get("entity_group") or one.get("entity") if isinstance(one, Mapping) else one


def _span(found: Any, _: Row) -> Answer:
    return span_answer(score_text(found))


def _text(found: Any, _: Row) -> Answer:
    return text_answer(score_text(found))


_TASKS: dict[str, _Asked] = {
    "text-classification": _Asked(_first_of_pair, _label),
    "token-classification": _Asked(lambda row: {_INPUT: " ".join(row["tokens"])}, _tags),
    "question-answering": _Asked(_question, _span),
    "summarization": _Asked(_one("document"), _text, writes=True),
    "translation": _Asked(_one("source"), _text, writes=True),
    "text-generation": _Asked(_one("prompt"), _text, writes=True, repeats=True),
}
"""Every task that a pipeline of the registry tunes for, chats aside."""
_THEIRS = {"multiclass": "text-classification", "multilabel": "text-classification", "ner": "token-classification"}
"""Other names that Azure's package has for task types."""


@dataclass(frozen=True)
class Scoring:
    """How one model's server takes a row."""

    task: str
    flavor: str
    inputs: tuple[str, ...] | None
    """The names of its signature's inputs, "" for one that has none; None where there is no signature."""
    params: frozenset[str] = frozenset()
    """The settings that its signature knows."""

    @property
    def reads(self) -> tuple[str, ...]:
        """The columns of a row that it is asked with."""
        return reads_of(self.task)

    def body(self, row: Row, *, max_new_tokens: int, temperature: float) -> dict[str, Any]:
        """The request for one row. Raises `UsageError` for a row that the server can't be asked.

        A server that reads a table (a signature with names) takes no settings: it writes by the model's own.
        """
        asked = _TASKS[self.task]
        texts = asked.send(row)
        settings = _settings(asked, max_new_tokens, temperature)
        if self.flavor == _TRANSFORMERS:
            known = {name: value for name, value in settings.items() if name in self.params}
            return {"input_data": texts if len(texts) > 1 else list(texts.values()), "params": known}
        if self.inputs is None:
            given: dict[str, Any] = {name: [text] for name, text in texts.items()}
            return {"input_data": {**given, **({"parameters": settings} if settings else {})}, "params": {}}
        names = self.inputs if len(texts) > 1 else self.inputs[:1]
        values = [texts[name] for name in names] if len(texts) > 1 else list(texts.values())
        return {"input_data": {"columns": list(names), "index": [0], "data": [values]}, "params": {}}

    def answer(self, answer: Any, row: Row) -> Answer:
        """What the server answered about the row. Raises `ServiceError` for what is no answer."""
        found = answer[0] if isinstance(answer, list) and answer else answer
        if isinstance(found, Mapping) and set(found) == {"0"}:  # a table of one column without a name
            found = found["0"]
        if found is None or found in ([], {}):
            raise _unreadable(answer, "answer in it")
        return _TASKS[self.task].read(found, row)


def read_scoring(connection: Connection, name: str, version: str) -> Scoring | None:
    """How the server of a registered model takes a row; None for one that is asked in conversation.

    Raises `ServiceError` where its `MLmodel` can't be read.
    """
    model = Resources(connection).get("model", name, version)
    path = store_path(str(model.properties.get("modelUri") or "")) if model is not None else None
    piece = connection.storage.read(f"{path}/MLmodel") if path is not None else None
    if piece is None:
        raise ServiceError(f"The MLmodel of {name}:{version} is not in the workspace's own store.")
    try:
        return scoring_of(yaml.safe_load(piece.data) or {})
    except (yaml.YAMLError, ValueError, AttributeError, TypeError):
        raise ServiceError(f"The MLmodel of {name}:{version} can't be read.") from None


def scoring_of(described: Mapping[str, Any]) -> Scoring | None:
    """How the server of a model with this `MLmodel` takes a row; None for one that is asked in conversation."""
    flavors = described.get("flavors") or {}
    flavor = next((name for name in _FLAVORS if name in flavors), None)
    if flavor is None:
        return None
    said = str(flavors[flavor].get("task_type") or flavors[flavor].get("task") or "")
    task = _THEIRS.get(said, "translation" if said.startswith("translation_") else said)
    if task not in _TASKS:
        return None
    signature = described.get("signature") or {}
    inputs = json.loads(signature.get("inputs") or "[]")
    params = json.loads(signature.get("params") or "[]")
    names = tuple(str(one.get("name") or "") for one in inputs)
    return Scoring(task, flavor, names or None, frozenset(str(one["name"]) for one in params))


def score_text(answer: Any) -> str:
    """The text in what Azure's MLflow server answers: {"output": text}, a list of texts, or one of either in a list."""
    found = answer
    while True:
        if isinstance(found, str):
            return found
        if isinstance(found, list) and found:
            last = found[-1]
            found = last.get("content", last) if isinstance(last, dict) and "role" in last else found[0]
        elif isinstance(found, dict) and found:
            known = next((key for key in ("output", "generated_text", "content", "result") if key in found), None)
            found = found[known] if known is not None else next(iter(found.values()))
        else:
            raise _unreadable(answer, "text")


def short(value: Any) -> str:
    """An answer as a text that fits into a message, without secrets."""
    text = value if isinstance(value, str) else json.dumps(value)
    return redact(text if len(text) <= 200 else f"{text[:200]}...")


def _settings(asked: _Asked, max_new_tokens: int, temperature: float) -> dict[str, Any]:
    if not asked.writes:
        return {}
    settings: dict[str, Any] = {"max_new_tokens": max_new_tokens, "do_sample": temperature > 0}
    if temperature > 0:
        settings["temperature"] = temperature
    return {**settings, "return_full_text": False} if asked.repeats else settings


def _values(found: Any) -> list[Any]:
    """The parts of an answer: of a list, or of a table's row (`{"0": ..., "1": ...}`); else itself alone."""
    if isinstance(found, list):
        return found
    if isinstance(found, Mapping) and found and all(str(key).isdigit() for key in found):
        return list(found.values())
    return [found]


def _python_list(text: str) -> list[str] | None:
    """The texts in Python's own writing of a list; None where it is something else."""
    if not (text.startswith("[") and text.endswith("]")):
        return None
    try:
        found = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    return [str(one) for one in found] if isinstance(found, list) else None


def _unreadable(answer: Any, what: str) -> ServiceError:
    return ServiceError(f"The endpoint's answer has no {what}: {short(answer)}")
