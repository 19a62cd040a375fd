"""One plan, one job: whatever the service answers, whenever the client is cut off."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from azft.azureml.errors import ConflictError, LimitError, MissingRoleError, ServiceError, ServiceUnavailableError
from azft.azureml.resources import Resources
from azft.azureml.submission import Submitted, find_job, next_name, submit_once
from azft.emulator.registry import seed_model
from azft.errors import AzftError
from azft.modes.maap import MaapMode
from azft.modes.maas import MaasMode
from azft.pipeline import write_parameters
from azft.plan import Plan
from azft.staging import stage_code
from tests.helpers.azure_runs import write_model
from tests.helpers.azure_shop import Azure, plan_in
from tests.helpers.toy import Toy

JOBS = "/jobs/"
UNCLEAR = [
    ("answer-lost", {}),
    ("connection-reset", {}),
    ("server-error", {}),
    ("server-error", {"params": {"status": 408}}),
    ("server-error", {"params": {"status": 503}}),
    ("throttled", {"params": {"retry_after": 3}}),
    ("token-expired", {}),
]


@pytest.fixture
def plan(shop: Toy, azure: Azure) -> Plan:
    return plan_in(shop, MaasMode(shop.root), azure)


def submit(azure: Azure, shop: Toy, plan: Plan, name: str | None = None) -> Submitted:
    connection = azure.connect()
    name = name or plan.run_name
    found = find_job(connection, name, plan.hash)
    if found is not None:
        return Submitted(found, started=False)
    code = stage_code(shop.root / "code").folder if plan.steps else None
    write_parameters(plan, shop.folder / "parameters")
    return submit_once(connection, plan, name=name, run=name, code=code, parameters=shop.folder / "parameters")


def test_a_plan_becomes_one_job_that_carries_its_hash(azure: Azure, shop: Toy, plan: Plan) -> None:
    done = submit(azure, shop, plan)
    assert done.started
    assert done.job.name == plan.run_name
    assert done.job.tags["azft.plan"] == plan.hash
    assert azure.jobs() == [plan.run_name]


def test_a_pipeline_becomes_one_job_with_registered_steps(azure: Azure, shop: Toy) -> None:
    plan = plan_in(shop, MaapMode(shop.root), azure)
    done = submit(azure, shop, plan)
    assert done.started
    steps = done.job.properties["jobs"]
    assert {name: "components/azureml_anonymous" in step["componentId"] for name, step in steps.items()} == {
        "prepare": True, "finetune": True, "evaluate": True, "package": True,
    }  # fmt: skip


def test_submitting_again_asks_once_and_sends_nothing(azure: Azure, shop: Toy, plan: Plan) -> None:
    submit(azure, shop, plan)
    azure.emu.log.clear()
    done = submit(azure, shop, plan)
    assert not done.started
    assert [entry["method"] for entry in azure.emu.log.list() if "/identity/" not in entry["path"]] == ["GET"]


@pytest.mark.parametrize(("fault", "fields"), UNCLEAR, ids=str)
def test_an_unclear_answer_is_settled_by_looking(
    azure: Azure, shop: Toy, plan: Plan, fault: str, fields: dict[str, Any]
) -> None:
    azure.fault(fault, method="PUT", path=JOBS, times=1, **fields)
    done = submit(azure, shop, plan)
    assert done.job.name == plan.run_name
    requests = [entry["method"] for entry in azure.emu.log.list() if JOBS in entry["path"]]
    first = requests.index("PUT")
    assert requests[first + 1] == "GET"  # never a second PUT before a look
    assert azure.jobs() in ([plan.run_name], [])
    assert Resources(azure.connect()).get("job", plan.run_name) is not None


def test_the_wait_that_the_service_asks_for_is_kept(azure: Azure, shop: Toy, plan: Plan) -> None:
    azure.fault("throttled", method="PUT", path=JOBS, times=1, params={"retry_after": 11})
    submit(azure, shop, plan)
    assert 11.0 in azure.time.slept


@pytest.mark.parametrize(
    ("fault", "params", "longest"),
    [("throttled", {"retry_after": 11}, 26.5), ("server-error", {"status": 503}, 15.5)],
)
def test_a_wait_for_the_job_is_told_at_once(
    azure: Azure, shop: Toy, plan: Plan, fault: str, params: dict[str, Any], longest: float
) -> None:
    azure.fault(fault, method="PUT", path=JOBS, times=1, params=params)
    events: list[dict[str, Any]] = []
    slept: list[int] = []

    def listen(event: dict[str, Any]) -> None:
        if event["event"] == "waiting":
            slept.append(len(azure.time.slept))
        events.append(event)

    before = len(azure.time.slept)
    MaasMode(shop.root).submit(plan, wait=False, on_event=listen)
    waits = [event for event in events if event["event"] == "waiting"]
    assert waits == [
        {
            "event": "waiting", "what": "Submitting the job", "status": params.get("status", 429), "asked": True,
            "seconds": longest, "at_most": True,
        }
    ]  # fmt: skip
    assert slept == [before]  # told first, waited then


def test_a_job_that_is_not_visible_yet_is_waited_for_and_not_sent_twice(azure: Azure, shop: Toy, plan: Plan) -> None:
    azure.fault("answer-lost", method="PUT", path=JOBS, times=1)
    azure.fault("not-visible-yet", path=JOBS, times=1)
    done = submit(azure, shop, plan)
    assert done.started
    assert len(azure.sent("PUT", JOBS)) == 1
    assert sum(azure.time.slept) >= 5  # the emulator hides it for five seconds


def test_our_own_job_is_adopted_when_the_service_says_that_it_exists(azure: Azure, shop: Toy, plan: Plan) -> None:
    """The service compares with its normalised body, and refuses an honest repetition."""
    azure.fault("body-normalised", times=-1)
    azure.fault("answer-lost", method="PUT", path=JOBS, times=1)
    azure.fault("not-visible-yet", path=JOBS, times=4)
    done = submit(azure, shop, plan)
    assert done.job.tags["azft.plan"] == plan.hash


def test_anothers_job_of_the_same_name_is_refused_before_anything_is_sent(azure: Azure, shop: Toy, plan: Plan) -> None:
    other = plan.model_copy(update={"hash": "0" * 64, "name": plan.name})
    submit(azure, shop, other, name=plan.run_name)
    azure.emu.log.clear()
    with pytest.raises(ConflictError) as error:
        submit(azure, shop, plan)
    assert "another plan's hash" in error.value.message
    assert "--again" in error.value.fix
    assert azure.sent("PUT") == []


def test_a_quota_that_is_used_up_is_a_limit(azure: Azure, shop: Toy) -> None:
    plan = plan_in(shop, MaapMode(shop.root), azure)
    body = {"error": {"code": "UserError", "message": "exceeding approved StandardNC Cores quota"}}
    connection = azure.connect()
    original = type(connection.client._service_client_01_2024_preview_arm).send_request

    def refuse(client: Any, request: Any, **options: Any) -> Any:
        from tests.azureml.test_errors import http_error

        if request.method == "PUT" and JOBS in request.url:
            raise http_error(400, body)
        return original(client, request, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(connection.client._service_client_01_2024_preview_arm), "send_request", refuse)
        with pytest.raises(LimitError) as error:
            submit(azure, shop, plan)
    assert error.value.exit_code == 6


def test_a_refusal_is_told_and_not_repeated(azure: Azure, shop: Toy, plan: Plan) -> None:
    azure.fault("region-refuses-model", times=-1)
    try:
        done = submit(azure, shop, plan)
    except ServiceError as error:
        assert "region" in str(error).lower()  # noqa: PT017 - the emulator may refuse at once or let the job fail
        assert len(azure.sent("PUT", JOBS)) == 1
    else:
        assert done.job.name == plan.run_name


def test_an_outage_ends_in_an_error_that_says_to_do_it_again(azure: Azure, shop: Toy, plan: Plan) -> None:
    azure.fault("connection-reset", method="PUT", path=JOBS, times=-1)
    with pytest.raises(ServiceUnavailableError) as error:
        submit(azure, shop, plan)
    assert "nothing is started twice" in error.value.fix
    assert len(azure.sent("PUT", JOBS)) == 4
    azure.emu.faults.clear()
    assert submit(azure, shop, plan).started


def test_a_sign_in_that_is_refused_for_good_is_a_sign_in_error(azure: Azure, shop: Toy, plan: Plan) -> None:
    azure.fault("token-expired", method="PUT", path=JOBS, times=-1)
    with pytest.raises(MissingRoleError):
        submit(azure, shop, plan)


def test_two_at_once_are_one_job(azure: Azure, shop: Toy, plan: Plan) -> None:
    results: list[Submitted | BaseException] = []
    start = threading.Barrier(2)

    def run() -> None:
        start.wait()
        try:
            results.append(submit(azure, shop, plan))
        except BaseException as error:
            results.append(error)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [type(result) for result in results] == [Submitted, Submitted], results
    assert azure.jobs() == [plan.run_name]


def test_a_wanted_second_gets_the_first_free_number_here_and_there(azure: Azure, shop: Toy, plan: Plan) -> None:
    connection = azure.connect()
    submit(azure, shop, plan)
    submit(azure, shop, plan, name=f"{plan.run_name}-3")
    assert next_name(connection, plan, lambda name: name.endswith("-2")) == f"{plan.run_name}-4"


@pytest.mark.parametrize("stride", [9, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("fault", ["server-error", "connection-reset", "throttled", "answer-lost", "token-expired"])
def test_every_request_may_fail_once(azure: Azure, shop: Toy, fault: str, stride: int) -> None:
    """Each request of a whole submission in turn: the job is there in the end, once."""
    plan = plan_in(shop, MaapMode(shop.root), azure)
    submit(azure, shop, plan, name="reference")
    requests = [e for e in azure.emu.log.list() if not e["path"].startswith("/identity")]
    for number in range(0, len(requests), stride):
        azure.fault(fault, after=number, times=1)
        name = f"job-{fault}-{number}"
        try:
            submit(azure, shop, plan, name=name)
        except AzftError as error:
            pytest.fail(f"request {number}: {error}")
        azure.emu.faults.clear()
        assert Resources(azure.connect()).get("job", name) is not None


@pytest.mark.parametrize("mode", [MaasMode, MaapMode])
def test_the_newest_model_is_named_by_its_version_which_a_second_job_keeps(
    azure: Azure, shop: Toy, mode: type[MaasMode] | type[MaapMode]
) -> None:
    """The same plan is the same job, also when the registry has another model tomorrow."""
    plan = plan_in(shop, mode(shop.root), azure)
    assert plan.target is not None
    assert plan.target.model_id.endswith("/labels/latest")
    run = mode(shop.root).submit(plan, wait=False)
    newest = plan.target.model_id.replace("/labels/latest", "/versions/1")
    assert run.azure["model"] == newest
    job = Resources(azure.connect()).get("job", plan.run_name)
    assert job is not None
    sent = json.dumps(job.properties)
    assert newest in sent
    assert "labels/latest" not in sent
    folder = shop.root / "newer"
    write_model(folder)
    seed_model(azure.emu, "azureml", "Phi-4-mini-instruct", "2", folder, kind="mlflow_model")
    here = mode(shop.root)
    here._next_job(run)
    assert here._start(azure.connect(), run, plan, force=False, tell=lambda _: None)
    second = Resources(azure.connect()).get("job", f"{plan.run_name}-r1")
    assert second is not None
    assert newest in json.dumps(second.properties)
