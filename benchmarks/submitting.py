"""(e) What a submission to Azure costs: requests, bytes and seconds beside the SDK used plainly and beside azure-jobs.

All lanes talk to one emulator over loopback and TLS, each in a process of its own, in turn. "First" is a workspace that
has nothing of it; "again" is the same folders once more, where nothing changed: a second job of the same plan (azft:
--again), so that every lane really sends a job. Last, a cold `azft plan` for Azure beside `import azure.ai.ml` alone.

    python benchmarks/submitting.py [--json] [--quick]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from azft.emulator import Emulator, Settings
from azft.pipeline import write_parameters
from azft.plan import Plan
from azft.rehearsal.seeds import seed
from azft.staging import stage_code
from benchmarks.steps import lay_out

HERE = Path(__file__).parent
AZFT = [str(Path(sys.executable).parent / "azft")]
MAAP = ["--mode", "maap", "--set", "modes.maap.compute=gpu"]
LANES = ("azft", "SDK used plainly", "SDK used plainly, one command job", "azure-jobs, one command job")
"""The first two send the same pipeline: four steps, their components and environments, data, parameters. azure-jobs has
no pipelines, and sends neither data nor components: its peer is the third, the same code and image in one job."""


KEPT = ("requests", "uploads", "seconds", "processor")


class Measured(dict[str, float]):
    """requests, uploads (bytes of blobs), seconds and processor (seconds) of one submission."""


def run(command: list[str], variables: dict[str, str], folder: Path) -> tuple[float, float]:
    """Seconds of a process: wall-clock, and of the processor. A failure ends the lane with its words."""
    start, before = time.perf_counter(), _processor_seconds()
    done = subprocess.run(
        command, env={**os.environ, **variables}, cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"exit status {done.returncode}: {(done.stderr or done.stdout).strip().splitlines()[-1]}")
    return time.perf_counter() - start, _processor_seconds() - before


def _processor_seconds() -> float:
    used = os.times()
    return used.children_user + used.children_system


def submission(emu: Emulator, command: list[str], variables: dict[str, str], folder: Path) -> Measured:
    """One submission, as the emulator saw it. `uploads` are the bytes of blobs."""
    emu.log.clear()
    seconds, processor = run(command, variables, folder)
    seen = [entry for entry in emu.log.list() if not entry["path"].startswith("/identity")]
    blobs = sum(
        entry["sent"] for entry in seen if entry["method"] == "PUT" and not entry["path"].startswith("/subscriptions")
    )
    return Measured(requests=len(seen), uploads=blobs, seconds=seconds, processor=processor)


def one_round(work: Path, number: int) -> dict[tuple[str, str], Measured | str]:
    """Every lane, first and again, against a workspace of its own; a lane that fails says why."""
    results: dict[tuple[str, str], Measured | str] = {}
    folder = work / f"round-{number}"
    recipe = lay_out(folder)
    run([*AZFT, "plan", str(recipe), *MAAP, "--out", "plan.json", "-o", "none"], {}, folder)
    plan = Plan.from_json((folder / "plan.json").read_bytes())
    code = stage_code(folder / "staged").folder
    write_parameters(plan, folder / "parameters")
    order = LANES if number % 2 == 0 else LANES[::-1]
    for lane in order:
        with Emulator(folder / f"azure-{LANES.index(lane)}", settings=Settings(executor="none")) as emu:
            seed(emu, plan)
            variables = {**emu.environment(), "AZFT_HOME": str(folder / "home")}
            for which in ("first", "again"):
                name = f"{plan.run_name}-{which}"
                lane_script = [sys.executable, str(HERE / "submitting_lane.py")]
                again = ["--again"] if which == "again" else []
                command = {
                    LANES[0]: [*AZFT, "submit", "plan.json", "--no-wait", "-o", "none", *again],
                    LANES[1]: [*lane_script, "sdk", "plan.json", str(code), "parameters", name],
                    LANES[2]: [*lane_script, "sdk-command", str(code), name],
                    LANES[3]: [*lane_script, "azure-jobs", str(code), name],
                }[lane]
                try:
                    results[lane, which] = submission(emu, command, variables, folder)
                except RuntimeError as error:
                    results[lane, which] = str(error)
    return results


def cold_starts(work: Path, rounds: int) -> tuple[float, float, float]:
    """Fastest of each, interleaved: `azft plan --mode maap`, `import azure.ai.ml`, and a bare interpreter."""
    recipe = lay_out(work / "cold")
    commands = (
        [*AZFT, "plan", str(recipe), *MAAP, "-o", "none"],
        [sys.executable, "-c", "import azure.ai.ml"],
        [sys.executable, "-c", "pass"],
    )
    times = [[run(command, {}, work)[0] for command in commands] for _ in range(rounds)]
    return tuple(min(column) for column in zip(*times, strict=True))  # type: ignore[return-value]


def rows(work: Path, rounds: int) -> list[dict[str, Any]]:
    """The table's rows."""
    measured = [one_round(work, number) for number in range(rounds)]
    made: list[dict[str, Any]] = []
    for which in ("first", "again"):
        base = [round_[LANES[1], which] for round_ in measured]
        for lane in LANES:
            found = [round_[lane, which] for round_ in measured]
            label = f"submit, {which}: {lane}"
            if broken := next((item for item in found if isinstance(item, str)), None):
                made.append({"row": label, "void": broken})
                continue
            of = {key: statistics.median(item[key] for item in found) for key in KEPT}
            row: dict[str, Any] = {"row": f"{label}, requests", "value": of["requests"], "unit": "requests"}
            row["note"] = f"{of['uploads']:,.0f} bytes of blobs"
            if lane == LANES[0]:
                if not any(isinstance(item, str) for item in base):
                    row["ratio"] = of["requests"] / statistics.median(item["requests"] for item in base)
                row["goal"] = "< 1x the SDK's" + ("; no byte uploaded" if which == "again" else "")
            made.append(row)
            seconds: dict[str, Any] = {"row": f"{label}, seconds", "value": of["seconds"], "unit": "s"}
            seconds["note"] = f"the whole process; {of['processor']:.2f} s of the processor"
            if lane == LANES[0] and not any(isinstance(item, str) for item in base):
                seconds["ratio"] = of["seconds"] / statistics.median(item["seconds"] for item in base)
            made.append(seconds)
    plan, sdk, bare = cold_starts(work, max(rounds, 3))
    made.append({"row": "cold `azft plan --mode maap`", "value": plan, "unit": "s", "ratio": plan / sdk,
                 "goal": "< 1x `import azure.ai.ml`"})  # fmt: skip
    made.append({"row": "cold `import azure.ai.ml`", "value": sdk, "unit": "s", "note": f"bare python: {bare:.3f} s"})
    return made


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="azft-bench-") as work:
        made = rows(Path(work), 1 if arguments.quick else 3)
    if arguments.json:
        print(json.dumps(made))
        return
    for row in made:
        value = f"void: {row['void']}" if "void" in row else f"{row['value']:.3g} {row['unit']}"
        ratio = f"  {row['ratio']:.2f}x" if row.get("ratio") is not None else ""
        print(f"{row['row']:60} {value}{ratio}  {row.get('goal', '')}  {row.get('note', '')}")


if __name__ == "__main__":
    main()
