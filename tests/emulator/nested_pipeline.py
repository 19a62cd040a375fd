"""A pipeline with a pipeline component as a node, written with the SDK's decorator.

It reads annotations as objects: so this file has no `from __future__ import annotations`.
"""

from pathlib import Path
from typing import Any

from azure.ai.ml import Input, dsl, load_component


def nested_pipeline(folder: Path, control: Path) -> Any:
    """`node`, which is made of `made` and `again`, and then `last`: the components of `ToyJobs`' folder."""
    first, second = (load_component(folder / f"{name}.yaml") for name in ("first", "second"))

    @dsl.pipeline(name="inner")
    def inner(data: Input(type="uri_file"), control: str, count: int = 1):  # type: ignore[no-untyped-def,valid-type]
        made = first(data=data, control=control, count=count)
        made.environment_variables = {"WORD": "!"}
        again = second(first=made.outputs.out, control=control)
        return {"result": again.outputs.out}

    @dsl.pipeline(name="outer", default_compute="serverless")
    def outer(data: Input(type="uri_file")):  # type: ignore[no-untyped-def,valid-type]
        node = inner(data=data, control=str(control))
        last = second(first=node.outputs.result, control=str(control))
        return {"part": node.outputs.result, "all": last.outputs.out}

    return outer(data=Input(type="uri_file", path=str(folder / "data.txt")))
