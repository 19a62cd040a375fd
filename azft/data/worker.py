"""A process of the data check: pieces as JSON lines come in, their scans go out (`azft.data.workers`)."""

from __future__ import annotations

import os
import sys

import msgspec

from azft.data.workers import Piece, scan_piece, send


def main() -> None:
    """Serve until stdin ends."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever a library prints must not land among the answers
    for line in sys.stdin.buffer:
        send(answers, scan_piece(msgspec.json.decode(line, type=Piece)))


if __name__ == "__main__":
    main()
