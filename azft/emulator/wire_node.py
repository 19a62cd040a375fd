"""Reading one node of a wire form: a step with its inputs, outputs, ranks and places, from either spelling.

It knows only the JSON: what a reference means (a component, a code folder, data) is asked of whoever holds the assets.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from azft.execution.graph import (
    PATH_TYPES,
    Binding,
    GraphError,
    GraphInput,
    Input,
    LocalPath,
    Output,
    Step,
    StepOutput,
    Value,
)

Json = Mapping[str, Any]

_EXPRESSION = re.compile(r"\$\{\{\s*([\w.]+)\s*\}\}")


class Assets(Protocol):
    """What the wire's references stand for. Each method raises `GraphError` for what is not there."""

    def component(self, reference: str) -> Json:
        """The component's specification."""
        ...

    def code(self, reference: str) -> Path:
        """A folder with the code's files."""
        ...

    def data(self, reference: str, kind: str) -> Path:
        """The file or folder of an input of type `kind`: a datastore path, a data asset, a model."""
        ...


@dataclass(frozen=True, slots=True)
class StepFacts:
    """What the wire says about a step beyond what running it takes."""

    component: str
    display_name: str
    deterministic: bool
    """Whether an earlier step with the same content may be taken instead."""
    environment: str
    compute: str
    instance_type: str
    nodes: int
    destinations: Mapping[str, str] = field(default_factory=dict)
    """Output -> the URI that the job gives for it."""
    output_types: Mapping[str, str] = field(default_factory=dict)


def read_bindings(name: str, node: Json, spec: Json, assets: Assets) -> dict[str, Binding]:
    """What the inputs of a node are bound to, as its own pipeline names it. Raises `GraphError`."""
    inputs = {key: read_input(entry) for key, entry in (spec.get("inputs") or {}).items()}
    bindings: dict[str, Binding] = {}
    for key, entry in (node.get("inputs") or {}).items():
        bound = _binding(entry, inputs.get(key), assets, f"Input `{key}` of node `{name}`")
        if bound is not None:
            bindings[key] = bound
    return bindings


def read_step(name: str, node: Json, spec: Json, bindings: Mapping[str, Binding], assets: Assets) -> Step:
    """The command of a node, which its component tells, and what the node changes of it."""
    code = spec.get("code")
    return Step(
        name=name,
        command=str(spec["command"]),
        inputs={key: read_input(entry) for key, entry in (spec.get("inputs") or {}).items()},
        outputs={
            key: Output(str(entry.get("type", "uri_folder"))) for key, entry in (spec.get("outputs") or {}).items()
        },
        bindings=bindings,
        code=assets.code(str(code)) if code else None,
        variables={key: str(value) for key, value in (node.get("environment_variables") or {}).items()},
        environment=str(node.get("environment") or spec.get("environment") or ""),
        processes=_nodes(node, spec) * _ranks_per_node(name, node, spec),
    )


def read_facts(name: str, node: Json, spec: Json, component: str, default_compute: str) -> StepFacts:
    """The rest of what a node and its component tell; `destinations` are the graph's to know."""
    resources = snake(node.get("resources") or {})
    return StepFacts(
        component=component,
        display_name=str(node.get("display_name") or name),
        deterministic=truth(spec.get("is_deterministic", True)),
        environment=str(node.get("environment") or spec.get("environment") or ""),
        compute=str(node.get("compute_id") or node.get("compute") or default_compute),
        instance_type=_first(resources.get("instance_type")),
        nodes=_nodes(node, spec),
        output_types={key: str(entry.get("type", "uri_folder")) for key, entry in (spec.get("outputs") or {}).items()},
    )


def component_id(name: str, node: Json) -> str:
    """The reference to a node's component. Raises `GraphError` when there is none, and for other kinds of nodes."""
    kind = str(node.get("type", "command"))
    # What is seeded under the name of a registry's pipeline may be one command: the component tells, not the node.
    if kind not in {"command", "pipeline"}:
        raise GraphError(f"Node `{name}` is of type {kind}; the emulator runs command and pipeline components.")
    reference = node.get("component_id")
    if not isinstance(reference, str) or not reference:
        raise GraphError(f"Node `{name}` names no component.")
    return reference


def read_input(entry: Json) -> Input:
    """An input as a component declares it."""
    return Input(
        type=str(entry.get("type", "string")).lower(),
        optional=truth(entry.get("optional")),
        default=entry.get("default"),
        minimum=_number(entry.get("min")),
        maximum=_number(entry.get("max")),
        enum=tuple(str(value) for value in entry.get("enum") or ()),
    )


def _binding(entry: Any, spec: Input | None, assets: Assets, where: str) -> Binding | None:
    text = entry.get("value", entry.get("uri")) if isinstance(entry, Mapping) else entry
    match = _EXPRESSION.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is None:
        kind = spec.type if spec is not None else "string"
        return read_value(entry, assets, kind)
    path = match.group(1).split(".")
    if path[:2] == ["parent", "inputs"] and len(path) == 3:
        return GraphInput(path[2])
    if path[:2] == ["parent", "jobs"] and len(path) == 5 and path[3] == "outputs":
        return StepOutput(path[2], path[4])
    raise GraphError(f"{where} is bound to {text}, which means nothing.")


def read_value(entry: Any, assets: Assets, kind: str = "") -> Value | LocalPath | None:
    """A literal or a path; None for an optional input that was left out."""
    if not isinstance(entry, Mapping):
        return None if entry is None else Value(entry)
    fields = snake(entry)
    given = str(fields.get("job_input_type") or "literal").lower()
    uri = fields.get("uri")
    if given == "literal" and uri is None:
        value = fields.get("value")
        if value is None:
            return None
        if kind in PATH_TYPES:
            return LocalPath(assets.data(str(value), kind))
        return Value(value)
    if uri is None:
        return None
    return LocalPath(assets.data(str(uri), given if given in PATH_TYPES else kind or "uri_folder"))


def read_output(entry: Any) -> tuple[str | None, str | None]:
    """(the graph's output that this is, the URI that was given for it)."""
    if not isinstance(entry, Mapping):
        return None, None
    text = entry.get("value")
    if isinstance(text, str) and (match := _EXPRESSION.fullmatch(text.strip())):
        path = match.group(1).split(".")
        if path[:2] == ["parent", "outputs"] and len(path) == 3:
            return path[2], None
    uri = entry.get("uri") or entry.get("path")
    return None, None if uri is None else str(uri)


def _nodes(node: Json, spec: Json) -> int:
    for source in (node, spec):
        count = snake(source.get("resources") or {}).get("instance_count")
        if count:
            return int(count)
    return 1


def _ranks_per_node(name: str, node: Json, spec: Json) -> int:
    distribution = snake(node.get("distribution") or spec.get("distribution") or {})
    kind = str(distribution.get("distribution_type") or distribution.get("type") or "pytorch").lower()
    count = int(distribution.get("process_count_per_instance") or 1)
    if kind != "pytorch" and count > 1:
        raise GraphError(f"Node `{name}` starts its ranks by {kind}; the emulator knows PyTorch's way.")
    return count


def snake(fields: Json) -> dict[str, Any]:
    """Keys of one level as snake_case: the SDK writes nodes in either spelling."""
    return {re.sub(r"(?<=[a-z0-9])([A-Z])", lambda m: "_" + m.group(1).lower(), key): v for key, v in fields.items()}


def _first(value: Any) -> str:
    if isinstance(value, list):
        return str(value[0]) if value else ""
    return str(value or "")


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def truth(value: Any) -> bool:
    """A boolean, which the wire may write as text."""
    return str(value).lower() == "true"
