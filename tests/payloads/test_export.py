"""The exported folder is the same job: the SDK's own loader reads it back, and would send the same."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from azft import api
from azft.errors import FindingsError, UsageError
from azft.payloads import to_wire
from azft.payloads.export import build_exported, export
from azft.pipeline import quiet_sdk
from azft.staging import COMPONENTS
from tests.catalog.conftest import make_model
from tests.helpers.azure_recipes import MODES, SECTIONS, azure_plan, azure_recipe


@pytest.fixture(autouse=True)
def no_data_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("azft.data_check.check_for_plan", lambda *_: ())


def normal(value: Any, folder: Path) -> Any:
    """The wire without what the SDK notes about itself, and with every path from the folder's top.

    It notes whether a job came from a file, calls a component that a job file names anonymous, and resolves the paths
    of a fine-tuning job only when it sends it.
    """
    if isinstance(value, dict):
        kept = {key: normal(inner, folder) for key, inner in value.items() if key != "_source"}
        if str(kept.get("name")).startswith(("azft_", "azureml_anonymous")):
            kept["name"] = "ANONYMOUS"
        return kept
    if isinstance(value, list):
        return [normal(inner, folder) for inner in value]
    return value.replace(f"{folder}/", "./") if isinstance(value, str) else value


@pytest.mark.parametrize("target", SECTIONS)
def test_the_sdk_reads_the_same_job_back(tmp_path: Path, target: str) -> None:
    from azure.ai.ml import load_job

    plan = azure_plan(tmp_path / "recipe", target, data={"train": "train.jsonl", "test": "test.jsonl"})
    file = export(plan, tmp_path / "out")
    with quiet_sdk():
        loaded = load_job(file)
        assert not loaded._validate().error_messages if hasattr(loaded, "_validate") else True
        read = normal(to_wire(loaded), tmp_path / "out")
        (tmp_path / "again").mkdir()
        expected = normal(to_wire(build_exported(plan, tmp_path / "again")), tmp_path / "again")
    assert read == expected
    assert str(tmp_path) not in file.read_text()


@pytest.mark.parametrize("target", ["azft", "finetuning"])
def test_the_folder_can_be_moved(tmp_path: Path, target: str) -> None:
    from azure.ai.ml import load_job

    file = export(azure_plan(tmp_path / "recipe", target), tmp_path / "out")
    shutil.rmtree(tmp_path / "recipe")
    shutil.move(tmp_path / "out", tmp_path / "moved")
    with quiet_sdk():
        text = json.dumps(to_wire(load_job(tmp_path / "moved" / file.name)))
    assert str(tmp_path / "out") not in text
    for part in json.loads(text)["properties"].get("inputs", {}).values():
        if "moved" in part.get("uri", ""):
            assert Path(part["uri"]).exists()


def test_everything_that_the_job_reads_is_in_the_folder(tmp_path: Path) -> None:
    make_model(tmp_path / "recipe" / "model")
    (tmp_path / "recipe" / "model" / "notes.bin").write_bytes(b"not loaded")
    file = export(azure_plan(tmp_path / "recipe", "azft", model="./model"), tmp_path / "out")
    names = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert {
        "pipeline.yml", "code/azft.zip", "data/train.jsonl", "data/validation.jsonl", "model/model.safetensors",
        "environments/train/Dockerfile", "environments/prepare/requirements.txt",
        *(f"components/{step}.yml" for step in COMPONENTS), *(f"parameters/{step}.json" for step in COMPONENTS),
        *(f"code/{step}/main.py" for step in COMPONENTS),
    } <= names  # fmt: skip
    assert "model/notes.bin" not in names
    words = yaml.safe_load(file.read_text())
    assert words["inputs"]["model"] == {"type": "custom_model", "path": "./model"}
    assert words["jobs"]["finetune"]["component"] == "./components/finetune.yml"


def test_a_fine_tuning_job_is_written_in_azures_own_words(tmp_path: Path) -> None:
    words = yaml.safe_load(export(azure_plan(tmp_path / "recipe", "maas"), tmp_path / "out").read_text())
    assert (words["type"], words["task"], words["model_provider"]) == ("finetuning", "chat_completion", "custom")
    assert words["training_data"] == {"type": "uri_file", "path": "./data/train.jsonl"}


def test_what_was_exported_can_be_taken_again(tmp_path: Path) -> None:
    plan = azure_plan(tmp_path / "recipe", "finetuning")
    again = api.plan_from_azureml(export(plan, tmp_path / "out"))
    assert again.target is not None
    assert plan.target is not None
    for field in ("service", "model_id", "instance_types", "hyperparameters"):
        assert getattr(again.target, field) == getattr(plan.target, field)
    assert [u.name for u in again.target.uploads] == [u.name for u in plan.target.uploads]


def test_nothing_is_written_over_and_nothing_half(tmp_path: Path) -> None:
    plan = azure_plan(tmp_path / "recipe", "maas")
    export(plan, tmp_path / "out")
    with pytest.raises(UsageError, match="not empty"):
        export(plan, tmp_path / "out")
    broken = azure_plan(tmp_path / "recipe", "maas", model="Phi-3-mini-4k-instruct")
    with pytest.raises(FindingsError):
        export(broken, tmp_path / "other")
    assert not (tmp_path / "other").exists()
    local = azure_plan(tmp_path / "recipe", "maas").model_copy(update={"target": None, "mode": "local"})
    with pytest.raises(UsageError, match="no job"):
        export(local, tmp_path / "other")


def test_the_api_exports_a_recipe(tmp_path: Path) -> None:
    file = api.export_azureml(azure_recipe(tmp_path / "recipe", "azft"), tmp_path / "out", mode=MODES["azft"])
    assert file == tmp_path / "out" / "pipeline.yml"
