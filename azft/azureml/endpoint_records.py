"""The endpoints that were made from this folder, in `.azft/endpoints/<name>.json`: one file each, never with a key.

Written before the request that creates the endpoint, so that a crash in between leaves a trace. The workspace's tags
are what counts (`inventory`); these records say in which other workspaces to look.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from azft.azureml.workspace import Workspace
from azft.files import write_json
from azft.runs import RunStore


@dataclass(frozen=True)
class EndpointRecord:
    """One endpoint. `kind` is serverless, vllm or mlflow; `created` is UTC, ISO 8601."""

    name: str
    kind: str
    run: str
    plan: str
    model: str
    """name:version"""
    subscription: str
    resource_group: str
    workspace: str
    created: str
    instance_type: str | None = None
    instance_count: int = 1

    @property
    def place(self) -> Workspace:
        """The workspace that it is in."""
        return Workspace(self.subscription, self.resource_group, self.workspace, f"the record of {self.name}")

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def folder(root: Path | None = None) -> Path:
    """Where the records lie; `root` is the `.azft` folder."""
    return RunStore(root).root / "endpoints"


def remember(record: EndpointRecord, root: Path | None = None) -> None:
    """Write the record, over an older one of the same name."""
    write_json(folder(root) / f"{record.name}.json", record.to_dict())


def forget(name: str, root: Path | None = None) -> None:
    """The endpoint is gone, and so is its record."""
    (folder(root) / f"{name}.json").unlink(missing_ok=True)


def recorded(root: Path | None = None) -> list[EndpointRecord]:
    """All records, newest first; a file that can't be read is passed over, because the tags are what counts."""
    found = []
    for path in sorted(folder(root).glob("*.json")):
        try:
            found.append(EndpointRecord(**orjson.loads(path.read_bytes())))
        except (OSError, ValueError, TypeError):
            continue
    return sorted(found, key=lambda record: record.created, reverse=True)
