"""What cuts a run off: Ctrl-C, a cancel, a lost node. No line is lost or doubled, and no weight differs in a bit."""

from __future__ import annotations

import json
import re

import pytest

from tests.e2e.world import Person, name_of, wait_for

pytestmark = pytest.mark.slow

WEIGHTS = ("model.safetensors", "adapter/adapter_model.safetensors")


def test_ctrl_c_stops_the_watching_and_no_line_is_lost_or_doubled(person: Person) -> None:
    watching = person.start("submit", "--mode", "maas", "--follow", "--set", "training.epochs=200")
    wait_for("training", lambda: len(steps(watching.err)) >= 3)
    watching.interrupt()
    left = watching.end(130)
    run = _run(left.err)
    assert f"Stopped watching; run {run} goes on in Azure." in left.err
    assert f"azft logs {run} --follow" in left.err
    assert person.cloud is not None
    assert person.cloud.jobs()[run] == "Running"

    again = person.start("logs", run, "--follow")
    seen = len(steps(left.err))
    wait_for("more training", lambda: len(steps(again.out)) > seen)
    again.interrupt()
    first = again.end(130)
    assert f"azft logs {run} --follow" in first.err
    whole = person.azft("logs", run, "--follow")
    assert person.cloud.jobs()[run] == "Completed"

    assert steps(whole.out) == [f"{number}/600" for number in range(1, 601)]
    assert whole.out.startswith(first.out)
    told = [line for line in left.err.splitlines() if line.startswith("finetune | ")]
    assert whole.out.splitlines()[: len(told)] == told
    assert (person.folder / ".azft" / "runs" / run / "logs" / "finetune.txt").read_text() == "".join(
        line.removeprefix("finetune | ") for line in whole.out.splitlines(keepends=True)
    )


def test_a_follow_shows_what_is_known_while_nothing_new_comes(person: Person) -> None:
    cloud = person.cloud
    assert cloud is not None
    cloud.faults({"name": "node-preempted", "params": {"step": 2}})
    run = name_of(person.azft("submit", "--mode", "maas", "--no-wait", "--set", "training.epochs=2"))
    wait_for("the training", lambda: cloud.jobs()[run] == "Running")
    cloud.settings(queue_seconds=3600)  # no node comes back within the hour
    wait_for("the loss of the node", lambda: cloud.jobs()[run] == "Queued")
    known = person.azft("logs", run).out
    assert known.endswith("finetune | The node was preempted; the job is queued again.\n")

    watching = person.start("logs", run, "--follow")
    wait_for("its lines", lambda: watching.out == known)
    watching.interrupt()
    left = watching.end(130)
    assert f"Watch again: azft logs {run} --follow" in left.err
    assert f"End it: azft cancel {run}" in left.err
    assert cloud.jobs()[run] == "Queued"
    person.azft("cancel", run)
    assert cloud.jobs()[run] in {"CancelRequested", "Canceled"}
    assert person.azft("logs", run, "--follow", code=7).out == known


def test_a_canceled_run_is_resumed_to_the_same_weights(person: Person) -> None:
    cloud = person.cloud
    assert cloud is not None
    recipe = training(steps=160, save_steps=10, seed=1)
    run = name_of(person.azft("submit", "--mode", "maap", "--no-wait", *recipe))
    watching = person.start("logs", run, "--follow")
    wait_for("a checkpoint", lambda: [*cloud.store.rglob(f"runs/{run}/checkpoints/step-*")])
    canceled = person.azft("cancel", run)
    assert f"azft resume {run}" in canceled.err
    watching.end(7)
    assert person.json("status", run)["state"] == "Canceled"
    assert f"azft resume {run}" in person.azft("submit", "--mode", "maap", *recipe, code=7).err

    resumed = person.azft("resume", run)
    assert name_of(resumed) == run
    assert "prepare: reused" in resumed.err
    jobs = {name: state for name, state in cloud.jobs().items() if name.startswith(run)}
    assert jobs == {run: "Canceled", f"{run}-r1": "Completed"}
    assert 10 <= resumed_from(person, run) < 160
    assert [line["step"] for line in metrics(person, run) if "loss" in line] == list(range(1, 161))
    assert weights(person, run) == undisturbed(person, *recipe)


def test_a_preempted_node_changes_no_weight(person: Person) -> None:
    cloud = person.cloud
    assert cloud is not None
    recipe = training(steps=40, save_steps=5, seed=2)
    cloud.faults({"name": "node-preempted", "where": {"step": "finetune"}, "params": {"step": 12}})
    run = name_of(person.azft("submit", "--mode", "maap", *recipe))
    assert cloud.jobs()[run] == "Completed"
    assert "The node was preempted; the job is queued again." in person.azft("logs", run, "--step", "finetune").out
    assert 10 <= resumed_from(person, run) < 40
    assert [line["step"] for line in metrics(person, run) if "loss" in line] == list(range(1, 41))
    assert weights(person, run) == undisturbed(person, *recipe)


def training(**values: int) -> tuple[str, ...]:
    """The options for a training of so many steps, an epoch each; no other test's steps can be reused for its own."""
    steps = values.pop("steps")
    wanted = {"epochs": steps, "max_steps": steps, **values}
    return tuple(part for name, value in wanted.items() for part in ("--set", f"training.{name}={value}"))


def steps(log: str) -> list[str]:
    """The steps that a log tells of, as `3/600`."""
    return re.findall(r"step (\d+/\d+)  loss", log)


def resumed_from(person: Person, run: str) -> int:
    """The step at which the training was taken up again."""
    found = re.findall(r"resumed from step (\d+) of", person.azft("logs", run, "--step", "finetune").out)
    assert len(found) == 1
    return int(found[0])


def metrics(person: Person, run: str) -> list[dict[str, float]]:
    """The run's metrics.jsonl."""
    file = person.folder / ".azft" / "runs" / run / "outputs" / "metrics" / "metrics.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()]


def weights(person: Person, run: str) -> dict[str, bytes]:
    """What came out of a run in Azure."""
    person.azft("outputs", run, "packaged", "--download", "here")
    return {name: (person.folder / "here" / "packaged" / name).read_bytes() for name in WEIGHTS}


def undisturbed(person: Person, *options: str) -> dict[str, bytes]:
    """What comes out of the same recipe on this machine when nothing goes wrong: the code is the same."""
    run = name_of(person.azft("submit", "--mode", "local", *options))
    folder = person.folder / ".azft" / "runs" / run / "outputs" / "packaged"
    return {name: (folder / name).read_bytes() for name in WEIGHTS}


def _run(said: str) -> str:
    """The run that a command says it started watching."""
    match = re.search(r"^Run (\S+) \(", said, re.MULTILINE)
    assert match, said
    return match[1]
