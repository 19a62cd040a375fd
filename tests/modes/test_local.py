"""Local mode, end to end with toy steps: once per plan, whoever asks, and nothing is lost on the way."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from azft.errors import FindingsError, InterruptedRunError, JobFailedError, StalePlanError
from azft.findings import Finding, Severity
from azft.modes import local
from azft.modes.local import LocalMode
from azft.plan import Plan
from azft.recipe import Recipe
from azft.recipe_file import RecipeFile
from azft.runs import Run, RunState
from tests.helpers.toy import Toy

ALL = ["prepare", "finetune", "evaluate", "package"]
SUBMIT = """
import sys, pathlib
from azft.errors import AzftError
from azft.modes.local import LocalMode
from azft.plan import Plan
plan = Plan.from_json(pathlib.Path(sys.argv[1]).read_bytes())
try:
    run = LocalMode(pathlib.Path(sys.argv[2])).submit(plan, wait="--no-wait" not in sys.argv)
except AzftError as error:
    print(error)
    raise SystemExit(int(error.exit_code))
print(run.name)
"""


def wait_until(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.02)


def submit_elsewhere(toy: Toy, plan: Plan, *flags: str) -> subprocess.Popen[str]:
    """Submit a plan from another process, as another shell would."""
    file = toy.folder / "plan.json"
    file.write_bytes(plan.to_json())
    return subprocess.Popen(
        [sys.executable, "-c", SUBMIT, str(file), str(toy.root), *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def alive_in(folder: Path) -> list[int]:
    """Processes whose working directory is inside a folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if str((entry / "cwd").resolve()).startswith(str(folder)):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def test_a_plan_runs_to_its_outputs(toy: Toy, mode: LocalMode) -> None:
    events: list[dict[str, Any]] = []
    run = mode.submit(mode.plan(toy.recipe()), on_event=events.append)
    assert run.state is RunState.COMPLETED
    assert toy.starts() == ALL
    assert set(run.outputs()) == {"packaged", "evaluation", "trained", "checkpoints", "metrics"}
    assert (run.outputs()["packaged"] / "result.txt").read_text().startswith("package(finetune(prepare(")
    assert [event["event"] for event in events if event["event"].startswith("run")] == ["run-started", "run-finished"]
    assert {"event": "metrics", "step": "finetune", "metrics": {"step": 1, "loss": 2.5}} in events
    assert {"event": "log", "step": "prepare", "line": "prepare starts"} in events
    assert run.metrics()[0] == [{"step": 1, "loss": 2.5}]
    assert run.log("prepare")[0] == ["prepare starts"]
    assert run.environment["python"] == sys.version.split()[0]
    recorded = {event["event"] for event in run.events()[0]}
    assert recorded == {"run-started", "model", "step-started", "step-finished", "run-finished"}


def test_the_same_plan_twice_is_one_run(toy: Toy, mode: LocalMode) -> None:
    first = mode.submit(mode.plan(toy.recipe()))
    events: list[dict[str, Any]] = []
    second = mode.submit(mode.plan(toy.recipe()), on_event=events.append)
    assert second == first
    assert [event["event"] for event in events] == ["run-adopted"]
    assert toy.starts() == ALL


def test_again_makes_a_second_run_that_reuses_every_step(toy: Toy, mode: LocalMode) -> None:
    plan = mode.plan(toy.recipe())
    first = mode.submit(plan)
    second = mode.submit(plan, again=True)
    assert second.name == f"{first.name}-2"
    assert toy.starts() == ALL
    assert [event["step"] for event in second.events()[0] if event["event"] == "step-reused"] == ALL
    packaged = [run.outputs()["packaged"] / "result.txt" for run in (first, second)]
    assert packaged[0].read_text() == packaged[1].read_text()
    packaged[1].write_text("edited")
    assert packaged[0].read_text() != "edited", "each run's folder stands alone"


def test_force_runs_every_step_and_leaves_the_completed_run_alone(toy: Toy, mode: LocalMode) -> None:
    plan = mode.plan(toy.recipe())
    first = mode.submit(plan)
    second = mode.submit(plan, force=True)
    assert second != first
    assert first.state is RunState.COMPLETED
    assert toy.starts() == ALL + ALL


