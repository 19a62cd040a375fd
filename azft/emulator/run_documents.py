"""Runs: what the workspace remembers of each job and of each step of a pipeline, and what changes in it.

A job and its run have the same id. A step's run has a GUID, its parent's id, and the step's name as display name.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from azft.emulator.state import Document

if TYPE_CHECKING:
    from azft.emulator.app import Emulator

KIND = "run"
_CHILD = "child-run"

TERMINAL = frozenset({"Completed", "Failed", "Canceled"})
ARTIFACTS = "azureml"
"""The container of what runs log: the workspace's artifact store."""
LOG = "user_logs/std_log.txt"
PIPELINE_LOG = "logs/azureml/executionlogs.txt"
"""What a pipeline's own run tells: which steps were begun, and how they ended."""


def create(
    emu: Emulator,
    run_id: str,
    *,
    kind: str,
    experiment: str,
    display_name: str,
    status: str,
    parent: str | None = None,
    **fields: Any,
) -> Document:
    """Begin a run's record. `fields` are further entries of the document."""
    now = emu.clock.now()
    document: Document = {
        "id": run_id,
        "uuid": str(uuid.uuid4()),
        "parent": parent,
        "kind": kind,
        "experiment": experiment,
        "display_name": display_name,
        "status": status,
        "created": now,
        "modified": now,
        "start": None,
        "end": None,
        "attempt": 0,
        "error": None,
        "warnings": [],
        "logs": [],
        "inputs": {},
        "outputs": {},
        "params": {},
        "tags": {},
        "properties": {},
        "compute": "",
        **fields,
    }
    with emu.state.transaction():
        emu.state.put(KIND, run_id, document)
        if parent is not None:
            emu.state.put(_CHILD, f"{parent}/{run_id}", {"run": run_id})
    return document


def find(emu: Emulator, run_id: str) -> Document | None:
    """A run's record as it was last written."""
    return emu.state.get(KIND, run_id)


def change(emu: Emulator, run_id: str, **fields: Any) -> Document:
    """Write some entries of a run's record; mappings are merged into those that are there."""
    with emu.state.transaction():
        document = emu.state.get(KIND, run_id)
        if document is None:
            raise KeyError(run_id)
        for name, value in fields.items():
            old = document.get(name)
            document[name] = {**old, **value} if isinstance(value, Mapping) and isinstance(old, dict) else value
        document["modified"] = emu.clock.now()
        emu.state.put(KIND, run_id, document)
    return document


def set_status(emu: Emulator, run_id: str, status: str, *, at: float | None = None, **fields: Any) -> Document:
    """Move a run to a status, with the times that belong to it. A run that ended stays as it ended."""
    now = emu.clock.now() if at is None else at
    with emu.state.transaction():
        document = emu.state.get(KIND, run_id)
        if document is None:
            raise KeyError(run_id)
        if document["status"] in TERMINAL:
            return document
        if status == "Running" and document["start"] is None:
            fields["start"] = now
        if status in TERMINAL:
            fields["end"] = now
        return change(emu, run_id, status=status, **fields)


def children(emu: Emulator, run_id: str) -> list[Document]:
    """The runs of a job's steps, oldest first."""
    found = (find(emu, entry["run"]) for _, entry in emu.state.list(_CHILD, f"{run_id}/"))
    return [document for document in found if document is not None]


def forget(emu: Emulator, run_id: str) -> None:
    """Remove a run and its steps' runs."""
    with emu.state.transaction():
        for key, entry in emu.state.list(_CHILD, f"{run_id}/"):
            forget(emu, entry["run"])
            emu.state.delete(_CHILD, key)
        emu.state.delete(KIND, run_id)


def artifact_path(run_id: str, name: str) -> str:
    """Where in the artifact store a file of a run lies."""
    return f"ExperimentRun/dcid.{run_id}/{name}"


def experiment_id(emu: Emulator, name: str) -> str:
    """An experiment's id, made from its name."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{emu.settings.workspace}/experiments/{name}"))
