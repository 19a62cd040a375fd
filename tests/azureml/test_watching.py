"""The mirror: whatever is cut wherever, no line is lost, none is doubled, and an outage changes nothing."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from azft.azureml import watching
from azft.azureml.errors import ServiceUnavailableError
from azft.azureml.storage import Piece
from azft.azureml.watching import STATES
from azft.errors import UnreachableError
from azft.files import sha256_bytes
from azft.modes.maap import MaapMode
from azft.runs import Run, RunState
from azft.runs.watching import Pace, Refresher, Watcher, follow
from tests.helpers.azure_shop import Azure, plan_in
from tests.helpers.toy import Toy

TEXT = "".join(f"step {n}/50  Grüße, 日本 🙂  loss {n / 7:.3f}\n" for n in range(1, 51)).encode()


class Remote:
    """A file that grows elsewhere."""

    def __init__(self, content: bytes = b"") -> None:
        self.content = content

    def read(self, offset: int) -> Piece:
        return Piece(self.content[offset:], len(self.content))


def nothing_new() -> int:
    raise AssertionError("the file was taken for another one")


@pytest.mark.parametrize("seed", range(20))
def test_a_growing_file_is_copied_exactly_through_any_cuts(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    file, remote = tmp_path / "log.txt", Remote()
    while remote.content != TEXT or not file.exists() or file.read_bytes() != TEXT:
        remote.content = TEXT[: min(len(TEXT), len(remote.content) + draw.randrange(0, 200))]
        if draw.random() < 0.3 and file.exists():  # killed in the middle of writing
            file.write_bytes(file.read_bytes()[: draw.randrange(0, file.stat().st_size + 1)])
        watching._append(file, 0, remote.read, nothing_new)
        assert TEXT.startswith(file.read_bytes())
    assert file.read_bytes().decode() == TEXT.decode()


def test_characters_of_many_bytes_are_never_shown_half(tmp_path: Path) -> None:
    run = Run(tmp_path)
    file, remote = tmp_path / "logs" / "finetune.txt", Remote()
    file.parent.mkdir()
    shown: list[str] = []
    offset = 0
    for end in range(len(TEXT) + 1):
        remote.content = TEXT[:end]
        watching._append(file, 0, remote.read, nothing_new)
        lines, offset = run.log("finetune", offset)
        shown += lines
    assert shown == TEXT.decode().splitlines()


def test_a_file_that_was_begun_anew_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "log.txt"
    first, second = Remote(b"first attempt\nstep 1\n"), Remote(b"second attempt\n")
    base = 0
    watching._append(file, base, first.read, nothing_new)

    def begun_anew() -> int:
        with file.open("ab") as target:
            target.write(b"---\n")
        return file.stat().st_size

    watching._append(file, base, second.read, begun_anew)
    assert file.read_bytes() == b"first attempt\nstep 1\n---\nsecond attempt\n"


def test_a_file_that_is_not_there_yet_is_no_error(tmp_path: Path) -> None:
    assert watching._append(tmp_path / "log.txt", 0, lambda _: None, nothing_new) is False


@pytest.fixture
def mode(shop: Toy, azure: Azure) -> MaapMode:
    return MaapMode(shop.root)


@pytest.fixture
def run(shop: Toy, azure: Azure, mode: MaapMode) -> Run:
    """A run whose job is in Azure and has not begun."""
    azure.change({"queue_seconds": 10, "prepare_seconds": 10, "run_seconds": 100})
    return mode.submit(plan_in(shop, mode, azure), wait=False)


def test_the_states_come_over_by_the_clock(azure: Azure, mode: MaapMode, run: Run) -> None:
    seen = []
    for _ in range(20):
        mode.refresh(run)
        seen.append(str(run.state))
        azure.time.sleep(7)
    assert list(dict.fromkeys(seen)) == ["Queued", "Preparing", "Running", "Completed"]
    assert run.events()[0][-1]["event"] == "run-finished"


def test_every_word_of_azure_means_something() -> None:
    words = {"NotStarted", "Queued", "Preparing", "Running", "Finalizing", "Completed", "Failed", "Canceled"}
    assert words <= STATES.keys()
    assert not STATES["Completed"].active
    assert STATES["CancelRequested"].active


def test_a_state_is_written_only_when_it_changes(azure: Azure, mode: MaapMode, run: Run) -> None:
    mode.refresh(run)
    before = run.recorded_status().time
    mode.refresh(run)
    assert run.recorded_status().time == before
    assert run.refreshed() is not None


def test_an_ended_run_asks_nothing_more(azure: Azure, mode: MaapMode, run: Run) -> None:
    azure.time.sleep(1000)
    mode.refresh(run)
    assert run.state is RunState.COMPLETED
    azure.emu.log.clear()
    mode.refresh(run)
    assert azure.emu.log.list() == []


@pytest.mark.parametrize("fault", ["server-error", "connection-reset", "throttled"])
def test_an_outage_leaves_the_record_and_says_so(azure: Azure, mode: MaapMode, run: Run, fault: str) -> None:
    mode.refresh(run)
    before = {file.name: file.read_bytes() for file in run.folder.glob("*.json*")}
    azure.fault(fault, times=-1)
    with pytest.raises(UnreachableError):
        mode.refresh(run)
    assert {file.name: file.read_bytes() for file in run.folder.glob("*.json*")} == before
    assert azure.sent("POST", "/cancel") == []
    assert len(azure.jobs()) == 1
    assert mode.status(run).state.active


def test_a_job_that_is_not_visible_yet_stays_as_it_is(azure: Azure, mode: MaapMode, run: Run) -> None:
    azure.change({"visible_seconds": 60})
    before = run.status()
    azure.fault("not-visible-yet", path="/jobs/", times=-1)
    mode.refresh(run)
    assert run.status().state == before.state


def test_a_job_that_somebody_deleted_is_told_so(azure: Azure, mode: MaapMode, run: Run) -> None:
    job = run.azure["job"]
    record = {**run.azure, "job": "gone-00000000", "submitted_at": "2026-01-01T00:00:00+00:00"}
    (run.folder / "azure.json").write_bytes(orjson.dumps(record))
    mode.refresh(run)
    status = run.status()
    assert status.state is RunState.INTERRUPTED
    assert "has no job gone-00000000 any more" in status.message
    assert job in azure.jobs()


def test_following_rides_over_an_outage(azure: Azure, mode: MaapMode, run: Run) -> None:
    events: list[dict[str, Any]] = []
    outages = iter([False, True, True, False, False])

    def refresh(found: Run) -> None:
        if next(outages, False):
            raise ServiceUnavailableError("Azure does not answer.")
        mode.refresh(found)

    status = follow(
        run, events.append, watcher=Watcher(run), refresh_run=refresh, sleep=lambda s: azure.time.sleep(s * 10)
    )
    assert status.state is RunState.COMPLETED
    kinds = [event["event"] for event in events]
    assert kinds.count("unreachable") == kinds.count("reachable") == 1
    assert kinds[-1] == "run-finished"


def test_the_pace_is_quick_with_news_and_slow_without(run: Run) -> None:
    pace = Pace.of(run)
    assert pace.next(news=True) == 0.5
    for _ in range(20):
        last = pace.next(news=False)
    assert last == 5.0
    assert pace.next(news=True) == 0.5


def test_a_run_on_this_machine_is_never_refreshed(tmp_path: Path) -> None:
    bring = Refresher(Run(tmp_path), None, refresh_run=lambda _: pytest.fail("there is nothing to ask"))
    assert bring()


def test_metrics_of_a_reused_training_are_found_where_they_are(azure: Azure, mode: MaapMode, run: Run) -> None:
    line = b'{"step": 1, "loss": 2.5}\n'
    storage = azure.connect().storage
    storage.put(f"azureml/{run.name}/metrics/metrics.jsonl", line, sha256_bytes(line))
    storage.put(f"azureml/{run.name}/evaluation/evaluation.json", b"{}", sha256_bytes(b"{}"))
    azure.time.sleep(1000)
    mode.refresh(run)
    assert run.metrics()[0] == [{"step": 1, "loss": 2.5}]
    assert run.evaluation() == {}


class Killed(BaseException):
    """The process ends here."""


@pytest.fixture
def killable(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Make the n-th write to the record the last thing that happens."""
    left = [10**9]
    writers = [(watching, "write_json"), (watching, "write_bytes")]
    for module, name in writers:
        original = getattr(module, name)

        def dying(*args: Any, original: Any = original) -> Any:
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            return original(*args)

        monkeypatch.setattr(module, name, dying)
    original_event = Run.add_event

    def event(self: Run, given: dict[str, Any]) -> dict[str, Any]:
        left[0] -= 1
        if left[0] < 0:
            raise Killed
        return original_event(self, given)

    monkeypatch.setattr(Run, "add_event", event)

    def after(count: int) -> None:
        left[0] = count

    yield after
    left[0] = 10**9


def test_killed_at_any_write_the_record_is_right_in_the_end(
    azure: Azure, mode: MaapMode, run: Run, killable: Callable[[int], None]
) -> None:
    azure.time.sleep(1000)
    for count in range(12):
        killable(count % 4)
        try:
            mode.refresh(run)
        except Killed:
            continue
    killable(10**9)
    mode.refresh(run)
    assert run.state is RunState.COMPLETED
    told = [(event["event"], event.get("step"), event.get("child")) for event in run.events()[0]]
    mirrored = [entry for entry in told if entry[0] in {"step-started", "step-finished", "run-finished"}]
    assert len(mirrored) == len(set(mirrored))
