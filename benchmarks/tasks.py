"""(f) The other tasks beside their peers: classification, tagging, answers, translation, summaries, texts, preferences.

As in training.py: the same model file, token ids and labels, one epoch each, one thread, fp32; real tokens per CPU
second of the training loop. Each lane is a process that waits for its turn, a round at a time; its best round counts.
Before it trains, each lane computes the loss of its first batches with dropout off; one that differs from the mean of
the documents' own losses by more than 1e-3 is void (of preference tuning that is log 2, as nothing has moved). What
azft asks the base model before preference tuning is part of its time. The peers are transformers' Trainer, as its
example scripts use it, and TRL's SFTTrainer and DPOTrainer; docs/benchmarks.md tells each lane.

    python benchmarks/tasks.py [--json] [--quick] [--python PATH] [--only TASK[.LANE] ...]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.tasks_data import TASKS
from benchmarks.training import ENVIRONMENT, ROOT, TOLERANCE, run

NAMES = {
    "azft": "azft finetune",
    "trainer-padded": "transformers Trainer, padded",
    "trainer-grouped": "transformers Trainer, padded, grouped by length",
    "trainer-longest": "transformers Trainer, padded to 384 as in run_qa",
    "sft-grouped": "TRL SFTTrainer, padded, grouped by length",
    "sft-padding-free": "TRL SFTTrainer, padding-free",
    "sft-packed": "TRL SFTTrainer, packed",
    "trl": "TRL DPOTrainer, its defaults (gradient checkpointing) but bf16",
    "trl-plain": "TRL DPOTrainer",
}
SCRIPT = ROOT / "benchmarks" / "tasks_lane.py"


class Lane:
    """A process that trains when it is asked to."""

    def __init__(self, python: str, what: str, workspace: Path) -> None:
        self.errors = (workspace / f"{what.replace(':', '-')}.err").open("w+")
        self.process = subprocess.Popen(
            [python, str(SCRIPT), what, str(workspace)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env=ENVIRONMENT,
        )

    def turn(self) -> dict[str, Any]:
        """One round: the lane's JSON line, or `{"void": why}`."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write("\n")
            self.process.stdin.flush()
        except BrokenPipeError:  # it has ended in an earlier round
            pass
        line = self.process.stdout.readline()
        while line and not line.startswith("{"):  # libraries print what they like
            line = self.process.stdout.readline()
        if line:
            answer: dict[str, Any] = json.loads(line)
            return answer
        self.process.wait()
        self.errors.seek(0)
        said = self.errors.read().strip().splitlines() or ["no message"]
        return {"void": f"it does not run here: {said[-1][:200]}"}

    def end(self) -> None:
        """Let the process go."""
        self.process.communicate()
        self.errors.close()


def measure(python: str, task: str, lanes: list[str], workspace: Path, rounds: int) -> list[dict[str, Any]]:
    """A row a lane; `ratio` is how many times faster azft is."""
    what = TASKS[task]
    best: dict[str, dict[str, Any]] = {}
    running: dict[str, Lane] = {}
    try:
        for _ in range(rounds):
            for lane in lanes:
                if lane not in running:  # not before its turn: starting takes the processor from whoever trains
                    running[lane] = Lane(python, f"{task}:{lane}", workspace)
                result = running[lane].turn()
                if "void" not in result and result["loss_difference"] > TOLERANCE:
                    result = {"void": f"its loss differs by {result['loss_difference']:.1e} on the same documents"}
                print(f"{task} {lane}: {json.dumps(result)}", file=sys.stderr, flush=True)
                if lane not in best or result.get("rate", 0) > best[lane].get("rate", 0):
                    best[lane] = result
    finally:
        for process in running.values():
            process.end()
    azft = best.get("azft", {}).get("rate")
    others = [lane for lane in lanes if lane != "azft" and "rate" in best[lane]]
    strongest = max(others, key=lambda lane: float(best[lane]["rate"]), default=None)
    rows = []
    for lane in lanes:
        row: dict[str, Any] = {"row": f"{what.title}: {NAMES[lane]}"}
        result = best[lane]
        if "void" in result:
            rows.append(row | {"void": result["void"]})
            continue
        row |= {"value": round(result["rate"]), "unit": "tokens/s"}
        if lane == strongest:
            row["goal"] = f"azft >= {what.goal}x the strongest peer"
        if azft and lane != "azft":
            row["ratio"] = round(azft / result["rate"], 2)
        row["note"] = (
            f"{result['cpu_seconds']:.1f} CPU s, {result['steps']} steps, peak {result['peak_gib']:.2f} GiB, "
            f"losses equal within {result['loss_difference']:.0e}"
        )
        rows.append(row)
    return rows


def chosen(only: list[str]) -> dict[str, list[str]]:
    """Of each task that is named, the lanes that are; all of them where a task is named alone."""
    wanted: dict[str, list[str]] = {}
    for name in only or list(TASKS):
        task, _, lane = name.partition(".")
        if task not in TASKS or (lane and lane not in TASKS[task].lanes):
            lanes = f"; lanes of {task}: {', '.join(TASKS[task].lanes)}" if task in TASKS else ""
            raise SystemExit(f"There is no {name}. Tasks: {', '.join(TASKS)}{lanes}")
        wanted.setdefault(task, []).extend([lane] if lane else TASKS[task].lanes)
    return wanted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help="32 documents, once")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--python", default=sys.executable, help="an interpreter with azft[train] and trl")
    parser.add_argument("--only", nargs="+", default=[], metavar="TASK[.LANE]", help=f"which of: {', '.join(TASKS)}")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for task, lanes in chosen(options.only).items():
        documents, rounds = (32, 1) if options.quick else (TASKS[task].documents, options.rounds)
        with tempfile.TemporaryDirectory() as folder:
            made = run(options.python, f"{task}:make", folder, str(documents), script="tasks_lane.py")
            if "void" in made:
                rows.append({"row": TASKS[task].title, "void": made["void"]})
            else:
                rows += measure(options.python, task, lanes, Path(folder), rounds)
    if options.json:
        print(json.dumps(rows))
        return
    for row in rows:
        ratio = f"{row['ratio']:.2f}x" if row.get("ratio") else ""
        print(
            f"{'':>17}{row['row']}: void, {row['void']}"
            if "void" in row
            else f"{row['value']:>7,} tokens/s  {ratio:>6}  {row['row']} ({row['note']})"
        )


if __name__ == "__main__":
    main()
