"""What endpoints and their deployments both look up: the endpoint's document."""

from __future__ import annotations

from typing import TYPE_CHECKING

from azft.emulator import provisioning
from azft.emulator.http import not_found
from azft.emulator.state import Document

if TYPE_CHECKING:
    from azft.emulator.app import Emulator

ENDPOINT = "online-endpoint"


def find_endpoint(emu: Emulator, name: str) -> Document:
    """An online endpoint's document; raises `ApiError` (404) when it isn't there."""
    document = provisioning.find(emu, ENDPOINT, name)
    if document is None:
        raise not_found(f"Online endpoint {name}")
    return document
