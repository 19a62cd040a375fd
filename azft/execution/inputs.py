"""Checking a graph before anything runs: every binding leads somewhere, every value has the type its input asks for.

The Azure SDK checks none of this, and Azure ML only after minutes of queue.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from azft.execution.graph import (
    PATH_TYPES,
    Graph,
    GraphError,
    GraphInput,
    Input,
    Literal,
    LocalPath,
    Step,
    Value,
    ordered,
)
from azft.findings import Finding, Severity

_FORBIDDEN = re.compile(r"['\\\x00-\x1f\x7f]")
"""Azure ML pastes string values into a shell command; these characters break out of it or break it."""


def check_graph(graph: Graph) -> list[Finding]:
    """Everything that is wrong with a graph's bindings and values; empty when it can run."""
    findings = [finding for step in graph.steps.values() for finding in _check_step(graph, step)]
    for name, source in graph.outputs.items():
        if source.step not in graph.steps or source.output not in graph.steps[source.step].outputs:
            findings.append(
                _error(
                    "unknown-output",
                    f"Output `{name}` is `{source.output}` of step `{source.step}`, which is not there.",
                )
            )
    if not findings:
        try:
            ordered(graph)
        except GraphError as error:
            findings.append(_error("cycle", error.message, error.fix))
    return findings


def _check_step(graph: Graph, step: Step) -> Iterator[Finding]:
    for name in step.bindings.keys() - step.inputs.keys():
        known = ", ".join(step.inputs) or "none"
        yield _error("unknown-input", f"Step `{step.name}` has no input `{name}`.", f"Its inputs: {known}.")
    for name, spec in step.inputs.items():
        where = f"Input `{name}` of step `{step.name}`"
        binding = step.bindings.get(name)
        if isinstance(binding, GraphInput) and binding.name not in graph.inputs and not spec.optional:
            yield _error("unbound-input", f"{where} is bound to `{binding.name}`, which is not given.")
            continue
        bound = graph.bound(step, name)
        if bound is None:
            if not spec.optional:
                yield _error("missing-input", f"{where} is required and not given.")
        elif isinstance(bound, Value):
            if problem := problem_with(spec, bound.value):
                yield _error("bad-input", f"{where} {problem}.")
        elif spec.type not in PATH_TYPES:
            yield _error("bad-input", f"{where} is of type {spec.type} and is given a path.")
        elif isinstance(bound, LocalPath):
            if not bound.path.exists():
                yield _error("no-such-path", f"{where}: there is no {bound.path}.")
        elif bound.step not in graph.steps or bound.output not in graph.steps[bound.step].outputs:
            yield _error(
                "unknown-output", f"{where} reads `{bound.output}` of step `{bound.step}`, which is not there."
            )


def problem_with(spec: Input, value: Literal) -> str | None:
    """What is wrong with a literal for this input ("must be at least 0, not -1"), or None.

    Literals may be text, because on the wire all are: "3" is an integer, "true" a boolean.
    """
    if spec.type in PATH_TYPES:
        return f"is of type {spec.type} and is given the literal {value!r}"
    if spec.type in {"integer", "number"}:
        number = _number(spec.type, value)
        if number is None:
            return f"must be {'an integer' if spec.type == 'integer' else 'a finite number'}, not {value!r}"
        if spec.minimum is not None and number < spec.minimum:
            return f"must be at least {spec.minimum:g}, not {value}"
        if spec.maximum is not None and number > spec.maximum:
            return f"must be at most {spec.maximum:g}, not {value}"
    elif spec.type == "boolean":
        if str(value).lower() not in {"true", "false"}:
            return f"must be true or false, not {value!r}"
    elif spec.type == "string":
        if match := _FORBIDDEN.search(str(value)):
            return f"contains {match.group()!r}, which breaks the shell command it is pasted into"
    else:
        return f"has the unknown type {spec.type!r}"
    if spec.enum and str(value) not in spec.enum:
        return f"must be one of {', '.join(spec.enum)}, not {value!r}"
    return None


def _number(kind: str, value: Literal) -> float | None:
    if isinstance(value, bool):
        return None
    try:
        number = float(int(value)) if kind == "integer" and isinstance(value, str) else float(value)
    except (ValueError, OverflowError):
        return None
    if not math.isfinite(number) or (kind == "integer" and number != int(number)):
        return None
    return number


def _error(code: str, message: str, fix: str = "") -> Finding:
    return Finding(f"graph-{code}", Severity.ERROR, message, fix)
