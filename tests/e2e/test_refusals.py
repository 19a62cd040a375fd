"""What is refused, before or after it was sent: with which exit code, and in which words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.world import GPU, Cloud, Person, name_of, shop

SETTINGS = {"executor": "none", "run_seconds": 3600}
MAAP = ("submit", "--mode", "maap")
FAMILY = "StandardNCADSA100v4Family"
TRIED = {
    "EnvironmentCredential": "Environment variables are not fully configured",
    "WorkloadIdentityCredential": "workload options are not fully configured",
    "ManagedIdentityCredential": "X-IDENTITY-HEADER is missing or wrong",
    "AzureCliCredential": "Azure CLI not found on path (az login)",
    "AzureDeveloperCliCredential": "(azd auth login)",
}
"""Ways to sign in, and why each fails for somebody who has none."""


def test_a_stale_plan_is_refused_and_says_what_changed(tmp_path: Path) -> None:
    person = shop(tmp_path)
    person.azft("plan", "--mode", "maap", "--out", "plan.json", "-o", "none")
    train, recipe = person.folder / "train.jsonl", person.folder / "recipe.yaml"

    was = train.read_bytes()
    train.write_bytes(was.replace(b"loaf 7 ", b"bun 7 "))
    other = person.azft("submit", "plan.json", code=3)
    assert "is stale" in other.err
    assert f"train data {train} has other contents" in other.err
    train.write_bytes(was)

    recipe.write_text(recipe.read_text().replace("rank: 4", "rank: 8"))
    train.unlink()
    both = person.azft("submit", "plan.json", code=3)
    assert f"the recipe {recipe} changed; train data {train} is gone" in both.err
    assert f"azft plan {recipe} --mode maap" in both.err
    assert not (person.folder / ".azft" / "runs").exists()


@pytest.mark.slow
def test_nobody_is_signed_in(cloud: Cloud, person: Person) -> None:
    before = cloud.jobs()
    nobody = {"IDENTITY_HEADER": "another", "HOME": str(person.folder), "PATH": str(person.folder)}
    refused = person.azft(*MAAP, code=4, **nobody)
    assert "Nobody is signed in to Azure here" in refused.err
    assert "Sign in: az login" in refused.err
    said = {line.split(" - ")[0].strip(): line for line in refused.err.splitlines() if "Credential - " in line}
    for way, why in TRIED.items():
        assert why in said[way]
    assert person.json("runs") == []
    assert cloud.jobs() == before


@pytest.mark.slow
def test_an_image_that_cannot_be_built_is_explained(cloud: Cloud, person: Person) -> None:
    cloud.settings(executor="run")
    cloud.faults({"name": "image-build-failed"})
    failed = person.azft(*MAAP, code=7)
    (run,) = [found["name"] for found in person.json("runs")]
    assert cloud.jobs()[run] == "Failed"
    for said in (
        "Error: Step `prepare` failed: Azure could not build the environment's image.",
        "azft's environments/ is what is built",  # what to mend
        f"azft logs {run} --step prepare",
        "Azure's words (UserError/ImageBuildFailure, request ",
        "pip install -r requirements.txt",
        f"azft resume {run}",
    ):
        assert said in failed.err
    status = person.json("status", run)
    assert (status["state"], status["step"]) == ("Failed", "prepare")
    assert "could not build the environment's image" in status["message"]

    # It is not started again by itself, and says the same again.
    requests = cloud.during(lambda: person.azft(*MAAP, code=7))
    assert not [request for request in requests if request.startswith("PUT")]
    assert person.azft("logs", run, "--follow", code=7).out.startswith("prepare | Error: Image build failed")


@pytest.mark.slow
def test_what_the_account_says_of_a_plan(cloud: Cloud, person: Person) -> None:
    train = person.folder / "train.jsonl"
    train.write_text(train.read_text().replace("loaf", "roll"))  # rows that nobody has uploaded
    requests = cloud.during(lambda: person.azft("plan", "--mode", "maap", "--check-remote", "--out", "plan.json"))
    assert not [request for request in requests if request.startswith(("PUT", "PATCH", "DELETE"))]
    said = _remote(person)
    assert said["remote-identity"].startswith("Signed in as 00000000-0000-0000-0000-00000000000c (tenant ")
    assert said["remote-workspace"].startswith("Workspace azft-rehearsal in resource group azft, region eastus2; ")
    assert said["remote-quota"] == f"Quota in eastus2: 24 cores of {FAMILY} needed, 0 of 400 in use."
    assert said["remote-compute"] == f"The cluster gpu-cluster has 0 of at most 1 x {GPU} up."
    assert said["remote-upload"].endswith("bytes will be sent.")

    # The plan is carried out as it is, and the next question finds its uploads there.
    assert name_of(person.azft("submit", "plan.json", "--no-wait")) in cloud.jobs()
    assert _remote(person)["remote-upload"].endswith("there already.")
    gone = person.azft("plan", "--mode", "maap", "--check-remote", "--set", "modes.maap.compute=gone", code=5)
    assert "The workspace has no compute gone." in gone.out
    elsewhere = person.azft("plan", "--mode", "maas", "--check-remote", "--set", "modes.maas.region=westus", code=5)
    assert "The recipe says region westus, and the workspace is in eastus2." in elsewhere.out


@pytest.mark.slow
def test_quota_is_found_out_before_and_explained_after(cloud: Cloud, person: Person) -> None:
    # Known beforehand.
    cloud.settings(quota={FAMILY: 12})
    checked = person.azft("plan", "--mode", "maap", "--check-remote", code=5)
    assert f"Not enough quota in eastus2: 24 cores of {FAMILY} needed, 0 of 12 in use." in checked.out
    create = (*MAAP, "--create-compute", "--set", "modes.maap.compute=bread")
    never = person.azft(*create, code=6)
    assert f"The quota in eastus2 never allows 1 x {GPU}" in never.err
    # Known to the service only.
    cloud.settings(quota={})
    cloud.faults({"name": "quota-exhausted", "times": -1})
    refused = person.azft(*create, code=6)
    assert (
        "Creating the compute cluster bread failed: A quota or the region's capacity does not allow it." in refused.err
    )
    assert "ClusterCoreQuotaReached" in refused.err
    assert "bread" not in [compute["name"] for compute in cloud.list("computes")]
    # Found out by the job.
    failed = person.azft(*MAAP, code=7)
    assert "The quota of the VM family is used up." in failed.err
    assert "then: azft resume " in failed.err


def _remote(person: Person) -> dict[str, str]:
    """Code -> message of what the account says; of several the first."""
    plan = json.loads(person.azft("plan", "--mode", "maap", "--check-remote", "-o", "json").out)
    return {f["code"]: f["message"] for f in reversed(plan["findings"]) if f["code"].startswith("remote-")}
