"""Plays a model's server in a rehearsal: JSON lines in, JSON lines out, HTTP is the emulator's.

    python -m azft.rehearsal.server --model folder

A line `{"messages": [...], "max_tokens": n, "temperature": t}` is answered by `{"content": "..."}`, or by
`{"error": "..."}` when it can't be. The folder is a plain Hugging Face folder (such as the package step's) or MLflow's.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import IO, Any

import orjson

from azft.chat import Chat, open_chat
from azft.errors import AzftError
from azft.rehearsal.model_folder import plain_folder


def main(arguments: list[str] | None = None) -> int:
    """Load the model, then answer line by line until the input ends."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    args = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="azft-server-") as scratch:
        try:
            chat = open_chat(plain_folder(args.model, Path(scratch) / "model"))
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
        pieces = chat.reply(
            request["messages"],
            max_new_tokens=int(request.get("max_tokens") or 256),
            temperature=float(request.get("temperature") or 0.0),
        )
        return {"content": "".join(pieces)}
    except KeyError as error:
        return {"error": f"The request has no {error}."}
    except Exception as error:  # one request's fault must not end the server
        return {"error": f"{type(error).__name__}: {error}".splitlines()[0]}


if __name__ == "__main__":
    raise SystemExit(main())
