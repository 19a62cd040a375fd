"""Talking to a model that a run made. Loads torch only when a model is opened."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from azft.data.asking import require_conversation
from azft.data.model_folder import has_model
from azft.errors import NotFoundError
from azft.extras import needs
from azft.runs import Run
from azft.tasks import TASKS

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


def open_chat(what: Run | Path) -> Chat:
    """Load a run's packaged model, or a model folder. Raises `NotFoundError` when there is none."""
    if isinstance(what, Run):
        folder = what.outputs().get("packaged")
        if folder is None or not (has_model(folder) or (folder / "adapter").exists()):
            fix = f"See how far it is: azft status {what.name}"
            if what.remote:
                here = what.folder / "outputs"
                fix = f"{fix}\nWhen it is done, bring it here: azft outputs {what.name} packaged --download {here}"
            raise NotFoundError(f"Run {what.name} has no model yet ({what.state}).", fix=fix)
        stand_in, asking = what.plan["model"]["kind"] == "stand-in", _asking(what.plan["recipe"])
    else:
        folder, stand_in, asking = what, False, {}
        if not folder.is_dir():
            raise NotFoundError(f"There is no model folder {folder}.", fix="See the runs: azft runs")
    with needs("train", "Chat"):
        from azft.training.generate import load_chat
    note = "This model is a stand-in: tiny, from random weights. It proves the pipeline, not the quality."
    return Chat(folder, load_chat(folder, **asking), note if stand_in else "")


def _asking(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """How a model that was tuned by a recipe is to be asked: `azft.training.generate.ChatModel` says what it means.

    The recipe of a run that was started on another machine isn't here; its model is asked like any folder's.
    """
    if "task" not in recipe:
        return {}
    task = TASKS[recipe["task"]]
    prompt = recipe["data"].get("prompt") or task.prompt
    return {"prompt": prompt, "column": task.columns[0].name if prompt else "", "plain": task.rendering == "text"}
