"""Watching a run: text without a kernel, a page and a curve with one."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

import azft
from azft import jupyter
from azft.curve import describe_curve, draw_curve, running_mean
from azft.errors import InterruptedRunError, JobFailedError
from azft.runs import Run, RunState, RunStore

PLAN = {
    "hash": "ab",
    "mode": "local",
    "created": "2026-11-24T08:00:00Z",
    "model": {"kind": "stand-in", "description": "a stand-in"},
    "steps": [{"name": "prepare"}, {"name": "finetune"}],
}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return RunStore(tmp_path / ".azft").create("bakery-1", plan=PLAN, recipe={})


def train(run: Run, *, steps: int = 4) -> None:
    run.add_event({"event": "step-finished", "step": "prepare", "seconds": 2.0})
    run.add_event({"event": "step-started", "step": "finetune"})
    metrics = run.folder / "outputs" / "metrics" / "metrics.jsonl"
    metrics.parent.mkdir(parents=True)
    lines = [{"step": n, "total_steps": steps, "loss": 4.0 / n} for n in range(1, steps + 1)]
    metrics.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))


def test_without_a_kernel_a_run_is_watched_as_text(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    train(run)
    run.add_event({"event": "step-finished", "step": "finetune", "seconds": 61})
    run.set_state(RunState.COMPLETED)
    azft.watch(run)
    assert capsys.readouterr().out.splitlines() == [
        "Run bakery-1",
        "finetune: step 1 of 4, loss 4.000",
        "finetune: step 4 of 4, loss 1.000",
        "prepare: done in 2 s",
        "finetune: running",
        "finetune: done in 1 min 01 s",
        "bakery-1: Completed",
    ]


def test_watching_goes_on_until_the_run_ends(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    began, told = threading.Event(), threading.Event()

    def work() -> None:
        with run.hold():
            run.set_state(RunState.RUNNING, step="finetune")
            began.set()
            told.wait(10)
            train(run)
            run.set_state(RunState.COMPLETED)

    worker = threading.Thread(target=work)
    worker.start()
    began.wait(10)
    threading.Timer(0.3, told.set).start()
    azft.watch(run)
    worker.join()
    assert "step 4 of 4" in capsys.readouterr().out


def test_a_timeout_ends_the_watching_and_not_the_run(run: Run) -> None:
    with run.hold():
        run.set_state(RunState.RUNNING)
        azft.watch(run, timeout=0.2)
        assert run.state is RunState.RUNNING


@pytest.mark.parametrize(
    ("state", "error"),
    [
        (RunState.FAILED, JobFailedError),
        (RunState.CANCELED, JobFailedError),
        (RunState.INTERRUPTED, InterruptedRunError),
    ],
)
def test_a_run_that_ended_badly_stops_whoever_watches(run: Run, state: RunState, error: type[Exception]) -> None:
    run.set_state(state, message="Out of memory.", fix="Take less.")
    with pytest.raises(error, match="Out of memory"):
        azft.watch(run)


def test_stopping_the_cell_says_that_the_run_goes_on(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(jupyter, "follow", interrupted)
    with pytest.raises(InterruptedRunError, match="goes on") as raised:
        azft.watch(run)
    assert "azft.watch('bakery-1')" in raised.value.fix


class Display:
    """What IPython.display does, written down."""

    def __init__(self) -> None:
        self.places: list[list[Any]] = []

    def display(self, thing: Any, *, display_id: bool) -> Any:
        assert display_id
        shown = [thing]
        self.places.append(shown)
        return SimpleNamespace(update=shown.append)

    HTML = str

    @staticmethod
    def Image(data: bytes, *, width: int, alt: str) -> tuple[bytes, str]:
        return data, alt


@pytest.fixture
def display(monkeypatch: pytest.MonkeyPatch) -> Display:
    made = Display()
    monkeypatch.setattr(jupyter, "_ipython", lambda: made)
    shell = SimpleNamespace(kernel=object())
    monkeypatch.setattr("IPython.get_ipython", lambda: shell)
    return made


def test_in_a_notebook_page_and_curve_are_redrawn_in_place(run: Run, display: Display) -> None:
    train(run)
    run.set_state(RunState.COMPLETED)
    azft.watch(run)
    pages, curves = display.places
    assert "Completed" in pages[-1]
    assert "step 4 of 4" in pages[-1]
    picture, alt = curves[-1]
    assert picture.startswith(b"\x89PNG")
    assert alt == "Loss curve: from 4.000 at step 1 to 1.000 at step 4."


def test_an_outage_is_shown_and_goes_away(run: Run, display: Display, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = jupyter.Notebook(run)
    progress = run.progress()
    screen.take({"event": "unreachable", "message": "The workspace does not answer."}, progress)
    screen.show(run.status(), progress, last=True)
    assert "does not answer" in display.places[0][-1]
    screen.take({"event": "reachable"}, progress)
    screen.show(run.status(), progress, last=True)
    assert "does not answer" not in display.places[0][-1]


def test_without_matplotlib_the_page_says_how_to_get_the_curve(
    run: Run, display: Display, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(run)
    run.set_state(RunState.COMPLETED)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    azft.watch(run)
    assert "pip install" in display.places[1][-1]


def test_many_events_are_drawn_once_and_not_once_each(run: Run, display: Display) -> None:
    train(run, steps=500)
    run.set_state(RunState.COMPLETED)
    azft.watch(run)
    assert len(display.places[0]) <= 3


def test_a_curve_of_one_point_and_of_none_can_be_drawn() -> None:
    assert draw_curve({}, {}).startswith(b"\x89PNG")
    assert draw_curve({1: 2.0}, {1: 2.0}, total=9).startswith(b"\x89PNG")
    assert "no losses yet" in describe_curve({}, {})


def test_the_running_mean_follows_the_values() -> None:
    assert running_mean([4.0, 2.0, 0.0]) == [4.0, 3.0, 1.0]
    assert running_mean([1.0] * 100) == [1.0] * 100
