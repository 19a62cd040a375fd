"""Taking an earlier step's outputs instead of running it, when everything that decides its result is the same.

As on Azure, it is told by content and not by job. An earlier step counts only while its outputs are what they were.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from azft.execution.graph import Literal, Step
from azft.execution.reuse import Finished, Manifest, step_key, take_over

if TYPE_CHECKING:
    from azft.emulator.app import Emulator

_KIND = "reusable-step"


@dataclass(frozen=True)
class Earlier:
    """The step that was taken over."""

    job: str
    run: str


class Fingerprints:
    """Hashes of what steps read, each path once."""

    def __init__(self) -> None:
        self._paths: dict[Path, str] = {}

    def path(self, path: Path) -> str:
        """Hash of a file's or a folder's contents."""
        if path not in self._paths:
            self._paths[path] = Manifest.of({"it": path}).content("it")
        return self._paths[path]

    def step(self, step: Step, literals: Mapping[str, Literal | None], contents: Mapping[str, str]) -> str:
        """The step's key."""
        code = self.path(step.code) if step.code is not None else ""
        return step_key(step, code=code, inputs=literals, contents=contents)


def remember(emu: Emulator, key: str, *, job: str, run: str, outputs: Mapping[str, Path], manifest: Manifest) -> None:
    """Note a finished step for later ones to find."""
    document = {
        "job": job,
        "run": run,
        "outputs": {name: str(path) for name, path in outputs.items()},
        "files": manifest.to_dict(),
    }
    emu.state.put(_KIND, key, document)


def find_reusable(emu: Emulator, key: str, outputs: Mapping[str, Path]) -> Earlier | None:
    """Put an earlier step's outputs at `outputs` and say whose they were; None when there is no sound one."""
    document = emu.state.get(_KIND, key)
    if document is None or document["outputs"].keys() != outputs.keys():
        return None
    finished = Finished(
        key, {name: Path(path) for name, path in document["outputs"].items()}, Manifest.from_dict(document["files"])
    )
    if finished.manifest.damaged(finished.outputs):
        return None
    apart = {name: path for name, path in outputs.items() if finished.outputs[name] != path}
    take_over(finished, apart)
    return Earlier(job=str(document["job"]), run=str(document["run"]))
