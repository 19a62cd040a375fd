"""The task table: what a row of data must look like, and what a task makes of it.

A new task is a new row here, a renderer in `azft.data` that turns its rows into token ids and a loss mask, and nothing
else. Only tasks whose whole path exists are listed.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Column:
    """One column that a task reads. `kind` names the shape of its values, which the data check verifies."""

    name: str
    kind: str
    help: str
    required: bool = True


@dataclass(frozen=True, slots=True)
class Task:
    """A row of the table.

    `head` is the transformers auto class that loads the model; `metrics` are what evaluation reports, best known first.
    """

    name: str
    title: str
    columns: tuple[Column, ...]
    head: str
    metrics: tuple[str, ...]


TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task(
            name="chat-completion",
            title="Chat: the model learns the assistant's turns of a conversation",
            columns=(
                Column("messages", "messages", "a list of {role, content}; roles: system, user, assistant, tool"),
                Column("tools", "tools", "the functions the assistant may call, in OpenAI's format", required=False),
            ),
            head="AutoModelForCausalLM",
            metrics=("loss", "perplexity", "token_accuracy"),
        ),
    )
}
