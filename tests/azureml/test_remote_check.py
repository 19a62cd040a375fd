"""What only the account can tell of a plan, as findings; a refusal or an outage is one of them."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from azft import api
from azft.azureml.connection import Access
from azft.azureml.credentials import Credential
from azft.azureml.errors import SignInError
from azft.azureml.registry_facts import parse_facts
from azft.azureml.remote_check import check, check_plan, identity
from azft.azureml.resources import Resources
from azft.emulator.registry import seed_model
from azft.findings import Finding, Severity
from azft.payloads.wire import wire
from azft.plan import Plan
from tests.helpers.azure_runs import MODEL, SIZE, Azure, emulated


@pytest.fixture
def azure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Azure]:
    with emulated(tmp_path, monkeypatch) as found:
        yield found


ML = "Microsoft.MachineLearningServices/workspaces"


def by_code(findings: list[Finding], code: str) -> list[Finding]:
    return [finding for finding in findings if finding.code == code]


def errors(findings: list[Finding]) -> set[str]:
    return {finding.code for finding in findings if finding.severity is Severity.ERROR}


def maap(azure: Azure, *more: str) -> Plan:
    return azure.plan("maap", f"modes.maap.instance_types=[{SIZE}]", *more)


def own_cluster(azure: Azure, **settings: Any) -> None:
    from azure.ai.ml.entities import AmlCompute

    given = {"size": SIZE, "max_instances": 2, "tier": "dedicated", "location": "eastus2", **settings}
    azure.resources.put("compute", "gpu", body=wire(AmlCompute(name="gpu", **given)._to_rest_object()))


def test_it_says_who_where_and_what_is_there(azure: Azure) -> None:
    findings = check(azure.connection, maap(azure))
    assert errors(findings) == set()
    assert "Signed in as" in by_code(findings, "remote-identity")[0].message
    place = by_code(findings, "remote-workspace")[0].message
    assert "azft-rehearsal" in place
    assert "region eastus2; found by the environment" in place
    assert by_code(findings, "remote-model")[0].message.startswith(f"{MODEL} is version 7")
    assert (
        "24 cores of StandardNCADSA100v4Family needed, 0 of 400 in use" in by_code(findings, "remote-quota")[0].message
    )
    assert all("not there" in finding.message for finding in by_code(findings, "remote-upload"))


def test_it_changes_nothing(azure: Azure) -> None:
    check(azure.connection, maap(azure))
    assert {entry["method"] for entry in azure.emu.log.list()} <= {"GET", "POST", "HEAD"}
    assert azure.requests("PUT", "/") == 0


def test_what_was_uploaded_is_there_and_the_plan_is_the_same(azure: Azure) -> None:
    plan = azure.plan("maas")
    before = check_plan(azure.connection, plan)
    assert before.target is not None
    assert [upload.there for upload in before.target.uploads] == [False, False]
    api.submit(plan, wait=False, access=Access())
    after = check_plan(azure.connection, plan)
    assert after.target is not None
    assert [upload.there for upload in after.target.uploads] == [True, True]
    assert after.hash == plan.hash == after.computed_hash()


def test_the_registrys_regions_override_the_table(azure: Azure, tmp_path: Path) -> None:
    assert not errors(check(azure.connection, azure.plan("maas")))
    tags = {"maas-finetuning-deploy-regions": "westus3, swedencentral"}
    seed_model(azure.emu, "azureml", MODEL, "8", tmp_path / "base", tags=tags)
    findings = check(azure.connection, azure.plan("maas"))
    assert errors(findings) == {"remote-model-region"}
    assert "lists westus3, swedencentral" in by_code(findings, "remote-model-region")[0].message


def test_the_recipes_region_must_be_the_workspaces(azure: Azure) -> None:
    findings = check(azure.connection, azure.plan("maas", "modes.maas.region=westus"))
    assert errors(findings) == {"remote-region"}


def test_the_allow_list_binds_the_services_pipelines_only(azure: Azure) -> None:
    other = ("modes.maap.instance_types=[Standard_NC40ads_H100_v5]",)
    own = check(azure.connection, azure.plan("maap", *other))
    assert by_code(own, "remote-model-size")[0].severity is Severity.WARNING
    theirs = check(azure.connection, azure.plan("maap", *other, "modes.maap.pipeline=system"))
    assert by_code(theirs, "remote-model-size")[0].severity is Severity.ERROR


def test_the_registrys_defaults_are_shown_and_never_taken_over(azure: Azure, tmp_path: Path) -> None:
    tags = {"model_specific_defaults": "{'learning_rate': 0.5, 'apply_lora': 'true', 'flash': 'on'}"}
    seed_model(azure.emu, "azureml", MODEL, "8", tmp_path / "base", tags=tags)
    plan = maap(azure, "modes.maap.pipeline=system")
    findings = by_code(check(azure.connection, plan), "remote-model-default")
    said = [finding.message for finding in findings]
    assert [text.partition(":")[0] for text in said] == ["learning_rate", "flash"], "apply_lora is the plan's, too"
    assert "the registry's own default for Phi-4-mini-instruct is 0.5" in said[0]
    assert all(finding.severity is Severity.INFO for finding in findings)
    assert check_plan(azure.connection, plan).target.parameters == plan.target.parameters  # type: ignore[union-attr]


def test_quota_that_does_not_suffice_is_an_error(azure: Azure) -> None:
    azure.emu.settings = azure.emu.settings.changed({"quota": {"StandardNCADSA100v4Family": 23}})
    assert "remote-quota" in errors(check(azure.connection, maap(azure)))


def test_low_priority_has_a_quota_of_its_own(azure: Azure) -> None:
    azure.emu.settings = azure.emu.settings.changed({"low_priority_quota": 10})
    findings = check(azure.connection, maap(azure, "modes.maap.tier=low-priority"))
    assert "remote-quota" in errors(findings)
    assert "0 of 10 in use" in by_code(findings, "remote-quota")[0].message


def test_a_size_that_the_region_lacks_is_an_error(azure: Azure) -> None:
    sizes = [size for size in azure.emu.settings.vm_sizes if size.name != SIZE]
    azure.emu.settings = azure.emu.settings.changed({"vm_sizes": sizes})
    assert errors(check(azure.connection, maap(azure))) == {"remote-size"}


def test_a_cluster_is_looked_at(azure: Azure) -> None:
    plan = azure.plan("maap", "modes.maap.compute=gpu", f"modes.maap.vm_size={SIZE}")
    assert errors(check(azure.connection, plan)) == {"remote-compute-missing"}
    own_cluster(azure)
    findings = check(azure.connection, plan)
    assert errors(findings) == set()
    assert by_code(findings, "remote-compute")[0].message == f"The cluster gpu has 0 of at most 2 x {SIZE} up."


def test_a_cluster_that_is_too_small_is_an_error(azure: Azure) -> None:
    own_cluster(azure, max_instances=1, tier="low_priority", min_instances=1)
    two = ("modes.maap.nodes=2", "distribution.strategy=ddp")
    plan = azure.plan("maap", "modes.maap.compute=gpu", f"modes.maap.vm_size={SIZE}", *two)
    findings = check(azure.connection, plan)
    assert errors(findings) >= {"compute-nodes", "compute-tier"}
    assert by_code(findings, "compute-always-on")[0].severity is Severity.WARNING


def test_a_missing_role_is_a_finding_and_the_rest_is_still_asked(azure: Azure) -> None:
    azure.emu.faults.add("server-error", path="/usages", params={"status": 403}, times=-1)
    findings = check(azure.connection, maap(azure))
    assert errors(findings) == {"remote-role"}
    assert by_code(findings, "remote-upload"), "the next question was asked all the same"


@pytest.mark.parametrize(
    ("permissions", "missing"),
    [
        ([{"actions": ["*"], "notActions": []}], set()),
        (
            [{"actions": ["Microsoft.MachineLearningServices/workspaces/*/read"]}],
            {"submit", "cancel", "register", "make"},
        ),
        (
            [{"actions": ["*"], "notActions": [f"{ML}/serverlessEndpoints/*".lower()]}],
            {"make"},
        ),
        ([{"actions": [f"{ML}/*/write"]}], {"cancel"}),
    ],
)
def test_roles_are_held_to_what_the_plan_needs(
    azure: Azure, monkeypatch: pytest.MonkeyPatch, permissions: list[dict[str, Any]], missing: set[str]
) -> None:
    monkeypatch.setattr(Resources, "permissions", lambda _: permissions)
    findings = by_code(check(azure.connection, azure.plan("maas")), "remote-role")
    assert {finding.message.removeprefix("The identity may not ").split()[0] for finding in findings} == missing


def test_roles_that_cannot_be_asked_are_said_to_be_unknown(azure: Azure) -> None:
    azure.emu.faults.add("server-error", path="/permissions$", times=-1)
    findings = check(azure.connection, azure.plan("maas"))
    assert by_code(findings, "remote-roles-unknown")
    assert not errors(findings)


def test_an_outage_is_a_warning_that_names_what_was_not_checked(azure: Azure) -> None:
    azure.emu.faults.add("server-error", path="/usages", times=-1)
    findings = check(azure.connection, maap(azure))
    (finding,) = by_code(findings, "remote-unavailable")
    assert finding.severity is Severity.WARNING
    assert finding.message.startswith("Not checked (compute):")


def test_without_a_sign_in_there_is_one_finding(azure: Azure, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise SignInError("Nobody is signed in to Azure here.", fix="Sign in: az login")

    monkeypatch.setattr(Credential, "get_token", refused)
    findings = check(azure.connection, maap(azure))
    assert [(finding.code, finding.severity) for finding in findings] == [("remote-sign-in", Severity.ERROR)]


def test_a_token_says_whose_it_is_and_nothing_else() -> None:
    def token(**claims: str) -> str:
        body = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
        return f"eyJhbGciOiJub25lIn0.{body}.c2lnbmF0dXJl"

    assert identity(token(upn="ada@example.org", tid="t", oid="o")) == "ada@example.org (tenant t)"
    assert identity(token(appid="1234", oid="o")) == "1234"
    for odd in ("no token", "a.b.c", token()):
        said = identity(odd)
        assert said == "an identity that the token does not name"
        assert odd not in said


def test_tags_are_read_as_literals_and_never_run() -> None:
    facts = parse_facts(
        "azureml",
        "m",
        "1",
        {
            "finetune_compute_allow_list": "['A', 'B']",
            "model_specific_defaults": "__import__('os').getcwd()",
            "maas-finetuning-deploy-regions": "['eastus2', 'westus3']",
        },
        {"inference-recommended-sku": "A, B"},
    )
    assert facts.allow_list == ("A", "B")
    assert facts.regions == ("eastus2", "westus3")
    assert facts.serve_sizes == ("A", "B")
    assert (facts.defaults, facts.unreadable) == ({}, ("model_specific_defaults",))


def test_a_plan_for_this_machine_has_nothing_to_check(azure: Azure) -> None:
    assert [finding.code for finding in check(azure.connection, azure.plan("local"))] == ["remote-local-plan"]
