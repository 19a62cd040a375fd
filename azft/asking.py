"""One row asked of a tuned model: what a task's model is asked with, and its answer, for a person and as data.

Which columns those are is the task's row (`Task.reads`). Models on this machine (`azft.training`) and behind endpoints
(`azft.azureml`) give the same answers. Of conversations only their messages are checked here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from azft.errors import UsageError
from azft.tasks import TASKS

NOTHING = "(none)"
"""The answer where nothing is told: no label, no place in the context, no text."""
_EXAMPLE = '[{"role": "user", "content": "When are you open?"}]'


@dataclass(frozen=True)
class Answer:
    """What was told about a row; `told` is the same as JSON values: label and score, labels, tags, answer, or text."""

    text: str
    told: Mapping[str, Any]


def text_answer(text: str) -> Answer:
    """A written text."""
    return Answer(text, {"text": text})


def span_answer(text: str) -> Answer:
    """A place in the context, by its text."""
    return Answer(text or NOTHING, {"answer": text})


def label_answer(label: str, score: float | None = None, scores: Mapping[str, float] | None = None) -> Answer:
    """The one label that is right; `score` is its probability, where that is known, `scores` every label's."""
    told = _label(label, score)
    return Answer(_scored(label, score), told if scores is None else {**told, "scores": dict(scores)})


def labels_answer(labels: Sequence[tuple[str, float | None]]) -> Answer:
    """All labels that are right, any number of them, with their probabilities."""
    text = ", ".join(_scored(label, score) for label, score in labels)
    return Answer(text or NOTHING, {"labels": [_label(label, score) for label, score in labels]})


def tags_answer(tokens: Sequence[str], tags: Sequence[str]) -> Answer:
    """The tag of each token, a line each; the tags alone where the server says no more (`tokens` is empty then)."""
    if not tokens:
        return Answer(" ".join(tags) or NOTHING, {"tags": list(tags)})
    width = max(map(len, tokens))
    lines = (f"{token:<{width}}  {tag}" for token, tag in zip(tokens, tags, strict=True))
    return Answer("\n".join(lines), {"tokens": list(tokens), "tags": list(tags)})


def row_of(text: str, reads: Sequence[str]) -> dict[str, Any]:
    """The row that a text alone makes: the first column of what is read, words where that is their list."""
    return {reads[0]: text.split() if reads[0] == _WORDS else text}


def checked_row(given: Any, reads: Sequence[str]) -> dict[str, Any]:
    """The row that somebody gave, its values of the right kind. Raises `UsageError` for anything else.

    Columns that are none of `reads` are refused: a misspelt one would be left out in silence.
    """
    wanted = f'It is asked with {" and ".join(reads)}: {{"{reads[0]}": ...}}'
    if not isinstance(given, Mapping):
        raise UsageError("A row is an object of columns and values.", fix=wanted)
    if unknown := [str(name) for name in given if name not in reads]:
        raise UsageError(f"The model is not asked with {', '.join(unknown)}.", fix=wanted)
    if reads[0] not in given:
        raise UsageError(f"The row has no {reads[0]}.", fix=wanted)
    row = dict(given)
    if isinstance(row.get(_WORDS), str):
        row[_WORDS] = row[_WORDS].split()
    for name, value in row.items():
        words = name == _WORDS
        if not (isinstance(value, list) and all(isinstance(word, str) for word in value) if words else _is_text(value)):
            raise UsageError(f"{name} must be {'a list of words' if words else 'a text'}.", fix=wanted)
        if not value:
            raise UsageError(f"{name} is empty.", fix=wanted)
    return row


def context_of(row: Mapping[str, Any]) -> str:
    """The context in which a model marks its answer. Raises `UsageError` for a row without one."""
    if "context" not in row:
        raise UsageError(
            "The model marks its answer in a context, and there is none.",
            fix='Give both: --row \'{"question": "...", "context": "..."}\'',
        )
    return str(row["context"])


def reads_of(task: str) -> tuple[str, ...]:
    """The columns with which a task's model is asked; () for a task that is asked in conversation, or unknown."""
    return TASKS[task].reads if task in TASKS else ()


_WORDS = "tokens"


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _scored(label: str, score: float | None) -> str:
    return label if score is None else f"{label} ({score:.3f})"


def _label(label: str, score: float | None) -> dict[str, Any]:
    return {"label": label} if score is None else {"label": label, "score": score}


def require_conversation(messages: object, *, max_new_tokens: int) -> list[dict[str, Any]]:
    """The messages as a list. Raises `UsageError` where they are no conversation, or no answer is wanted."""
    if max_new_tokens < 1:
        raise UsageError(f"An answer has at least one token: max_new_tokens is {max_new_tokens}.")
    given = list(messages) if isinstance(messages, Iterable) and not isinstance(messages, str | Mapping) else []
    turns = [dict(message) for message in given if isinstance(message, Mapping) and {"role", "content"} <= set(message)]
    if not turns or len(turns) < len(given):
        raise UsageError("A conversation is a list of messages, each with role and content.", fix=f"Like {_EXAMPLE}")
    return turns
