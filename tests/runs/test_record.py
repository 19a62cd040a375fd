"""A run's record: read by any process, at any moment, whatever happened to the one that wrote it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from azft.errors import AzftError, NotFoundError
from azft.runs import Run, RunState, RunStore
from azft.runs.watching import Watcher

HOLD = """
import sys, pathlib
from azft.runs import Run, RunState
run = Run(pathlib.Path(sys.argv[1]))
with run.hold() as held:
    run.set_state(RunState.RUNNING, step="finetune", attempt=1)
    print(held, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path / ".azft")


@pytest.fixture
def run(store: RunStore) -> Run:
    return store.create("toy-1", plan={"hash": "1"}, recipe={"name": "toy"})


def test_a_new_run_is_queued_and_whole(run: Run) -> None:
    assert run.state is RunState.QUEUED
    assert (run.plan, run.recipe, run.environment) == ({"hash": "1"}, {"name": "toy"}, {})
    assert run.outputs() == {}
    assert run.events() == ([], 0)


def test_a_process_that_dies_leaves_an_interrupted_run(run: Run) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(run.folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"True\n"
    assert run.state is RunState.RUNNING
    with run.hold() as held:
        assert not held
    process.kill()
    process.communicate()
    status = run.status()
    assert (status.state, status.step) == (RunState.INTERRUPTED, "finetune")
    assert f"azft resume {run.name}" in status.fix
    with run.hold() as held:
        assert held


def test_looking_at_the_lock_never_keeps_anyone_from_taking_it(run: Run) -> None:
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            run.is_held()

    lookers = [threading.Thread(target=look) for _ in range(2)]
    for looker in lookers:
        looker.start()
    try:
        for _ in range(20):
            with run.hold() as held:
                assert held
    finally:
        stop.set()
        for looker in lookers:
            looker.join()


def test_events_are_read_by_offset_and_a_torn_line_waits(run: Run) -> None:
    run.add_event({"event": "one"})
    first, offset = run.events()
    with (run.folder / "events.jsonl").open("ab") as file:
        file.write(b'{"event": "to')
    assert run.events(offset) == ([], offset)
    run.add_event({"event": "two"})
    second, _ = run.events(offset)
    assert [event["event"] for event in first + second] == ["one", "two"]
    assert all("time" in event for event in first + second)


def test_no_secret_reaches_events_or_state(run: Run) -> None:
    run.add_event({"event": "x", "message": "https://a/b?sig=abcdef"})
    run.set_state(RunState.FAILED, message="token=abcdefgh")
    assert "abcdef" not in (run.folder / "events.jsonl").read_text()
    assert "abcdef" not in (run.folder / "state.json").read_text()


def test_a_watcher_gives_each_line_once_and_the_end_last(run: Run) -> None:
    run.add_event({"event": "before"})
    watcher = Watcher(run)
    (run.folder / "logs").mkdir()
    log = run.folder / "logs" / "finetune.txt"
    log.write_text("one\ntw")
    run.add_event({"event": "step-finished", "step": "finetune"})
    news = [(event["event"], event.get("line")) for event in watcher.news()]
    assert news == [("log", "one"), ("step-finished", None)]
    log.write_text("one\ntwo\n")
    metrics = run.folder / "outputs" / "metrics"
    metrics.mkdir(parents=True)
    (metrics / "metrics.jsonl").write_text('{"step": 1}\n')
    news = [(event["event"], event.get("line", event.get("metrics"))) for event in watcher.news()]
    assert news == [("log", "two"), ("metrics", {"step": 1})]
    assert list(watcher.news()) == []
    assert len(list(Watcher(run, from_start=True).news())) == 5


def test_cancel_is_a_request_that_an_ended_run_ignores(run: Run) -> None:
    run.cancel()
    assert run.cancel_requested()
    run.forget_cancel()
    run.set_state(RunState.COMPLETED)
    run.cancel()
    assert not run.cancel_requested()


def test_runs_are_found_by_name_by_start_and_by_near_miss(store: RunStore) -> None:
    for name in ("toy-1111", "toy-2222", "other-3333"):
        store.create(name, plan={}, recipe={})
    assert store.get("toy-1111").name == "toy-1111"
    assert store.get("oth").name == "other-3333"
    with pytest.raises(NotFoundError, match="Several"):
        store.get("toy")
    with pytest.raises(NotFoundError, match="toy-2222") as caught:
        store.get("toy-2223")
    assert caught.value.exit_code == 3
    for name in ("", "..", "../runs/toy-1111", "/"):
        assert store.find(name) is None


def test_runs_are_listed_newest_first_and_half_made_ones_are_not(store: RunStore) -> None:
    assert store.list() == []
    for number, name in enumerate(("a", "b", "c")):
        made = store.create(name, plan={}, recipe={})
        os.utime(made.folder / "plan.json", (number, number))
    (store.runs_folder / "half").mkdir()
    assert [run.name for run in store.list()] == ["c", "b", "a"]


def test_the_folder_keeps_itself_out_of_git(store: RunStore, run: Run) -> None:
    assert (store.root / ".gitignore").read_text() == "*\n"


def test_a_damaged_record_is_an_error_with_its_file(run: Run) -> None:
    (run.folder / "state.json").write_text("{")
    with pytest.raises(AzftError, match=r"state\.json"):
        _ = run.state


def test_the_environment_is_described_without_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from azft.runs.environment import describe_environment

    monkeypatch.setenv("SOME_TOKEN", "planted-secret")
    described = describe_environment(tmp_path)
    assert described["packages"]["pydantic"]
    assert described["git"] is None
    assert "planted-secret" not in str(described)
    here = describe_environment(Path(__file__).parent)["git"]
    assert here is None or len(here["commit"]) == 40
