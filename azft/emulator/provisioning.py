"""Resources that take a while to come up and to go: endpoints, deployments, subscriptions. Their state is the clock's.

A document of a kind has `ready` (when it is there), `gone` (when it is away, once it was deleted) and perhaps `error`
(with which it comes up instead).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from azft.emulator import operations
from azft.emulator.http import Response
from azft.emulator.state import Document

if TYPE_CHECKING:
    from azft.emulator.app import Emulator


def find(emu: Emulator, kind: str, key: str) -> Document | None:
    """A resource's document; one whose time has come is gone."""
    document = emu.state.get(kind, key.lower())
    if document is None:
        return None
    if document.get("gone") is not None and emu.clock.now() >= document["gone"]:
        emu.state.delete(kind, key.lower())
        return None
    return document


def every(emu: Emulator, kind: str, prefix: str = "") -> list[Document]:
    """All that are there, oldest first."""
    found = (find(emu, kind, key) for key, _ in emu.state.list(kind, prefix.lower()))
    return [document for document in found if document is not None]


def state_of(emu: Emulator, document: Document) -> str:
    """Creating or Updating, Deleting, Failed or Succeeded."""
    if document.get("gone") is not None:
        return "Deleting"
    if emu.clock.now() < document["ready"]:
        return "Updating" if document.get("updated") else "Creating"
    return "Failed" if document.get("error") else "Succeeded"


def put(
    emu: Emulator, kind: str, key: str, fields: dict[str, Any], *, error: dict[str, Any] | None = None
) -> tuple[Document, dict[str, str], bool]:
    """Create or update a resource: its document, the headers of the operation, and whether it is new."""
    before = find(emu, kind, key)
    now = emu.clock.now()
    waits = emu.settings.provision_seconds
    document = {
        **(before or {}),
        **fields,
        "created": now if before is None else before["created"],
        "modified": now,
        "ready": now + waits,
        "updated": before is not None,
        "error": error,
        "gone": None,
    }
    emu.state.put(kind, key.lower(), document)
    headers = operations.begin(emu, waits, error) if waits > 0 or error else {}
    return document, headers, before is None


def delete(emu: Emulator, kind: str, key: str) -> Response:
    """Begin a resource's end."""
    document = find(emu, kind, key)
    if document is None:
        return Response(204)
    waits = emu.settings.provision_seconds
    if document.get("gone") is None:
        emu.state.put(kind, key.lower(), {**document, "gone": emu.clock.now() + waits})
    return Response(202, None, operations.begin(emu, waits))
