"""A node whose memory can't hold what loading takes is a finding, with what is known of the model and no more."""

from __future__ import annotations

from pathlib import Path

import pytest

from azft import host_memory
from azft.catalog.rows import find
from azft.catalog.vm_sizes import VmSizeRow, find_size, vm_sizes
from azft.findings import Finding
from azft.modes.local import LocalMode
from azft.plan import Plan
from azft.recipe import Recipe
from azft.targets import loading
from azft.targets.loading import Node, TooSmall, known_weights, node_of, too_small
from tests.catalog.conftest import make_model
from tests.helpers.azure_recipes import azure_plan, azure_recipe

GIB = 1 << 30
pytestmark = pytest.mark.usefixtures("no_data_check")


def recipe(technique: str, distribution: dict[str, object] | None = None, precision: str = "auto") -> Recipe:
    return Recipe.model_validate(
        {
            "name": "n",
            "task": "text-generation",
            "model": "m",
            "data": {"train": "t.jsonl"},
            "technique": {"name": technique},
            "distribution": distribution or {},
            "training": {"precision": precision},
        }
    )


FSDP: dict[str, object] = {"strategy": "fsdp"}
OFFLOADED: dict[str, object] = {"strategy": "fsdp", "offload": "all"}
ZERO: dict[str, object] = {"strategy": "deepspeed", "zero_stage": 3}
DDP: dict[str, object] = {"strategy": "ddp"}


def judge(what: Recipe, folder: Path | None, gib: float, *, ranks: int = 1, gpus: bool = True) -> TooSmall | None:
    precision = "bf16" if what.training.precision == "auto" else what.training.precision
    return too_small(
        what, Node("it", int(gib / 0.95 * GIB), ranks, ranks, gpus, precision), known_weights(folder, None)
    )


@pytest.mark.parametrize(
    ("what", "needed", "ranks", "gpus"),
    [
        # 8 billion weights are 29.8 GiB in fp32 and 14.9 in bf16. On GPUs ranks take turns: one model at a time.
        (recipe("full"), 29.9, 1, True),
        (recipe("full", FSDP), 29.9, 8, True),
        (recipe("full", ZERO), 29.9, 8, True),
        (recipe("full", DDP), 29.9, 8, True),
        # Weights that stay in the host's memory: parts of seven ranks beside a whole one, or whole with every rank.
        (recipe("full", OFFLOADED), 55.95, 8, True),
        (recipe("full", FSDP), 55.95, 8, False),
        (recipe("full", DDP), 59.7, 2, False),
        # An adapter's base is a view of its files, unless it is converted; only parts of it are the ranks' own.
        (recipe("lora", precision="fp16"), 14.95, 1, True),
        (recipe("lora", FSDP, precision="fp32"), 29.9, 8, True),
        (recipe("lora", FSDP), 14.95, 8, False),
        (recipe("qlora"), 4.2, 1, True),
    ],
)
def test_what_a_node_must_have(what: Recipe, needed: float, ranks: int, gpus: bool, eight_billion: Path) -> None:
    assert judge(what, eight_billion, needed, ranks=ranks, gpus=gpus) is None
    problem = judge(what, eight_billion, needed - 0.2, ranks=ranks, gpus=gpus)
    assert problem is not None
    assert problem.exact
    assert "the system would end the run" in problem.message


def test_an_adapters_base_takes_nothing_of_its_own(eight_billion: Path) -> None:
    for strategy in (None, DDP, FSDP, ZERO):
        assert judge(recipe("lora", strategy), eight_billion, 0.1, ranks=8) is None


def test_nothing_is_said_of_a_model_or_a_size_that_is_not_known(tmp_path: Path) -> None:
    assert judge(recipe("full"), None, 0.1) is None
    assert judge(recipe("full"), tmp_path, 0.1) is None
    size = find_size("Standard_NC4as_T4_v3")
    assert size is not None
    assert node_of(recipe("full"), size, 1) is not None
    assert node_of(recipe("full"), VmSizeRow.model_validate(size.model_dump() | {"memory": None}), 1) is None


