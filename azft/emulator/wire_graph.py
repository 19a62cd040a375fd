"""Reading a pipeline or command job as it came over the wire into the graph that `execution` runs.

It knows only the JSON: what a reference means (a component, a code folder, data) is asked of whoever holds the assets.
It shares nothing with the reader of SDK objects that local mode uses, so that one checks the other.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from azft.execution.graph import (
    PATH_TYPES,
    Binding,
    Graph,
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


@dataclass(frozen=True, slots=True)
class WirePipeline:
    """A pipeline job, or a command job as a graph of one step, ready to run."""

    graph: Graph
    steps: Mapping[str, StepFacts]
    force_rerun: bool
    continue_on_step_failure: bool


def read_wire(job: Json, assets: Assets) -> WirePipeline:
    """Read the `properties` of a pipeline job.

    A node whose component is a pipeline becomes that pipeline's steps, named `node/step`. Raises `GraphError` for what
    the emulator can't run (other components than commands and pipelines) and for broken references.
    """
    settings = _snake(job.get("settings") or {})
    nodes = _Nodes(assets, default_compute=str(settings.get("default_compute") or job.get("computeId") or ""))
    nodes.add(job.get("jobs") or {})
    given = {name: entry for name, entry in (job.get("outputs") or {}).items() if entry}
    steps, facts, outputs = nodes.flat({name: str(entry["uri"]) for name, entry in given.items() if entry.get("uri")})
    if not steps:
        raise GraphError("The pipeline job has no nodes.")
    return WirePipeline(
        graph=Graph(steps=steps, inputs=_inputs(job, assets), outputs=outputs),
        steps=facts,
        force_rerun=_truth(settings.get("force_rerun")),
        continue_on_step_failure=_truth(settings.get("continue_on_step_failure")),
    )


class _Nodes:
    """The nodes of a pipeline and of the pipelines within it, as steps of one graph."""

    def __init__(self, assets: Assets, default_compute: str) -> None:
        self.assets = assets
        self.default_compute = default_compute
        self.steps: dict[str, Step] = {}
        self.facts: dict[str, StepFacts] = {}
        self.outputs: dict[str, StepOutput] = {}
        self.written: dict[StepOutput, StepOutput] = {}
        """Output of an inner pipeline -> the output of one of its nodes that it is."""
        self.destinations: dict[StepOutput, str] = {}

    def add(self, nodes: Json, prefix: str = "", scope: Mapping[str, Binding | None] | None = None) -> None:
        """Read the nodes of one pipeline. `scope` are the inputs of an inner one, as the whole graph names them."""
        for key, entry in nodes.items():
            name, node = prefix + key, _snake(entry)
            component = _component_id(name, node)
            spec = _snake(self.assets.component(component))
            kind = str(spec.get("type", "command"))
            bindings = self.bindings(name, node, spec, prefix, scope)
            if kind == "pipeline":
                inputs = {key: _input(entry) for key, entry in (spec.get("inputs") or {}).items()}
                defaults = {
                    key: None if entry.default is None else Value(entry.default) for key, entry in inputs.items()
                }
                self.add(spec.get("jobs") or {}, f"{name}/", {**defaults, **bindings})
            elif kind == "command":
                self.steps[name] = _step(name, node, spec, bindings, self.assets)
                self.facts[name] = _facts(name, node, spec, component, self.default_compute)
            else:
                raise GraphError(f"The component of node `{name}` is of type {kind}; the emulator runs commands.")
            for output, bound in (node.get("outputs") or {}).items():
                target, destination = _output(bound)
                here = StepOutput(name, output)
                if target is not None and scope is None:
                    self.outputs[target] = here
                elif target is not None:
                    self.written[StepOutput(prefix.rstrip("/"), target)] = here
                elif destination is not None:
                    self.destinations[here] = destination

    def bindings(
        self, name: str, node: Json, spec: Json, prefix: str, scope: Mapping[str, Binding | None] | None
    ) -> dict[str, Binding]:
        """What a node's inputs are bound to; the names of an inner pipeline become the whole graph's."""
        found: dict[str, Binding] = {}
        for key, bound in _bindings(name, node, spec, self.assets).items():
            if isinstance(bound, StepOutput):
                found[key] = StepOutput(prefix + bound.step, bound.output)
            elif isinstance(bound, GraphInput) and scope is not None:
                if bound.name not in scope:
                    raise GraphError(
                        f"Input `{key}` of node `{name}` is its pipeline's `{bound.name}`, which isn't there."
                    )
                outer = scope[bound.name]
                if outer is not None:
                    found[key] = outer
            else:
                found[key] = bound
        return found

    def flat(self, given: Mapping[str, str]) -> tuple[dict[str, Step], dict[str, StepFacts], dict[str, StepOutput]]:
        """(steps, facts, the job's outputs), where steps alone write. `given`: a job's output -> the URI for it."""
        places: dict[str, dict[str, str]] = {name: {} for name in self.steps}
        wanted = [
            *self.destinations.items(),
            *((self.outputs[name], uri) for name, uri in given.items() if name in self.outputs),
        ]
        for output, uri in wanted:
            source = self.source(output)
            places.setdefault(source.step, {})[source.output] = uri
        steps = {
            name: replace(
                step,
                bindings={
                    key: self.source(bound) if isinstance(bound, StepOutput) else bound
                    for key, bound in step.bindings.items()
                },
            )
            for name, step in self.steps.items()
        }
        facts = {name: replace(entry, destinations=places[name]) for name, entry in self.facts.items()}
        return steps, facts, {name: self.source(output) for name, output in self.outputs.items()}

    def source(self, output: StepOutput) -> StepOutput:
        """The step's output that an output is."""
        while output in self.written:
            output = self.written[output]
        return output


def read_wire_command(job: Json, assets: Assets) -> WirePipeline:
    """Read the `properties` of a command job: one step, named as the job is displayed, that is never reused.

    The job says itself what a pipeline's node leaves to its component, so it is read as both. Raises `GraphError` for
    ranks that the emulator can't start and for broken references.
    """
    node = _snake(job)
    name = str(node.get("display_name") or "command")
    outputs = {key: _snake(entry) for key, entry in (node.get("outputs") or {}).items() if entry}
    spec = {
        "command": node["command"],
        "code": node.get("code_id"),
        "environment": node.get("environment_id"),
        "inputs": {key: {"type": _job_input_type(entry)} for key, entry in (node.get("inputs") or {}).items() if entry},
        "outputs": {key: {"type": entry.get("job_output_type") or "uri_folder"} for key, entry in outputs.items()},
        "is_deterministic": False,
    }
    destinations = {key: str(entry["uri"]) for key, entry in outputs.items() if entry.get("uri")}
    step = _step(name, node, spec, _bindings(name, node, spec, assets), assets)
    facts = replace(_facts(name, node, spec, component="", default_compute=""), destinations=destinations)
    return WirePipeline(Graph(steps={name: step}), {name: facts}, force_rerun=False, continue_on_step_failure=False)


def _job_input_type(entry: Json) -> str:
    """A job's literals are text, whatever they were."""
    kind = str(_snake(entry).get("job_input_type") or "literal").lower()
    return kind if kind in PATH_TYPES else "string"


def _inputs(job: Json, assets: Assets) -> dict[str, Value | LocalPath]:
    inputs: dict[str, Value | LocalPath] = {}
    for name, entry in (job.get("inputs") or {}).items():
        bound = _value(entry, assets)
        if bound is not None:
            inputs[name] = bound
    return inputs


def _bindings(name: str, node: Json, spec: Json, assets: Assets) -> dict[str, Binding]:
    inputs = {key: _input(entry) for key, entry in (spec.get("inputs") or {}).items()}
    bindings: dict[str, Binding] = {}
    for key, entry in (node.get("inputs") or {}).items():
        bound = _binding(entry, inputs.get(key), assets, f"Input `{key}` of node `{name}`")
        if bound is not None:
            bindings[key] = bound
    return bindings


def _step(name: str, node: Json, spec: Json, bindings: Mapping[str, Binding], assets: Assets) -> Step:
    code = spec.get("code")
    return Step(
        name=name,
        command=str(spec["command"]),
        inputs={key: _input(entry) for key, entry in (spec.get("inputs") or {}).items()},
        outputs={
            key: Output(str(entry.get("type", "uri_folder"))) for key, entry in (spec.get("outputs") or {}).items()
        },
        bindings=bindings,
        code=assets.code(str(code)) if code else None,
        variables={key: str(value) for key, value in (node.get("environment_variables") or {}).items()},
        environment=str(node.get("environment") or spec.get("environment") or ""),
        processes=_nodes(node, spec) * _ranks_per_node(name, node, spec),
    )


def _facts(name: str, node: Json, spec: Json, component: str, default_compute: str) -> StepFacts:
    resources = _snake(node.get("resources") or {})
    return StepFacts(
        component=component,
        display_name=str(node.get("display_name") or name),
        deterministic=_truth(spec.get("is_deterministic", True)),
        environment=str(node.get("environment") or spec.get("environment") or ""),
        compute=str(node.get("compute_id") or node.get("compute") or default_compute),
        instance_type=_first(resources.get("instance_type")),
        nodes=_nodes(node, spec),
        output_types={key: str(entry.get("type", "uri_folder")) for key, entry in (spec.get("outputs") or {}).items()},
    )


def _component_id(name: str, node: Json) -> str:
    kind = str(node.get("type", "command"))
    # What is seeded under the name of a registry's pipeline may be one command: the component tells, not the node.
    if kind not in {"command", "pipeline"}:
        raise GraphError(f"Node `{name}` is of type {kind}; the emulator runs command and pipeline components.")
    reference = node.get("component_id")
    if not isinstance(reference, str) or not reference:
        raise GraphError(f"Node `{name}` names no component.")
    return reference


def _input(entry: Json) -> Input:
    return Input(
        type=str(entry.get("type", "string")).lower(),
        optional=_truth(entry.get("optional")),
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
        return _value(entry, assets, kind)
    path = match.group(1).split(".")
    if path[:2] == ["parent", "inputs"] and len(path) == 3:
        return GraphInput(path[2])
    if path[:2] == ["parent", "jobs"] and len(path) == 5 and path[3] == "outputs":
        return StepOutput(path[2], path[4])
    raise GraphError(f"{where} is bound to {text}, which means nothing.")


def _value(entry: Any, assets: Assets, kind: str = "") -> Value | LocalPath | None:
    """A literal or a path; None for an optional input that was left out."""
    if not isinstance(entry, Mapping):
        return None if entry is None else Value(entry)
    fields = _snake(entry)
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


def _output(entry: Any) -> tuple[str | None, str | None]:
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
        count = _snake(source.get("resources") or {}).get("instance_count")
        if count:
            return int(count)
    return 1


def _ranks_per_node(name: str, node: Json, spec: Json) -> int:
    distribution = _snake(node.get("distribution") or spec.get("distribution") or {})
    kind = str(distribution.get("distribution_type") or distribution.get("type") or "pytorch").lower()
    count = int(distribution.get("process_count_per_instance") or 1)
    if kind != "pytorch" and count > 1:
        raise GraphError(f"Node `{name}` starts its ranks by {kind}; the emulator knows PyTorch's way.")
    return count


def _snake(fields: Json) -> dict[str, Any]:
    """Keys of one level as snake_case: the SDK writes nodes in either spelling."""
    return {re.sub(r"(?<=[a-z0-9])([A-Z])", lambda m: "_" + m.group(1).lower(), key): v for key, v in fields.items()}


def _first(value: Any) -> str:
    if isinstance(value, list):
        return str(value[0]) if value else ""
    return str(value or "")


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _truth(value: Any) -> bool:
    return str(value).lower() == "true"
