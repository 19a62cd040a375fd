"""Mode maap over the emulator: azft's own pipeline, run from the bytes that were sent; one job however it is cut."""

from __future__ import annotations

import json
import threading
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from azft.azureml.connection import Access, forget_connections
from azft.azureml.errors import ConflictError, MissingResourceError
from azft.azureml.outputs import download, list_outputs
from azft.emulator import Request, Response
from azft.errors import InterruptedRunError, JobFailedError, NotFoundError, UnreachableError, UsageError
from azft.files import write_json
from azft.modes.maap import MaapMode
from azft.plan import Plan
from azft.runs import Run, RunState
from azft.runs.watching import Watcher
from tests.helpers.azure_shop import (
    MACHINES,
    MODEL,
    Azure,
    azure_in_process,
    azure_listening,
    eventually,
    make_shop,
    plan_in,
)
from tests.helpers.toy import Toy

STEPS = ["prepare", "finetune", "evaluate", "package"]


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    return make_shop(tmp_path / "shop", monkeypatch)


@pytest.fixture
def mode(shop: Toy) -> MaapMode:
    return MaapMode(shop.root)


@pytest.fixture
def real(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Azure]:
    """Azure on loopback, where submitted steps really run."""
    with azure_listening(tmp_path / "azure", monkeypatch) as made:
        yield made


@pytest.fixture
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Azure]:
    """Azure in this process, where jobs pass through their states by the clock."""
    with azure_in_process(tmp_path / "azure", monkeypatch) as made:
        yield made


def test_the_pipeline_runs_and_all_that_it_did_is_here(shop: Toy, mode: MaapMode, real: Azure) -> None:
    events: list[dict[str, Any]] = []
    plan = plan_in(shop, mode, real)
    run = mode.submit(plan, on_event=events.append)
    assert run.state is RunState.COMPLETED
    assert shop.starts() == STEPS
    assert run.log("finetune")[0] == ["finetune starts", "from step 0"]
    assert [line["loss"] for line in run.metrics()[0]] == [2.5]
    assert [event["step"] for event in events if event["event"] == "step-finished"] == STEPS
    assert [event["line"] for event in events if event["event"] == "log" and event["step"] == "prepare"] == [
        "prepare starts"
    ]
    assert events[-1]["event"] == "run-finished"
    assert (run.folder / "outputs" / "evaluation" / "result.txt").read_text().startswith("evaluate(")
    assert run.azure["job_id"].endswith(f"/jobs/{plan.run_name}")

    connection = mode._connect(run)
    assert {o.name for o in list_outputs(connection, run)} == {
        "packaged", "evaluation", "trained", "checkpoints", "metrics",
    }  # fmt: skip
    places = download(connection, run, ["packaged", "trained"], folder=shop.folder / "here")
    assert set(places) == {"packaged", "trained"}
    assert (places["packaged"] / "result.txt").read_text().startswith("package(")
    with pytest.raises(NotFoundError, match="has no output `nothing`"):
        download(connection, run, ["nothing"], folder=shop.folder / "here")

    assert mode.submit(plan) == run
    assert len(shop.starts()) == 4
    assert real.jobs() == [plan.run_name]


def test_a_failed_step_is_explained_and_resuming_goes_on_from_the_checkpoint(
    shop: Toy, mode: MaapMode, real: Azure
) -> None:
    shop.fail("finetune", 3)
    plan = plan_in(shop, mode, real)
    with pytest.raises(JobFailedError) as error:
        mode.submit(plan)
    assert error.value.exit_code == 7
    assert error.value.message.startswith("Step `finetune` failed: ")
    assert "Azure's words (UserError" in error.value.fix
    assert "  | from step 0" in error.value.fix
    assert f"azft resume {plan.run_name}" in error.value.fix
    with pytest.raises(JobFailedError, match="finetune"):  # a failed job is not started again by itself
        mode.submit(plan)
    assert real.jobs() == [plan.run_name]

    shop.release("finetune")
    run = mode.store.get(plan.run_name)
    mode.resume(run)
    assert run.state is RunState.COMPLETED
    assert real.jobs() == [plan.run_name, f"{plan.run_name}-r1"]
    assert run.recorded_status().attempt == 2
    printed = [line for line in run.log("finetune")[0] if line.startswith(("finetune starts", "from step"))]
    assert printed[:2] == ["finetune starts", "from step 0"]
    assert printed[-2:] == ["finetune starts", "from step 3"]
    assert shop.starts() == ["prepare", "finetune", "finetune", "evaluate", "package"]  # prepare is reused
    reused = [(event["step"], event["source"]) for event in run.events()[0] if event["event"] == "step-reused"]
    assert reused == [("prepare", plan.run_name)]


