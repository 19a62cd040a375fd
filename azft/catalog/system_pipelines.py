"""The fine-tuning pipelines of Azure's own registry, as system_pipelines.yaml knows them: names, types, defaults."""

from __future__ import annotations

import datetime
import functools
from typing import Literal

from azft.catalog.tables import Row, read_shipped, read_table

Scalar = str | int | float


class SystemInput(Row):
    """One input of a pipeline. Assets (files, models) are named by reference and have no default."""

    type: Literal["string", "integer", "number", "uri_file", "mltable", "mlflow_model", "custom_model"]
    default: Scalar | None = None
    one_of: tuple[str, ...] = ()
    min: int | None = None
    required: bool = False

    @property
    def is_asset(self) -> bool:
        """Whether it names a file or model."""
        return self.type not in ("string", "integer", "number")


class SystemPipeline(Row):
    """One pipeline, with all its inputs."""

    name: str
    task: str
    task_name: str
    """The only value of its input of that name."""
    without: tuple[str, ...] = ()
    inputs: dict[str, SystemInput]


class _Pipelines(Row):
    source: str
    date: datetime.date
    registry: str
    outputs: dict[str, str]
    common: dict[str, SystemInput]
    pipelines: tuple[SystemPipeline, ...]


@functools.cache
def _table() -> _Pipelines:
    table, _ = read_table(read_shipped("system_pipelines.yaml"), _Pipelines, name="azft/catalog/system_pipelines.yaml")
    return table


@functools.cache
def system_pipelines() -> dict[str, SystemPipeline]:
    """All pipelines by task, the common inputs among theirs."""
    table = _table()
    found = {}
    for row in table.pipelines:
        inputs = {key: value for key, value in table.common.items() if key not in row.without}
        named = SystemInput(type="string", default=row.task_name, one_of=(row.task_name,))
        found[row.task] = row.model_copy(update={"inputs": {**inputs, "task_name": named, **row.inputs}})
    return found


def component_id(pipeline: SystemPipeline) -> str:
    """The registry's id of a pipeline's newest version."""
    return f"azureml://registries/{_table().registry}/components/{pipeline.name}/labels/latest"


def output_types() -> dict[str, str]:
    """What comes out of every pipeline: name and type."""
    return dict(_table().outputs)


def provenance() -> tuple[str, datetime.date]:
    """Where the table comes from, and of when it is."""
    return _table().source, _table().date
