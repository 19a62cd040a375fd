"""Steps run in order, share a cache, keep what they had when they are cut off, and are explained when they fail."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from azft.execution import reuse
from azft.execution.graph import Graph, GraphInput, Input, LocalPath, Output, Step, StepOutput, Value
from azft.execution.processes import Stopped, run_guarded
from azft.execution.runner import Options, StepFailedError, run_graph


def two_steps(tmp_path: Path, *, times: int = 2) -> Graph:
    """One writes a number of lines and counts its starts in `starts`; two counts them into a file."""
    code = tmp_path / "code folder"
    code.mkdir(exist_ok=True)
    (code / "lines.py").write_text("import sys\nprint('x\\n' * int(sys.argv[1]), end='')\n")
    (tmp_path / "data.txt").write_text("data")
    one = Step(
        "one",
        f"echo one >> {tmp_path}/starts; python lines.py ${{{{inputs.times}}}} > ${{{{outputs.out}}}}/lines.txt",
        inputs={"times": Input("integer"), "data": Input("uri_file")},
        outputs={"out": Output()},
        bindings={"times": Value(times), "data": GraphInput("data")},
        code=code,
    )
    two = Step(
        "two",
        f"echo two >> {tmp_path}/starts; wc -l < ${{{{inputs.lines}}}}/lines.txt > ${{{{outputs.count}}}}",
        inputs={"lines": Input("uri_folder")},
        outputs={"count": Output("uri_file")},
        bindings={"lines": StepOutput("one", "out")},
        code=code,
    )
    return Graph(
        {"two": two, "one": one}, {"data": LocalPath(tmp_path / "data.txt")}, {"count": StepOutput("two", "count")}
    )


def starts(tmp_path: Path) -> list[str]:
    return (tmp_path / "starts").read_text().split()


def ignore(_: dict[str, Any]) -> None:
    pass


def test_outputs_of_one_step_are_inputs_of_the_next(tmp_path: Path) -> None:
    outputs = run_graph(two_steps(tmp_path), tmp_path / "run", ignore)
    assert outputs == {"count": tmp_path / "run" / "outputs" / "count"}
    assert outputs["count"].read_text().strip() == "2"


def test_equal_steps_are_reused_across_runs_and_each_run_keeps_its_own_outputs(tmp_path: Path) -> None:
    options = Options(cache=tmp_path / "cache")
    run_graph(two_steps(tmp_path), tmp_path / "a", ignore, options)
    events: list[dict[str, Any]] = []
    run_graph(two_steps(tmp_path), tmp_path / "b", events.append, options)
    assert starts(tmp_path) == ["one", "two"]
    assert [(event["event"], event["source"]) for event in events] == [("step-reused", "a")] * 2
    reuse.remove(tmp_path / "a")
    assert (tmp_path / "b" / "outputs" / "count").read_text().strip() == "2"
    run_graph(two_steps(tmp_path), tmp_path / "c", ignore, options)
    assert starts(tmp_path) == ["one", "two", "one", "two"], "the cache only points at runs; it holds no copy"


def test_reused_weights_are_linked_and_small_files_copied(tmp_path: Path) -> None:
    step = Step(
        "one",
        "head -c 2000000 /dev/zero > ${{outputs.out}}/weights; echo {} > ${{outputs.out}}/config",
        outputs={"out": Output()},
    )
    graph = Graph({"one": step}, outputs={"out": StepOutput("one", "out")})
    a, b = (run_graph(graph, tmp_path / name, ignore, Options(cache=tmp_path / "cache"))["out"] for name in "ab")
    assert (a / "weights").samefile(b / "weights")
    assert not (a / "config").samefile(b / "config")


@pytest.mark.parametrize("change", ["code", "literal", "data", "environment", "variables"])
def test_whatever_decides_the_result_decides_about_reuse(tmp_path: Path, change: str) -> None:
    options = Options(cache=tmp_path / "cache")
    run_graph(two_steps(tmp_path), tmp_path / "a", ignore, options)
    graph = two_steps(tmp_path, times=3 if change == "literal" else 2)
    if change == "code":
        (tmp_path / "code folder" / "other.py").touch()
    if change == "data":
        (tmp_path / "data.txt").write_text("other data")
    if change in {"environment", "variables"}:
        one = graph.steps["one"]
        changed: dict[str, Any] = {"environment": "other"} if change == "environment" else {"variables": {"A": "1"}}
        fields = {name: getattr(one, name) for name in Step.__slots__} | changed
        graph = Graph({**graph.steps, "one": Step(**fields)}, graph.inputs, graph.outputs)
    run_graph(graph, tmp_path / "b", ignore, options)
    assert starts(tmp_path)[:3] == ["one", "two", "one"]


@pytest.mark.parametrize("damage", ["changed", "added", "removed", "record"])
def test_damaged_outputs_are_made_again_and_not_reused(tmp_path: Path, damage: str) -> None:
    graph = two_steps(tmp_path)
    run_graph(graph, tmp_path / "run", ignore)
    out = tmp_path / "run" / "steps" / "one" / "outputs" / "out"
    if damage == "changed":
        (out / "lines.txt").write_text("y\ny\n")
    elif damage == "added":
        (out / "extra").touch()
    elif damage == "removed":
        (out / "lines.txt").unlink()
    else:
        (tmp_path / "run" / "steps" / "one" / "finished.json").write_text('{"format": 1, "key"')
    run_graph(graph, tmp_path / "run", ignore)
    assert starts(tmp_path) == ["one", "two", "one"], "and the second step, whose input is the same again, is reused"
    assert (out / "lines.txt").read_text() == "x\nx\n"


def test_a_failed_step_says_its_last_lines_and_the_likely_cause(tmp_path: Path) -> None:
    step = Step("bad", "echo first; python -c 'import no_such_module'")
    events: list[dict[str, Any]] = []
    with pytest.raises(StepFailedError, match="no_such_module") as caught:
        run_graph(Graph({"bad": step}), tmp_path, events.append)
    assert caught.value.exit_code == 7
    assert "| first" in caught.value.fix
    assert "pip install" in caught.value.fix
    assert events[-1]["event"] == "step-failed"


def test_a_failed_step_that_wrote_nothing_but_an_error_of_our_own_names_its_log(tmp_path: Path) -> None:
    said = "Traceback (most recent call last):\nazft.errors.UsageError: Bad.\nDo better."
    step = Step("bad", f"echo '{said}'; exit 1")
    with pytest.raises(StepFailedError, match=r"Bad\.") as caught:
        run_graph(Graph({"bad": step}), tmp_path, ignore)
    assert caught.value.fix == f"Do better.\nIts log: {tmp_path.resolve()}/logs/bad.txt"


def test_a_step_gets_a_clean_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZUREML_RUN_ID", "x")
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    monkeypatch.delenv("OMP_NUM_THREADS")
    step = Step("env", "env; which python", variables={"MINE": "1"})
    lines: list[str] = []
    run_graph(Graph({"env": step}), tmp_path, lambda event: lines.append(event.get("line", "")))
    assert not [line for line in lines if line.startswith(("AZUREML_RUN_ID", "PYTHONPATH="))]
    assert {"MINE=1", "OMP_WAIT_POLICY=PASSIVE"} <= set(lines)
    assert [line for line in lines if line.startswith("OMP_NUM_THREADS=")]
    assert str(Path(sys.executable).parent / "python") in lines


def test_several_ranks_are_started_by_torchrun(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    step = Step("ranks", 'echo "rank $RANK of $WORLD_SIZE, local $LOCAL_RANK, threads $OMP_NUM_THREADS"', processes=2)
    lines: list[str] = []
    run_graph(Graph({"ranks": step}), tmp_path, lambda event: lines.append(event.get("line", "")))
    said = sorted(line for line in lines if line.startswith("rank"))
    assert said == [f"rank {rank} of 2, local {rank}, threads 1" for rank in range(2)]


# --- ending ---------------------------------------------------------------------------------------------------------


def alive(marker: str) -> list[int]:
    """Processes that were started with a marker in their arguments."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (entry / "cmdline").read_bytes()
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if marker.encode() in arguments and state != "Z" and int(entry.name) != os.getpid():
            found.append(int(entry.name))
    return found


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.01)


