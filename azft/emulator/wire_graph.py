"""Reading a pipeline or command job as it came over the wire into the graph that `execution` runs.

It shares nothing with the reader of SDK objects that local mode uses, so that one checks the other. One node is read in
`wire_node`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from azft.emulator.wire_node import (
    Assets,
    Json,
    StepFacts,
    component_id,
    read_bindings,
    read_facts,
    read_input,
    read_output,
    read_step,
    read_value,
    snake,
    truth,
)
from azft.execution.graph import (
    PATH_TYPES,
    Binding,
    Graph,
    GraphError,
    GraphInput,
    LocalPath,
    Step,
    StepOutput,
    Value,
)


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
    settings = snake(job.get("settings") or {})
    nodes = _Nodes(assets, default_compute=str(settings.get("default_compute") or job.get("computeId") or ""))
    nodes.add(job.get("jobs") or {})
    given = {name: entry for name, entry in (job.get("outputs") or {}).items() if entry}
    steps, facts, outputs = nodes.flat({name: str(entry["uri"]) for name, entry in given.items() if entry.get("uri")})
    if not steps:
        raise GraphError("The pipeline job has no nodes.")
    return WirePipeline(
        graph=Graph(steps=steps, inputs=_inputs(job, assets), outputs=outputs),
        steps=facts,
        force_rerun=truth(settings.get("force_rerun")),
        continue_on_step_failure=truth(settings.get("continue_on_step_failure")),
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
            name, node = prefix + key, snake(entry)
            component = component_id(name, node)
            spec = snake(self.assets.component(component))
            kind = str(spec.get("type", "command"))
            bindings = self.bindings(name, node, spec, prefix, scope)
            if kind == "pipeline":
                inputs = {key: read_input(entry) for key, entry in (spec.get("inputs") or {}).items()}
                defaults = {
                    key: None if entry.default is None else Value(entry.default) for key, entry in inputs.items()
                }
                self.add(spec.get("jobs") or {}, f"{name}/", {**defaults, **bindings})
            elif kind == "command":
                self.steps[name] = read_step(name, node, spec, bindings, self.assets)
                self.facts[name] = read_facts(name, node, spec, component, self.default_compute)
            else:
                raise GraphError(f"The component of node `{name}` is of type {kind}; the emulator runs commands.")
            for output, bound in (node.get("outputs") or {}).items():
                target, destination = read_output(bound)
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
        for key, bound in read_bindings(name, node, spec, self.assets).items():
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
    node = snake(job)
    name = str(node.get("display_name") or "command")
    outputs = {key: snake(entry) for key, entry in (node.get("outputs") or {}).items() if entry}
    spec = {
        "command": node["command"],
        "code": node.get("code_id"),
        "environment": node.get("environment_id"),
        "inputs": {key: {"type": _job_input_type(entry)} for key, entry in (node.get("inputs") or {}).items() if entry},
        "outputs": {key: {"type": entry.get("job_output_type") or "uri_folder"} for key, entry in outputs.items()},
        "is_deterministic": False,
    }
    destinations = {key: str(entry["uri"]) for key, entry in outputs.items() if entry.get("uri")}
    step = read_step(name, node, spec, read_bindings(name, node, spec, assets), assets)
    facts = replace(read_facts(name, node, spec, component="", default_compute=""), destinations=destinations)
    return WirePipeline(Graph(steps={name: step}), {name: facts}, force_rerun=False, continue_on_step_failure=False)


def _job_input_type(entry: Json) -> str:
    """A job's literals are text, whatever they were."""
    kind = str(snake(entry).get("job_input_type") or "literal").lower()
    return kind if kind in PATH_TYPES else "string"


def _inputs(job: Json, assets: Assets) -> dict[str, Value | LocalPath]:
    inputs: dict[str, Value | LocalPath] = {}
    for name, entry in (job.get("inputs") or {}).items():
        bound = read_value(entry, assets)
        if bound is not None:
            inputs[name] = bound
    return inputs
