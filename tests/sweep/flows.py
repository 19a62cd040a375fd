"""The flows of azft over Azure, each as it is lived by one client: what it stands on, what it does, what must be true.

Each flow begins in a world that other flows have prepared, so they form a tree; what is prepared is copied.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from azft.emulator import job_outputs, run_documents, step_process
from azft.runs import RunState
from tests.sweep.world import Client, World

Act = Callable[[Client], Any]


@dataclass(frozen=True)
class Flow:
    """`plan` names the plan that it is about; `on` is the flow that comes before, after which `prepare` is done."""

    name: str
    plan: str
    act: Act
    on: str | None = None
    prepare: Callable[[World], None] = lambda _world: None
    reads: bool = False
    """Whether it changes nothing in Azure."""
    says: Callable[[Client, Any], None] = lambda _client, _result: None
    """What must be true when it says that it succeeded."""


def _submitted(name: str) -> Callable[[Client, Any], None]:
    def check(client: Client, run: Any) -> None:
        assert client.world.jobs(client.plans[name]) == [run.azure["job"]]
        assert run.azure["submitted"]

    return check


def _submit(name: str, on: str | None = None, **options: Any) -> Flow:
    return Flow(f"submit {name}", name, lambda client: client.submit(name, **options), on, says=_submitted(name))


def _running(name: str) -> Callable[[World], None]:
    """In the middle of its work, with a log."""

    def prepare(world: World) -> None:
        world.emu.clock.advance(30 + 60 + 200)
        job = world.template.plans[name].run_name
        world.tell("GET", f"{workspace(world)}/jobs/{job}?api-version=2024-01-01-preview")  # the clock's news is noted
        children = run_documents.children(world.emu, job)
        for number, run in enumerate(children or [{"id": job}]):
            for line in range(3):
                step_process.write_log(world.emu, str(run["id"]), f"step {number} prints line {line}")

    return prepare


def _done(name: str) -> Callable[[World], None]:
    """Completed, with the files of its outputs."""

    def prepare(world: World) -> None:
        _running(name)(world)
        world.emu.clock.advance(10_000)
        job = world.template.plans[name].run_name
        stored = world.emu.state.get("job", job)
        assert stored is not None
        for output, entry in stored["properties"]["outputs"].items():
            place = job_outputs.place_of(world.emu, entry.get("uri"), f"{job}/{output}")
            place.path.mkdir(parents=True, exist_ok=True)
            (place.path / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n')
            (place.path / "config.json").write_text("{}")
            (place.path / "MLmodel").write_text("flavors: {}\n")
            if output != "registered_model":  # the service's own business
                job_outputs.record_output(world.emu, job, output, place, str(entry.get("jobOutputType")))

    return prepare


def workspace(world: World) -> str:
    """The workspace's path."""
    given = world.emu.settings
    group = f"/subscriptions/{given.subscription}/resourceGroups/{given.resource_group}"
    return f"{group}/providers/Microsoft.MachineLearningServices/workspaces/{given.workspace}"


def _refreshed(name: str) -> Callable[[Client, Any], None]:
    def check(_client: Client, run: Any) -> None:
        assert run.state is RunState.RUNNING
        for step in run.log_steps():
            lines, _ = run.log(step)
            assert [line.rpartition(" ")[2] for line in lines] == ["0", "1", "2"], lines  # none lost, none twice
        assert run.log_steps()

    return check


def _completed(client: Client, name: str) -> Any:
    return client.refresh(name)  # which is another client's at times, and then tells nothing new: not done, they say


def _cancel(name: str) -> Act:
    def act(client: Client) -> Any:
        run = client.run(name)
        client.mode(client.plans[name]).cancel(run)
        return run

    return act


def _canceled(name: str) -> Callable[[Client, Any], None]:
    def check(client: Client, run: Any) -> None:
        found = run_documents.find(client.world.emu, run.azure["job"])
        assert found is not None
        if run.state is RunState.COMPLETED:  # an outage may last longer than the job, which then stays as it ended
            assert found["status"] == "Completed"
        else:
            assert found["status"] == "Canceled"

    return check


def _register(name: str) -> Act:
    from azft.azureml.registration import register

    return lambda client: register(client.connection, _completed(client, name))


def _registered(client: Client, model: Any) -> None:
    kept = client.world.emu.state.list("asset/models", f"workspace/{model.name}/")
    assert [key.rpartition("/")[2] for key, _ in kept] == [model.version]


def _deploy(name: str, **options: Any) -> Act:
    from azft.azureml.deployment import deploy

    return lambda client: deploy(client.connection, _completed(client, name), root=client.home, **options)


def _deployed(client: Client, done: Any) -> None:
    kind = "serverless-endpoint" if done.kind == "serverless" else "online-endpoint"
    assert client.world.there(kind) == [done.name]
    assert done.state == "Succeeded"


