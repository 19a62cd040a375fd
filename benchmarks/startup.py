"""(a) What `azft --help` costs to start, beside a bare click group and beside `import azure.ai.ml`.

Every lane is a fresh process of the same interpreter; the lanes take turns, so that a busy moment hits them all. The
first round warms the disk cache and is not counted. Covers start-up only, not what a command then does.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from typing import Any

BARE_CLICK = """
import click
@click.group()
def cli(): "A group with one command."
@cli.command()
def hello(): "A command."
cli(["--help"])
"""
LANES = {
    "python -c pass": "pass",
    "bare click --help": BARE_CLICK,
    "azft --help": "from azft.cli.main import main; main(['--help'])",
    "import azure.ai.ml": "import azure.ai.ml",
}


def seconds(code: str) -> float:
    """Wall time of a fresh interpreter that runs some code."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def measure(rounds: int) -> list[dict[str, Any]]:
    """A row a lane: the median of its rounds in seconds, and how many times bare click's that is."""
    times: dict[str, list[float]] = {lane: [] for lane in LANES}
    failed: set[str] = set()
    for _ in range(rounds + 1):
        for lane, code in LANES.items():
            if lane in failed:
                continue
            try:
                times[lane].append(seconds(code))
            except subprocess.CalledProcessError:
                failed.add(lane)
    click = statistics.median(times["bare click --help"][1:])
    rows: list[dict[str, Any]] = []
    for lane in LANES:
        if lane in failed:
            rows.append({"row": lane, "void": "it does not run here"})
            continue
        value = statistics.median(times[lane][1:])
        row = {"row": lane, "value": round(value, 4), "unit": "s", "ratio": round(value / click, 2)}
        goal = {"goal": "< 0.2 s, <= 3x bare click"} if lane == "azft --help" else {}
        rows.append({**row, **goal, "note": f"median of {rounds}"})
    return rows


def main() -> None:
    """Print the rows, as a table or as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="rows as JSON")
    parser.add_argument("--quick", action="store_true", help="three rounds instead of fifteen")
    parser.add_argument("--rounds", type=int, help="rounds that count")
    arguments = parser.parse_args()
    rows = measure(arguments.rounds or (3 if arguments.quick else 15))
    if arguments.json:
        print(json.dumps(rows))
        return
    for row in rows:
        print(f"{row['row']:<22}", row.get("void") or f"{row['value']:7.3f} s   {row['ratio']:6.2f}x bare click")


if __name__ == "__main__":
    main()
