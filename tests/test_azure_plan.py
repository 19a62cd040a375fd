"""A plan for Azure: exact without a network, hashed by what decides the result, stale when anything changed."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from azft import staging
from azft.catalog.facts import facts_sha256
from azft.errors import FindingsError, StalePlanError
from azft.files import canonical_json, sha256_bytes, sha256_file
from azft.plan import Plan
from azft.plan_checks import changes_since, require_fresh
from tests.helpers.azure_recipes import MODES, SECTIONS, azure_plan, azure_recipe, codes, write_rows

TARGETS = list(SECTIONS)


@pytest.fixture(autouse=True)
def no_data_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("azft.data_check.check_for_plan", lambda *_: ())


@pytest.mark.parametrize("target", TARGETS)
def test_the_same_recipe_elsewhere_is_the_same_plan(tmp_path: Path, target: str) -> None:
    one, other = azure_plan(tmp_path / "one", target), azure_plan(tmp_path / "other", target)
    assert one.hash == other.hash == one.computed_hash()
    assert one.recipe_path != other.recipe_path
    assert not one.has_errors, one.findings


def test_no_two_targets_are_the_same_plan(tmp_path: Path) -> None:
    hashes = [azure_plan(tmp_path, target).hash for target in TARGETS]
    assert len(set(hashes)) == len(TARGETS)


@pytest.mark.parametrize("target", TARGETS)
def test_json_round_trip_and_edits(tmp_path: Path, target: str) -> None:
    plan = azure_plan(tmp_path, target)
    assert Plan.from_json(plan.to_json()) == plan
    assert changes_since(Plan.from_json(plan.to_json())) == []
    data = plan.model_dump(mode="json")
    data["target"]["nodes"] = 9
    assert changes_since(Plan.from_json(canonical_json(data))) == ["the plan itself was edited"]


def test_the_hash_covers_what_is_sent_and_not_what_azure_has_already(tmp_path: Path) -> None:
    plan = azure_plan(tmp_path, "azft")
    assert plan.target is not None
    uploads = tuple(upload.model_copy(update={"there": True}) for upload in plan.target.uploads)
    known = plan.model_copy(update={"target": plan.target.model_copy(update={"uploads": uploads, "bills": ()})})
    assert known.computed_hash() == plan.hash
    for change in ({"tier": "low-priority"}, {"model_id": "other"}, {"region": "westus"}, {"catalog_sha256": "0"}):
        other = plan.model_copy(update={"target": plan.target.model_copy(update=change)})
        assert other.computed_hash() != plan.hash


def test_azfts_code_decides_its_own_pipeline_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plans = {target: azure_plan(tmp_path, target) for target in TARGETS}
    monkeypatch.setattr(staging, "package_zip", lambda: b"other code")
    for target, plan in plans.items():
        own = target.startswith("azft")
        assert (azure_plan(tmp_path, target).hash != plan.hash) is own
        assert (changes_since(plan) != []) is own
        assert (plan.code_hash == "") is not own


@pytest.mark.parametrize("target", TARGETS)
def test_a_change_of_the_catalog_makes_the_plan_stale(
    tmp_path: Path, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = azure_plan(tmp_path, target)
    monkeypatch.setattr("azft.catalog.facts.find", lambda _: None)
    assert ["catalog" in change for change in changes_since(plan)] == [True]
    with pytest.raises(StalePlanError, match="catalog") as stale:
        require_fresh(plan)
    assert stale.value.exit_code == 3


def test_a_vm_size_that_azft_learnt_of_makes_the_plan_stale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = azure_plan(tmp_path, "azft-sizes")
    other = azure_plan(tmp_path, "maas")
    monkeypatch.setattr("azft.catalog.facts.find_size", lambda _: None)
    assert changes_since(plan) != []
    assert changes_since(other) == []
    assert facts_sha256("Phi-4", [], None)


def test_changed_data_make_the_plan_stale(tmp_path: Path) -> None:
    plan = azure_plan(tmp_path, "maas")
    write_rows(tmp_path / "train.jsonl", 41)
    assert "train data" in changes_since(plan)[0]


def test_assets_are_named_by_their_contents(tmp_path: Path) -> None:
    plan = azure_plan(tmp_path, "azft")
    assert plan.target is not None
    digest = sha256_file(tmp_path / "train.jsonl")
    uploads = {upload.name: upload for upload in plan.target.uploads}
    data = uploads[f"azft-data-{digest[:32]}"]
    assert (data.bytes, data.reference) == ((tmp_path / "train.jsonl").stat().st_size, f"azureml:{data.name}:1")
    for step in plan.steps:
        content = step.parameters_json()
        upload = uploads[f"azft/parameters/{sha256_bytes(content)[:32]}/{step.name}.json"]
        assert upload.bytes == len(content)
        assert upload.reference.startswith("azureml://datastores/workspaceblobstore/paths/azft/parameters/")
    code = plan.target.upload("code")
    assert code is not None
    assert code.sha256 == plan.code_hash
    assert (code.files, code.bytes) == (5, sum(map(len, staging.code_files().values())))
    assert [u.kind for u in plan.target.uploads].count("environment") == 2


def test_equal_files_are_one_asset_and_another_suffix_is_another(tmp_path: Path) -> None:
    azure_recipe(tmp_path, "azft")
    shutil.copyfile(tmp_path / "train.jsonl", tmp_path / "copy.jsonl")
    plan = azure_plan(tmp_path, "azft", "data.test=copy.jsonl")
    assert plan.target is not None
    assert len(plan.inputs) == 3
    assert len([u for u in plan.target.uploads if u.kind == "data"]) == 2
    (tmp_path / "rows.json").write_bytes((tmp_path / "train.jsonl").read_bytes())
    other = azure_plan(tmp_path, "azft", "data.test=rows.json")
    assert other.target is not None
    assert [u.name.rpartition("-")[2] for u in other.target.uploads if u.kind == "data"][2] == "json"


def test_bills_name_what_costs_money(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prices = tmp_path / "prices.yaml"
    prices.write_text("hourly:\n  Standard_NC24ads_A100_v4: 3.5\n")
    monkeypatch.setenv("AZFT_PRICES", str(prices))
    bills = {target: " | ".join(azure_plan(tmp_path, target).target.bills) for target in TARGETS}  # type: ignore[union-attr]
    assert "by the token, over 3 epochs" in bills["maas"]
    assert "hosting" in bills["maas"]
    assert "3.50 USD an hour" in bills["azft-sizes"]
    assert "20 minutes more" in bills["azft"]
    assert all(re.search(r"^training: ", text) for text in bills.values())


def test_names_that_mean_nothing_raise_with_their_findings(tmp_path: Path) -> None:
    with pytest.raises(FindingsError, match="No model is called") as caught:
        azure_plan(tmp_path, "maas", model="Phi4-mini-instruct")
    assert "Phi-4-mini-instruct" in caught.value.fix


def test_full_training_is_no_business_of_fine_tuning_jobs(tmp_path: Path) -> None:
    for target in ("maas", "finetuning"):
        assert "azure-technique" in codes(azure_plan(tmp_path, target, technique={"name": "full"}), "error")
        assert "azure-epochs" in codes(azure_plan(tmp_path, target, "training.epochs=0.5"), "error")
    assert not azure_plan(tmp_path, "azft", "training.epochs=0.5", technique={"name": "full"}).has_errors


def test_hyperparameters_are_text(tmp_path: Path) -> None:
    plan = azure_plan(tmp_path, "maas", training={"epochs": 2, "learning_rate": 2e-5, "max_length": 512})
    assert plan.target is not None
    assert plan.target.hyperparameters == {
        "num_train_epochs": "2",
        "learning_rate": "0.00002",
        "per_device_train_batch_size": "1",
        "max_seq_length": "512",
    }


def test_further_hyperparameters_pass_as_they_are(tmp_path: Path) -> None:
    plan = azure_plan(tmp_path, "finetuning", "modes.maap.parameters={lora_r: 8}")
    assert plan.target is not None
    assert plan.target.hyperparameters["lora_r"] == "8"
    assert "azure-unchecked" in codes(plan, "info")
    twice = azure_plan(tmp_path, "finetuning", "modes.maap.parameters={learning_rate: 1}", "training.learning_rate=2")
    assert "azure-said-twice" in codes(twice, "error")


@pytest.mark.parametrize("target", TARGETS)
def test_a_plan_loads_neither_the_sdk_nor_torch(tmp_path: Path, target: str) -> None:
    azure_recipe(tmp_path, target)
    script = (
        "import sys\n"
        "from azft import api\n"
        f"plan = api.plan({str(tmp_path / 'recipe.yaml')!r}, {MODES[target]!r})\n"
        "print(plan.has_errors, sorted({n.split('.')[0] for n in sys.modules} & {'azure', 'torch', 'transformers'}))"
    )
    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.split("\n")[0] == "False []"
