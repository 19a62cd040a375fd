"""(b) `azft check` on generated chat rows, beside a loop that only parses JSON with orjson, and beside `datasets`.

Every lane is a fresh process that reads the same file; lanes take turns, the file is in the page cache, the best round
counts. Times leave out the interpreter's own start and imports; azft's include the start of its worker processes.

    python benchmarks/check.py [--json] [--quick] [--rows N] [--datasets-python PATH]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
SEED = 20_251_124
_ROUNDS = 3

MEASURE = """
import json, resource, sys, time
def report(rows, start, children):
    seconds = time.perf_counter() - start
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = time.process_time() - cpu_before + used.ru_utime + used.ru_stime
    print(json.dumps({"rows": rows, "seconds": seconds, "cpu": cpu, "mib": own + children * child}))
"""
ORJSON = """
import orjson
start, cpu_before, rows, loads = time.perf_counter(), time.process_time(), 0, orjson.loads
with open(sys.argv[1], "rb") as file:
    for line in file:
        loads(line)
        rows += 1
report(rows, start, 0)
"""
AZFT = """
import numpy
from pathlib import Path
from azft.data.check import check_files
near, processes = bool(int(sys.argv[2])), int(sys.argv[3])
start, cpu_before = time.perf_counter(), time.process_time()
checked = check_files("chat-completion", {}, {"train": Path(sys.argv[1])}, near=near, processes=processes)
assert checked.ok, checked.findings
report(checked.files[0].rows, start, processes if processes > 1 else 0)
"""
DATASETS = """
import tempfile
from datasets import load_dataset
with tempfile.TemporaryDirectory() as cache:
    start, cpu_before = time.perf_counter(), time.process_time()
    rows = load_dataset("json", data_files=sys.argv[1], split="train", cache_dir=cache).num_rows
    report(rows, start, 0)
"""


def write_rows(path: Path, rows: int) -> None:
    """Seeded chats of one to three rounds, half of them with a system turn; about 910 bytes a row."""
    rng = random.Random(SEED)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["".join(rng.choices(letters, k=rng.randint(2, 10))) for _ in range(5000)]

    def text(least: int, most: int) -> str:
        return " ".join(rng.choices(words, k=rng.randint(least, most)))

    with path.open("w", encoding="utf-8") as file:
        for number in range(rows):
            messages = [{"role": "system", "content": "You are a helpful assistant."}] if number % 2 else []
            for _ in range(rng.choice([1, 1, 2, 3])):
                messages.append({"role": "user", "content": text(5, 30)})
                messages.append({"role": "assistant", "content": text(10, 80)})
            file.write(json.dumps({"messages": messages}, separators=(",", ":")) + "\n")


def run(python: str, code: str, *arguments: str) -> dict[str, Any] | None:
    """One lane once: its rows, seconds and peak MiB; None when it fails (a peer that is not installed)."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    }
    command = [python, "-c", MEASURE + code, *arguments]
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False, env=environment)
    return json.loads(result.stdout.splitlines()[-1]) if result.returncode == 0 else None


def measure(data: Path, rounds: int, datasets_python: str) -> list[dict[str, Any]]:
    """A row a lane."""
    file = str(data)
    cores = len(os.sched_getaffinity(0))
    lanes = {
        "parse only: orjson": (sys.executable, ORJSON, file),
        f"azft check, {cores} processes": (sys.executable, AZFT, file, "0", str(cores)),
        "azft check, 1 process": (sys.executable, AZFT, file, "0", "1"),
        f"azft check with near-duplicates, {cores} processes": (sys.executable, AZFT, file, "1", str(cores)),
        'datasets.load_dataset("json"), which checks nothing': (datasets_python, DATASETS, file),
    }
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in lanes}
    for _ in range(rounds):
        for name, lane in lanes.items():
            result = run(*lane)
            if result is not None:
                results[name].append(result)
    best = {name: min(runs, key=lambda result: result["seconds"]) for name, runs in results.items() if runs}
    parse_rate = best["parse only: orjson"]["rows"] / best["parse only: orjson"]["seconds"]
    table: list[dict[str, Any]] = []
    for name in lanes:
        if name not in best:
            table.append({"row": name, "void": "it does not run here"})
            continue
        rate = best[name]["rows"] / best[name]["seconds"]
        rows, mib = best[name]["rows"], best[name]["mib"]
        cpu = min(result["cpu"] for result in results[name]) / rows * 1e6
        note = f"{rows:,} rows of {data.stat().st_size / rows:.0f} bytes, {cpu:.1f} µs of CPU a row, peak {mib:.0f} MiB"
        goal = {"goal": ">= 0.6x parse only"} if name == f"azft check, {cores} processes" else {}
        table.append(
            {
                "row": name,
                "value": round(rate),
                "unit": "rows/s",
                "ratio": round(rate / parse_rate, 2),
                "note": note,
                **goal,
            }
        )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help="100,000 rows, once")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--datasets-python", default=sys.executable, help="an interpreter that has `datasets`")
    options = parser.parse_args()
    rows = 100_000 if options.quick else options.rows
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "chats.jsonl"
        write_rows(data, rows)
        table = measure(data, 1 if options.quick else _ROUNDS, options.datasets_python)
    if options.json:
        print(json.dumps(table))
    else:
        for row in table:
            print(row.get("void") or f"{row['value']:>10,} rows/s  {row['ratio']:.2f}x  {row['row']} ({row['note']})")


if __name__ == "__main__":
    main()