def _chat(client: Client) -> Any:
    from azft.azureml.inference import open_endpoint
    from azft.azureml.inventory import read_inventory

    name = next(item.name for item in read_inventory(client.connection).items if item.kind in {"serverless", "online"})
    return "".join(open_endpoint(client.connection, name).reply([{"role": "user", "content": "a word"}]))


def _answered(_client: Client, text: str) -> None:
    assert text.strip() == "You said: a word"


def _down(client: Client) -> Any:
    from azft.azureml.ending import exit_code
    from azft.azureml.teardown import end_all, look
    from azft.errors import AzftError

    outcomes = end_all(client.access, look(client.access, client.home).items, root=client.home)
    for outcome in outcomes:
        if not outcome.ended:
            error = AzftError(f"{outcome.item.words} is still there.", fix=outcome.why)
            error.exit_code = exit_code(outcomes)  # as the command does
            raise error
    return outcomes


def _ended(client: Client, _outcomes: Any) -> None:
    state = client.world.emu.state
    for kind in ("serverless-endpoint", "online-endpoint", "online-deployment", "marketplace-subscription", "compute"):
        assert not client.world.there(kind), kind
    for key, _ in state.list("job"):
        found = run_documents.find(client.world.emu, key)
        assert found is not None
        assert found["status"] in run_documents.TERMINAL


def _resume(client: Client) -> Any:
    return client.mode(client.plans["azft"]).resume(client.run("azft"), wait=False)


def _resumed(client: Client, run: Any) -> None:
    """One job goes on; where that one failed, and it was resumed once more, another."""
    world, name = client.world, client.plans["azft"].run_name
    jobs = world.jobs(client.plans["azft"])
    assert jobs in ([name, f"{name}-r1"], [name, f"{name}-r1", f"{name}-r2"])
    assert run.azure["job"] == jobs[-1]
    for ended in jobs[:-1]:
        found = run_documents.find(world.emu, ended)
        assert found is not None
        assert found["status"] in {"Canceled", "Failed"}


def _remote(client: Client) -> Any:
    from azft.azureml.remote_runs import adopt, find_remote, list_remote

    found = list_remote(client.connection)
    job = find_remote(client.connection, found[0].name)
    assert job is not None
    return adopt(type(client.store)(client.home / "other"), client.connection, job)


def _check(client: Client) -> Any:
    from azft.azureml.remote_check import check_plan

    return check_plan(client.connection, client.plans["azft"])


def _download(client: Client) -> Any:
    from azft.azureml.outputs import download

    return download(client.connection, client.run("azft"), ["packaged"])


def _downloaded(_client: Client, places: Any) -> None:
    assert (places["packaged"] / "config.json").read_text() == "{}"


FLOWS = {
    flow.name: flow
    for flow in (
        _submit("maas"),
        _submit("market"),
        _submit("azft"),
        _submit("cluster", create_compute=True),
        _submit("system"),
        _submit("finetuning"),
        Flow("check", "azft", _check, reads=True),
        Flow("watch azft", "azft", lambda client: client.refresh("azft"), "submit azft", _running("azft"), reads=True,
             says=_refreshed("azft")),
        Flow("watch maas", "maas", lambda client: client.refresh("maas"), "submit maas", _running("maas"), reads=True,
             says=_refreshed("maas")),
        Flow("runs", "maas", _remote, "submit maas", _running("maas"), reads=True),
        Flow("cancel", "azft", _cancel("azft"), "submit azft", _running("azft"), says=_canceled("azft")),
        Flow("resume", "azft", _resume, "cancel", says=_resumed),
        Flow("register azft", "azft", _register("azft"), "submit azft", _done("azft"), says=_registered),
        Flow("register maas", "maas", _register("maas"), "submit maas", _done("maas"), says=_registered),
        Flow("download", "azft", _download, "submit azft", _done("azft"), reads=True, says=_downloaded),
        Flow("deploy serverless", "maas", _deploy("maas"), "submit maas", _done("maas"), says=_deployed),
        Flow("deploy market", "market", _deploy("market"), "submit market", _done("market"), says=_deployed),
        Flow("deploy vllm", "azft", _deploy("azft"), "submit azft", _done("azft"), says=_deployed),
        Flow("deploy mlflow", "system", _deploy("system"), "submit system", _done("system"), says=_deployed),
        Flow("chat serverless", "maas", _chat, "deploy serverless", reads=True, says=_answered),
        Flow("chat vllm", "azft", _chat, "deploy vllm", reads=True, says=_answered),
        Flow("chat mlflow", "system", _chat, "deploy mlflow", reads=True, says=_answered),
        Flow("down serverless", "market", _down, "deploy market", says=_ended),
        Flow("down online", "azft", _down, "deploy vllm", says=_ended),
        Flow("down cluster", "cluster", _down, "submit cluster", _running("cluster"), says=_ended),
    )
}  # fmt: skip
