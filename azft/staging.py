"""The code folder that travels to wherever a step runs: the components' main.py files and azft itself as one zip.

One folder for all steps, a handful of files (the SDK sends about three requests a file), addressed by its content: the
same sources give the same bytes and the same hash on every machine. What does not travel is as important: no command
line, no mode, no SDK code.
"""

from __future__ import annotations

import io
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from azft.errors import AzftError
from azft.files import atomic_path, sha256_bytes, sha256_tree

COMPONENTS = ("prepare", "finetune", "evaluate", "package")
ARCHIVE = "azft.zip"
"""The name that nodes put on PYTHONPATH, relative to the code folder that is their working directory."""

VOCABULARY = (
    "__init__", "asking", "deepspeed_config", "errors", "extras", "files", "findings", "host_memory", "parameters",
    "recipe", "recipe_errors", "recipe_file", "recipe_yaml", "redact", "tasks", "techniques", "words",
)  # fmt: skip
TRAVELLING_PACKAGES = ("data", "training")

_PACKAGE = Path(__file__).parent
_IGNORED = {"__pycache__"}
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip can hold


@dataclass(frozen=True, slots=True)
class StagedCode:
    """A code folder on disk and the hash of its contents."""

    folder: Path
    hash: str


def bundled(name: str) -> Path:
    """The folder `components` or `environments`: inside an installed wheel, or at the top of a checkout."""
    for candidate in (_PACKAGE / "_bundled" / name, _PACKAGE.parent / name):
        if candidate.is_dir():
            return candidate
    raise AzftError(f"azft's own folder `{name}` is missing beside {_PACKAGE}.", fix="Install azft again.")


def component_file(step: str) -> Path:
    """The component.yaml of a step."""
    return bundled("components") / step / "component.yaml"


def environment_folder(step: str) -> Path:
    """The build folder (Dockerfile, requirements.txt) of a step's environment."""
    return bundled("environments") / ("prepare" if step == "prepare" else "train")


def code_files() -> dict[str, bytes]:
    """Relative name and contents of every file that travels."""
    components = bundled("components")
    files = {f"{step}/main.py": (components / step / "main.py").read_bytes() for step in COMPONENTS}
    return {**files, ARCHIVE: package_zip()}


def package_zip() -> bytes:
    """The package as nodes get it. Stored, not deflated: compressors differ between machines, the hash must not."""
    sources = [_PACKAGE / f"{name}.py" for name in VOCABULARY]
    for package in TRAVELLING_PACKAGES:
        sources += [p for p in (_PACKAGE / package).rglob("*") if p.is_file() and not _IGNORED.intersection(p.parts)]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for source in sorted(sources, key=lambda path: path.relative_to(_PACKAGE).as_posix()):
            entry = zipfile.ZipInfo(f"azft/{source.relative_to(_PACKAGE).as_posix()}", _EPOCH)
            entry.create_system = 3  # Unix, whatever this machine is
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, source.read_bytes())
    return buffer.getvalue()


def code_hash(files: dict[str, bytes] | None = None) -> str:
    """Hash of the code folder without writing it; equal to `sha256_tree` of the written one."""
    files = code_files() if files is None else files
    parts = []
    for name in sorted(files, key=Path):
        encoded = name.encode()
        parts.append(len(encoded).to_bytes(8, "big") + encoded + bytes.fromhex(sha256_bytes(files[name])))
    return sha256_bytes(b"".join(parts))


def stage_code(root: Path) -> StagedCode:
    """Write the code folder as `root/<hash>`, or find it there. A folder that was tampered with is written again."""
    files = code_files()
    digest = code_hash(files)
    folder = root / digest
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / "staging.lock"):  # two shells at once
        if not folder.is_dir() or sha256_tree(folder) != digest:
            shutil.rmtree(folder, ignore_errors=True)
            with atomic_path(folder) as temporary:
                for name, content in files.items():
                    (temporary / name).parent.mkdir(parents=True, exist_ok=True)
                    (temporary / name).write_bytes(content)
    return StagedCode(folder, digest)
