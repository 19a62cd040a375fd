"""(f) The other tasks beside their peers: classification, tagging, translation and preference tuning.

As in training.py: the same model file, token ids and labels, one epoch each in fresh processes that take turns, one
thread, fp32; real tokens per CPU second of the training loop, the best round counts. Before it trains, each lane
computes the loss of its first batches with dropout off; one that differs from the mean of the documents' own losses by
more than 1e-3 is void (of preference tuning that is log 2, as nothing has moved). What azft asks the base model before
preference tuning is part of its time. The peers are transformers' Trainer (what its example scripts run), at its
default order and grouped by length, and TRL's DPOTrainer.

    python benchmarks/tasks.py [--json] [--quick] [--python PATH] [--lanes NAME ...]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.training import TOLERANCE, run

LANES = {
    "classify": ("classify a text (BERT, 10M)", ("azft", "trainer-padded", "trainer-grouped"), 1.3),
    "tag": ("tag each word (BERT, 10M)", ("azft", "trainer-padded", "trainer-grouped"), 1.3),
    "translate": ("translate (T5, 11M)", ("azft", "trainer-padded", "trainer-grouped"), 1.3),
    "prefer": ("preference tuning, DPO (Llama, 10M)", ("azft", "trl", "trl-plain"), 2.0),
}
"""Task -> what it is, its lanes, and how much faster azft should be than the strongest of the others."""
NAMES = {
    "azft": "azft finetune",
    "trainer-padded": "transformers Trainer, padded",
    "trainer-grouped": "transformers Trainer, padded, grouped by length",
    "trl": "TRL DPOTrainer, its defaults (gradient checkpointing) but bf16",
    "trl-plain": "TRL DPOTrainer",
}


def measure(python: str, task: str, workspace: Path, rounds: int) -> list[dict[str, Any]]:
    """A row a lane; `ratio` is how many times faster azft is."""
    title, lanes, goal = LANES[task]
    best: dict[str, dict[str, Any]] = {}
    for _ in range(rounds):
        for lane in lanes:
            result = run(python, f"{task}:{lane}", str(workspace), script="tasks_lane.py")
            if "void" not in result and result["loss_difference"] > TOLERANCE:
                result = {"void": f"its loss differs by {result['loss_difference']:.1e} on the same documents"}
            print(f"{task} {lane}: {json.dumps(result)}", file=sys.stderr, flush=True)
            if lane not in best or result.get("rate", 0) > best[lane].get("rate", 0):
                best[lane] = result
    azft = best["azft"].get("rate")
    others = [lane for lane in lanes if lane != "azft" and "rate" in best[lane]]
    strongest = max(others, key=lambda lane: float(best[lane]["rate"]), default=None)
    rows = []
    for lane in lanes:
        row: dict[str, Any] = {"row": f"{title}: {NAMES[lane]}"}
        result = best[lane]
        if "void" in result:
            rows.append(row | {"void": result["void"]})
            continue
        row |= {"value": round(result["rate"]), "unit": "tokens/s"}
        if lane == strongest:
            row["goal"] = f"azft >= {goal}x the strongest peer"
        if azft and lane != "azft":
            row["ratio"] = round(azft / result["rate"], 2)
        row["note"] = (
            f"{result['steps']} steps, peak {result['peak_gib']:.2f} GiB, last loss {result['final_loss']:.3f}"
        )
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help="32 documents, once")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--documents", type=int, default=256)
    parser.add_argument("--python", default=sys.executable, help="an interpreter with azft[train] and trl")
    parser.add_argument("--tasks", nargs="+", default=list(LANES), choices=list(LANES))
    options = parser.parse_args()
    documents, rounds = (32, 1) if options.quick else (options.documents, options.rounds)
    rows: list[dict[str, Any]] = []
    for task in options.tasks:
        with tempfile.TemporaryDirectory() as folder:
            made = run(options.python, f"{task}:make", folder, str(documents), script="tasks_lane.py")
            if "void" in made:
                rows.append({"row": LANES[task][0], "void": made["void"]})
            else:
                rows += measure(options.python, task, Path(folder), rounds)
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