def test_another_learning_rate_does_not_prepare_the_data_again(toy: Toy, mode: LocalMode) -> None:
    mode.submit(mode.plan(toy.recipe()))
    other = mode.submit(mode.plan(toy.recipe("training.learning_rate=0.5")))
    assert toy.starts() == [*ALL, "finetune"], "what finetune wrote is the same, so the rest is reused as well"
    assert other.state is RunState.COMPLETED


def test_a_reused_step_takes_the_place_of_what_an_unfinished_one_left(toy: Toy, mode: LocalMode) -> None:
    plan = mode.plan(toy.recipe())
    toy.fail("evaluate")
    with pytest.raises(JobFailedError):
        mode.submit(plan)
    toy.release("evaluate")
    mode.submit(plan, again=True)  # finishes evaluate elsewhere
    first = mode.store.get(plan.run_name)
    (first.outputs()["evaluation"] / "half.txt").touch()
    mode.resume(first)
    assert toy.starts() == ["prepare", "finetune", "evaluate", "evaluate", "package"]
    assert [path.name for path in first.outputs()["evaluation"].iterdir()] == ["result.txt"]


def test_reuse_refuses_outputs_that_are_no_longer_what_they_were(toy: Toy, mode: LocalMode) -> None:
    plan = mode.plan(toy.recipe())
    first = mode.submit(plan)
    (first.folder / "steps" / "prepare" / "outputs" / "dataset" / "result.txt").write_text("tampered")
    second = mode.submit(plan, again=True)
    assert toy.starts() == [*ALL, "prepare"]
    assert "tampered" not in (second.outputs()["packaged"] / "result.txt").read_text()


def test_a_failed_step_is_explained_and_submitting_again_goes_on_there(toy: Toy, mode: LocalMode) -> None:
    toy.fail("evaluate", 137)
    with pytest.raises(JobFailedError, match="memory") as caught:
        mode.submit(mode.plan(toy.recipe()))
    assert caught.value.exit_code == 7
    assert "evaluate starts" in caught.value.fix
    run = mode.store.list()[0]
    status = run.status()
    assert (status.state, status.step) == (RunState.FAILED, "evaluate")
    toy.release("evaluate")
    assert mode.submit(mode.plan(toy.recipe())) == run
    assert run.state is RunState.COMPLETED
    assert toy.starts() == ["prepare", "finetune", "evaluate", "evaluate", "package"]


