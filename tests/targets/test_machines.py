"""Machines: what can't work is an error with its line and a fix, before anything is sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from azft.plan import Plan
from tests.helpers.azure_recipes import azure_plan, codes


@pytest.fixture(autouse=True)
def no_data_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("azft.data_check.check_for_plan", lambda *_: ())


def plan(folder: Path, *overrides: str, **maap: object) -> Plan:
    return azure_plan(folder, "azft", *overrides, modes={"maap": maap})


A100 = "Standard_NC96ads_A100_v4"


@pytest.mark.parametrize(
    ("maap", "overrides", "code", "severity", "words"),
    [
        ({}, (), "azure-machines", "error", "says no machines"),
        ({"compute": "gpus", "instance_types": [A100]}, (), "azure-machines", "error", "one of them"),
        ({"compute": "c"}, (), "azure-compute-name", "error", "`c` is no name for a cluster"),
        ({"compute": "my_cluster"}, (), "azure-compute-name", "error", "no name for a cluster"),
        ({"compute": "/subscriptions/s/computes/gpus"}, (), "azure-compute-name", "error", "no name for a cluster"),
        ({"compute": f"g{31 * 'p'}u"}, (), "azure-compute-name", "error", "no name for a cluster"),
        ({"compute": "gpus"}, (), "azure-size-unknown-here", "info", "not known without asking Azure"),
        (
            {"compute": "gpus"}, ("distribution.strategy=ddp",), "azure-size-unknown-here", "warning",
            "1 GPU of each node",
        ),
        ({"instance_types": ["Standard_NC6s_v3"]}, (), "azure-size-retired", "error", "2025-09-30"),
        ({"compute": "gpus", "vm_size": "standard_nc12s_V3"}, (), "azure-size-retired", "error", "Standard_NC12s_v3"),
        ({"instance_types": ["Standard_NC24ads_A100"]}, (), "azure-size-unknown", "warning", "knows no VM size"),
        (
            {"instance_types": ["Standard_NC4as_T4_v3"]}, ("training.precision=bf16",), "azure-no-bf16", "error",
            "T4",
        ),
        ({"instance_types": ["Standard_D12_v2"]}, (), "azure-no-gpu", "warning", "slow"),
        ({"instance_types": ["Standard_D12_v2"], "pipeline": "system"}, (), "azure-no-gpu", "error", "refuses"),
        (
            {"instance_types": [A100], "gpus_per_node": 8}, ("distribution.strategy=ddp",), "azure-too-many-gpus",
            "error", "has 4 GPUs, not 8",
        ),
        ({"compute": "gpus", "nodes": 2}, (), "azure-no-strategy", "error", "2 GPUs"),
        ({"compute": "gpus", "gpus_per_node": 2}, (), "azure-no-strategy", "error", "2 GPUs"),
        ({"instance_types": [A100]}, (), "azure-idle-gpus", "warning", "has 4 GPUs, and 1 would work"),
        (
            {"instance_types": [A100], "nodes": 8}, ("distribution.strategy=ddp",), "azure-idle-ranks", "warning",
            "32 ranks",
        ),
        ({"compute": "gpus", "tier": "low-priority"}, (), "azure-preemption", "warning", "once an epoch"),
        (
            {"compute": "gpus", "tier": "low-priority", "pipeline": "system"}, (), "azure-preemption", "warning",
            "from zero",
        ),
        (
            {"instance_types": [A100], "tier": "low-priority", "pipeline": "system"}, (), "azure-not-offered",
            "warning", "are dedicated",
        ),
        ({"compute": "gpus", "nodes": 4, "max_nodes": 2}, (), "azure-max-nodes", "error", "at most 2"),
        ({"instance_types": [A100, "Standard_NC40ads_H100_v5"]}, (), "azure-first-size-only", "warning", A100),
        ({"instance_types": [A100], "idle_seconds": 300}, (), "azure-not-offered", "warning", "describes a cluster"),
    ],
)  # fmt: skip
def test_a_fault_of_the_machines_is_found(
    tmp_path: Path, maap: dict[str, object], overrides: tuple[str, ...], code: str, severity: str, words: str
) -> None:
    found = [f for f in plan(tmp_path, *overrides, **maap).findings if f.code == code]
    assert [f.severity for f in found] == [severity]
    assert words in found[0].message
    assert found[0].line
    assert found[0].fix or severity == "info"


def test_checkpoints_now_and_then_are_enough_for_low_priority(tmp_path: Path) -> None:
    made = plan(tmp_path, "training.save_steps=5", compute="gpus", tier="low-priority")
    assert "azure-preemption" not in codes(made)


def test_nothing_stands_in_the_way_of_a_good_recipe(tmp_path: Path) -> None:
    made = plan(tmp_path, "distribution.strategy=ddp", instance_types=[A100], nodes=2)
    assert not made.has_errors
    assert codes(made, "warning") == set()
    assert made.target is not None
    assert (made.target.nodes, made.target.gpus_per_node, made.processes) == (2, 4, 4)


def test_gpus_are_looked_up_where_a_strategy_shares_the_work(tmp_path: Path) -> None:
    assert plan(tmp_path, compute="gpus", vm_size=A100).processes == 1
    assert plan(tmp_path, "distribution.strategy=ddp", compute="gpus", vm_size=A100).processes == 4
    assert plan(tmp_path, "distribution.strategy=ddp", compute="gpus").processes == 1
    assert plan(tmp_path, compute="gpus", vm_size=A100, pipeline="system").processes == 4


def test_v100_and_t4_train_in_another_precision(tmp_path: Path) -> None:
    made = plan(tmp_path, "training.precision=auto", instance_types=["Standard_NC4as_T4_v3"])
    assert not made.has_errors


def test_a_clusters_name_may_be_written_as_azure_mls_yaml_does(tmp_path: Path) -> None:
    made = plan(tmp_path, compute="azureml:gpu-cluster", pipeline="system")
    assert made.target is not None
    assert made.target.compute == made.target.parameters["compute_finetune"] == "gpu-cluster"
