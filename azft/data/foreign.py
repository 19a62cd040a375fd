"""The table of foreign row formats: how a row is told by its columns, and how it becomes a row of a task.

Works on one decoded row of any shape whatever. Files, and what the data check says of the result, are
`azft.data.convert`'s business.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from azft.data.foreign_chat import NotConvertibleError, conversation, value_of
from azft.data.foreign_pictures import CAPTIONS, NAME, read_picture
from azft.data.foreign_preference import preference
from azft.data.values import kind_of
from azft.tasks import TASKS, Task

Form = dict[str, Any]
"""A row between its format and a task: a chat (messages, tools), a question (question, context, answers), tagged tokens
(tokens, tags), a preference (prompt, chosen, rejected, tools) or a picture (image, text)."""


@dataclass(frozen=True, slots=True)
class Format:
    """A row of the table. `marks` are sets of columns: a row that has one of them whole looks like this format.

    `read(row)` makes the form that `form` names, raising `NotConvertibleError`; `columns` are those it looks at, others
    are left out. `file` names how the file is read (`azft.data.convert`) where rows are not simply its lines.
    """

    name: str
    title: str
    marks: tuple[frozenset[str], ...]
    columns: frozenset[str]
    read: Callable[[Mapping[str, Any]], Form]
    form: str = "chat"
    file: str = "rows"

    def fits(self, row: Mapping[str, Any]) -> bool:
        """Whether a row looks like this format."""
        return any(mark <= row.keys() for mark in self.marks)

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks whose rows it can become; the first one is taken where none is asked for."""
        return tuple(task for task in TARGETS[self.form] if task in TASKS)


def _sharegpt(row: Mapping[str, Any]) -> Form:
    turns = row.get("conversations", row.get("conversation"))
    return conversation(turns, column="conversations", system=row.get("system"), tools=row.get("tools"))


def _openai(row: Mapping[str, Any]) -> Form:
    tools = row.get("tools")
    return conversation(row.get("messages"), column="messages", tools=row.get("functions") if tools is None else tools)


def _alpaca(row: Mapping[str, Any]) -> Form:
    """The instruction with its input below it is the question; `history` holds earlier [question, answer] pairs."""
    turns = []
    history = value_of(row.get("history")) or []
    if not isinstance(history, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in history):
        raise NotConvertibleError(
            "`history` is not a list of [question, answer] pairs", "Write it so, or leave it out."
        )
    for question, answer in history:
        turns += [_turn("user", question, "history"), _turn("assistant", answer, "history")]
    asked = _text(row, "instruction")
    more = row.get("input")
    if more is not None and not isinstance(more, str):
        raise NotConvertibleError(f"`input` is {kind_of(more)}, not text", "Write it as text.")
    turns.append({"role": "user", "content": f"{asked}\n{more}" if more and more.strip() else asked})
    turns.append({"role": "assistant", "content": _text(row, "output")})
    return conversation(turns, column="instruction", system=row.get("system"))


def _azure(row: Mapping[str, Any]) -> Form:
    return _exchange(row, "text", "ground_truth")


def _completion(row: Mapping[str, Any]) -> Form:
    return _exchange(row, "prompt", "completion")


def _exchange(row: Mapping[str, Any], asked: str, answered: str) -> Form:
    """Text stands for one turn; TRL's form has lists of messages there."""
    turns: list[Any] = []
    for name, role in ((asked, "user"), (answered, "assistant")):
        value = row.get(name)
        turns += value if isinstance(value, list) else [{"role": role, "content": _text(row, name)}]
    return conversation(turns, column=asked, system=row.get("system"), tools=row.get("tools"))


def _roles(row: Mapping[str, Any]) -> Form:
    turns = [_turn(role, _text(row, role), role) for role in ("user", "assistant")]
    return conversation(turns, column="user", system=row.get("system"))


def _squad(row: Mapping[str, Any]) -> Form:
    """SQuAD's flat row. No answer in the context (SQuAD 2.0) is an empty list of texts."""
    answers = value_of(row.get("answers"))
    if answers is None:
        raise NotConvertibleError("`answers` is missing", 'Write it: {"text": [...], "answer_start": [...]}.')
    if isinstance(answers, list) and all(isinstance(answer, dict) for answer in answers):  # the nested files' form
        answers = {
            "text": [answer.get("text") for answer in answers],
            "answer_start": [answer.get("answer_start") for answer in answers],
        }
        if None in answers["answer_start"]:
            del answers["answer_start"]
    return {"question": _text(row, "question"), "context": _text(row, "context"), "answers": answers}


def _tagged(row: Mapping[str, Any]) -> Form:
    return {"tokens": row["tokens"], "tags": row["tags"]}