def test_a_canceled_run_ends_and_can_be_resumed(shop: Toy, mode: MaapMode, real: Azure) -> None:
    shop.hold("finetune")
    plan = plan_in(shop, mode, real)
    run = mode.submit(plan, wait=False)
    eventually(lambda: "finetune" in shop.starts())
    mode.cancel(run)
    eventually(lambda: not mode.status(run).state.active)
    assert run.state is RunState.CANCELED
    assert f"azft resume {run.name}" in run.status().fix
    mode.cancel(run)  # a second time changes nothing
    shop.release("finetune")
    mode.resume(run)
    assert run.state is RunState.COMPLETED
    assert run.log("finetune")[0][-1] == "from step 7"  # what the cancel let it save


def test_a_quiet_moment_of_the_control_plane_ends_nothing(shop: Toy, mode: MaapMode, real: Azure) -> None:
    shop.hold("finetune")
    events: list[dict[str, Any]] = []
    plan = plan_in(shop, mode, real)
    run = mode.submit(plan, wait=False)
    eventually(lambda: "finetune" in shop.starts())
    real.fault("server-error", path="/jobs/|/history/", times=4, params={"status": 503})
    threading.Timer(2, lambda: shop.release("finetune")).start()
    mode.submit(plan, on_event=events.append)
    assert run.state is RunState.COMPLETED
    assert real.sent("POST", "/cancel") == []
    assert real.jobs() == [plan.run_name]
    assert run.log("finetune")[0] == ["finetune starts", "from step 0"]


def test_a_preempted_node_goes_on_and_no_line_is_lost_or_doubled(shop: Toy, mode: MaapMode, real: Azure) -> None:
    shop.hold("finetune")
    plan = plan_in(shop, mode, real)
    real.fault("node-preempted", times=1, where={"step": "finetune"}, params={"step": 1})
    run = mode.submit(plan, wait=False)
    shown: list[str] = []
    watcher = Watcher(run, from_start=True)

    def look() -> None:
        mode.refresh(run)
        shown.extend(e["line"] for e in watcher.news() if e["event"] == "log" and e["step"] == "finetune")

    def twice() -> bool:
        look()
        return shop.starts().count("finetune") == 2

    eventually(twice)
    shop.release("finetune")
    mode.submit(plan)
    look()
    assert run.state is RunState.COMPLETED
    assert real.jobs() == [plan.run_name]
    lines = run.log("finetune")[0]
    assert shown == lines
    resumed = [line for line in lines if line.startswith("from step")]
    assert resumed in (["from step 0", "from step 3"], ["from step 0", "from step 7"])  # 7: it heard SIGTERM in time
    assert lines.count("finetune starts") == 2
    started = [event for event in run.events()[0] if (event["event"], event["step"]) == ("step-started", "finetune")]
    assert len(started) == 1


class Killed(BaseException):
    """The client ends here, as by kill -9: nothing of it is told or tidied up."""


def kill_at(azure: Azure, number: int, monkeypatch: pytest.MonkeyPatch, *, applied: bool) -> None:
    """Let the client die at its n-th request, before the service has seen it or after."""
    left = [number]
    original = type(azure.emu).handle

    def handle(emu: Any, request: Request) -> Response:
        left[0] -= 1
        if left[0] == -1 and not applied:
            raise Killed
        response = original(emu, request)
        if left[0] == -1:
            raise Killed
        return response

    monkeypatch.setattr(type(azure.emu), "handle", handle)


def new_plan(shop: Toy, mode: MaapMode, azure: Azure, name: str) -> Plan:
    """A plan whose data and parameters Azure has not seen yet."""
    row = {"messages": [{"role": "user", "content": name}, {"role": "assistant", "content": "a"}]}
    (shop.folder / "train.jsonl").write_text(json.dumps(row) + "\n")
    return plan_in(shop, mode, azure, f"name={name}", f"training.seed={zlib.crc32(name.encode())}")