@pytest.mark.parametrize(("name", "in_fp32"), [("Standard_NC4as_T4_v3", True), ("Standard_DS3_v2", False)])
def test_a_gpu_without_bf16_has_the_base_in_fp32(name: str, in_fp32: bool, eight_billion: Path) -> None:
    """Where training.precision leaves it to azft. What a CPU takes is not known from its size, so nothing is said."""
    size = find_size(name)
    assert size is not None
    node = node_of(recipe("lora"), size, 1)
    assert node is not None
    problem = too_small(recipe("lora"), node, known_weights(eight_billion, None))
    assert (problem is not None) == in_fp32
    assert problem is None or "29.8 GiB of memory (every weight in fp32)" in problem.message


def in_bf16(folder: Path) -> None:
    """A model folder with a hundred weights, which are to be converted."""
    make_model(folder)
    header = b'{"w":{"dtype":"BF16","shape":[100],"data_offsets":[0,200]}}'
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(200))


def one(plan: Plan, code: str = "azure-host-memory") -> Finding:
    (found,) = (finding for finding in plan.findings if finding.code == code)
    return found


def test_by_the_catalogs_row_it_is_a_warning(tmp_path: Path) -> None:
    """The row's sizes say how many weights there are about."""
    maap = {"maap": {"instance_types": ["Standard_NC4as_T4_v3"]}}
    full = {"technique": {"name": "full"}, "modes": maap}
    found = one(azure_plan(tmp_path, "azft", model="Llama-3.1-8B-Instruct", **full))
    assert found.severity == "warning"
    assert "about 2" in found.message
    assert "Standard_NC4as_T4_v3 has 28 GiB" in found.message
    assert found.line
    assert "lora" in found.fix
    small = azure_plan(tmp_path, "azft", model="Qwen2.5-0.5B-Instruct", **full)
    assert not any("host-memory" in finding.code for finding in small.findings)


def test_by_the_files_own_headers_it_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_bf16(tmp_path / "model")
    full = {"model": "./model", "technique": {"name": "full"}}
    assert not any("host-memory" in finding.code for finding in azure_plan(tmp_path, "azft", **full).findings)
    monkeypatch.setattr(loading, "_GIB", 1)  # a machine of 220 bytes
    found = one(azure_plan(tmp_path, "azft", **full))
    assert found.severity == "error"
    assert found.line
    for other in ("system", "finetuning"):
        plan = azure_plan(tmp_path, other, **full)
        assert not any("host-memory" in finding.code for finding in plan.findings), "azft's own code does not run there"


def test_on_this_machine_it_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_bf16(tmp_path / "model")
    file = azure_recipe(tmp_path, "azft", model="./model", technique={"name": "full"}, modes=None)
    assert not any("host-memory" in finding.code for finding in LocalMode(tmp_path).plan(file).findings)
    monkeypatch.setattr(host_memory, "total", lambda: 100)
    found = one(LocalMode(tmp_path).plan(file), "local-host-memory")
    assert found.severity == "warning"
    assert "this machine has" in found.message
    monkeypatch.setattr(host_memory, "total", lambda: None)
    assert not any("host-memory" in finding.code for finding in LocalMode(tmp_path).plan(file).findings)


def test_every_size_says_how_much_memory_it_has() -> None:
    assert all(size.memory for size in vm_sizes().values())


@pytest.mark.parametrize(
    ("name", "published"),
    [("Phi-4-mini-instruct", 3.8e9), ("Llama-3.1-8B-Instruct", 8.0e9), ("Qwen2.5-7B-Instruct", 7.6e9)],
)
def test_a_rows_number_of_weights_is_near(name: str, published: float) -> None:
    row = find(name)
    assert row is not None
    assert row.weights == pytest.approx(published, rel=1 / 3)
