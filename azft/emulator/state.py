"""What the emulator remembers: JSON documents in one SQLite file, and blobs as plain files.

Blobs are files so that a mounted output of a job *is* its blob folder, as on Azure, with nothing to copy. Everything
survives a restart; without a folder it lives in memory and a temporary folder, and ends with the object.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Document = dict[str, Any]


class State:
    """Documents by kind and key, in the order in which they were first put."""

    def __init__(self, root: Path | None) -> None:
        self._temporary = root is None
        self._root = root
        self._lock = threading.RLock()
        self._depth = 0
        if root is not None:
            root.mkdir(parents=True, exist_ok=True)
        where = ":memory:" if root is None else str(root / "state.sqlite")
        self._database = sqlite3.connect(where, check_same_thread=False, isolation_level=None)
        # A killed process loses nothing this way; only a power cut could, and then the rehearsal is over anyway.
        self._database.execute("PRAGMA synchronous=OFF")
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS documents (number INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL,"
            " key TEXT NOT NULL, document TEXT NOT NULL, UNIQUE (kind, key))"
        )

    @property
    def root(self) -> Path:
        """The folder of everything that isn't a document."""
        with self._lock:
            if self._root is None:
                self._root = Path(tempfile.mkdtemp(prefix="azft-emulator-"))
            return self._root

    def put(self, kind: str, key: str, document: Document) -> None:
        """Write a document; one that is there keeps its place in the order."""
        with self._lock:
            self._database.execute(
                "INSERT INTO documents (kind, key, document) VALUES (?, ?, ?)"
                " ON CONFLICT (kind, key) DO UPDATE SET document = excluded.document",
                (kind, key, json.dumps(document)),
            )

    def get(self, kind: str, key: str) -> Document | None:
        """A copy of a document, or None."""
        with self._lock:
            row = self._database.execute(
                "SELECT document FROM documents WHERE kind = ? AND key = ?", (kind, key)
            ).fetchone()
        return None if row is None else dict(json.loads(row[0]))

    def list(self, kind: str, prefix: str = "") -> list[tuple[str, Document]]:
        """All documents of a kind whose key begins with `prefix`, oldest first."""
        with self._lock:
            rows = self._database.execute(
                "SELECT key, document FROM documents WHERE kind = ? AND substr(key, 1, ?) = ? ORDER BY number",
                (kind, len(prefix), prefix),
            ).fetchall()
        return [(key, json.loads(document)) for key, document in rows]

    def delete(self, kind: str, key: str) -> bool:
        """Remove a document; whether it was there."""
        with self._lock:
            cursor = self._database.execute("DELETE FROM documents WHERE kind = ? AND key = ?", (kind, key))
            return cursor.rowcount > 0

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, and nobody else in between. May be nested."""
        with self._lock:
            if self._depth == 0:
                self._database.execute("BEGIN IMMEDIATE")
            self._depth += 1
            try:
                yield
            except BaseException:
                self._depth -= 1
                if self._depth == 0:
                    self._database.execute("ROLLBACK")
                raise
            self._depth -= 1
            if self._depth == 0:
                self._database.execute("COMMIT")

    def close(self) -> None:
        """Let go of the file; remove what was temporary."""
        with self._lock:
            self._database.close()
            if self._temporary and self._root is not None:
                shutil.rmtree(self._root, ignore_errors=True)
