"""Items made ahead of their use by one thread, so that whoever uses them doesn't wait: batches, for the loop."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from queue import SimpleQueue
from typing import Generic, TypeVar, cast

T = TypeVar("T")


class Ahead(Generic[T]):
    """Iterates over `items`, in their order, while a thread makes the next ones; at most `depth` are made and not used.

    A context: leaving it, however that comes about, ends the thread, which finishes no more than the item in hand. What
    `items` raises is raised where the item would have been.
    """

    def __init__(self, items: Iterator[T], depth: int = 2) -> None:
        self._items = items
        self._room = threading.Semaphore(depth)
        self._ready: SimpleQueue[tuple[T | None, BaseException | None]] = SimpleQueue()
        self._left = False
        self._thread = threading.Thread(target=self._work, name="azft-batches", daemon=True)

    def __enter__(self) -> Ahead[T]:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._left = True
        self._room.release()
        self._thread.join()

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        item, ended = self._ready.get()
        if ended is not None:
            self._ready.put((None, ended))  # for whoever asks again
            raise ended
        self._room.release()
        return cast("T", item)

    def _work(self) -> None:
        try:
            while True:
                self._room.acquire()
                if self._left:
                    return
                self._ready.put((next(self._items), None))
        except BaseException as ended:
            self._ready.put((None, ended))
