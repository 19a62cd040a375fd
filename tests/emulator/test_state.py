from __future__ import annotations

import threading
from pathlib import Path

import pytest

from azft.emulator import Clock
from azft.emulator.state import State


def test_documents_come_back_in_the_order_of_their_first_writing(tmp_path: Path) -> None:
    state = State(tmp_path)
    for key in ("b/1", "a/1", "b/2"):
        state.put("thing", key, {"key": key})
    state.put("thing", "b/1", {"key": "changed"})
    state.put("other", "b/3", {})
    assert state.list("thing") == [("b/1", {"key": "changed"}), ("a/1", {"key": "a/1"}), ("b/2", {"key": "b/2"})]
    assert [key for key, _ in state.list("thing", "b/")] == ["b/1", "b/2"]
    assert state.get("thing", "nope") is None


def test_a_prefix_is_text_and_not_a_pattern() -> None:
    state = State(None)
    for key in ("a%b", "axb", "a_b", "A%b"):
        state.put("thing", key, {})
    assert [key for key, _ in state.list("thing", "a%")] == ["a%b"]
    assert [key for key, _ in state.list("thing", "a_")] == ["a_b"]


def test_a_document_is_a_copy() -> None:
    state = State(None)
    state.put("thing", "a", {"list": [1]})
    found = state.get("thing", "a")
    assert found is not None
    found["list"].append(2)
    assert state.get("thing", "a") == {"list": [1]}


def test_a_failed_transaction_leaves_nothing() -> None:
    state = State(None)
    state.put("thing", "a", {"n": 1})
    with pytest.raises(RuntimeError), state.transaction():
        state.put("thing", "a", {"n": 2})
        with state.transaction():
            state.put("thing", "b", {})
        raise RuntimeError
    assert state.list("thing") == [("a", {"n": 1})]


def test_transactions_of_threads_do_not_mix() -> None:
    state = State(None)
    state.put("count", "n", {"n": 0})

    def work() -> None:
        for _ in range(50):
            with state.transaction():
                found = state.get("count", "n")
                assert found is not None
                state.put("count", "n", {"n": found["n"] + 1})

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert state.get("count", "n") == {"n": 200}


def test_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    first = State(tmp_path)
    first.put("thing", "a", {"n": 1})
    clock = Clock(first)
    clock.manual = True
    moment = clock.advance(100)
    # Not closed: as after a kill.
    second = State(tmp_path)
    assert second.get("thing", "a") == {"n": 1}
    assert Clock(second).manual
    assert Clock(second).now() == moment


def test_without_a_folder_nothing_stays(tmp_path: Path) -> None:
    state = State(None)
    folder = state.root
    (folder / "file").write_text("x")
    state.close()
    assert not folder.exists()


def test_a_manual_clock_stands_still_and_an_automatic_one_goes_on() -> None:
    clock = Clock(State(None))
    before = clock.now()
    assert clock.advance(3600) >= before + 3600
    clock.manual = True
    now = clock.now()
    assert now >= before + 3600  # switching moves nothing
    assert clock.now() == now
    assert clock.advance(5) == now + 5
    clock.manual = False
    assert 0 <= clock.now() - (now + 5) < 5
    assert clock.timestamp(0) == "1970-01-01T00:00:00.0000000Z"
