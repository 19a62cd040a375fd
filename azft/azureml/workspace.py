"""Which workspace: from flags, the environment, a config.json upwards from here, or the defaults of `az`.

Each of the three parts is taken from the first place that names it, and `found_by` says which places those were. A
workspace is never in a recipe: the same recipe runs in everybody's.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from configparser import ConfigParser, Error
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from azft.errors import UsageError

PARTS = ("subscription", "resource_group", "name")
VARIABLES: dict[str, tuple[str, ...]] = {
    "subscription": ("AZURE_SUBSCRIPTION_ID", "AZUREML_ARM_SUBSCRIPTION"),
    "resource_group": ("AZURE_RESOURCE_GROUP", "AZUREML_ARM_RESOURCEGROUP"),
    "name": ("AZUREML_WORKSPACE_NAME", "AZUREML_ARM_WORKSPACE_NAME"),
}
"""The environment's names for each part; the second ones are what Azure ML sets inside its jobs and notebooks."""
_KEYS = {"subscription": "subscription_id", "resource_group": "resource_group", "name": "workspace_name"}
"""What a config.json calls each part."""
FLAGS = {"subscription": "--subscription", "resource_group": "--resource-group", "name": "--workspace"}

_GUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_SCOPE = re.compile(r"(?i)/subscriptions/([^/]+)/resourceGroups/([^/]+)/.*?/workspaces/([^/]+)")


@dataclass(frozen=True)
class Workspace:
    """An Azure ML workspace, and how it was found."""

    subscription: str
    resource_group: str
    name: str
    found_by: str = "the call"

    @property
    def id(self) -> str:
        """Its resource id."""
        return (
            f"/subscriptions/{self.subscription}/resourceGroups/{self.resource_group}"
            f"/providers/Microsoft.MachineLearningServices/workspaces/{self.name}"
        )

    def same_as(self, other: Workspace) -> bool:
        """Whether both name the same workspace; Azure's names don't differ by case."""
        return self.id.lower() == other.id.lower()


def find_workspace(
    *,
    subscription: str | None = None,
    resource_group: str | None = None,
    workspace: str | None = None,
    folder: Path | None = None,
) -> Workspace:
    """The workspace to use. Raises `UsageError` that says what is missing and where it was looked for.

    `folder` is where the search for config.json starts, by default the current folder.
    """
    given = {"subscription": subscription, "resource_group": resource_group, "name": workspace}
    found: dict[str, str] = {}
    by: dict[str, str] = {}
    for place, values in _places(given, folder or Path.cwd()):
        for part in PARTS:
            if part not in found and values.get(part):
                found[part], by[part] = str(values[part]), place
        if len(found) == len(PARTS):
            break
    missing = [part for part in PARTS if part not in found]
    if missing:
        ways = (
            f"Give {_list(FLAGS[part] for part in missing)}, set {_list(VARIABLES[part][0] for part in missing)}, "
            f"save the workspace's config.json here or above, or set az's defaults: {_az_commands(missing)}"
        )
        raise UsageError(
            f"No workspace: {_list(_word(part) for part in missing)} not known.",
            fix="\n".join([ways, *_passed_over(folder or Path.cwd())]),
        )
    if not _GUID.fullmatch(found["subscription"]):
        raise UsageError(
            f"The subscription `{found['subscription']}` (by {by['subscription']}) is not an id.",
            fix="Give its GUID; `az account list -o table` shows it.",
        )
    return Workspace(found["subscription"], found["resource_group"], found["name"], _said(by))


def _places(given: Mapping[str, str | None], folder: Path) -> Iterator[tuple[str, Mapping[str, str | None]]]:
    """Each place in turn: what to call it, and the parts that it names. Files are read only when they are needed."""
    yield "flags", given
    for names in zip(*VARIABLES.values(), strict=True):
        yield "the environment", {part: os.environ.get(name) for part, name in zip(PARTS, names, strict=True)}
    for file in _config_files(folder):
        if values := _read_config(file):
            yield str(file), values
    yield from _az_defaults()


