"""Which model Azure is given: retired, elsewhere, not in a registry, to be bought; each with a way out."""

from __future__ import annotations

from pathlib import Path

import pytest

from azft.catalog.folder import folder_identity
from azft.findings import Finding
from azft.plan import Plan
from tests.catalog.conftest import make_model
from tests.helpers.azure_recipes import azure_plan, codes


@pytest.fixture(autouse=True)
def no_data_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("azft.data_check.check_for_plan", lambda *_: ())


def one(plan: Plan, code: str) -> Finding:
    found = [finding for finding in plan.findings if finding.code == code]
    assert len(found) == 1, codes(plan)
    assert found[0].line
    return found[0]


@pytest.mark.parametrize(
    ("model", "successor"),
    [
        ("Phi-3-mini-4k-instruct", "Phi-4-mini-instruct"),
        ("Phi-3.5-mini-instruct", "Phi-4-mini-instruct"),
        ("Phi-3-medium-128k-instruct", "Phi-4"),
        ("azureml://registries/azureml/models/Phi-3-mini-128k-instruct/versions/13", "Phi-4-mini-instruct"),
        ("Llama-2-7b-chat", "Llama-3.1-8B-Instruct"),
        ("Mistral-Nemo", "Ministral-3B"),
    ],
)
def test_a_retired_model_is_refused_with_its_successor(tmp_path: Path, model: str, successor: str) -> None:
    finding = one(azure_plan(tmp_path, "maas", model=model), "azure-model-retired")
    assert finding.severity == "error"
    assert successor in finding.fix
    assert "20" in finding.message  # the date


def test_a_retired_model_still_runs_on_machines_of_ones_own(tmp_path: Path) -> None:
    plan = azure_plan(tmp_path, "azft", model="Phi-3-mini-4k-instruct")
    assert not plan.has_errors
    assert one(plan, "azure-model-retired-elsewhere").severity == "info"


@pytest.mark.parametrize(
    ("region", "code"),
    [
        ("westus3", None),
        ("West US 3", None),
        ("eastus2", "azure-region-without-model"),
        ("westus33", "azure-region-unknown"),
        ("mars", "azure-region-unknown"),
    ],
)
def test_the_region_must_offer_the_model(tmp_path: Path, region: str, code: str | None) -> None:
    plan = azure_plan(tmp_path, "maas", f"modes.maas.region={region}", model="Llama-3.3-70B-Instruct")
    assert codes(plan, "error") == ({code} if code else set())
    assert plan.target is not None
    assert plan.target.region == region.replace(" ", "").lower()
    if code:
        assert "westus3" in one(plan, code).fix


def test_an_open_region_says_where_the_model_is(tmp_path: Path) -> None:
    plan = azure_plan(tmp_path, "maas", modes={})
    assert "eastus2" in one(plan, "azure-region-open").message
    assert not plan.has_errors


@pytest.mark.parametrize("model", ["gemma-2-2b-it", "google/gemma-2-2b-it", "someone/some-model"])
def test_serverless_does_not_take_what_it_does_not_offer(tmp_path: Path, model: str) -> None:
    finding = one(azure_plan(tmp_path, "maas", model=model), "azure-model-not-offered")
    assert "Phi-4-mini-instruct" in finding.fix


def test_what_no_registry_holds_must_be_here_to_be_uploaded(tmp_path: Path) -> None:
    plan = azure_plan(tmp_path, "azft", model="someone/some-model")
    assert "azft models get someone/some-model" in one(plan, "azure-model-not-in-registry").fix
    assert plan.has_errors
    assert "azure-model-not-in-registry" in codes(azure_plan(tmp_path, "finetuning", model="someone/some-model"))


def test_the_system_pipeline_takes_a_model_of_the_hub(tmp_path: Path) -> None:
    plan = azure_plan(tmp_path, "system", model="Qwen/Qwen2.5-7B-Instruct")
    assert not plan.has_errors
    assert plan.target is not None
    assert plan.target.parameters["huggingface_id"] == "Qwen/Qwen2.5-7B-Instruct"


