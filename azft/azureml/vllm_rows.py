"""How the vLLM of environments/serve is asked with rows, where it isn't asked in conversation. A row a task.

Read in vLLM 0.32.0, the version that environments/serve pins: entrypoints/pooling/classify,
entrypoints/openai/completion, and the heads that model_executor/models/registry.py knows. No GPU served one here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from azft.asking import Answer, label_answer, reads_of, text_answer
from azft.azureml.errors import ServiceError
from azft.azureml.scoring import Row, short
from azft.data.prompts import fill
from azft.errors import UsageError
from azft.tasks import TASKS

CHAT = "v1/chat/completions"
CLASSIFIERS = ("Bert", "ModernBert", "Roberta", "XLMRoberta")
"""How the names of the encoders begin whose classification heads vLLM has; of decoders it takes any."""


@dataclass(frozen=True)
class VllmRows:
    """How an endpoint of vLLM takes a row of a task."""

    task: str
    path: str
    """Where below the server's address."""
    model: str | None
    """What the server calls the model."""
    write: Callable[[Row, int, float], dict[str, Any]]
    read: Callable[[Any], Answer]

    @property
    def reads(self) -> tuple[str, ...]:
        """The columns of a row that it is asked with."""
        return reads_of(self.task)

    def body(self, row: Row, *, max_new_tokens: int, temperature: float) -> dict[str, Any]:
        """The request for one row. Raises `UsageError` for a row that the server can't be asked."""
        named = {} if self.model is None else {"model": self.model}
        return {**named, **self.write(row, max_new_tokens, temperature)}

    def answer(self, answer: Any, _: Row) -> Answer:
        """What the server answered about the row. Raises `ServiceError` for what is no answer."""
        try:
            return self.read(answer)
        except (KeyError, IndexError, TypeError, ValueError):
            raise ServiceError(f"The endpoint's answer has nothing about the row: {short(answer)}") from None


def vllm_rows(task: str, model: str | None, prompt: str | None = None) -> VllmRows | None:
    """How an endpoint of vLLM takes a row of this task; None for a task whose model is asked in conversation there.

    `prompt` is the recipe's own, where it has one: rows that are asked by a prompt stand in its places.
    """
    if task in _TASKS:
        return VllmRows(task, _TASKS[task][0], model, *_TASKS[task][1:])
    if task not in TASKS or TASKS[task].rendering != "prompt":
        return None
    return VllmRows(task, CHAT, model, _by_prompt(prompt or TASKS[task].prompt), _content)


def _by_prompt(prompt: str) -> Callable[[Row, int, float], dict[str, Any]]:
    """A row in the places of a prompt, said by a user, as the model was trained to be asked."""

    def write(row: Row, tokens: int, temperature: float) -> dict[str, Any]:
        said = {"role": "user", "content": fill(prompt, row).text}
        return {"messages": [said], "max_tokens": tokens, "temperature": temperature}

    return write


def _content(answer: Any) -> Answer:
    return text_answer(str(answer["choices"][0]["message"]["content"] or ""))


def _text(row: Row, _tokens: int, _temperature: float) -> dict[str, Any]:
    """One text; what is longer than the model reads is cut off at its end, as in training."""
    if row.get("text_pair"):
        raise UsageError(
            "vLLM classifies one text a row.",
            fix="Leave out text_pair. On this machine azft tells about two: azft chat RUN --row ...",
        )
    return {"input": str(row["text"]), "truncate_prompt_tokens": -1}


def _label(answer: Any) -> Answer:
    """The likeliest label. A model that may tell several has probabilities that don't make one, and no other's name."""
    found = answer["data"][0]
    likely = [float(one) for one in found["probs"]]
    if not math.isclose(sum(likely), 1.0, abs_tol=0.01):
        raise ServiceError(
            "The model may tell several labels, and vLLM names only the likeliest.",
            fix="Ask it on this machine: azft chat RUN --row ...",
        )
    return label_answer(str(found["label"]), max(likely))


def _prompt(row: Row, tokens: int, temperature: float) -> dict[str, Any]:
    return {"prompt": str(row["prompt"]), "max_tokens": tokens, "temperature": temperature}


_TASKS: Mapping[str, tuple[str, Callable[[Row, int, float], dict[str, Any]], Callable[[Any], Answer]]] = {
    "text-classification": ("classify", _text, _label),
    "text-generation": ("v1/completions", _prompt, lambda answer: text_answer(str(answer["choices"][0]["text"]))),
}