def _text(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    if value is None:
        raise NotConvertibleError(f"`{name}` is {'null' if name in row else 'missing'}", "Write its text.")
    if not isinstance(value, str):
        raise NotConvertibleError(f"`{name}` is {kind_of(value)}, not text", "Write it as text.")
    return value


def _turn(role: str, content: Any, column: str) -> dict[str, Any]:
    if not isinstance(content, str):
        raise NotConvertibleError(f"`{column}` holds {kind_of(content)} in the place of text", "Write it as text.")
    return {"role": role, "content": content}


def _one_exchange(form: Form) -> Form:
    """A chat of one question and one answer as prompt and completion, the system text above the prompt."""
    messages = form["messages"]
    roles = [message["role"] for message in messages]
    if roles not in (["user", "assistant"], ["system", "user", "assistant"]) or "tool_calls" in messages[-1]:
        raise NotConvertibleError(
            f"its {len(roles)} turns are not one question and its answer in text",
            "Convert to chat-completion instead: --task chat-completion",
        )
    prompt = "\n\n".join(message["content"] for message in messages[:-1])
    return {"prompt": prompt, "completion": messages[-1]["content"]}


TARGETS: dict[str, dict[str, Callable[[Form], Form]]] = {
    "chat": {"chat-completion": dict, "text-generation": _one_exchange},
    "question": {"question-answering": dict},
    "tagged": {"token-classification": dict},
    "preference": {"preference-tuning": dict},
    "picture": {"text-to-image": dict},
}
"""Form -> task -> what makes the task's row of it. The task's columns have the names of `azft.tasks`."""

_PAIR = frozenset({"system", "tools"})
FORMATS: dict[str, Format] = {
    row.name: row
    for row in (
        Format(
            "preference",
            "two answers: `chosen` and `rejected` as turns or conversations, or OpenAI's `preferred_output`",
            (frozenset({"chosen", "rejected"}), frozenset({"preferred_output", "non_preferred_output"})),
            frozenset({"prompt", "chosen", "rejected", "conversations", "system", "tools"})
            | {"input", "preferred_output", "non_preferred_output"},
            preference,
            form="preference",
        ),
        Format(
            "sharegpt",
            "ShareGPT: `conversations` of {from, value}, with function_call and observation",
            (frozenset({"conversations"}), frozenset({"conversation"})),
            frozenset({"conversations", "conversation", "system", "tools"}),
            _sharegpt,
        ),
        Format(
            "openai",
            "OpenAI chat: `messages` of {role, content}; developer, text parts, function_call",
            (frozenset({"messages"}),),
            frozenset({"messages", "tools", "functions", "parallel_tool_calls"}),
            _openai,
        ),
        Format(
            "alpaca",
            "Alpaca: `instruction`, `input`, `output`, also `system` and `history`",
            (frozenset({"instruction", "output"}),),
            frozenset({"instruction", "input", "output", "system", "history"}),
            _alpaca,
        ),
        Format(
            "azure",
            "Azure ML's text generation: `text` and `ground_truth`",
            (frozenset({"text", "ground_truth"}),),
            frozenset({"text", "ground_truth"}) | _PAIR,
            _azure,
        ),
        Format(
            "completion",
            "`prompt` and `completion`, as text or as lists of messages",
            (frozenset({"prompt", "completion"}),),
            frozenset({"prompt", "completion"}) | _PAIR,
            _completion,
        ),
        Format(
            "turns",
            "one exchange a row: `user`, `assistant` and `system`; name them with --columns",
            (frozenset({"user", "assistant"}),),
            frozenset({"user", "assistant", "system"}),
            _roles,
        ),
        Format(
            "squad",
            "SQuAD 1.1 and 2.0, nested (`data`, `paragraphs`, `qas`) or a question a row",
            (frozenset({"question", "context", "answers"}),),
            frozenset({"question", "context", "answers", "id", "title", "is_impossible"}),
            _squad,
            form="question",
            file="squad",
        ),
        Format(
            "conll",
            "CoNLL: a token a line with its tag behind it, an empty line after a sentence",
            (),
            frozenset({"tokens", "tags"}),
            _tagged,
            form="tagged",
            file="conll",
        ),
        Format(
            "pictures",
            "pictures in files: `file_name`, relative to the rows' own, with `text` or `caption` (image folders)",
            tuple(frozenset({NAME, caption}) for caption in CAPTIONS),
            frozenset({NAME, *CAPTIONS}),
            read_picture,
            form="picture",
            file="pictures",
        ),
    )
}
"""Ordered: of several formats that a row looks like, the first one is taken."""


def looks_like(row: Mapping[str, Any], task: Task) -> Format | None:
    """The format that a row looks like, if rows of the task can be made of it; never one of the task's own columns."""
    own = {column.name for column in task.columns}
    fitting = (form for form in FORMATS.values() if form.fits(row) and task.name in form.tasks)
    return next((form for form in fitting if not any(mark <= own for mark in form.marks)), None)
