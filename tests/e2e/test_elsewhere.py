"""A run is found, watched and ended from another folder, by somebody who has nothing of it but the workspace."""

from __future__ import annotations

import pytest

from tests.e2e.world import Cloud, Person, name_of, wait_for


@pytest.mark.slow
def test_a_run_is_found_by_its_tags_and_ended_from_another_folder(cloud: Cloud, person: Person) -> None:
    run = name_of(person.azft("submit", "--mode", "maas", "--no-wait", "--set", "training.epochs=1000"))
    (job,) = [job["properties"] for job in cloud.list("jobs") if job["name"] == run]
    kept = ("jobType", "fineTuningDetails", "outputs", "experimentName", "displayName")
    cloud.job_by_hand("theirs", {**{key: job[key] for key in kept}, "tags": {}})  # the same, but for what azft adds
    other = person.another(person.folder / "elsewhere")
    assert other.json("runs") == []

    (found,) = other.json("runs", "--remote")  # of azft's own only
    assert (found["name"], found["job"], found["mode"]) == (run, run, "maas")
    assert found["plan"] == job["tags"]["azft.plan"]
    assert found["state"] in {"Queued", "Preparing", "Running"}
    for name in ("theirs", run[:-1]):
        assert f"There is no run `{name}`" in other.azft("status", name, code=3).err

    wait_for("the training", lambda: "step 2/" in other.azft("logs", run).out)
    status = other.json("status", run)
    assert (status["state"], status["mode"]) == ("Running", "maas")
    assert [known["name"] for known in other.json("runs")] == [run]
    assert f"{run} is asked to stop." in other.azft("cancel", run).out
    log = other.azft("logs", run, "--follow", code=7).out

    # Who started it sees the same.
    assert person.azft("logs", run, "--follow", code=7).out == log
    assert person.json("status", run)["state"] == "Canceled"
