"""What the registry's tags say against a plan: shown, and never silently winning."""

from __future__ import annotations

from typing import Any

from azft.findings import Finding
from azft.targets.registry_tags import tag_findings

TAGS = {
    "finetune_compute_allow_list": "['Standard_NC24ads_A100_v4', 'Standard_ND96isr_H100_v5']",
    "model_specific_defaults": "{'apply_deepspeed': 'true', 'learning_rate': 5e-06, 'num_train_epochs': 1}",
    "maas-finetuning-deploy-regions": "eastus2, westus3",
}


def found(**changes: Any) -> list[Finding]:
    given: dict[str, Any] = {
        "told": {"learning_rate": 0.0002, "num_train_epochs": 1},
        "sizes": ("standard_nc24ads_a100_v4",),
        "region": "eastus2",
        "serverless": False,
    }
    tags = changes.pop("tags", TAGS)
    return list(tag_findings(tags, changes.pop("properties", {}), **{**given, **changes}))


def test_a_size_outside_the_allow_list_is_an_error() -> None:
    assert [f for f in found() if f.severity == "error"] == []
    errors = [f for f in found(sizes=("Standard_NC4as_T4_v3",)) if f.severity == "error"]
    assert [f.code for f in errors] == ["azure-size-not-allowed"]
    assert "Standard_ND96isr_H100_v5" in errors[0].message


def test_model_specific_defaults_are_shown_and_the_plan_wins() -> None:
    by_severity = {f.severity: f.message for f in found() if f.code == "azure-model-default"}
    assert "apply_deepspeed: true" in by_severity["warning"]
    assert "the plan says 0.0002, and that wins" in by_severity["info"]
    assert "num_train_epochs" not in "".join(by_severity.values())  # equal: nothing to say


def test_regions_count_for_serverless_only() -> None:
    assert [f.code for f in found(serverless=True, region="West US 3") if f.severity == "error"] == []
    assert "azure-region-without-model" in [f.code for f in found(serverless=True, region="westus")]
    assert "azure-region-without-model" not in [f.code for f in found(region="westus")]


def test_tags_that_are_no_literals_are_no_fault() -> None:
    assert found(tags={"model_specific_defaults": "__import__('os')", "finetune_compute_allow_list": ""}) == []
    assert found(tags={}) == []


def test_a_recommended_size_is_passed_on() -> None:
    assert "NC96" in found(tags={}, properties={"finetune-recommended-sku": "Standard_NC96ads_A100_v4"})[0].message
