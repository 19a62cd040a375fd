"""Running a graph: one step after the other, each reused or run, everything it does told as events.

    folder/
      code/<hash>/              the code folder that the steps run in
      steps/<step>/step.json    the step's key once begun; its outputs' manifest once done (finished.json)
      steps/<step>/outputs/     outputs that no graph output names
      outputs/<name>            the graph's outputs
      logs/<step>.txt           what the step printed

A run that was cut off is run again in the same folder: finished steps are passed over, and a step that had begun finds
its unfinished outputs, unless anything that decides its result has changed.
"""

from __future__ import annotations

import shutil
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from azft.errors import FindingsError, JobFailedError
from azft.execution.causes import likely_cause, telling
from azft.execution.graph import Graph, Literal, LocalPath, Output, Step, StepOutput, Value, ordered
from azft.execution.inputs import check_graph
from azft.execution.placeholders import render
from azft.execution.processes import LogFollower, run_guarded
from azft.execution.ranks import command_line, python_folder, step_environment
from azft.execution.reuse import Finished, Manifest, read_finished, remove, step_key, take_over, write_finished
from azft.files import atomic_path, read_lines, sha256_tree, write_json

Event = dict[str, Any]
OnEvent = Callable[[Event], None]
LAST_LINES = 20
"""Lines of a failed step that are shown; its cause is looked for in more, because torchrun ends on many of its own."""
_SEARCHED_LINES = 120


@dataclass(frozen=True)
class Options:
    """How to run, as opposed to what.

    `cache` is a folder shared by runs, where steps find earlier ones with their key; `force` runs every step; `grace`
    is the time in seconds that a stopped step has to save its work; `metrics` names, by step, the output and file whose
    JSON lines are passed on as events; `should_stop` returns a reason to stop; `content_hash` hashes a path.
    """

    cache: Path | None = None
    force: bool = False
    grace: float = 30.0
    metrics: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    should_stop: Callable[[], str | None] = lambda: None
    content_hash: Callable[[Path], str] = sha256_tree


class StepFailedError(JobFailedError):
    """A step's command ended with a status other than 0."""

    def __init__(self, step: str, status: int, lines: list[str], log: Path) -> None:
        cause = likely_cause(status, lines)
        how = f"signal {status - 128}" if status > 128 else f"exit status {status}"
        told = telling(lines)[-LAST_LINES:]
        tail = f"The last lines of {log}:" + "".join(f"\n  | {line}" for line in told) if told else f"Its log: {log}"
        what = f" {cause.what}" if cause else ""
        super().__init__(
            f"Step `{step}` failed ({how}).{what}",
            fix=(f"{cause.fix}\n" if cause and cause.fix else "") + tail,
        )
        self.step = step
        self.status = status
        self.lines = tuple(lines)
        self.cause = cause


def run_graph(graph: Graph, folder: Path, on_event: OnEvent, options: Options | None = None) -> dict[str, Path]:
    """Run a graph in `folder` and return the paths of its outputs.

    Events: step-reused, step-started, log, metrics, step-finished, step-failed; each has `event` and `step`.
    `source` of a reused step names the folder in which it was carried out.
    Raises `FindingsError` before anything runs when the graph is not sound, `StepFailedError` when a step fails, and
    `processes.Stopped` when it was asked to stop.
    """
    findings = check_graph(graph)
    if findings:
        raise FindingsError("The pipeline can't run as it stands.", findings)
    return _Runner(graph, folder.resolve(), on_event, options or Options()).run()