@pytest.mark.parametrize("count", [2, pytest.param(100, marks=pytest.mark.slow)])
def test_killed_at_any_request_there_is_one_job_in_the_end(
    shop: Toy, mode: MaapMode, quick: Azure, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    mode.submit(new_plan(shop, mode, quick, "first"), wait=False)  # code and environments are there from now on
    forget_connections()
    plan = new_plan(shop, mode, quick, "second")
    mode.submit(plan, wait=False)
    last = next(n for n, e in enumerate(quick.emu.log.list()) if e["method"] == "PUT" and "/jobs/" in e["path"])
    for number in sorted({*range(0, last, max(1, last // count)), last - 1, last}):
        for applied in (False, True):
            plan = new_plan(shop, mode, quick, f"toy{number}{'x' if applied else ''}")
            forget_connections()
            with monkeypatch.context() as patch:
                kill_at(quick, number, patch, applied=applied)
                with pytest.raises(Killed):
                    MaapMode(shop.root).submit(plan, wait=False)
            run = MaapMode(shop.root).submit(plan, wait=False)
            assert [job for job in quick.jobs() if job.startswith(f"{plan.name}-")] == [plan.run_name]
            assert run.azure["submitted"]
            quick.time.sleep(1)
            assert MaapMode(shop.root).status(run).state is RunState.COMPLETED


def test_two_shells_at_once_are_one_run_and_one_job(shop: Toy, quick: Azure) -> None:
    plan = plan_in(shop, MaapMode(shop.root), quick)
    results: list[Any] = []

    def submit() -> None:
        try:
            results.append(MaapMode(shop.root).submit(plan, wait=False))
        except BaseException as error:
            results.append(error)

    threads = [threading.Thread(target=submit) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [Run(shop.root / "runs" / plan.run_name)] * 3, results
    assert quick.jobs() == [plan.run_name]


def test_a_wanted_second_is_another_run(shop: Toy, mode: MaapMode, quick: Azure) -> None:
    plan = plan_in(shop, mode, quick)
    first = mode.submit(plan, wait=False)
    second = mode.submit(plan, again=True, wait=False)
    assert second.name == f"{first.name}-2"
    assert mode.submit(plan, wait=False) == second  # the newest is the plan's run
    assert quick.jobs() == [first.name, second.name]
    body = mode._connect(second)
    assert body.workspace.name == "azft-rehearsal"


def test_each_shell_that_wants_another_run_gets_one(shop: Toy, mode: MaapMode, quick: Azure) -> None:
    plan = plan_in(shop, mode, quick)
    first = mode.submit(plan, wait=False)
    results: list[Any] = []
    together = threading.Barrier(3)

    def submit() -> None:
        together.wait()
        try:
            results.append(MaapMode(shop.root).submit(plan, again=True, wait=False).name)
        except BaseException as error:
            results.append(error)

    threads = [threading.Thread(target=submit) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results, key=str) == [f"{first.name}-{number}" for number in (2, 3, 4)]
    assert quick.jobs() == [first.name, *sorted(results)]


def test_a_second_that_was_cut_off_elsewhere_is_not_in_the_way(
    shop: Toy, mode: MaapMode, quick: Azure, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_in(shop, mode, quick)
    with monkeypatch.context() as patch:
        kill_at(quick, 4, patch, applied=True)
        with pytest.raises(Killed):
            mode.submit(plan, wait=False)
    run = mode.store.get(plan.run_name)
    write_json(run.folder / "azure.json", {**run.azure, "workspace": "another"})
    with pytest.raises(UsageError, match="is in the workspace another"):
        mode.submit(plan, wait=False)
    assert mode.submit(plan, again=True, wait=False).name == f"{plan.run_name}-2"


def test_a_second_that_was_cut_off_is_gone_on_with(
    shop: Toy, mode: MaapMode, quick: Azure, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_in(shop, mode, quick)
    mode.submit(plan, wait=False)
    with monkeypatch.context() as patch:
        kill_at(quick, 4, patch, applied=True)
        with pytest.raises(Killed):
            mode.submit(plan, again=True, wait=False)
    again = mode.submit(plan, again=True, wait=False)
    assert again.name == f"{plan.run_name}-2"
    assert quick.jobs() == [plan.run_name, f"{plan.run_name}-2"]


def test_checkpoints_of_a_second_run_are_its_own(shop: Toy, mode: MaapMode, quick: Azure) -> None:
    plan = plan_in(shop, mode, quick)
    places = []
    for again in (False, True):
        run = mode.submit(plan, again=again, wait=False)
        output = next(o for o in list_outputs(mode._connect(run), run) if o.name == "checkpoints")
        from azft.azureml.resources import Resources

        job = Resources(mode._connect(run)).get("job", run.name)
        assert job is not None
        assert output.name == "checkpoints"
        places.append(job.properties["outputs"]["checkpoints"]["uri"])
    assert places[0] != places[1]


def test_an_outage_while_submitting_leaves_a_record_that_goes_on(shop: Toy, mode: MaapMode, quick: Azure) -> None:
    plan = plan_in(shop, mode, quick)
    quick.fault("connection-reset", method="PUT", path="/jobs/", times=-1)
    with pytest.raises(UnreachableError):
        mode.submit(plan, wait=False)
    run = mode.store.get(plan.run_name)
    assert run.state is RunState.INTERRUPTED
    quick.emu.faults.clear()
    assert mode.status(run).message == "It was never started in Azure."
    with pytest.raises(InterruptedRunError):
        mode._watch(run, wait=True, tell=lambda _: None, adopted=False)
    assert mode.resume(run, wait=False) == run
    assert quick.jobs() == [plan.run_name]


def test_anothers_job_is_refused_and_leaves_no_record(shop: Toy, mode: MaapMode, quick: Azure) -> None:
    plan = plan_in(shop, mode, quick)
    mode.submit(plan, wait=False)
    elsewhere = MaapMode(shop.folder / "elsewhere" / ".azft")
    changed = elsewhere.plan(shop.recipe(MODEL, MACHINES, "training.seed=7"))
    clash = changed.model_copy(update={"name": plan.name, "hash": plan.hash[:8] + changed.hash[8:]})
    with pytest.raises((ConflictError, UsageError)):
        elsewhere._claim(elsewhere.access.connect(), clash, again=False, locks=ExitStack())
    assert elsewhere.store.list() == []


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("azureml://registries/azureml/models/Phi-4-mini-instruct/versions/77", "has no version 77 of the model Phi-4"),
        ("azureml://registries/azureml/models/Phi-5/labels/latest", "The registry azureml has no model Phi-5."),
        ("azureml://registries/mine/models/Phi-5/labels/latest", "There is no registry mine."),
    ],
)
def test_a_model_that_the_registry_lacks_stops_it_before_anything_is_made(
    shop: Toy, mode: MaapMode, quick: Azure, model: str, said: str
) -> None:
    plan_in(shop, mode, quick)  # the registry has the newest version of Phi-4-mini-instruct
    with pytest.raises(MissingResourceError, match=said) as error:
        MaapMode(shop.root, Access(create_compute=True)).submit(
            mode.plan(shop.recipe(f"model={model}", "modes.maap.compute=gpu")), wait=False
        )
    assert error.value.exit_code == 3
    assert quick.sent("PUT") == []
    assert quick.sent("POST", "/listSecrets") == []


def test_a_registry_that_may_not_be_looked_into_leaves_the_model_to_the_job(
    shop: Toy, mode: MaapMode, quick: Azure
) -> None:
    events: list[dict[str, Any]] = []
    plan = plan_in(shop, mode, quick)
    quick.fault("server-error", path="/registrymanagement/", times=-1, params={"status": 403})
    mode.submit(plan, wait=False, on_event=events.append)
    assert quick.jobs() == [plan.run_name]
    assert [event["message"] for event in events if event["event"] == "model-unchecked"]


def test_a_submission_asks_no_more_than_it_must(shop: Toy, mode: MaapMode, quick: Azure) -> None:
    plan = plan_in(shop, mode, quick)
    counts = []
    for again in (False, True):
        quick.connect()
        quick.emu.log.clear()
        mode.submit(plan, again=again, wait=False)
        asked = [entry["path"] for entry in quick.emu.log.list() if not entry["path"].startswith("/identity")]
        counts.append(len(asked))
        assert sum("/models/Phi-4-mini-instruct" in path for path in asked) == 1
    assert counts == [40, 18]


def test_a_run_stays_in_its_workspace(shop: Toy, mode: MaapMode, quick: Azure) -> None:
    run = mode.submit(plan_in(shop, mode, quick), wait=False)
    other = MaapMode(shop.root, Access(workspace="another"))
    with pytest.raises(UsageError, match="is in the workspace azft-rehearsal, not another"):
        other.refresh(run)


def test_a_cluster_that_is_not_there_is_made_when_asked_for(shop: Toy, quick: Azure) -> None:
    wanted = ["modes.maap.instance_types=[]", "modes.maap.compute=gpu", "modes.maap.vm_size=Standard_NC24ads_A100_v4"]
    plan: Plan = MaapMode(shop.root).plan(shop.recipe(MODEL, *wanted))
    from azft.rehearsal.seeds import seed_model

    seed_model(quick.emu, plan, "azureml", "Phi-4-mini-instruct")
    with pytest.raises(NotFoundError, match="gpu"):
        MaapMode(shop.root).submit(plan, wait=False)
    assert quick.jobs() == []
    making = MaapMode(shop.root, Access(create_compute=True))
    run = making.submit(plan, wait=False)
    assert quick.jobs() == [run.name]
    assert quick.sent("PUT", "/computes/gpu")
