"""Scanning pieces of files in several processes: `python -m azft.data.worker`, talked to over pipes.

Plain child processes instead of multiprocessing, so that a script without a `__main__` guard can call `azft.check`, and
nothing is pickled. All workers share one hash seed, so that their row hashes can be compared.
"""

from __future__ import annotations

import contextlib
import os
import queue
import secrets
import subprocess
import sys
import threading
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import msgspec

from azft.data.label_counts import LabelCounts
from azft.data.near_duplicates import Signatures
from azft.data.scan import Scan, scan_file
from azft.data.tally import Tally
from azft.errors import AzftError


@dataclass(frozen=True)
class Piece:
    """What a worker is told to scan."""

    path: str
    task: str
    columns: Mapping[str, str]
    start: int
    end: int | None
    near: bool
    near_prompts: bool


@dataclass(frozen=True)
class _Header:
    """The JSON line before a result's arrays; sizes are bytes."""

    line_count: int
    rows: int
    counts: dict[str, int]
    samples: dict[str, list[tuple[int | None, dict[str, str]]]]
    sizes: list[int]
    has_lines: bool
    labels: dict[str, tuple[int, int]]


def scan_in_processes(pieces: Sequence[Piece], processes: int) -> list[Scan]:
    """The pieces' scans, in order. Raises `AzftError` when a worker dies, after ending the others."""
    jobs: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in range(len(pieces)):
        jobs.put(number)
    results: list[Scan | None] = [None] * len(pieces)
    failures: list[AzftError] = []
    environment = {
        **os.environ,
        "PYTHONHASHSEED": str(secrets.randbelow(2**32 - 1) + 1),
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }

    def serve() -> None:
        command = [sys.executable, "-m", "azft.data.worker"]
        try:
            with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as worker:
                assert worker.stdin is not None
                assert worker.stdout is not None
                with contextlib.suppress(queue.Empty):
                    while not failures:
                        number = jobs.get_nowait()
                        worker.stdin.write(msgspec.json.encode(pieces[number]) + b"\n")
                        worker.stdin.flush()
                        results[number] = receive(worker.stdout)
        except (OSError, ValueError) as error:  # it died: a closed pipe, or an answer that stops short
            fix = "Was it out of memory? Check in one process: azft check --processes 1"
            failures.append(AzftError(f"A process of the data check ended unexpectedly: {error}.", fix=fix))

    threads = [threading.Thread(target=serve, daemon=True) for _ in range(min(processes, len(pieces)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return [result for result in results if result is not None]


def send(stream: IO[bytes], scan: Scan) -> None:
    """Write a scan: its header as a line, then its arrays."""
    parts = [scan.whole.tobytes(), scan.before.tobytes(), scan.lines.tobytes() if scan.lines is not None else b""]
    if scan.signatures is not None:
        parts += [numbers.tobytes() for numbers in scan.signatures.arrays]
    tally, sizes = scan.tally, [len(part) for part in parts]
    header = _Header(
        scan.line_count, scan.rows, tally.counts, tally.samples, sizes, scan.lines is not None, scan.labels.seen
    )
    stream.write(msgspec.json.encode(header) + b"\n")
    for part in parts:
        stream.write(part)
    stream.flush()


def receive(stream: IO[bytes]) -> Scan:
    """Read what `send` wrote; `ValueError` when the stream ends early."""
    line = stream.readline()
    if not line:
        raise ValueError("it gave no answer")
    header = msgspec.json.decode(line, type=_Header)
    arrays = [array("Q"), array("Q"), array("q")]
    for numbers, size in zip(arrays, header.sizes, strict=False):
        numbers.frombytes(_exactly(stream, size))
    signatures = Signatures() if len(header.sizes) > len(arrays) else None
    for numbers, size in zip(signatures.arrays if signatures else (), header.sizes[len(arrays) :], strict=True):
        numbers.frombytes(_exactly(stream, size))
    return Scan(
        line_count=header.line_count,
        rows=header.rows,
        tally=Tally(header.counts, header.samples),
        whole=arrays[0],
        before=arrays[1],
        lines=arrays[2] if header.has_lines else None,
        signatures=signatures,
        labels=LabelCounts(header.labels),
    )


def scan_piece(piece: Piece) -> Scan:
    """Scan in this process."""
    return scan_file(
        Path(piece.path),
        piece.task,
        piece.columns,
        start=piece.start,
        end=piece.end,
        near=piece.near,
        near_prompts=piece.near_prompts,
    )


def _exactly(stream: IO[bytes], size: int) -> bytes:
    data = stream.read(size)
    if len(data) != size:
        raise ValueError("its answer was cut off")
    return data
