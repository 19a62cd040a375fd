"""Looking at a model folder without loading it: is it whole, is it safe, and what hash names its contents.

Only safetensors count as weights: a pickle (.bin, .pt) can run code when it is opened, so azft never opens one.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import orjson

from azft.catalog.cache import cache_root
from azft.data.model_folder import PIPELINE, find_config, has_clip_tokenizer
from azft.data.picture_model import PARTS, WITH_WEIGHTS, faults
from azft.files import canonical_json, sha256_bytes, sha256_file, write_json

Problem = tuple[str, str]
"""What is wrong with a folder, and what to do about it."""

_LARGE = 8 << 20
"""Bytes from which on a file's hash is remembered, by size and mtime, instead of computed each time."""
_LOADED = {".json", ".safetensors", ".jinja", ".model", ".txt", ".py"}
"""Suffixes of the files that loading a model reads; nothing else decides what the model is."""
MANIFEST = ".azft-manifest.json"
"""Written beside a model that azft converted: where it came from, and each file's SHA-256."""
_LFS_POINTER = b"version https://git-lfs"


def problems_of(folder: Path, *, chat: bool = True) -> list[Problem]:
    """Why this folder can't be fine-tuned, or not for a task of `chat`; empty when it can.

    Reads the configuration and the headers of the weights, never the weights.
    """
    try:
        return _problems_of(folder, chat)
    except OSError as error:
        return [(f"it can't be read: {error.strerror}", "Look at the permissions of the folder and its files.")]