def test_a_full_disk_is_an_error_with_a_way_on(toy: Toy, mode: LocalMode, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = mode.plan(toy.recipe())
    with monkeypatch.context() as patched:

        def full(*_: object, **__: object) -> None:
            raise OSError(28, "No space left on device", "/disk")

        patched.setattr("azft.modes.local_work.stage_code", full)
        with pytest.raises(JobFailedError, match=r"No space left on device \(/disk\)"):
            mode.submit(plan)
    run = mode.store.get(plan.run_name)
    assert run.state is RunState.FAILED
    assert mode.submit(plan).state is RunState.COMPLETED


@pytest.mark.parametrize(
    ("event", "state"),
    [("run-started", RunState.INTERRUPTED), ("log", RunState.INTERRUPTED), ("run-finished", RunState.COMPLETED)],
)
def test_what_on_event_raises_is_no_fault_of_the_run(toy: Toy, mode: LocalMode, event: str, state: RunState) -> None:
    def listen(heard: dict[str, Any]) -> None:
        if heard["event"] == event:
            raise ValueError("a mistake of the caller's")

    plan = mode.plan(toy.recipe())
    with pytest.raises(ValueError, match="caller's") as raised:
        mode.submit(plan, on_event=listen)
    assert raised.traceback[-1].name == "listen"
    run = mode.store.get(plan.run_name)
    status = run.status()
    assert status.state is state
    if state is RunState.INTERRUPTED:
        assert "on_event raised ValueError: a mistake of the caller's" in status.message
        assert run.name in status.fix
    assert alive_in(run.folder) == []
    assert mode.resume(run).state is RunState.COMPLETED


def test_findings_of_severity_error_stop_a_submission(
    toy: Toy, mode: LocalMode, monkeypatch: pytest.MonkeyPatch
) -> None:
    finding = Finding("data-broken", Severity.ERROR, "Row 1 is broken.")
    monkeypatch.setattr("azft.data_check.check_for_plan", lambda *_: [finding])
    plan = mode.plan(toy.recipe())
    with pytest.raises(FindingsError) as caught:
        mode.submit(plan)
    assert finding in caught.value.findings
    assert toy.starts() == []


@pytest.mark.parametrize(
    ("file", "named"),
    [
        ("train.jsonl", "train data"),
        ("recipe.yaml", "recipe"),
        ("model/config.json", "model"),
        ("bundled/components/package/main.py", "code"),
    ],
)
def test_a_stale_plan_is_refused_and_says_what_changed(toy: Toy, mode: LocalMode, file: str, named: str) -> None:
    plan = mode.plan(toy.recipe())
    with (toy.folder / file).open("a") as changed:
        changed.write("\n# changed\n")
    with pytest.raises(StalePlanError, match=named) as caught:
        mode.submit(plan)
    assert caught.value.exit_code == 3
    assert toy.starts() == []


def test_two_shells_at_once_start_one_run(toy: Toy, mode: LocalMode) -> None:
    toy.hold("finetune")
    plan = mode.plan(toy.recipe())
    shells = [submit_elsewhere(toy, plan) for _ in range(3)]
    wait_until(lambda: "finetune" in toy.starts())
    late = submit_elsewhere(toy, plan)
    wait_until(lambda: len(list(toy.root.glob("runs/*"))) == 1)
    toy.release("finetune")
    answers = [shell.communicate(timeout=60)[0].strip() for shell in [*shells, late]]
    assert answers == [plan.run_name] * 4
    assert toy.starts() == ALL


def test_detached_submits_at_once_start_one_run(toy: Toy, mode: LocalMode) -> None:
    plan = mode.plan(toy.recipe())
    shells = [submit_elsewhere(toy, plan, "--no-wait") for _ in range(2)]
    answers = [shell.communicate(timeout=60)[0].strip() for shell in shells]
    assert answers == [plan.run_name] * 2
    assert mode.store.get(plan.run_name).wait(timeout=60).state is RunState.COMPLETED
    assert toy.starts() == ALL


@pytest.mark.parametrize("events", [1, 3, 6, pytest.param(4, marks=pytest.mark.slow)])
def test_killed_between_any_two_events_the_run_goes_on(toy: Toy, mode: LocalMode, events: int) -> None:
    plan = mode.plan(toy.recipe())
    shell = submit_elsewhere(toy, plan)
    wait_until(lambda: (run := mode.store.find(plan.run_name)) is not None and len(run.events()[0]) >= events)
    os.kill(shell.pid, signal.SIGKILL)
    shell.communicate()
    run = mode.store.get(plan.run_name)
    wait_until(lambda: not alive_in(run.folder))
    mode.resume(run)
    assert run.state is RunState.COMPLETED
    assert (run.outputs()["packaged"] / "result.txt").read_text().startswith("package(finetune(prepare(")
    assert len(toy.starts()) <= len(ALL) + 1, "at most the step that was cut off runs twice"


def test_a_runner_killed_mid_step_leaves_no_process_and_the_run_goes_on(toy: Toy, mode: LocalMode) -> None:
    toy.hold("finetune")
    plan = mode.plan(toy.recipe())
    shell = submit_elsewhere(toy, plan)
    wait_until(lambda: "finetune" in toy.starts())
    run = mode.store.get(plan.run_name)
    assert run.state is RunState.RUNNING
    os.kill(shell.pid, signal.SIGKILL)
    shell.communicate()
    wait_until(lambda: not alive_in(run.folder))
    assert run.state is RunState.INTERRUPTED
    assert "checkpoint saved" in run.log("finetune")[0], "the step had its grace"
    toy.release("finetune")
    mode.resume(run)
    assert run.state is RunState.COMPLETED
    assert toy.starts() == ["prepare", "finetune", "finetune", "evaluate", "package"]
    assert "from step 7" in run.log("finetune")[0]


def test_ctrl_c_ends_the_children_and_says_how_to_go_on(toy: Toy, mode: LocalMode) -> None:
    toy.hold("finetune")
    plan = mode.plan(toy.recipe())
    shell = submit_elsewhere(toy, plan)
    wait_until(lambda: "finetune" in toy.starts() and "from step" in str(mode.store.get(plan.run_name).log("finetune")))
    os.kill(shell.pid, signal.SIGINT)
    said = shell.communicate(timeout=60)[0]
    run = mode.store.get(plan.run_name)
    assert shell.returncode == 130, said
    assert f"azft resume {run.name}" in said
    assert run.state is RunState.INTERRUPTED
    assert alive_in(run.folder) == []
    toy.release("finetune")
    assert mode.submit(plan).state is RunState.COMPLETED
    assert "from step 7" in run.log("finetune")[0]


def test_a_detached_run_is_followed_and_canceled_from_elsewhere(toy: Toy, mode: LocalMode) -> None:
    toy.hold("finetune")
    plan = mode.plan(toy.recipe())
    run = mode.submit(plan, wait=False)
    assert run.state in {RunState.PREPARING, RunState.RUNNING}
    wait_until(lambda: "finetune" in toy.starts() and "from step" in str(run.log("finetune")))
    mode.cancel(run)
    assert run.wait(timeout=60).state is RunState.CANCELED
    assert "checkpoint saved" in run.log("finetune")[0]
    assert alive_in(run.folder) == []
    toy.release("finetune")
    assert mode.resume(run, wait=False) == run
    events: list[dict[str, Any]] = []
    assert run.wait(events.append, timeout=60).state is RunState.COMPLETED
    assert events[-1]["event"] == "run-finished"


def test_unfinished_outputs_are_cleared_when_the_step_is_no_longer_the_same(toy: Toy, mode: LocalMode) -> None:
    toy.fail("finetune")
    with pytest.raises(JobFailedError):
        mode.submit(mode.plan(toy.recipe()))
    run = mode.store.list()[0]
    assert (run.outputs()["checkpoints"] / "step.txt").read_text() == "3"
    record = run.folder / "steps" / "finetune" / "step.json"
    record.write_bytes(orjson.dumps({"key": "another"}))
    (run.outputs()["checkpoints"] / "step.txt").write_text("5")
    toy.release("finetune")
    mode.resume(run)
    assert "from step 5" not in run.log("finetune")[0]


def test_secrets_in_the_environment_reach_no_file(toy: Toy, mode: LocalMode, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "s3cr3t-value-of-a-token"
    monkeypatch.setenv("MY_SERVICE_TOKEN", secret)
    main = toy.folder / "bundled" / "components" / "prepare" / "main.py"
    main.write_text(
        "import os\nprint('env', os.environ['MY_SERVICE_TOKEN'])\nprint('?sv=1&s' + 'ig=abc%2Fdef')\n"
        + main.read_text()
    )
    run = mode.submit(mode.plan(toy.recipe()))
    assert "env [redacted]" in run.log("prepare")[0]
    for file in (path for path in toy.root.rglob("*") if path.is_file()):
        content = file.read_bytes()
        assert secret.encode() not in content, file
        assert b"sig=abc" not in content, file


def test_watching_stops_without_stopping_the_run(toy: Toy, mode: LocalMode, monkeypatch: pytest.MonkeyPatch) -> None:
    toy.hold("finetune")
    plan = mode.plan(toy.recipe())
    run = mode.submit(plan, wait=False)

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Run, "wait", interrupt)
        with pytest.raises(InterruptedRunError, match="goes on"):
            mode.submit(plan)
    assert run.state in {RunState.PREPARING, RunState.RUNNING}
    toy.release("finetune")
    assert run.wait(timeout=60).state is RunState.COMPLETED


def test_a_plan_asks_for_the_packages_of_the_tasks_metrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    missing = {"sacrebleu", "rouge_score"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in missing else find(name))
    for task, rows, asked in (
        ("translation", 64, ["sacrebleu"]),
        ("summarization", 64, ["rouge-score"]),
        ("summarization", 0, []),  # nothing is written, so nothing is measured
        ("chat-completion", 64, []),
    ):
        recipe = Recipe.model_validate(
            {"name": "x", "task": task, "model": "m", "data": {"train": "t"}, "evaluation": {"generate_rows": rows}}
        )
        found = local._machine_findings(RecipeFile(recipe, tmp_path / "recipe.yaml", {}), 1)
        named = [one.message.split("`")[1] for one in found if one.code == "local-not-installed"]
        assert named == asked, task