def guarded(tmp_path: Path, command: str, *, grace: float = 30, tick: Callable[[], str | None] = lambda: None) -> int:
    return run_guarded(
        ["bash", "-c", command],
        folder=tmp_path,
        environment=os.environ,
        log=tmp_path / "log.txt",
        grace=grace,
        tick=tick,
    )


def when(file: Path) -> Callable[[], str | None]:
    """Ask for a stop as soon as a file is there."""
    return lambda: "canceled" if file.exists() else None


def test_a_stopped_step_may_finish_what_it_is_at(tmp_path: Path) -> None:
    script = (
        "import signal, sys, time, pathlib\n"
        "signal.signal(signal.SIGTERM, lambda *_: (pathlib.Path('saved').touch(), sys.exit(143)))\n"
        "pathlib.Path('ready').touch()\nwhile True: time.sleep(0.01)\n"
    )
    (tmp_path / "work.py").write_text(script)
    with pytest.raises(Stopped, match="canceled"):
        guarded(tmp_path, f"{sys.executable} work.py; echo never", tick=when(tmp_path / "ready"))
    assert (tmp_path / "saved").exists()
    assert "never" not in (tmp_path / "log.txt").read_text()


def test_a_step_that_ignores_the_request_is_killed_with_all_it_started(tmp_path: Path) -> None:
    marker = f"marker-{tmp_path.name}-{os.getpid()}"
    stubborn = "trap '' TERM; touch ready; while true; do sleep 0.05; done"
    command = f'setsid bash -c "{stubborn}" {marker} & bash -c "{stubborn}" {marker}'
    with pytest.raises(Stopped):
        guarded(tmp_path, command, grace=0.2, tick=when(tmp_path / "ready"))
    assert alive(marker) == []


