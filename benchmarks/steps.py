"""(d) What each pipeline step costs over its bare command.

Runs a tiny recipe through the local mode, then the very command lines of its steps from a plain loop, in turn, each on
fresh outputs. A step's cost is the difference of its fastest round and the bare command's fastest (the rounds that
something else disturbed least). Rows of their own: a step whose command does nothing, which is the cost by itself, and
what comes once a run before the first step (hashing, building the PipelineJob, reading it).

    python benchmarks/steps.py [--json] [--quick]
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from azft.execution.graph import Graph, Output, Step
from azft.execution.ranks import python_folder, step_environment
from azft.execution.runner import run_graph
from azft.modes.local import LocalMode
from azft.recipe_file import load_recipe
from azft.runs import Run
from azft.staging import ARCHIVE, stage_code

RECIPE = """\
name: steps
task: chat-completion
model: Phi-4-mini-instruct
data: {train: train.jsonl}
technique: {name: lora, rank: 4}
training: {epochs: 1, max_length: 256, global_batch_size: 4}
evaluation: {samples: 1, max_new_tokens: 8}
modes: {local: {weights: stand-in}}
"""
GOAL = "≤ 1 s"


def lay_out(folder: Path) -> Path:
    """A recipe and forty chats."""
    folder.mkdir(parents=True)
    with (folder / "train.jsonl").open("w") as file:
        for number in range(40):
            question = f"What is {number} plus {number * 3 % 17}?"
            answer = f"It is {number + number * 3 % 17}, because adding {number * 3 % 17} to {number} gives that."
            turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
            file.write(json.dumps({"messages": turns}) + "\n")
    (folder / "recipe.yaml").write_text(RECIPE)
    return folder / "recipe.yaml"


def run_pipeline(mode: LocalMode, recipe: Path) -> tuple[Run, dict[str, float], dict[str, str]]:
    """One forced run: seconds and command line by step, and under `start` the seconds before the first step."""
    plan = mode.plan(load_recipe(recipe, environment={}))
    seconds: dict[str, float] = {}
    commands: dict[str, str] = {}
    previous = time.perf_counter()

    def on_event(event: dict[str, Any]) -> None:
        nonlocal previous
        now = time.perf_counter()
        if event["event"] == "step-started":
            commands[event["step"]] = event["command"]
            if "start" not in seconds:
                seconds["start"] = now - previous
                previous = now
        elif event["event"] == "step-finished":
            # From the end of the step before to its own end: resolving, hashing and recording are all in it.
            seconds[event["step"]] = now - previous
            previous = now

    run = mode.submit(plan, again=True, force=True, on_event=on_event)
    return run, seconds, commands


def run_bare(run: Run, commands: dict[str, str], folder: Path) -> dict[str, float]:
    """The same command lines in the same code folder, one after the other, with outputs of their own."""
    seconds = {}
    code = next((run.folder / "code").iterdir())
    environment = step_environment({"PYTHONPATH": ARCHIVE}, processes=1, bin_folder=python_folder(folder / "bin"))
    for step, original in commands.items():
        command = original
        for place in ("outputs", "steps"):
            command = command.replace(f"{run.folder}/{place}", f"{folder}/{place}")
        for word in command.split():
            if word.startswith(f"{folder}/"):
                Path(word).mkdir(parents=True, exist_ok=True)
        started = time.perf_counter()
        with (folder / f"{step}.txt").open("w") as log:
            subprocess.run(["bash", "-c", command], cwd=code, env=environment, stdout=log, stderr=log, check=True)
        seconds[step] = time.perf_counter() - started
    return seconds


def empty_step(folder: Path) -> float:
    """Seconds of a step whose command is `true`, with a code folder of the usual size."""
    code = stage_code(folder / "code").folder
    seconds = []
    for number in range(20):
        graph = Graph({"empty": Step("empty", "true", outputs={"out": Output()}, code=code)})
        started = time.perf_counter()
        run_graph(graph, folder / str(number), lambda _: None)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def row(name: str, value: float, goal: str, note: str) -> dict[str, Any]:
    """A row of the table."""
    return {"row": name, "value": value, "unit": "s", "ratio": None, "goal": goal, "note": note}


def measure(rounds: int) -> list[dict[str, Any]]:
    """Rows of the table."""
    work = Path(tempfile.mkdtemp(prefix="azft-steps-"))
    try:
        recipe = lay_out(work / "work")
        mode = LocalMode(work / ".azft")
        through: list[dict[str, float]] = []
        bare: list[dict[str, float]] = []
        run_pipeline(mode, recipe)  # makes the stand-in, and warms the disk's cache for both
        for number in range(rounds):
            run, seconds, commands = run_pipeline(mode, recipe)
            through.append(seconds)
            bare.append(run_bare(run, commands, work / f"bare{number}"))
        rows = [row("step that does nothing", empty_step(work / "empty"), GOAL, "median of 20; the bare command 2 ms")]
        for step in bare[0]:
            alone = min(one[step] for one in bare)
            cost = min(one[step] for one in through) - alone
            rows.append(row(f"step {step}", cost, GOAL, f"the bare command {alone:.2f} s"))
        start = min(one["start"] for one in through)
        rows.append(row("before the first step", start, "", "once a run; the Azure SDK is already imported"))
        return rows
    finally:
        shutil.rmtree(work, ignore_errors=True)


def main() -> None:
    """Measure, then print rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="rows as JSON")
    parser.add_argument("--quick", action="store_true", help="one round instead of five")
    arguments = parser.parse_args()
    rows = measure(1 if arguments.quick else 5)
    if arguments.json:
        print(json.dumps(rows))
    else:
        for one in rows:
            print(f"{one['row']:<24} {one['value']:+.3f} {one['unit']}  {one['goal']:<6} {one['note']}")


if __name__ == "__main__":
    main()
