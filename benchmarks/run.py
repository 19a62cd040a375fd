"""`make bench`: every benchmark, one table, and the figures kept under benchmarks/results/.

Each benchmark is a script of its own that measures azft and its peers interleaved in one run and prints rows as JSON
with `--json`: a list of {"row", "value", "unit", "ratio", "goal", "note"}. A row whose result can't be compared (other
losses, a crash) carries `"void": "why"` and is shown all the same.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
GROUPS = {
    "startup": "(a) start-up of `azft --help`",
    "check": "(b) `azft check` on 1M chat rows",
    "training": "(c) training beside the peers",
    "tasks": "(f) the other tasks beside their peers",
    "steps": "(d) what a pipeline step costs over its bare command",
    "submitting": "(e) a submission to Azure, on the emulator",
}


def machine() -> str:
    """Processor, cores and memory, in a line."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        model = names[0] if names else model
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{model}, {os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()}, Python {platform.python_version()}"


PARTS = {"training": "--lanes", "tasks": "--only"}
"""Groups of which a part can be named after a colon, and the option of their scripts that takes it."""


def measure(group: str, parts: list[str], quick: bool) -> list[dict[str, Any]]:
    """Run one benchmark script; a crash becomes a void row, never a missing one."""
    command = [sys.executable, str(HERE / f"{group}.py"), "--json", *(["--quick"] if quick else [])]
    command += [PARTS[group], *parts] if parts else []
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, cwd=HERE.parent)
    if result.returncode:
        return [{"group": group, "row": group, "void": f"exit status {result.returncode}"}]
    rows: list[dict[str, Any]] = json.loads(result.stdout)
    return [{"group": group, **row} for row in rows]


def markdown(rows: list[dict[str, Any]], title: str) -> str:
    """The table that the README quotes."""
    lines = [title, "", "| what | measured | ratio | goal |", "| --- | --- | --- | --- |"]
    for group, heading in GROUPS.items():
        members = [row for row in rows if row["group"] == group]
        if members:
            lines.append(f"| **{heading}** | | | |")
        for row in members:
            value = f"void: {row['void']}" if "void" in row else f"{_number(row['value'])} {row['unit']}"
            note = f" ({row['note']})" if row.get("note") else ""
            ratio = f"{row['ratio']:.2f}x" if row.get("ratio") is not None else ""
            lines.append(f"| {row['row']}{note} | {value} | {ratio} | {row.get('goal') or ''} |")
    return "\n".join(lines) + "\n"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def named(names: list[str]) -> dict[str, list[str]]:
    """Groups, and of each the parts that are wanted; [] for all. Names are `group` or `group:part,part`."""
    wanted: dict[str, list[str]] = {}
    for name in names:
        group, _, parts = name.partition(":")
        if group not in GROUPS or (parts and group not in PARTS):
            raise SystemExit(f"There is no {name}. Groups: {', '.join(GROUPS)}; with parts: {', '.join(PARTS)}.")
        wanted[group] = parts.split(",") if parts else []
    return wanted


def main() -> None:
    """Run the benchmarks that were named, print the table, keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "names",
        nargs="*",
        default=list(GROUPS),
        metavar="GROUP[:PART,...]",
        help=f"which of: {', '.join(GROUPS)}; parts are lanes (training:azft) or tasks (tasks:mark,tag.azft)",
    )
    parser.add_argument("--quick", action="store_true", help="smaller runs, to see that everything works")
    parser.add_argument("--no-save", action="store_true", help="don't write benchmarks/results/")
    arguments = parser.parse_args()
    wanted = named(arguments.names)
    rows = [row for group, parts in wanted.items() for row in measure(group, parts, arguments.quick)]
    today = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
    results = HERE / "results"
    kept = results / f"{today}.json"
    if kept.exists() and not arguments.quick:  # what was measured earlier today and not again stays
        again = {(row["group"], row["row"]) for row in rows}
        earlier = json.loads(kept.read_text())["rows"]
        rows += [row for row in earlier if wanted.get(row["group"], [""]) and (row["group"], row["row"]) not in again]
    table = markdown(rows, f"Measured {today} by `make bench`; {machine()}.")
    print(table)
    if not arguments.no_save and not arguments.quick:
        results.mkdir(exist_ok=True)
        kept.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=2) + "\n")
        (results / f"{today}.md").write_text(table)


if __name__ == "__main__":
    main()