def _config_files(folder: Path) -> Iterator[Path]:
    for directory in (folder.absolute(), *folder.absolute().parents):
        yield from (directory / ".azureml" / "config.json", directory / "config.json")


def _passed_over(folder: Path) -> Iterator[str]:
    """A line for each config.json that was meant to name a workspace, and doesn't."""
    for file in _config_files(folder):
        if not file.is_file() or _read_config(file):
            continue
        data = _read_json(file)
        if data is None:
            yield f"{file} was passed over: it is no JSON."
        elif isinstance(data, dict) and any(data.get(key) for key in _KEYS.values()):
            lacking = [key for key in ("subscription_id", "workspace_name") if not data.get(key)]
            yield f"{file} was passed over: it has no {_list(lacking)}."


def _az_commands(missing: list[str]) -> str:
    """What sets az's defaults for these parts: the subscription is another command's."""
    named = {"resource_group": "group=...", "name": "workspace=..."}
    defaults = " ".join(word for part, word in named.items() if part in missing)
    commands = ["az account set --subscription ..."] if "subscription" in missing else []
    return " and ".join([*commands, *([f"az configure --defaults {defaults}"] if defaults else [])])


def _read_config(file: Path) -> Mapping[str, str | None] | None:
    """The workspace in a config.json; None for one of another kind, such as a model's."""
    data = _read_json(file)
    if not isinstance(data, dict):
        return None
    scope = _SCOPE.search(str(data.get("Scope") or data.get("scope") or ""))
    if scope:
        return dict(zip(PARTS, scope.groups(), strict=True))
    values = {part: data.get(key) for part, key in _KEYS.items()}
    return values if values["subscription"] and values["name"] else None


def _az_defaults() -> Iterator[tuple[str, Mapping[str, str | None]]]:
    """What `az configure --defaults` and `az account set` left behind."""
    home = Path(os.environ.get("AZURE_CONFIG_DIR") or Path.home() / ".azure")
    config = _read_ini(home / "config")
    cloud = config.get("cloud", "name", fallback="AzureCloud")
    yield (
        f"az's defaults ({home / 'config'})",
        {
            "resource_group": config.get("defaults", "group", fallback=None),
            "name": config.get("defaults", "workspace", fallback=None),
        },
    )
    chosen = _read_ini(home / "clouds.config").get(cloud, "subscription", fallback=None)
    yield f"az's defaults ({home / 'clouds.config'})", {"subscription": chosen}
    profile = _read_json(home / "azureProfile.json")
    listed = profile.get("subscriptions") if isinstance(profile, dict) else None
    default = next((s for s in listed or () if isinstance(s, dict) and s.get("isDefault")), {})
    yield f"az's sign-in ({home / 'azureProfile.json'})", {"subscription": default.get("id")}


def _read_json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):
        return None


def _read_ini(file: Path) -> ConfigParser:
    parser = ConfigParser(interpolation=None)
    try:
        parser.read(file, encoding="utf-8-sig")
    except (Error, UnicodeDecodeError):
        return ConfigParser(interpolation=None)
    return parser


def _said(by: Mapping[str, str]) -> str:
    """`the environment`, or `flags (workspace), the environment (subscription, resource group)`."""
    places: dict[str, list[str]] = {}
    for part in PARTS:
        places.setdefault(by[part], []).append(_word(part))
    if len(places) == 1:
        return next(iter(places))
    return ", ".join(f"{place} ({', '.join(parts)})" for place, parts in places.items())


def _word(part: str) -> str:
    return "workspace" if part == "name" else part.replace("_", " ")


def _list(words: Iterator[str] | list[str]) -> str:
    given = list(words)
    return given[0] if len(given) == 1 else f"{', '.join(given[:-1])} and {given[-1]}"
