"""Reading an azure-ai-ml `PipelineJob` into the graph that `execution` runs: local mode runs that very object.

Uses private names of the SDK (`_build_inputs`, `_build_outputs`, `_data`): tests/modes/test_local_graph.py pins them.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from azure.ai.ml.entities import PipelineJob

_PARENT_INPUT = re.compile(r"\$\{\{\s*parent\.inputs\.(\w+)\s*\}\}")
_STEP_OUTPUT = re.compile(r"\$\{\{\s*parent\.jobs\.(\w+)\.outputs\.(\w+)\s*\}\}")
_PARENT_OUTPUT = re.compile(r"\$\{\{\s*parent\.outputs\.(\w+)\s*\}\}")


def read_pipeline(job: PipelineJob) -> Graph:
    """The graph of a job. Raises `GraphError` for what can't run on this machine (remote inputs, several nodes)."""
    base = Path(job.base_path or ".")
    steps: dict[str, Step] = {}
    outputs: dict[str, StepOutput] = {}
    for name, node in job.jobs.items():
        steps[name] = _read_node(name, node, base)
        for output, bound in node._build_outputs().items():
            if match := _PARENT_OUTPUT.fullmatch(str(_path_of(bound))):
                outputs[match.group(1)] = StepOutput(name, output)
    inputs: dict[str, Value | LocalPath] = {}
    for name, entry in job.inputs.items():
        bound = _read_value(entry._data, base, f"Input `{name}`")
        if bound is not None:
            inputs[name] = bound
    return Graph(steps=steps, inputs=inputs, outputs=outputs)


def _read_node(name: str, node: Any, base: Path) -> Step:
    if node.type != "command":
        raise GraphError(f"Step `{name}` is of type {node.type}; on this machine only command components run.")
    component = node.component
    inputs = {
        key: Input(
            type=str(spec.type),
            optional=bool(spec.optional),
            default=spec.default,
            minimum=None if spec.min is None else float(spec.min),
            maximum=None if spec.max is None else float(spec.max),
            enum=tuple(str(value) for value in spec.enum or ()),
        )
        for key, spec in component.inputs.items()
    }
    bindings: dict[str, Binding] = {}
    for key, given in node._build_inputs().items():
        literal = key not in inputs or inputs[key].type not in PATH_TYPES
        if (binding := _read_binding(given, base, literal, f"Input `{key}` of step `{name}`")) is not None:
            bindings[key] = binding
    return Step(
        name=name,
        command=component.command,
        inputs=inputs,
        outputs={key: Output(str(spec.type)) for key, spec in component.outputs.items()},
        bindings=bindings,
        code=None if component.code is None else Path(component.base_path, component.code),
        variables={key: str(value) for key, value in (node.environment_variables or {}).items()},
        environment=_environment(node.environment or component.environment),
        processes=_processes(name, node),
    )


def _read_binding(given: Any, base: Path, literal: bool, where: str) -> Binding | None:
    path = _path_of(given)
    if match := _PARENT_INPUT.fullmatch(str(path)):
        return GraphInput(match.group(1))
    if match := _STEP_OUTPUT.fullmatch(str(path)):
        return StepOutput(*match.groups())
    if literal:
        return None if path is None else Value(path)
    return _read_value(given, base, where)


def _read_value(given: Any, base: Path, where: str) -> Value | LocalPath | None:
    """A literal, or a path on this machine. An SDK object or mapping with a path is a path, whatever its type says."""
    path = _path_of(given)
    if path is None:
        return None
    if path is given and not isinstance(given, Path):
        return Value(given)
    text = str(path)
    if text.startswith("azureml:") or "://" in text:
        raise GraphError(f"{where} is {text}, which is not on this machine.", fix="Download it and give its path.")
    return LocalPath((base / text).absolute())


def _path_of(given: Any) -> Any:
    return given.get("path") if isinstance(given, dict) else getattr(given, "path", given)


def _processes(name: str, node: Any) -> int:
    if (getattr(node.resources, "instance_count", None) or 1) > 1:
        raise GraphError(f"Step `{name}` asks for several machines; this is one.", fix="Use modes.local.processes.")
    if node.distribution is None:
        return 1
    kind = str(node.distribution.type).lower()
    count = int(getattr(node.distribution, "process_count_per_instance", None) or 1)
    if kind != "pytorch" and count > 1:
        raise GraphError(f"Step `{name}` starts its ranks by {kind}; on this machine only pytorch's way is known.")
    return count


def _environment(environment: Any) -> str:
    """What tells one software environment from another: its reference, or the hash of its definition and folder."""
    if environment is None or isinstance(environment, str):
        return environment or ""
    parts = (environment.name, environment.version, getattr(environment, "_upload_hash", None))
    return ":".join(str(part) for part in parts if part)