def _problems_of(folder: Path, chat: bool) -> list[Problem]:
    if (folder / PIPELINE).is_file():
        return _pipeline_problems(folder)
    if (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file():
        return [("it holds an adapter, not a model", "Name the base model, or merge the adapter into it first.")]
    problems: list[Problem] = []
    config = _json_object(folder / "config.json", problems, needed=True)
    if config is not None and not (config.get("architectures") or config.get("model_type")):
        problems.append(("config.json names neither `architectures` nor a `model_type`", "Save the model again."))
    problems += _weight_problems(folder)
    _json_object(folder / "tokenizer.json", problems, needed=True)
    tokenizer_config = _json_object(folder / "tokenizer_config.json", problems, needed=False) or {}
    if chat and not (folder / "chat_template.jinja").is_file() and not tokenizer_config.get("chat_template"):
        fix = "Take the model's -instruct or -it variant, or put its template into chat_template.jinja."
        problems.append(("it has no chat template (chat_template.jinja, or in tokenizer_config.json)", fix))
    return problems


def _pipeline_problems(folder: Path) -> list[Problem]:
    """The same for a folder of diffusers, part by part."""
    problems: list[Problem] = list(faults(folder))
    for part in WITH_WEIGHTS:
        files = sorted((folder / part).glob("*.safetensors"))
        if not files:
            pickles = _pickles(folder / part)
            why = f"only pickles ({pickles[0]}), which can run code when they are opened" if pickles else "no weights"
            problems.append((f"its {part} has {why}", "Take a revision with safetensors."))
        problems += [problem for file in files if (problem := _shard_problem(file))]
    tokenizer = folder / "tokenizer"
    if not (tokenizer / "tokenizer.json").is_file() and not has_clip_tokenizer(tokenizer):
        problems.append(("it has no tokenizer (tokenizer.json, or vocab.json and merges.txt)", "Copy it again."))
    return problems


def read_config(folder: Path) -> dict[str, Any]:
    """config.json of what reads texts, or an empty mapping when it is missing or broken."""
    return _json_object(find_config(folder), [], needed=False) or {}


def _json_object(file: Path, problems: list[Problem], *, needed: bool) -> dict[str, Any] | None:
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        if needed:
            problems.append((f"it has no {file.name}", f"Put the model's {file.name} there."))
        return None
    except OSError as error:
        problems.append((f"{file.name} can't be read: {error.strerror}", "Look at the file's permissions."))
        return None
    if data.startswith(_LFS_POINTER):
        problems.append(_lfs(file))
        return None
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        problems.append((f"{file.name} is not JSON ({error})", "Download the file again."))
        return None
    if not isinstance(value, dict):
        problems.append((f"{file.name} is not a JSON object", "Download the file again."))
        return None
    return value


def _lfs(file: Path) -> Problem:
    return f"{file.name} is a git-lfs pointer, not the file itself", "Run: git lfs pull"


def _weight_problems(folder: Path) -> list[Problem]:
    problems: list[Problem] = []
    index = _json_object(folder / "model.safetensors.index.json", problems, needed=False)
    if problems:
        return problems
    if index is not None:
        weight_map = index.get("weight_map")
        if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
            return [("model.safetensors.index.json has no weight_map", "Download the file again.")]
        shards = sorted({str(name) for name in weight_map.values()})
        if outside := [name for name in shards if Path(name).name != name]:
            return [(f"model.safetensors.index.json names a file outside the folder ({outside[0]})", "Don't use it.")]
    else:
        shards = ["model.safetensors"]
    if index is None and not (folder / shards[0]).is_file():
        if pickles := _pickles(folder):
            what = f"its weights are pickles ({pickles[0]}): opening one can run code, so azft reads safetensors only"
            return [(what, "Take a revision with safetensors, or convert the folder where you trust it.")]
        if ggufs := sorted(p.name for p in folder.glob("*.gguf")):
            return [(f"its weights are quantised for inference ({ggufs[0]})", "Name the original safetensors model.")]
        return [("it has no model.safetensors", "Download the model's weights, or save them with safetensors.")]
    return [problem for name in shards if (problem := _shard_problem(folder / name))]


def _pickles(folder: Path) -> list[str]:
    """Names of files that may be weights, and can run code when they are opened."""
    return sorted(p.name for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt") for p in folder.glob(pattern))


def _shard_problem(file: Path) -> Problem | None:
    """A safetensors file starts with its header's length and the header, which says where the data ends."""
    again = "Download the file again."
    try:
        size = file.stat().st_size
        with file.open("rb") as handle:
            start = handle.read(len(_LFS_POINTER))
            if start == _LFS_POINTER:
                return _lfs(file)
            length = int.from_bytes(start[:8], "little")
            if size < 8 or length > min(size - 8, 100 << 20):
                return f"{file.name} is cut off or no safetensors file", again
            handle.seek(8)
            header = orjson.loads(handle.read(length))
        end = max((entry["data_offsets"][1] for key, entry in header.items() if key != "__metadata__"), default=0)
    except FileNotFoundError:
        return f"the shard {file.name} is missing", again
    except OSError as error:
        return f"{file.name} can't be read: {error.strerror}", "Look at the file's permissions."
    except (orjson.JSONDecodeError, KeyError, TypeError, IndexError, AttributeError):
        return f"{file.name} has a broken header", again
    if size != 8 + length + end:
        return f"{file.name} has {size:,} bytes where its header asks for {8 + length + end:,}", again
    return None


def loaded_files(folder: Path) -> list[Path]:
    """The files of a model folder that loading reads, sorted: at its top, the template for tools, diffusers' parts."""
    found = [p for p in folder.iterdir() if p.suffix in _LOADED and p.is_file() and p.name != MANIFEST]
    if (folder / PIPELINE).is_file():
        found += [p for part in PARTS for p in (folder / part).glob("*") if p.suffix in _LOADED and p.is_file()]
    return sorted([*found, *folder.glob("additional_chat_templates/*.jinja")])


def folder_identity(folder: Path) -> str:
    """Hex SHA-256 over the names and contents of the files that loading reads: where the folder lies doesn't matter."""
    files = {file.relative_to(folder).as_posix(): cached_sha256(file) for file in loaded_files(folder)}
    return sha256_bytes(canonical_json(files))


def cached_sha256(file: Path) -> str:
    """`sha256_file`, remembered for large files as long as size, mtime and inode stay the same."""
    status = file.stat()
    if status.st_size < _LARGE:
        return sha256_file(file)
    state = [status.st_size, status.st_mtime_ns, status.st_ino]
    note = cache_root() / "hashes" / f"{sha256_bytes(os.fsencode(file.resolve()))}.json"
    try:
        known = orjson.loads(note.read_bytes())
        if known["state"] == state:
            return str(known["sha256"])
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError):
        pass
    digest = sha256_file(file)
    with contextlib.suppress(OSError):  # a cache that can't be written costs time, nothing else
        write_json(note, {"state": state, "sha256": digest})
    return digest
