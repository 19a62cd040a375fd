"""What goes over the wire, to the byte, for every target; and the SDK's private names that it relies on."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from azft import api
from azft.payloads import build_job, content_references, to_wire
from azft.plan import Plan
from azft.staging import COMPONENTS, stage_code
from tests.catalog.conftest import make_model
from tests.helpers.azure_recipes import SECTIONS, azure_plan

ASSETS = Path(__file__).parents[1] / "assets" / "payloads"
HEAD = """\
# What Azure gets for tests/helpers/azure_recipes.py, case `{name}` below, without hashes.
# To renew it, run tests/payloads/test_payloads.py with RENEW_GOLDEN=1 and read the diff.
"""
GOLDEN: dict[str, dict[str, Any]] = {
    "maas": {},
    "maas-third-party": {
        "target": "maas",
        "model": "Llama-3.3-70B-Instruct",
        "modes": {"maas": {"region": "westus3"}},
        "data": {"train": "train.jsonl"},
    },
    "maap-azft-cluster": {"target": "azft"},
    "maap-azft-many-nodes": {
        "target": "azft",
        "distribution": {"strategy": "ddp"},
        "modes": {"maap": {"compute": "gpu-cluster", "vm_size": "Standard_NC96ads_A100_v4", "nodes": 2}},
        "data": {"train": "train.jsonl", "validation": "validation.jsonl", "test": "test.jsonl"},
    },
    "maap-azft-low-priority": {
        "target": "azft",
        "modes": {"maap": {"instance_types": ["Standard_NC24ads_A100_v4"], "tier": "low-priority"}},
    },
    "maap-system": {"target": "system"},
    "maap-system-hub-model": {"target": "system", "model": "Qwen2.5-7B-Instruct", "technique": {"name": "full"}},
    "maap-finetuning-sizes": {"target": "finetuning"},
    "maap-finetuning-cluster": {
        "target": "finetuning",
        "description": "a cluster, low priority",
        "modes": {"maap": {"compute": "gpu-cluster", "tier": "low-priority", "pipeline": "finetuning"}},
    },
}


@pytest.fixture(autouse=True)
def no_data_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("azft.data_check.check_for_plan", lambda *_: ())


def payload(plan: Plan) -> dict[str, Any]:
    return dict(api.payload(plan))


@pytest.mark.parametrize("name", GOLDEN)
def test_the_payload_is_the_golden_one(tmp_path: Path, name: str) -> None:
    changes = dict(GOLDEN[name])
    plan = azure_plan(tmp_path, changes.pop("target", name), **changes)
    assert not plan.has_errors, plan.findings
    text = json.dumps(payload(plan)["properties"])
    text = text.replace(plan.hash, "HASH").replace(plan.hash[:8], "HASH8")
    text = re.sub(r"[0-9a-f]{32,64}", "HASH", text).replace(plan.azft_version, "VERSION")
    shown = HEAD.format(name=name) + yaml.safe_dump(json.loads(text), sort_keys=True, width=120)
    golden = ASSETS / f"{name}.yaml"
    if os.environ.get("RENEW_GOLDEN"):
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(shown)
    assert golden.read_text() == shown


@pytest.mark.parametrize("target", SECTIONS)
def test_a_payload_holds_no_path_of_this_machine_and_is_the_same_twice(tmp_path: Path, target: str) -> None:
    plan = azure_plan(tmp_path, target)
    text = json.dumps(payload(plan), sort_keys=True)
    assert str(tmp_path) not in text
    assert str(Path(__file__).parents[2]) not in text
    assert text == json.dumps(payload(azure_plan(tmp_path / "elsewhere", target)), sort_keys=True)


@pytest.mark.parametrize("target", SECTIONS)
def test_every_job_carries_its_labels(tmp_path: Path, target: str) -> None:
    plan = azure_plan(tmp_path, target)
    job = build_job(
        plan, name="again-2", run="again", code=tmp_path, parameters=tmp_path, references=content_references(plan)
    )
    properties = to_wire(job)["properties"]
    labels = {"azft.plan": plan.hash, "azft.run": "again", "azft.version": plan.azft_version}
    assert labels.items() <= properties["tags"].items()
    assert labels.items() <= properties["properties"].items()
    assert job.name == "again-2"


def test_a_second_job_of_a_run_finds_the_first_ones_checkpoints(tmp_path: Path) -> None:
    plan = azure_plan(tmp_path, "azft")
    kept = []
    for name, run in (("sums-1", "sums-1"), ("sums-1-resumed", "sums-1"), ("sums-2", None)):
        job = build_job(
            plan, name=name, run=run, code=tmp_path, parameters=tmp_path, references=content_references(plan)
        )
        outputs = to_wire(job)["properties"]["outputs"]
        kept.append(outputs["checkpoints"]["uri"])
        assert {key for key, output in outputs.items() if "uri" in output} == {"checkpoints", "metrics"}
        assert outputs["checkpoints"]["mode"] == "ReadWriteMount"
    assert kept[0] == kept[1] == "azureml://datastores/workspaceblobstore/paths/azft/runs/sums-1/checkpoints"
    assert kept[2] != kept[0]


def test_without_references_code_and_environments_are_local_folders(tmp_path: Path) -> None:
    plan = azure_plan(tmp_path, "azft")
    code = stage_code(tmp_path / "code").folder
    wire = to_wire(build_job(plan, code=code, parameters=tmp_path))["properties"]
    for step in COMPONENTS:
        component = wire["jobs"][step]["componentId"]
        assert component["code"] == str(code)
        assert Path(component["environment"]["build"]["path"]).is_dir()
    references = {upload.name: f"azureml:given-{n}:9" for n, upload in enumerate(plan.target.uploads)}  # type: ignore[union-attr]
    wire = to_wire(build_job(plan, code=code, parameters=tmp_path, references=references))["properties"]
    text = json.dumps(wire)
    assert all(f"azureml:given-{n}:9" in text for n in range(len(references)))


def test_a_folders_model_goes_as_the_asset_that_it_becomes(tmp_path: Path) -> None:
    make_model(tmp_path / "model")
    inputs = {}
    for target, key in (("azft", "model"), ("system", "pytorch_model_path")):
        plan = azure_plan(tmp_path, target, model="./model")
        inputs[target] = payload(plan)["properties"]["inputs"][key]
        assert inputs[target]["jobInputType"] == "custom_model"
        assert inputs[target]["uri"] == plan.target.model_id  # type: ignore[union-attr]


def test_the_registrys_pipeline_is_named_and_every_value_is_text(tmp_path: Path) -> None:
    node = payload(azure_plan(tmp_path, "system"))["properties"]["jobs"]["finetune"]
    assert node["componentId"] == "azureml://registries/azureml/components/chat_completion_pipeline/labels/latest"
    literals = [value["value"] for value in node["inputs"].values()]
    assert all(isinstance(value, str) for value in literals)


def test_the_sdks_private_names_that_this_relies_on() -> None:
    """A new azure-ai-ml that lacks one of them fails here, and not at a user's."""
    import inspect

    from azure.ai.ml._restclient.arm_ml_service._utils.model_base import SdkJSONEncoder
    from azure.ai.ml.entities import Pipeline, PipelineJob
    from azure.ai.ml.entities._job.finetuning.custom_model_finetuning_job import CustomModelFineTuningJob
    from azure.ai.ml.entities._job.job_resources import JobResources

    assert issubclass(SdkJSONEncoder, json.JSONEncoder)
    assert "exclude_readonly" in inspect.signature(SdkJSONEncoder.__init__).parameters
    for owner, names in {
        PipelineJob: ("_validate", "_to_rest_object", "_to_dict"),
        CustomModelFineTuningJob: ("_to_rest_object", "_to_dict"),
    }.items():
        assert all(callable(getattr(owner, name)) for name in names)
    assert "component" in inspect.signature(Pipeline.__init__).parameters
    assert JobResources(instance_types=["a"])._to_rest_object().as_dict() == {"instanceTypes": ["a"]}
