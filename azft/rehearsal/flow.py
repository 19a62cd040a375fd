"""The whole way to an endpoint and back, rehearsed: plan, submit, watch, register, deploy, one chat, and down.

Each part is done by the code that does it on Azure. A part that fails ends the rehearsal with its own error, as it
would have ended the real thing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from azft import api
from azft.azureml.connection import Access
from azft.azureml.deployment import Deployment
from azft.azureml.inference import EndpointChat
from azft.azureml.serving_choice import why_not_vllm
from azft.azureml.vllm_rows import vllm_rows
from azft.data.column_names import resolve_columns
from azft.data.readers import iter_valid_rows
from azft.errors import AzftError, UsageError
from azft.plan import Plan
from azft.plan_checks import require_no_errors
from azft.rehearsal.session import Rehearsal
from azft.runs import Run
from azft.tasks import TASKS, Task
from azft.words import plural

OnEvent = Callable[[dict[str, Any]], None]
Message = dict[str, str]

PARTS = ("plan", "stage", "submit", "register", "deploy", "chat", "down")
INTRODUCTION = (
    "This is a rehearsal on this machine: azft's emulator plays Azure, a stand-in plays a model that is there.\n"
    "Nothing leaves this machine, nothing is billed."
)
_TINY = "how good the tuned model is: a stand-in is tiny, and its weights are random"
NOT_SHOWN = (
    "that Azure answers as the emulator does, which was written from its documentation and its clients",
    _TINY,
    "that your subscription has the quota, the roles and the region (azft plan --check-remote asks it)",
    "how long it takes and what it costs there",
)
_QUIET = "left out: {why}"
_REGISTERED = "its result can be registered (deploying it is not shown: {why})"
_NAMED = "; name its size there, with --instance-type: no registry recommends one"
_OWN_SERVICE = "pipeline"
"""Whose models vLLM serves."""
_TOKENS = 48
"""Of the one answer."""


@dataclass(frozen=True)
class Part:
    """One part that was done. `said` is what came of it, in a line."""

    name: str
    seconds: float
    said: str


@dataclass(frozen=True)
class Report:
    """A rehearsal that went well."""

    run: str
    mode: str
    service: str
    endpoint: str
    question: str
    answer: str
    requests: int
    """How many requests azft and the SDK made in all."""
    home: str
    parts: tuple[Part, ...]
    shown: tuple[str, ...]
    """What it showed, in words."""
    stand_in: bool = True
    """Whether a stand-in was trained, and not the weights that are uploaded from this machine."""

    @property
    def not_shown(self) -> tuple[str, ...]:
        """What it could not show, in words."""
        return tuple(line for line in NOT_SHOWN if self.stand_in or line != _TINY)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {**asdict(self), "not_shown": self.not_shown}


def rehearse(
    what: Plan | api.RecipeLike,
    mode: str = "maap",
    *,
    create_compute: bool = False,
    on_event: OnEvent | None = None,
    home: Path | None = None,
) -> Report:
    """Do all of it with a plan, or with a recipe planned for `mode`, and leave nothing but the records.

    The cluster that the plan names is there already, or is made on the way as `create_compute` asks for.

    `on_event` gets the run's own events, and `{"event": "rehearsal", "part", "number", "of", "state", "said"}` as each
    part starts and is done. Raises what the part that fails raises: findings, a job that failed, a refusal.
    """
    work = _Work(on_event or (lambda _: None))
    with work.part("plan") as say:
        plan = what if isinstance(what, Plan) else api.plan(what, mode)
        if plan.target is None:
            raise UsageError(
                f"A plan of mode {plan.mode} runs on this machine anyway; there is nothing to rehearse.",
                fix="Rehearse one for Azure: --mode maas or --mode maap",
            )
        require_no_errors(plan)
        say(f"{plan.run_name}, {plan.target.service}")
    with Rehearsal(home=home) as stage:
        return work.play(stage, plan, Access(create_compute=create_compute))


@dataclass
class _Work:
    tell: OnEvent
    parts: list[Part] = field(default_factory=list)

    def play(self, stage: Rehearsal, plan: Plan, access: Access) -> Report:
        from azft.rehearsal.seeds import serving_size  # knows the emulator, an extra that the session has asked for

        assert plan.target is not None
        with self.part("stage") as say:
            made = stage.ready(plan, cluster=not access.create_compute)
            say(f"the emulator at {stage.emulator.url} has {', '.join(made) or 'all that it needs'}")
        with self.part("submit") as say:
            run = api.submit(plan, on_event=self.tell, access=access)
            say(_trained(run))
        with self.part("register") as say:
            model = api.register(run, on_event=self.tell)
            say(f"{model.reference} ({model.type}), by {model.registered_by}")
        question, answer, name = "", "", ""
        why = _why_not_asked(plan, run)
        with self.part("deploy") as say:
            if not why:
                size = serving_size(plan.target)
                endpoint = api.deploy(run, instance_type=size, on_event=self.tell)
                name = endpoint.name
                say(_served(endpoint) + (_NAMED if size else ""))
            else:
                say(_QUIET.format(why=why))
        with self.part("chat") as say:
            if not why:
                asked = first_question(plan)
                question = asked.shown
                answer = asked.of(api.open_endpoint(name))
                say(f"asked {_short(question)}, it said {_short(answer)}")
            else:
                say(_QUIET.format(why=why))
        with self.part("down") as say:
            ended = [outcome for outcome in api.down(on_event=self.tell) if outcome.ended]
            if left := api.inventory().items:
                names = ", ".join(item.words for item in left)
                raise AzftError(f"After `azft down` something is still there: {names}.", fix="Please report it.")
            say(f"{plural(len(ended), 'thing')} ended, nothing is left that bills")
        requests = len(stage.emulator.log.list())
        return Report(
            run=run.name,
            mode=plan.mode,
            service=plan.target.service,
            endpoint=name,
            question=question,
            answer=answer,
            requests=requests,
            home=str(stage.home),
            parts=tuple(self.parts),
            stand_in=plan.model.path is None,
            shown=(
                "the job that azft sends is complete: it ran from the bytes that arrived, and from nothing else",
                _REGISTERED.format(why=why)
                if why
                else "its result can be registered and deployed, and answers a question",
                "azft down ends everything that azft started; nothing is left that bills",
            ),
        )

    @contextmanager
    def part(self, name: str) -> Iterator[Callable[[str], None]]:
        """Tell of a part's start and end; the block says what came of it."""
        numbered = {"event": "rehearsal", "part": name, "number": PARTS.index(name) + 1, "of": len(PARTS)}
        self.tell({**numbered, "state": "started"})
        started, said = time.monotonic(), [""]

        def say(text: str) -> None:
            said[0] = text

        yield say
        done = Part(name, round(time.monotonic() - started, 3), said[0])
        self.parts.append(done)
        self.tell({**numbered, "state": "done", "said": done.said, "seconds": done.seconds})


