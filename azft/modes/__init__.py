"""Where a plan can run. A mode is a row of `MODES` and a class with the methods of `base.Mode`."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, cast

from azft.errors import UsageError
from azft.modes.base import Mode

if TYPE_CHECKING:
    from azft.azureml.connection import Access

MODES: dict[str, tuple[str, str]] = {
    "local": ("azft.modes.local", "LocalMode"),
    "maas": ("azft.modes.maas", "MaasMode"),
    "maap": ("azft.modes.maap", "MaapMode"),
}
"""Name -> (module, class); loaded when used, because a mode may need the Azure SDK."""


def get_mode(name: str, *, root: Path | None = None, access: Access | None = None) -> Mode:
    """The mode of this name, keeping its runs under `root` (the `.azft` folder). Raises `UsageError`.

    `access` says which workspace and whose sign-in, for the modes that need one.
    """
    if name not in MODES:
        raise UsageError(f"Unknown mode `{name}`.", fix=f"This version knows: {', '.join(MODES)}.")
    module, attribute = MODES[name]
    return cast("Mode", getattr(import_module(module), attribute)(root, access))
