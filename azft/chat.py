"""Talking to a model that a run made. Loads torch only when a model is opened."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from azft.asking import Answer, require_conversation
from azft.data.model_folder import has_model
from azft.errors import NotFoundError, UsageError
from azft.extras import needs
from azft.runs import Run
from azft.tasks import TASKS, Task

Message = dict[str, str]


@dataclass(frozen=True)
class Chat:
    """A loaded model; `folder` is where it came from."""

    folder: Path
    model: Any
    note: str = ""
    """What the user should know about it, such as that it is a stand-in."""

    def reply(
        self, messages: Sequence[Message], *, max_new_tokens: int = 256, temperature: float = 0.0
    ) -> Iterator[str]:
        """Pieces of the answer to a conversation, as they are made. Temperature 0 always takes the likeliest token.

        Raises `UsageError` for what is no conversation.
        """
        turns = require_conversation(messages, max_new_tokens=max_new_tokens)
        pieces: Iterator[str] = self.model.reply(turns, max_new_tokens=max_new_tokens, temperature=temperature)
        return pieces

    def go_on(self, text: str, *, max_new_tokens: int = 256, temperature: float = 0.0) -> Iterator[str]:
        """What follows a text as it stands, without a chat's markup or a task's prompt, in pieces."""
        yield from self.model.go_on(text, max_new_tokens=max_new_tokens, temperature=temperature)

    @property
    def reads(self) -> tuple[str, ...]:
        """The columns of a row with which the model may be asked; () where it is asked in conversation alone."""
        return tuple(self.model.reads)

    def ask(self, row: Mapping[str, Any], *, max_new_tokens: int = 256, temperature: float = 0.0) -> Answer:
        """The answer to a row: what is written, or told about it. Raises `UsageError` for columns that aren't read."""
        if not self.reads:
            raise UsageError("The model is asked in conversation, not with a row.", fix="Say it: --prompt TEXT")
        answer: Answer = self.model.ask(row, max_new_tokens=max_new_tokens, temperature=temperature)
        return answer


def open_chat(what: Run | Path, *, task: str | None = None) -> Chat:
    """Load a run's packaged model, or a model folder; `task`: what a folder's model was tuned for, where that is known.

    Raises `NotFoundError` when there is none.
    """
    if isinstance(what, Run):
        folder = what.outputs().get("packaged")
        if folder is None or not (has_model(folder) or (folder / "adapter").exists()):
            fix = f"See how far it is: azft status {what.name}"
            if what.remote:
                here = what.folder / "outputs"
                fix = f"{fix}\nWhen it is done, bring it here: azft outputs {what.name} packaged --download {here}"
            raise NotFoundError(f"Run {what.name} has no model yet ({what.state}).", fix=fix)
        stand_in, how = what.plan["model"]["kind"] == "stand-in", _asking(what.plan["recipe"])
    else:
        folder, stand_in, how = what, False, {} if task is None else asking(TASKS[task])
        if not folder.is_dir():
            raise NotFoundError(f"There is no model folder {folder}.", fix="See the runs: azft runs")
    with needs("train", "Chat"):
        from azft.training.generate import load_chat
    note = "This model is a stand-in: tiny, from random weights. It proves the pipeline, not the quality."
    return Chat(folder, load_chat(folder, **how), note if stand_in else "")


def _asking(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """How a model that was tuned by a recipe is to be asked: `azft.training.generate.ChatModel` says what it means.

    The recipe of a run that was started on another machine isn't here; its model is asked like any folder's.
    """
    if "task" not in recipe:
        return {}
    return asking(TASKS[recipe["task"]], recipe["data"].get("prompt"))


def asking(task: Task, prompt: str | None = None) -> dict[str, Any]:
    """How a model of this task is asked, by the recipe's own prompt where it has one; see `_asking`."""
    prompt = prompt or task.prompt
    column = task.columns[0].name if prompt else ""
    return {"prompt": prompt, "column": column, "plain": task.rendering == "text", "reads": task.reads}