def test_a_folder_is_uploaded_and_named_by_its_contents(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "model")
    plan = azure_plan(tmp_path, "azft", model="./model")
    assert plan.target is not None
    upload = plan.target.upload("model")
    assert upload is not None
    assert upload.name == f"azft-model-{folder_identity(folder)[:32]}"
    assert plan.target.model_id == upload.reference == f"azureml:{upload.name}:1"
    assert plan.target.model_type == "custom_model"
    assert plan.model.path == folder
    assert "azure-model-not-offered" in codes(azure_plan(tmp_path, "maas", model="./model"), "error")


def test_a_broken_folder_is_an_error_of_the_plan(tmp_path: Path) -> None:
    (make_model(tmp_path / "model") / "model.safetensors").unlink()
    plan = azure_plan(tmp_path, "azft", model="./model")
    assert "no model.safetensors" in one(plan, "azure-model-unusable").message
    assert "no folder" in one(azure_plan(tmp_path, "azft", model="./gone"), "azure-model-unusable").message


def test_third_party_models_are_bought_and_licences_are_named(tmp_path: Path) -> None:
    plan = azure_plan(tmp_path, "maas", "modes.maas.region=westus3", model="Llama-3.1-8B-Instruct")
    assert plan.target is not None
    assert plan.target.marketplace
    assert "Meta" in one(plan, "azure-marketplace").message
    assert "Llama 3.1 Community License" in one(plan, "azure-licence").message
    assert any("marketplace" in line for line in plan.target.bills)
    ours = azure_plan(tmp_path, "maas")
    assert ours.target is not None
    assert not ours.target.marketplace
    assert not {"azure-marketplace", "azure-licence"} & codes(ours)


def test_a_registry_id_is_given_as_it_is_and_latest_is_named_as_moving(tmp_path: Path) -> None:
    fixed = "azureml://registries/azureml/models/Phi-4-mini-instruct/versions/3"
    plan = azure_plan(tmp_path, "azft", model=fixed)
    assert plan.target is not None
    assert plan.target.model_id == fixed
    assert "azure-model-moves" not in codes(plan)
    assert "versions/<version>" in one(azure_plan(tmp_path, "azft"), "azure-model-moves").fix


def test_a_model_that_the_catalog_does_not_know_is_let_through_with_a_word(tmp_path: Path) -> None:
    model = "azureml://registries/azureml-cohere/models/Some-Model/versions/1"
    assert one(azure_plan(tmp_path, "azft", model=model), "azure-model-not-catalogued").severity == "info"
    assert one(azure_plan(tmp_path, "maas", model=model), "azure-model-not-catalogued").severity == "warning"


def test_a_revision_of_the_hub_means_nothing_to_a_registry(tmp_path: Path) -> None:
    for target in ("maas", "azft", "system", "finetuning"):
        plan = azure_plan(tmp_path, target, "model_revision=abc")
        assert "registries" in one(plan, "azure-not-offered").fix


@pytest.mark.parametrize(("name", "wrong"), [("good-name_1.2", False), ("no spaces", True), ("-leading", True)])
def test_the_results_name_must_be_one_that_azure_takes(tmp_path: Path, name: str, wrong: bool) -> None:
    for target in ("maas", "azft"):
        plan = azure_plan(tmp_path, target, output={"model_name": name})
        assert ("azure-model-name" in codes(plan, "error")) is wrong


def test_the_template_for_tools_is_part_of_the_folder(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "model")
    before = folder_identity(folder)
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "tool_use.jinja").write_text("{{ tools }}")
    assert folder_identity(folder) != before
    (folder / "weights.bin").write_bytes(b"a pickle")
    upload = azure_plan(tmp_path, "azft", model="./model").target.upload("model")  # type: ignore[union-attr]
    assert upload is not None
    assert upload.files == 5
