"""Answers of deployed models: one child process a model folder, started when it is first asked, JSON lines both ways.

The process is whatever `settings.server_command` names; the emulator knows only the lines:
`{"messages": [...], "max_tokens": n, "temperature": t}` -> `{"content": "..."}`, or `{"error": "..."}`;
`{"row": {"input_string": "..."}, ...}` -> `{"told": {"label": "...", "score": p}}`, or labels, tags, answer, text;
`{"prompt": "...", ...}`, which is continued as it stands -> `{"content": "..."}`.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from azft.emulator.http import ApiError
from azft.emulator.step_process import child_environment

if TYPE_CHECKING:
    from azft.emulator.app import Emulator

_LAST_LINES = 200


class ModelServers(AbstractContextManager["ModelServers"]):
    """The processes that answer, by the folder of their model."""

    def __init__(self, emu: Emulator) -> None:
        self._emu = emu
        self._lock = threading.Lock()
        self._servers: dict[Path, _Server] = {}

    def ask(self, model: Path, request: dict[str, Any]) -> dict[str, Any]:
        """A model's answer, with `content` or `told` in it. Raises `ApiError` when it has none."""
        with self._lock:
            server = self._servers.get(model)
            if server is None or not server.alive():
                server = self._servers[model] = _Server(self._emu, model)
        return server.ask(request)

    def log(self, model: Path) -> list[str]:
        """The last lines that a model's process wrote to its log."""
        file = _log_file(self._emu, model)
        return file.read_text(encoding="utf-8", errors="replace").splitlines()[-_LAST_LINES:] if file.exists() else []

    def end(self, model: Path) -> None:
        """End a model's process."""
        with self._lock:
            server = self._servers.pop(model, None)
        if server is not None:
            server.end()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for model in list(self._servers):
            self.end(model)


class _Server:
    def __init__(self, emu: Emulator, model: Path) -> None:
        if not emu.settings.server_command:
            raise ApiError(501, "NotEmulated", "settings.server_command is not set: nothing here can answer.")
        log = _log_file(emu, model)
        log.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        with log.open("ab") as file:
            # It ends by itself when its input closes, so it outlives neither us nor a kill of us.
            self._process = subprocess.Popen(
                [*emu.settings.server_command, "--model", str(model)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                env=child_environment(emu),
                start_new_session=True,
            )

    def alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock:
            try:
                self._process.stdin.write(json.dumps(request).encode() + b"\n")
                self._process.stdin.flush()
                line = self._process.stdout.readline()
            except OSError:
                line = b""
        try:
            answer = json.loads(line)
        except ValueError:
            self.end()  # whatever it is doing, it no longer answers line by line; the next question starts another
            raise _failed("The model's server did not answer; its log says why.") from None
        if not {"content", "told"} & set(answer):
            raise _failed(str(answer.get("error", "The model's server gave no content.")))
        return dict(answer)

    def end(self) -> None:
        with contextlib.suppress(OSError):
            if self._process.stdin is not None:
                self._process.stdin.close()
        try:
            self._process.wait(3)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


def _failed(message: str) -> ApiError:
    return ApiError(424, "ModelError", message)


def _log_file(emu: Emulator, model: Path) -> Path:
    name = "-".join(model.relative_to(emu.state.root).parts) if model.is_relative_to(emu.state.root) else model.name
    return emu.state.root / "servers" / f"{name[-120:]}.log"
