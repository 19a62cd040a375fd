"""A GPU that can't hold weights, gradients and optimizer states is a finding, and one that can is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from azft.catalog.vm_sizes import find_size
from azft.recipe import Recipe
from azft.targets import loading
from azft.targets.gpu_memory import too_small_gpus
from azft.targets.loading import Node, TooSmall, known_weights, node_of
from tests.helpers.azure_recipes import azure_plan
from tests.targets.test_loading import DDP, FSDP, OFFLOADED, ZERO, in_bf16, one, recipe

GIB = 1 << 30
pytestmark = pytest.mark.usefixtures("no_data_check")
STAGE: dict[int, dict[str, object]] = {n: {"strategy": "deepspeed", "zero_stage": n} for n in (1, 2)}


def judge(what: Recipe, folder: Path | None, gib: float | None, ranks: int = 1) -> TooSmall | None:
    precision = "bf16" if what.training.precision == "auto" else what.training.precision
    gpu = None if gib is None else int(gib * GIB)
    return too_small_gpus(what, Node("it", 900 * GIB, ranks, ranks, True, precision, gpu), known_weights(folder, None))


@pytest.mark.parametrize(
    ("what", "needed", "ranks"),
    [
        # 8 billion weights are 29.8 GiB in fp32; a gradient and two states for each make four times that.
        (recipe("full"), 119.21, 1),
        (recipe("full", DDP), 119.21, 8),
        (recipe("full", FSDP), 14.91, 8),
        (recipe("full", ZERO), 14.91, 8),
        (recipe("full", STAGE[1]), 29.81 * 2 + 59.61 / 8, 8),
        (recipe("full", STAGE[2]), 29.81 + 89.41 / 8, 8),
        (recipe("full", {**STAGE[2], "offload": "optimizer"}), 29.81 + 29.81 / 8, 8),
        # Of other techniques the weights alone are sure.
        (recipe("freeze"), 29.81, 1),
        (recipe("lora"), 14.91, 1),
        (recipe("lora", precision="fp32"), 29.81, 1),
        (recipe("lora", FSDP), 1.87, 8),
        (recipe("qlora"), 4.2, 1),
    ],
)
def test_what_a_gpu_must_hold(what: Recipe, needed: float, ranks: int, eight_billion: Path) -> None:
    assert judge(what, eight_billion, needed + 0.02, ranks) is None
    problem = judge(what, eight_billion, needed - 0.03, ranks)
    assert problem is not None
    assert problem.exact


def test_what_waits_in_the_hosts_memory_and_what_is_not_known_is_not_counted(
    eight_billion: Path, tmp_path: Path
) -> None:
    assert judge(recipe("full", OFFLOADED), eight_billion, 0.1) is None
    assert judge(recipe("full"), eight_billion, None) is None, "no GPU, or one of unknown memory"
    assert judge(recipe("full"), None, 0.1) is None
    (tmp_path / "empty").mkdir()
    assert judge(recipe("full"), tmp_path / "empty", 0.1) is None


def test_the_way_out_is_one_that_the_recipe_has_not_taken(eight_billion: Path) -> None:
    ways: dict[str, Any] = {
        "technique lora": recipe("full"),
        "technique qlora": recipe("lora"),
        "distribution.strategy: fsdp": recipe("qlora"),
        "modes.maap.nodes": recipe("full", FSDP),
    }
    for way, what in ways.items():
        problem = judge(what, eight_billion, 0.1)
        assert problem is not None
        assert way in problem.fix
    pissa = Recipe.model_validate({**recipe("lora").model_dump(), "technique": {"name": "lora", "init": "pissa"}})
    problem = judge(pissa, eight_billion, 20)
    assert problem is not None
    assert "another technique.init" in problem.fix


def test_a_size_has_as_much_as_its_row_says() -> None:
    big, none = find_size("Standard_ND96asr_v4"), find_size("Standard_DS3_v2")
    assert big is not None
    assert none is not None
    node, cpu = node_of(recipe("full"), big, 8), node_of(recipe("full"), none, 1)
    assert node is not None
    assert node.gpu_memory == 40 * GIB
    assert cpu is not None
    assert cpu.gpu_memory is None


def test_by_the_catalogs_row_it_is_a_warning(tmp_path: Path) -> None:
    maap = {"maap": {"instance_types": ["Standard_NC24ads_A100_v4"]}}
    full = {"technique": {"name": "full"}, "modes": maap}
    found = one(azure_plan(tmp_path, "azft", model="Llama-3.1-8B-Instruct", **full), "azure-gpu-memory")
    assert found.severity == "warning"
    assert "take about 1" in found.message
    assert "to within a third" in found.message
    assert "Standard_NC24ads_A100_v4 has 80 GiB on each" in found.message
    assert found.line
    lora = azure_plan(tmp_path, "azft", model="Llama-3.1-8B-Instruct", modes=maap)
    assert not any("gpu-memory" in finding.code for finding in lora.findings)


def test_by_the_files_own_headers_it_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_bf16(tmp_path / "model")
    full = {"model": "./model", "technique": {"name": "full"}}
    assert not any("gpu-memory" in finding.code for finding in azure_plan(tmp_path, "azft", **full).findings)
    monkeypatch.setattr(loading, "_GIB", 1)  # 80 bytes a GPU
    assert one(azure_plan(tmp_path, "azft", **full), "azure-gpu-memory").severity == "error"
    for other in ("system", "finetuning"):
        plan = azure_plan(tmp_path, other, **full)
        assert not any("gpu-memory" in finding.code for finding in plan.findings), "azft's own code does not run there"
