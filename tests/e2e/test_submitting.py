"""One plan, one job: twice, from two shells at once, through every lost answer; a second one only when it is wanted."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.world import GPU, Cloud, Person, name_of, shop

SETTINGS = {"executor": "none", "run_seconds": 3600, "visible_seconds": 1}
MAAS = ("submit", "--mode", "maas", "--no-wait")
MAAP = ("submit", "--mode", "maap", "--no-wait")


def jobs_of(cloud: Cloud, run: str) -> list[str]:
    """The jobs whose names begin with the run's, the oldest first."""
    return [name for name in reversed(cloud.jobs()) if name.startswith(run)]


def changes(requests: list[str]) -> list[str]:
    """Those that change something."""
    return [request for request in requests if request.startswith(("PUT", "PATCH", "DELETE"))]


def test_two_shells_at_once_start_one_job(cloud: Cloud, person: Person) -> None:
    shells = [person.start(*MAAS) for _ in range(2)]
    (run,) = {name_of(shell.end(0)) for shell in shells}
    assert jobs_of(cloud, run) == [run]


@pytest.mark.slow
def test_three_machines_at_once_start_one_job(cloud: Cloud, person: Person) -> None:
    recipe = (person.folder / "recipe.yaml").read_text()
    people = [person, *(shop(person.folder / f"machine-{number}", cloud, recipe) for number in (2, 3))]
    shells = [somebody.start(*MAAP) for somebody in people]
    (run,) = {name_of(shell.end(0)) for shell in shells}
    assert jobs_of(cloud, run) == [run]


@pytest.mark.slow
def test_a_plan_has_a_second_job_only_when_it_is_wanted(cloud: Cloud, person: Person) -> None:
    person.azft("plan", "--mode", "maap", "--out", "plan.json", "-o", "none")
    run = name_of(person.azft("submit", "plan.json", "--no-wait"))
    for same in (("submit", "plan.json", "--no-wait"), MAAP):
        requests = cloud.during(lambda same=same: _starts(person, run, *same))  # type: ignore[misc]
        assert changes(requests) == []
    assert jobs_of(cloud, run) == [run]

    _starts(person, f"{run}-2", *MAAP, "--again")
    _starts(person, f"{run}-2", *MAAP)  # the newest is the plan's run now
    assert jobs_of(cloud, run) == [run, f"{run}-2"]
    assert {found["name"] for found in person.json("runs")} == {run, f"{run}-2"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("faults", "sent"),
    [
        ([{"name": "throttled"}], 2),
        ([{"name": "answer-lost"}, {"name": "not-visible-yet"}], 1),
        ([{"name": "answer-lost"}, {"name": "body-normalised", "times": -1}], 1),
        ([{"name": "connection-reset"}, {"name": "server-error"}, {"name": "answer-lost"}], 3),
    ],
    ids=lambda value: "+".join(fault["name"] for fault in value) if isinstance(value, list) else "",
)
def test_however_the_answer_is_lost_there_is_one_job(
    cloud: Cloud, person: Person, faults: list[dict[str, Any]], sent: int
) -> None:
    cloud.faults(*({"method": "PUT", "path": "/jobs/", **fault} for fault in faults))
    before = len(cloud.requests())
    run = name_of(person.azft(*MAAS))
    assert jobs_of(cloud, run) == [run]
    assert [request for request in cloud.requests()[before:] if request.startswith("PUT") and run in request] == [
        f"PUT {cloud.path}/jobs/{run}"
    ] * sent
    cloud.faults()
    _starts(person, run, *MAAS)
    assert jobs_of(cloud, run) == [run]


@pytest.mark.slow
def test_a_cluster_is_made_only_when_it_is_asked_for(cloud: Cloud, person: Person) -> None:
    submit = (*MAAP, "--set", "modes.maap.compute=bread")
    missing = person.azft(*submit, code=3)
    assert "The workspace azft-rehearsal has no compute cluster bread." in missing.err
    assert "--create-compute" in missing.err
    assert not [request for request in cloud.requests() if request.startswith("PUT") and "bread" in request]

    made = person.azft(*submit, "--create-compute")
    run = name_of(made)
    assert f"making the cluster bread of {GPU}" in made.err
    (cluster,) = [compute for compute in cloud.list("computes") if compute["name"] == "bread"]
    inner = cluster["properties"]["properties"]
    assert (inner["vmSize"], inner["scaleSettings"]["minNodeCount"]) == (GPU, 0)
    assert jobs_of(cloud, run) == [run]

    # Whoever uses it next makes none; and it ends with the run that made it, unless somebody still uses it.
    others = person.azft(*submit, "--create-compute", "--set", "training.seed=7")
    assert "making the cluster" not in others.err
    other = name_of(others)
    refused = person.azft("down", run, "--yes", code=1)
    assert f"Jobs run on it: {other}. End them first." in refused.out
    assert "computes/bread" in cloud.bills()
    person.azft("down", other, "--yes")
    person.azft("down", run, "--yes")
    assert "computes/bread" not in cloud.bills()
    assert {cloud.jobs()[name] for name in (run, other)} == {"Canceled"}


def _starts(person: Person, run: str, *command: str) -> None:
    assert name_of(person.azft(*command)) == run