class _Runner:
    def __init__(self, graph: Graph, folder: Path, on_event: OnEvent, options: Options) -> None:
        self.graph = graph
        self.folder = folder
        self.on_event = on_event
        self.options = options
        self.done: dict[str, Finished] = {}
        self.code: dict[Path, tuple[Path, str]] = {}
        self.named = {(source.step, source.output): name for name, source in graph.outputs.items()}

    def run(self) -> dict[str, Path]:
        for step in ordered(self.graph):
            self.done[step.name] = self.run_step(step)
        return {name: self.done[source.step].outputs[source.output] for name, source in self.graph.outputs.items()}

    def run_step(self, step: Step) -> Finished:
        code, code_hash = self.stage(step)
        literals, paths, contents = self.resolve(step)
        key = step_key(step, code=code_hash, inputs=literals, contents=contents)
        outputs = {name: self.output_path(step, name) for name in step.outputs}
        if not self.options.force and (finished := self.reuse(step, key, outputs)):
            return finished
        self.begin(step, key, outputs)
        command = render(step.command, {**literals, **paths}, outputs)
        started = time.monotonic()
        self.tell("step-started", step, key=key, command=command, processes=step.processes)
        self.execute(step, command, code, outputs)
        finished = Finished(key, outputs, Manifest.of(outputs))
        for file in self.records(step, key):
            write_finished(file, finished)
        self.tell("step-finished", step, seconds=round(time.monotonic() - started, 3))
        return finished

    def stage(self, step: Step) -> tuple[Path, str]:
        """A copy of the step's code folder to run in, made or checked once a run, and its hash."""
        if step.code is None:
            empty = self.folder / "code" / "none"
            empty.mkdir(parents=True, exist_ok=True)
            return empty, ""
        if step.code not in self.code:
            digest = sha256_tree(step.code)
            target = self.folder / "code" / digest[:16]
            if not target.is_dir() or sha256_tree(target) != digest:
                remove(target)
                with atomic_path(target) as temporary:
                    shutil.copytree(step.code, temporary)
            self.code[step.code] = (target, digest)
        return self.code[step.code]

    def resolve(self, step: Step) -> tuple[dict[str, Literal | None], dict[str, Path], dict[str, str]]:
        """The step's literals, paths, and the hashes of what lies at those paths."""
        literals: dict[str, Literal | None] = {}
        paths: dict[str, Path] = {}
        contents: dict[str, str] = {}
        for name in step.inputs:
            bound = self.graph.bound(step, name)
            if isinstance(bound, LocalPath):
                paths[name] = bound.path.resolve()
                contents[name] = self.options.content_hash(paths[name])
            elif isinstance(bound, StepOutput):
                source = self.done[bound.step]
                paths[name] = source.outputs[bound.output]
                contents[name] = source.manifest.content(bound.output)
            else:
                literals[name] = bound.value if isinstance(bound, Value) else None
        return literals, paths, contents

    def output_path(self, step: Step, output: str) -> Path:
        name = self.named.get((step.name, output))
        return self.folder / "outputs" / name if name else self.folder / "steps" / step.name / "outputs" / output

    def records(self, step: Step, key: str) -> list[Path]:
        """Where a finished step is recorded: in the run, and for other runs to find."""
        own = self.folder / "steps" / step.name / "finished.json"
        return [own] if self.options.cache is None else [own, self.options.cache / f"{key}.json"]

    def reuse(self, step: Step, key: str, outputs: Mapping[str, Path]) -> Finished | None:
        for record in self.records(step, key):
            finished = read_finished(record, key)
            if (
                finished is None
                or finished.outputs.keys() != outputs.keys()
                or finished.manifest.damaged(finished.outputs)
            ):
                continue
            source = self.folder_of(finished, outputs)
            if dict(finished.outputs) != dict(outputs):
                take_over(finished, outputs)
                finished = Finished(key, outputs, finished.manifest)
                write_finished(self.records(step, key)[0], finished)
            self.tell("step-reused", step, key=key, source=source)
            return finished
        return None

    def folder_of(self, finished: Finished, outputs: Mapping[str, Path]) -> str | None:
        """Name of the folder whose graph carried the step out, which laid its outputs out as this one does."""
        for name, path in outputs.items():
            return finished.outputs[name].parents[len(path.relative_to(self.folder).parts) - 1].name
        return None

    def begin(self, step: Step, key: str, outputs: Mapping[str, Path]) -> None:
        """Make the places for outputs. Only what an unfinished attempt with the same key left there stays.

        Outputs of a finished step that come here are damaged, or to be made anew.
        """
        record = self.folder / "steps" / step.name / "step.json"
        own = self.records(step, key)[0]
        if self.options.force or own.exists() or _key_in(record) != key:
            for path in outputs.values():
                remove(path)
        remove(own)
        write_json(record, {"key": key})
        for name, path in outputs.items():
            _make_place(path, step.outputs[name])

    def execute(self, step: Step, command: str, code: Path, outputs: Mapping[str, Path]) -> None:
        log = self.folder / "logs" / f"{step.name}.txt"
        last: deque[str] = deque(maxlen=_SEARCHED_LINES)

        def on_line(line: str) -> None:
            last.append(line)
            self.on_event({"event": "log", "step": step.name, "line": line})

        follower = LogFollower(log, on_line)
        followed = self.options.metrics.get(step.name)
        metrics = outputs[followed[0]] / followed[1] if followed else None
        position = metrics.stat().st_size if metrics and metrics.exists() else 0

        def tick() -> str | None:
            nonlocal position
            follower.poll()
            if metrics is not None:
                lines, position = read_lines(metrics, position)
                for line in lines:
                    self.on_event({"event": "metrics", "step": step.name, "metrics": line})
            return self.options.should_stop()

        environment = step_environment(
            step.variables, processes=step.processes, bin_folder=python_folder(self.folder / "bin")
        )
        status = run_guarded(
            command_line(command, processes=step.processes),
            folder=code,
            environment=environment,
            log=log,
            grace=self.options.grace,
            tick=tick,
        )
        follower.poll(final=True)
        if status != 0:
            error = StepFailedError(step.name, status, list(last), log)
            self.tell(
                "step-failed",
                step,
                exit_status=status,
                message=error.message,
                fix=error.cause.fix if error.cause else "",
            )
            raise error

    def tell(self, event: str, step: Step, **fields: Any) -> None:
        self.on_event({"event": event, "step": step.name, **fields})


def _key_in(record: Path) -> str | None:
    try:
        return str(orjson.loads(record.read_bytes())["key"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _make_place(path: Path, spec: Output) -> None:
    (path.parent if spec.type == "uri_file" else path).mkdir(parents=True, exist_ok=True)
