"""A model hub on loopback with one repository: as much of the hub's HTTP interface as a download uses."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COMMIT = "c0ffee" * 6 + "beef"


class FakeHub:
    """`requested` lists the files that were fetched; `gated` refuses everybody."""

    def __init__(self, repository: str, folder: Path, *, gated: bool = False) -> None:
        self.repository = repository
        self.files = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        self.gated = gated
        self.requested: list[str] = []
        self.address = ""

    @contextmanager
    def serve(self) -> Iterator[FakeHub]:
        server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.address = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()

    def answer(self, path: str, *, fetch: bool) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of a request."""
        path = path.partition("?")[0]
        if self.gated:
            return 403, {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted"}, b""
        api = f"/api/models/{self.repository}"
        if path in {api, f"{api}/revision/main", f"{api}/revision/{COMMIT}"}:
            info: dict[str, Any] = {"id": self.repository, "modelId": self.repository, "sha": COMMIT, "private": False}
            info |= {"siblings": [{"rfilename": name} for name in self.files], "tags": [], "downloads": 0, "likes": 0}
            return 200, {"Content-Type": "application/json"}, json.dumps(info).encode()
        if path.startswith(f"{api}/tree/"):
            tree = [{"type": "file", "path": name, "oid": "0" * 40, "size": len(b)} for name, b in self.files.items()]
            return 200, {"Content-Type": "application/json"}, json.dumps(tree).encode()
        for name, body in self.files.items():
            if path in {f"/{self.repository}/resolve/{COMMIT}/{name}", f"/{self.repository}/resolve/main/{name}"}:
                if fetch:
                    self.requested.append(name)
                tag = hashlib.sha256(body).hexdigest()
                return 200, {"ETag": f'"{tag}"', "X-Repo-Commit": COMMIT}, body
        return 404, {"X-Error-Code": "RepoNotFound"}, b""


def _handler(hub: FakeHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def _send(self, *, body: bool) -> None:
            status, headers, content = hub.answer(self.path, fetch=body)
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            if body:
                self.wfile.write(content)

        def do_GET(self) -> None:
            self._send(body=True)

        def do_HEAD(self) -> None:
            self._send(body=False)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            pass

    return Handler
