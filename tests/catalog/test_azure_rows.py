"""What the catalog knows of Azure: dated rows with a source, and nothing that contradicts itself."""

from __future__ import annotations

import datetime

import pytest

from azft.catalog.facts import facts_sha256
from azft.catalog.rows import find, load_catalog, parse_catalog
from azft.catalog.system_pipelines import component_id, output_types, provenance, system_pipelines
from azft.catalog.vm_sizes import closest_size, find_size, vm_sizes
from azft.errors import AzftError
from tests.catalog.test_rows import FAMILY

PHI_REGIONS = ("eastus2", "eastus", "northcentralus", "southcentralus", "westus", "westus3")


def test_every_row_of_azure_has_source_and_date() -> None:
    for row in load_catalog().models:
        if row.azure is not None:
            assert row.azure.source
            assert row.azure.date.year >= 2026
            assert row.azure.registry.startswith("azureml")
    for size in vm_sizes().values():
        assert size.source
        assert size.date.year >= 2026
    assert provenance()[0]


@pytest.mark.parametrize(
    ("name", "regions"),
    [
        ("Phi-4", PHI_REGIONS),
        ("Phi-4-mini-instruct", PHI_REGIONS),
        ("Phi-4-multimodal-instruct", PHI_REGIONS),
        ("Ministral-3B", PHI_REGIONS),
        ("tsuzumi-7b", PHI_REGIONS),
        ("Llama-3.1-8B-Instruct", ("westus3",)),
        ("Llama-3.3-70B-Instruct", ("westus3",)),
    ],
)
def test_what_serverless_offers_where(name: str, regions: tuple[str, ...]) -> None:
    row = find(name)
    assert row is not None
    assert row.azure is not None
    assert row.azure.maas is not None
    assert row.azure.maas.regions == regions


def test_everything_that_serverless_retired_names_a_successor_that_it_offers() -> None:
    retired = [row for row in load_catalog().models if row.azure and row.azure.maas and row.azure.maas.retired]
    assert {row.name for row in retired if row.name.startswith("Phi-3")} == {
        row.name for row in load_catalog().models if row.name.startswith("Phi-3")
    }
    for row in retired:
        assert row.azure is not None
        assert row.azure.maas is not None
        successor = find(row.azure.maas.successor or "")
        assert successor is not None, row.name
        assert successor.azure is not None
        assert successor.azure.maas is not None
        assert successor.azure.maas.regions, row.name


def test_a_registrys_name_finds_the_row() -> None:
    row = find("azureml://registries/azureml-meta/models/Meta-Llama-3.1-8B-Instruct/versions/4")
    assert row is not None
    assert row.registry_id == "azureml://registries/azureml-meta/models/Meta-Llama-3.1-8B-Instruct/labels/latest"
    assert find("gemma-2-2b-it").registry_id is None  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("maas", "words"),
    [
        ("{regions: [eastus], retired: 2026-01-01}", "either"),
        ("{}", "either"),
        ("{retired: 2026-01-01, successor: B}", "successor `B`"),
    ],
)
def test_a_row_that_contradicts_itself_is_named_by_its_line(maas: str, words: str) -> None:
    text = (
        f"{FAMILY}models:\n  - name: A\n    family: f\n    source: s\n    date: 2026-01-01\n    azure:\n"
        f"      registry: azureml\n      provider: P\n      maas: {maas}\n      source: s\n      date: 2026-01-01\n"
    )
    with pytest.raises(AzftError, match=r"models\.yaml:") as error:
        parse_catalog(text, name="models.yaml")
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("name", "gpus", "memory", "bf16"),
    [
        ("Standard_NC24ads_A100_v4", 1, 80, True),
        ("standard_nc96ads_a100_v4", 4, 80, True),
        ("Standard_ND96asr_v4", 8, 40, True),
        ("Standard_NC80adis_H100_v5", 2, 94, True),
        ("Standard_ND96isr_H200_v5", 8, 141, True),
        ("Standard_NC4as_T4_v3", 1, 16, False),
        ("Standard_NC24s_v3", 4, 16, False),
    ],
)
def test_sizes_and_their_gpus(name: str, gpus: int, memory: int, bf16: bool) -> None:
    row = find_size(name)
    assert row is not None
    assert (row.gpus, row.gpu_memory, row.bf16) == (gpus, memory, bf16)


def test_sizes_hold_together() -> None:
    for row in vm_sizes().values():
        assert (row.gpu is None) == (row.gpus == 0) == (row.gpu_memory is None), row.name
        assert not (row.retired and find_size(row.successor or "") is None), row.name
        assert row.gpu not in ("V100", "T4") or not row.bf16
    assert find_size("Standard_NC6s_v3").retired == datetime.date(2025, 9, 30)  # type: ignore[union-attr]
    assert find_size("Standard_Unknown") is None
    assert closest_size("Standard_NC24ads_A100_v5") == "Standard_NC24ads_A100_v4"
    assert closest_size("pizza") is None


def test_the_seven_pipelines() -> None:
    found = system_pipelines()
    assert [pipeline.name for pipeline in found.values()] == [
        "chat_completion_pipeline", "text_generation_pipeline", "summarization_pipeline", "translation_pipeline",
        "question_answering_pipeline", "text_classification_pipeline", "token_classification_pipeline",
    ]  # fmt: skip
    assert component_id(found["translation"]) == (
        "azureml://registries/azureml/components/translation_pipeline/labels/latest"
    )
    assert output_types() == {"pytorch_model_folder": "uri_folder", "mlflow_model_folder": "mlflow_model"}
    assert "pad_to_max_length" not in found["token-classification"].inputs


@pytest.mark.parametrize("task", system_pipelines())
def test_defaults_of_a_pipeline_are_of_their_own_type(task: str) -> None:
    for name, spec in system_pipelines()[task].inputs.items():
        default = spec.default
        if default is None:
            continue
        assert not spec.is_asset, name
        expected = {"string": str, "integer": int, "number": float}[spec.type]
        assert isinstance(default, expected), name
        assert not spec.one_of or default in spec.one_of, name


def test_the_defaults_that_a_recipe_is_measured_against() -> None:
    inputs = system_pipelines()["chat-completion"].inputs
    expected = {
        "apply_lora": "false", "merge_lora_weights": "true", "lora_alpha": 128, "lora_r": 8, "num_train_epochs": 1,
        "max_steps": -1, "learning_rate": 2e-5, "precision": "32", "max_seq_length": -1, "evaluation_strategy": "epoch",
        "apply_deepspeed": "false", "deepspeed_stage": "2", "save_total_limit": -1, "optim": "adamw_torch",
    }  # fmt: skip
    assert {name: inputs[name].default for name in expected} == expected


def test_the_hash_of_the_facts_changes_with_any_of_them() -> None:
    hashes = [
        facts_sha256("Phi-4", ["Standard_NC24ads_A100_v4"], None),
        facts_sha256("Phi-4-mini-instruct", ["Standard_NC24ads_A100_v4"], None),
        facts_sha256("Phi-4", ["Standard_NC48ads_A100_v4"], None),
        facts_sha256("Phi-4", [], None),
        facts_sha256("Phi-4", ["Standard_NC24ads_A100_v4"], "chat-completion"),
        facts_sha256("unknown", [], None),
    ]
    assert len(set(hashes)) == len(hashes)
    assert facts_sha256("phi-4", [], None) == facts_sha256("Phi-4", [], None)