@dataclass(frozen=True)
class Question:
    """What the served model is asked: a conversation, or a row of its task."""

    messages: tuple[Message, ...] = ()
    row: Mapping[str, Any] = field(default_factory=dict)

    @property
    def shown(self) -> str:
        """It as a person reads it: what is said last, or the row's texts."""
        if self.messages:
            return self.messages[-1]["content"]
        return "\n".join(" ".join(value) if isinstance(value, list) else str(value) for value in self.row.values())

    def of(self, endpoint: EndpointChat) -> str:
        """The endpoint's answer."""
        if self.row:
            return endpoint.ask(self.row, max_new_tokens=_TOKENS).text
        return "".join(endpoint.reply(self.messages, max_new_tokens=_TOKENS))


def first_question(plan: Plan) -> Question:
    """What the first held-out row asks, up to the answer that the data has for it: as the plan's service serves it."""
    task, data = TASKS[plan.recipe["task"]], plan.recipe["data"]
    by_role = {entry.role: entry.path for entry in plan.inputs}
    path = by_role.get("test") or by_role.get("validation") or by_role["train"]
    columns, _ = resolve_columns(task.name, data.get("columns") or {}, by_role["train"])
    row = next(iter_valid_rows(path, task.name, columns)).data
    own = plan.target is None or plan.target.service == _OWN_SERVICE
    if vllm_rows(task.name, None) is not None if own else task.reads:
        return Question(row=_opening(row) if "text" in row and task.target == "completion" else _read(task, row))
    chats = task.rendering == "chat"
    messages = tuple(
        {"role": str(message["role"]), "content": str(message.get("content") or "")}
        for message in row["messages" if chats else "prompt"]
    )
    answers = [index for index, message in enumerate(messages) if message["role"] == "assistant"]
    return Question(messages[: answers[-1]] if chats and answers else messages)


def _why_not_asked(plan: Plan, run: Run) -> str:
    """Why the model is not deployed and asked here; "" where it is."""
    assert plan.target is not None
    task = TASKS[plan.recipe["task"]]
    if plan.target.service == _OWN_SERVICE and (why := why_not_vllm(run, task)):
        return f"azft deploy refuses the model: vLLM {why}"
    if "text_pair" in first_question(plan).row:
        return "the endpoint's server takes one text a row, and the rows have two"
    return ""


def _read(task: Task, row: Mapping[str, Any]) -> dict[str, Any]:
    """The row's columns that the task's model is asked with."""
    return {name: row[name] for name in task.reads if name in row}


def _opening(row: Mapping[str, Any]) -> dict[str, Any]:
    """What a text goes on from: its prompt, or the first half of its words."""
    words = str(row.get("text", "")).split(" ")
    return {"prompt": row["prompt"] if "prompt" in row else " ".join(words[: max(1, len(words) // 2)])}


def _trained(run: Run) -> str:
    progress = run.progress()
    losses = list(progress.losses.values())
    steps = f"{plural(len(progress.steps), 'step')} of the job" if progress.steps else "the job"
    curve = f", loss {losses[0]:.3f} to {losses[-1]:.3f}" if losses else ""
    return f"{run.state}: {steps}{curve}"


def _served(endpoint: Deployment) -> str:
    machine = f" on {endpoint.instance_count} x {endpoint.instance_type}" if endpoint.instance_type else ""
    return f"{endpoint.kind} endpoint {endpoint.name}{machine}; on Azure: {endpoint.billing or endpoint.hourly}"


def _short(text: str, length: int = 60) -> str:
    flat = " ".join(text.split())
    return repr(flat if len(flat) <= length else f"{flat[: length - 1]}…")
