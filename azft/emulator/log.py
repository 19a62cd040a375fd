"""The log of requests: what was asked and answered, and the bytes each way. No headers, no query, so no secret."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

from azft.emulator.http import Request

KEPT = 100_000


class RequestLog:
    """The newest requests, in the order in which they came."""

    def __init__(self) -> None:
        self._entries: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self._lock = threading.Lock()

    def add(self, request: Request, status: int | None, received: int) -> None:
        """One request; a status of None is a connection that was cut. `sent` are the client's bytes."""
        entry = {
            "method": request.method,
            "path": request.path,
            "status": status,
            "sent": len(request.body),
            "received": received,
        }
        with self._lock:
            self._entries.append(entry)

    def list(self) -> list[dict[str, Any]]:
        """All entries, oldest first."""
        with self._lock:
            return [dict(entry) for entry in self._entries]

    def clear(self) -> None:
        """Forget them."""
        with self._lock:
            self._entries.clear()
