"""(c) Training beside the peers: azft's finetune step, TRL's SFTTrainer and transformers' Trainer on the same work.

Same model file, token ids, labels, threads (one) and learning rate; one epoch each, in fresh processes that take turns.
Speed is real tokens (no padding) per CPU second of the training loop, so that a busy machine does not decide; the best
round counts. Before it trains, each lane computes the loss of its first batches; a lane whose loss differs from the
naive per-document loss of the same documents by more than 1e-3 is void.

    python benchmarks/training.py [--json] [--quick] [--python PATH] [--lanes NAME ...]

`--python` names an interpreter that has azft's training stack and TRL (the extra `bench`). TRL's bf16 is off in all
lanes: without AVX512_BF16 or AMX it is emulated.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
TOLERANCE = 1e-3
LANES = {
    "azft": "azft finetune, packed",
    "azft-unpacked": "azft finetune, packing off, 8 documents a step",
    "sft-default": "TRL SFTTrainer, its defaults (8 a step, padded, gradient checkpointing)",
    "sft-padded": "TRL SFTTrainer, padded",
    "sft-grouped": "TRL SFTTrainer, padded, grouped by length",
    "sft-padding-free": "TRL SFTTrainer, padding-free",
    "sft-packed": "TRL SFTTrainer, packed",
    "trainer-padded": "transformers Trainer, padded",
    "trainer-grouped": "transformers Trainer, padded, grouped by length",
}
DEFAULT = "sft-default"
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(ROOT),
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
}
"""Of a lane's process."""


def run(python: str, *arguments: str, script: str = "training_lane.py") -> dict[str, Any]:
    """One child process: its JSON line, or `{"void": why}`."""
    command = [python, str(ROOT / "benchmarks" / script), *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=ENVIRONMENT)
    if result.returncode:
        lines = result.stderr.strip().splitlines() or ["no message"]
        return {"void": f"it does not run here: {lines[-1][:200]}"}
    answer: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return answer


def measure(python: str, workspace: Path, rounds: int, lanes: list[str]) -> list[dict[str, Any]]:
    """A row a lane; `ratio` is how many times faster azft is."""
    best: dict[str, dict[str, Any]] = {}
    for _ in range(rounds):
        for lane in lanes:
            result = run(python, lane, str(workspace))
            if "void" not in result and result["loss_difference"] > TOLERANCE:
                result = {"void": f"its loss differs by {result['loss_difference']:.1e} on the same documents"}
            print(f"{lane}: {json.dumps(result)}", file=sys.stderr, flush=True)
            if lane not in best or result.get("rate", 0) > best[lane].get("rate", 0):
                best[lane] = result
    azft = best.get("azft", {}).get("rate")
    stock = [name for name in lanes if name.startswith("sft-") and name != DEFAULT and "rate" in best[name]]
    strongest = max(stock, key=lambda name: float(best[name]["rate"]), default=None)
    goals = {strongest: "azft >= 2x TRL's best stock lane", DEFAULT: "azft >= 5x TRL's default"}
    rows = []
    for lane in lanes:
        row: dict[str, Any] = {"row": LANES[lane]}
        if "void" in best[lane]:
            rows.append(row | {"void": best[lane]["void"]})
            continue
        result = best[lane]
        row |= {"value": round(result["rate"]), "unit": "tokens/s", "goal": goals.get(lane)}
        if azft and not lane.startswith("azft"):
            row["ratio"] = round(azft / result["rate"], 2)
        row["note"] = (
            f"{result['steps']} steps, peak {result['peak_gib']:.2f} GiB, final loss {result['final_loss']:.3f}"
        )
        rows.append(row)
    if azft:
        rows.append(share_of_gemm(python, workspace, azft))
    return rows


def share_of_gemm(python: str, workspace: Path, rate: float) -> dict[str, Any]:
    """How much of the rate of bare matrix products training reaches, by the FLOPs that the model's products need."""
    row: dict[str, Any] = {"row": "azft finetune, packed: share of this machine's own matrix-product rate"}
    result = run(python, "gemm", str(workspace))
    if "void" in result:
        return row | {"void": result["void"]}
    share = 100 * rate * result["flops_a_token"] / result["flops"]
    note = f"{result['flops'] / 1e9:.0f} GFLOP/s of fp32 products of the model's shapes, one thread"
    return row | {"value": round(share, 1), "unit": "%", "note": note}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help="24 documents, once")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--documents", type=int, default=160)
    parser.add_argument("--python", default=sys.executable, help="an interpreter with azft[train] and trl")
    parser.add_argument("--lanes", nargs="+", default=list(LANES), choices=list(LANES))
    options = parser.parse_args()
    documents, rounds = (24, 1) if options.quick else (options.documents, options.rounds)
    with tempfile.TemporaryDirectory() as folder:
        made = run(options.python, "make", folder, str(documents))
        rows = (
            [{"row": "training", "void": made["void"]}]
            if "void" in made
            else measure(options.python, Path(folder), rounds, options.lanes)
        )
    if options.json:
        print(json.dumps(rows))
        return
    for row in rows:
        ratio = f"{row['ratio']:.2f}x" if row.get("ratio") else ""
        print(row.get("void") or f"{row['value']:>7,} {row['unit']}  {ratio:>6}  {row['row']} ({row['note']})")


if __name__ == "__main__":
    main()
