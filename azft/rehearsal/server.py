"""Plays a model's server in a rehearsal: JSON lines in, JSON lines out, HTTP is the emulator's.

    python -m azft.rehearsal.server --model folder

A line `{"messages": [...], "max_tokens": n, "temperature": t}` is answered by `{"content": "..."}`, one with a `row`
(`{"input_string": "..."}`, in the names of Azure's own server) by `{"told": {...}}`, a `prompt` by what follows it, and
what can't be answered by `{"error": "..."}`. The folder is a plain Hugging Face folder (such as the package step's) or
MLflow's, whose MLmodel says for which task the model was tuned.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import orjson

from azft.asking import row_of
from azft.chat import Chat, open_chat
from azft.errors import AzftError
from azft.rehearsal.model_folder import plain_folder, task_of


def main(arguments: list[str] | None = None) -> int:
    """Load the model, then answer line by line until the input ends."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    args = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="azft-server-") as scratch:
        try:
            chat = open_chat(plain_folder(args.model, Path(scratch) / "model"), task=task_of(args.model))
        except AzftError as error:
            sys.stderr.write(f"{error}\n")
            return 1
        serve(chat, sys.stdin.buffer, sys.stdout.buffer)
    return 0


def serve(chat: Chat, source: IO[bytes], target: IO[bytes]) -> None:
    """Answer each line; a request that can't be answered leaves the server running."""
    for line in source:
        if line.strip():
            target.write(orjson.dumps(_answer(chat, line)) + b"\n")
            target.flush()


def _answer(chat: Chat, line: bytes) -> dict[str, Any]:
    try:
        request = orjson.loads(line)
        settings: Any = {
            "max_new_tokens": int(request.get("max_tokens") or 256),
            "temperature": float(request.get("temperature") or 0.0),
        }
        if "row" in request:
            return {"told": dict(chat.ask(_row(request["row"], chat.reads), **settings).told)}
        if "prompt" in request:
            return {"content": "".join(chat.go_on(request["prompt"], **settings))}
        return {"content": "".join(chat.reply(request["messages"], **settings))}
    except KeyError as error:
        return {"error": f"The request has no {error}."}
    except Exception as error:  # one request's fault must not end the server
        return {"error": f"{type(error).__name__}: {error}".splitlines()[0]}


def _row(given: Mapping[str, str], reads: tuple[str, ...]) -> dict[str, Any]:
    """The task's row of what Azure's server was given: one text, or several by their own names."""
    return row_of(next(iter(given.values())), reads) if reads and set(given) - set(reads) else dict(given)


if __name__ == "__main__":
    raise SystemExit(main())