def test_what_a_finished_step_left_running_is_ended(tmp_path: Path) -> None:
    marker = f"marker-{tmp_path.name}-{os.getpid()}"
    status = guarded(tmp_path, f"setsid bash -c 'while true; do sleep 0.05; done' {marker} & echo done; exit 3")
    assert status == 3
    assert alive(marker) == []


def test_a_step_killed_by_a_signal_has_a_shells_status(tmp_path: Path) -> None:
    assert guarded(tmp_path, "kill -9 $$") == 137


def test_ctrl_c_twice_kills_at_once(tmp_path: Path) -> None:
    stubborn = "trap '' TERM; touch ready; while true; do sleep 0.05; done"

    def press() -> None:
        wait_until((tmp_path / "ready").exists)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGINT)

    presser = threading.Thread(target=press)
    presser.start()
    started = time.monotonic()
    with pytest.raises(Stopped, match="interrupted"):
        guarded(tmp_path, stubborn, grace=60)
    presser.join()
    assert time.monotonic() - started < 30


def test_output_without_a_last_newline_and_with_strange_bytes_is_logged(tmp_path: Path) -> None:
    assert guarded(tmp_path, r"printf 'a\nb\xff\x00c'") == 0
    assert (tmp_path / "log.txt").read_text(encoding="utf-8") == "a\nb�\x00c\n"


def test_a_flood_of_output_is_logged_whole(tmp_path: Path) -> None:
    assert guarded(tmp_path, "seq 1 200000") == 0
    assert (tmp_path / "log.txt").read_text().split() == [str(number) for number in range(1, 200001)]


@pytest.mark.parametrize("broken", range(8))
def test_a_write_that_fails_leaves_a_run_that_can_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: int
) -> None:
    """Each rename in turn fails, as on a full disk; then the same run is run again."""
    graph = two_steps(tmp_path)
    options = Options(cache=tmp_path / "cache")
    replace = os.replace
    count = 0

    def full(source: Any, target: Any) -> None:
        nonlocal count
        count += 1
        if count == broken + 1:
            raise OSError(28, "No space left on device")
        replace(source, target)

    with monkeypatch.context() as patched:
        patched.setattr("azft.files.os.replace", full)
        with contextlib.suppress(OSError):
            run_graph(graph, tmp_path / "run", ignore, options)
    assert run_graph(graph, tmp_path / "run", ignore, options)["count"].read_text().strip() == "2"
    assert list((tmp_path / "run").rglob("*.tmp")) == []
