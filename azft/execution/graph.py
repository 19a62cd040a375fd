"""What execution runs: command steps, the typed inputs and outputs that join them, and the order that follows.

Plain frozen data. A reader (of an SDK object, of the wire form) fills it; nothing here knows where it came from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from azft.errors import UsageError

Literal = str | int | float | bool
"""A value that is pasted into a command line as text."""

PATH_TYPES = frozenset({"uri_file", "uri_folder", "mltable", "mlflow_model", "custom_model", "triton_model"})
"""Input and output types whose value is a path."""


class GraphError(UsageError):
    """The graph can't be run as it stands: a cycle, a binding to nothing, a value of the wrong type."""


@dataclass(frozen=True, slots=True)
class Input:
    """What a component says about one of its inputs."""

    type: str
    optional: bool = False
    default: Literal | None = None
    minimum: float | None = None
    maximum: float | None = None
    enum: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Output:
    """What a component says about one of its outputs; a `uri_file` is a file, everything else a folder."""

    type: str = "uri_folder"


@dataclass(frozen=True, slots=True)
class Value:
    """A literal given where the input is bound."""

    value: Literal


@dataclass(frozen=True, slots=True)
class LocalPath:
    """A file or folder on this machine."""

    path: Path


@dataclass(frozen=True, slots=True)
class GraphInput:
    """`${{parent.inputs.name}}`: the graph's own input."""

    name: str


@dataclass(frozen=True, slots=True)
class StepOutput:
    """`${{parent.jobs.step.outputs.output}}`: what another step writes."""

    step: str
    output: str


Binding = Value | LocalPath | GraphInput | StepOutput


@dataclass(frozen=True, slots=True)
class Step:
    """One command with its surroundings.

    `environment` names the software environment (it is part of what decides about reuse, and is not installed here);
    `variables` are environment variables; `processes` above 1 starts that many ranks.
    """

    name: str
    command: str
    inputs: Mapping[str, Input] = field(default_factory=dict)
    outputs: Mapping[str, Output] = field(default_factory=dict)
    bindings: Mapping[str, Binding] = field(default_factory=dict)
    code: Path | None = None
    variables: Mapping[str, str] = field(default_factory=dict)
    environment: str = ""
    processes: int = 1


@dataclass(frozen=True, slots=True)
class Graph:
    """Steps by name, values of the graph's inputs, and which step's output each of the graph's outputs is."""

    steps: Mapping[str, Step]
    inputs: Mapping[str, Value | LocalPath] = field(default_factory=dict)
    outputs: Mapping[str, StepOutput] = field(default_factory=dict)

    def bound(self, step: Step, name: str) -> Value | LocalPath | StepOutput | None:
        """What an input of a step gets, the graph's inputs looked up; None when there is nothing, nor a default."""
        binding = step.bindings.get(name)
        if isinstance(binding, GraphInput):
            return self.inputs.get(binding.name)
        if binding is None and step.inputs[name].default is not None:
            return Value(step.inputs[name].default)  # type: ignore[arg-type]
        return binding

    def upstream(self, step: Step) -> Iterator[StepOutput]:
        """The outputs of other steps that a step reads."""
        return (binding for binding in step.bindings.values() if isinstance(binding, StepOutput))


def ordered(graph: Graph) -> list[Step]:
    """Steps, each after all that it reads from, else in the order given. Raises `GraphError` on a cycle."""
    order: list[Step] = []
    waiting = dict(graph.steps)
    while waiting:
        ready = [
            step for step in waiting.values() if all(source.step not in waiting for source in graph.upstream(step))
        ]
        if not ready:
            raise GraphError(f"Steps {', '.join(sorted(waiting))} wait for each other.", fix="Break the cycle.")
        # One at a time, so that a step follows what it needs closely, and not level by level.
        order.append(ready[0])
        del waiting[ready[0].name]
    return order
