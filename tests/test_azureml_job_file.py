"""An Azure ML job file is taken as it is: checked at its own lines, sent in its own words."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from azft import api
from azft.azureml_job_file import plan_job_file
from azft.errors import FindingsError, UsageError
from azft.findings import Finding, Severity
from azft.plan import Plan
from azft.plan_checks import changes_since, recipe_changed
from azft.targets.job_file_words import in_a_job_files_words
from tests.helpers.azure_recipes import codes, write_rows

MODEL = "azureml://registries/azureml/models/Phi-4-mini-instruct/versions/1"
JOB: dict[str, Any] = {
    "$schema": "https://azuremlschemas.azureedge.net/latest/finetuningJob.schema.json",
    "type": "finetuning",
    "task": "chat_completion",
    "model_provider": "custom",
    "model": {"path": MODEL, "type": "mlflow_model"},
    "training_data": "train.jsonl",
    "validation_data": {"type": "uri_file", "path": "validation.jsonl"},
    "hyperparameters": {"num_train_epochs": "2", "learning_rate": "0.00002", "one_that_azft_does_not_know": "true"},
    "display_name": "my display",
    "tags": {"team": "bakery"},
    "outputs": {"registered_model": {"type": "mlflow_model", "name": "my-tuned"}},
}


@pytest.fixture(autouse=True)
def no_data_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("azft.data_check.check_for_plan", lambda *_: ())


def write(folder: Path, **changes: Any) -> Path:
    folder.mkdir(exist_ok=True)
    write_rows(folder / "train.jsonl")
    write_rows(folder / "validation.jsonl", 5, 100)
    path = folder / "job.yml"
    job = {key: value for key, value in {**JOB, **changes}.items() if value is not None}
    path.write_text(yaml.safe_dump(job, sort_keys=False))
    return path


def planned(folder: Path, **changes: Any) -> Plan:
    return plan_job_file(write(folder, **changes))


def properties(plan: Plan) -> dict[str, Any]:
    return dict(api.payload(plan)["properties"])


def test_what_it_says_is_what_is_sent(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    assert (plan.mode, plan.name) == ("maas", "my-display")
    assert not plan.has_errors
    sent = properties(plan)
    details = sent["fineTuningDetails"]
    assert details["hyperParameters"] == JOB["hyperparameters"]
    assert details["model"] == {"uri": MODEL, "jobInputType": "mlflow_model"}
    assert details["trainingData"]["uri"] == f"azureml:azft-data-{plan.inputs[0].sha256[:32]}:1"
    assert sent["displayName"] == "my display"
    assert {"team": "bakery", "azft.plan": plan.hash}.items() <= sent["tags"].items()
    assert sent["outputs"]["registered_model"]["assetName"] == "my-tuned"


@pytest.mark.parametrize(
    ("changes", "service", "key", "value"),
    [
        ({"compute": "azureml:gpu"}, "finetuning-job", "computeId", "azureml:gpu"),
        ({"compute": "gpu"}, "finetuning-job", "computeId", "gpu"),
        (
            {"resources": {"instance_types": ["Standard_NC24ads_A100_v4", "Standard_NC48ads_A100_v4"]}},
            "finetuning-job",
            "resources",
            {"instanceTypes": ["Standard_NC24ads_A100_v4", "Standard_NC48ads_A100_v4"]},
        ),
        (
            {"resources": {"instance_types": ["Standard_NC24ads_A100_v4"]}, "queue_settings": {"job_tier": "spot"}},
            "finetuning-job",
            "queueSettings",
            {"jobTier": "Spot"},
        ),
    ],
)
def test_its_machines_make_it_a_job_of_maap(
    tmp_path: Path, changes: dict[str, Any], service: str, key: str, value: Any
) -> None:
    plan = planned(tmp_path, **changes)
    assert plan.target is not None
    assert (plan.mode, plan.target.service) == ("maap", service)
    sent = properties(plan)[key]
    assert (str(sent).removeprefix("azureml:") if key == "computeId" else sent) == (
        str(value).removeprefix("azureml:") if key == "computeId" else value
    )


@pytest.mark.parametrize(
    ("changes", "code", "key"),
    [
        (
            {"model": {"path": "azureml://registries/azureml/models/Phi-3-mini-4k-instruct/versions/1"}},
            "azure-model-retired", "model",
        ),
        ({"resources": {"instance_types": ["Standard_NC6s_v3"]}}, "azure-size-retired", "resources"),
        (
            {"compute": "gpu", "resources": {"instance_types": ["Standard_NC24ads_A100_v4"]}}, "azure-machines",
            "compute",
        ),
        ({"training_data": "gone.jsonl"}, "azureml-data-missing", "training_data"),
        ({"model": {"path": "./no-folder"}}, "azureml-model-missing", "model"),
    ],
)  # fmt: skip
def test_the_checks_of_a_recipe_hold_at_its_own_lines(
    tmp_path: Path, changes: dict[str, Any], code: str, key: str
) -> None:
    plan = planned(tmp_path, **changes)
    found = [finding for finding in plan.findings if finding.code == code]
    assert [finding.severity for finding in found] == ["error"]
    text = (tmp_path / "job.yml").read_text().splitlines()
    assert found[0].line is not None
    assert text[found[0].line - 1].startswith(key)


def job_findings(folder: Path, **changes: Any) -> dict[str, str]:
    return {one.code.removeprefix("azure-"): one.fix for one in planned(folder, **changes).findings}


def test_fixes_name_the_files_own_keys(tmp_path: Path) -> None:
    """What the checks of a recipe advise must be something that the file can say."""
    machines = {"resources": {"instance_types": ["Standard_NC24ads_A100_v4"]}}
    serverless = job_findings(
        tmp_path, validation_data=None, model={"path": "azureml://registries/azureml/models/Phi-4"}
    )
    assert serverless["no-validation"] == "Name one: validation_data"
    assert serverless["region-open"] == "Take a workspace in eastus2 (a job file names none)"
    old = {"path": "azureml://registries/azureml/models/Phi-3.5-mini-instruct/versions/1"}
    retired = job_findings(tmp_path, model=old)["model-retired"]
    assert retired.endswith("Or machines of your own: name `compute` or `resources.instance_types`")
    spot = job_findings(tmp_path, **machines, queue_settings={"job_tier": "Spot"})
    assert spot["preemption"] == "A recipe with modes.maap.pipeline: azft goes on from its checkpoint."
    cluster = job_findings(tmp_path, compute="gpu")
    assert cluster["size-unknown-here"] == "Ask: azft plan --from-azureml ... --check-remote"
    name = {"registered_model": {"type": "mlflow_model", "name": "no name"}}
    for found in (serverless, spot, cluster, job_findings(tmp_path, **machines, outputs=name)):
        for code, fix in found.items():
            plain = fix.replace("recipe with modes.maap.pipeline: azft", "")
            assert not re.search(
                r"\b(modes|data|training|output|technique|distribution)\.[a-z_]+|--mode maap", plain
            ), code


def test_a_files_own_name_is_no_key() -> None:
    finding = Finding(
        "x", Severity.ERROR, "There is no file data.train.jsonl.", "Look at out/data.train, or data.train."
    )
    said = in_a_job_files_words(finding)
    assert (said.message, said.fix) == (finding.message, "Look at out/data.train, or training_data.")


def test_it_is_named_by_its_contents(tmp_path: Path) -> None:
    one, other = planned(tmp_path / "one"), planned(tmp_path / "other")
    assert one.hash == other.hash
    assert one.run_name == f"my-display-{one.hash[:8]}"
    told = planned(tmp_path / "one", hyperparameters={"num_train_epochs": "3"})
    assert told.hash != one.hash
    assert Plan.from_json(one.to_json()) == one
    named = planned(tmp_path / "one", name="chosen name")
    assert named.run_name.startswith("chosen-name-")
    assert "azureml-job-name" in codes(named, "info")


def test_a_change_makes_the_plan_stale(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    assert changes_since(plan) == []
    assert not recipe_changed(plan)
    write_rows(tmp_path / "train.jsonl", 41)
    assert "train data" in changes_since(plan)[0]
    (tmp_path / "job.yml").write_text("type: finetuning\n")
    assert recipe_changed(plan)


def test_a_local_mlflow_model_is_uploaded_whole(tmp_path: Path) -> None:
    data = tmp_path / "model" / "data" / "model"
    data.mkdir(parents=True)
    (data / "config.json").write_text("{}")
    (tmp_path / "model" / "MLmodel").write_text("flavors: {}")
    plan = planned(tmp_path, model={"path": "./model", "type": "mlflow_model"}, compute="gpu")
    assert plan.target is not None
    upload = plan.target.upload("model")
    assert upload is not None
    assert (upload.files, plan.target.model_type) == (2, "mlflow_model")
    assert properties(plan)["fineTuningDetails"]["model"]["uri"] == upload.reference
    (data / "config.json").write_text('{"a": 1}')
    assert changes_since(plan) == [f"the model in {tmp_path / 'model'} has other contents"]


def test_data_that_are_in_azure_already_are_not_checked_and_say_so(tmp_path: Path) -> None:
    plan = planned(tmp_path, training_data="azureml:my-rows:3", validation_data=None)
    assert plan.inputs == ()
    assert {"azureml-data-in-azure", "azure-no-validation"} <= codes(plan)
    assert properties(plan)["fineTuningDetails"]["trainingData"]["uri"] == "azureml:my-rows:3"


def test_other_tasks_are_taken_without_a_check_of_their_rows(tmp_path: Path) -> None:
    plan = planned(tmp_path, task="text_completion")
    assert plan.recipe["task"] == "text-generation"
    assert "azureml-rows-unchecked" in codes(plan, "info")
    assert properties(plan)["fineTuningDetails"]["taskType"] == "textCompletion"


def test_numbers_become_text_as_the_service_wants_them(tmp_path: Path) -> None:
    plan = planned(tmp_path, hyperparameters={"num_train_epochs": 2, "flag": True})
    assert properties(plan)["fineTuningDetails"]["hyperParameters"] == {"num_train_epochs": "2", "flag": "true"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"hyperparameter": {}}, "Did you mean `hyperparameters`"),
        ({"model_provider": "azure_openai"}, "custom"),
        ({"training_data": None}, "`training_data` is missing"),
        ({"hyperparameters": "many"}, "mapping"),
        ({"outputs": {"other": {}}}, "registered_model"),
    ],
)
def test_wrong_keys_are_named_with_their_lines(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(FindingsError) as error:
        planned(tmp_path, **changes)
    assert any(words in f"{finding.message} {finding.fix}" for finding in error.value.findings)
    assert all(finding.line for finding in error.value.findings if "missing" not in finding.message)


@pytest.mark.parametrize("text", ["type: command\n", "[]\n", "type: pipeline\njobs: {}\n"])
def test_other_jobs_are_not_taken(tmp_path: Path, text: str) -> None:
    (tmp_path / "job.yml").write_text(text)
    with pytest.raises(UsageError, match="type finetuning") as error:
        plan_job_file(tmp_path / "job.yml")
    assert "az ml job create" in error.value.fix
    with pytest.raises(UsageError, match="can't be read"):
        plan_job_file(tmp_path / "gone.yml")


@pytest.mark.parametrize(("rate", "warned"), [("0.00002", False), ("0.5", True), ("15", True), ("none", False)])
def test_a_learning_rate_far_from_the_usual_one_is_warned_of_at_its_line(
    rate: str, warned: bool, tmp_path: Path
) -> None:
    changes = {"training_data": "azureml:rows:1", "hyperparameters": {"learning_rate": rate}}
    plan = planned(tmp_path, **changes)
    found = [finding for finding in plan.findings if finding.code == "training-learning-rate"]
    assert len(found) == warned
    for finding in found:
        assert "hyperparameters.learning_rate" in finding.fix
        lines = (tmp_path / "job.yml").read_text().splitlines()
        assert finding.line is not None
        assert "learning_rate" in lines[finding.line - 1]
