"""Liger's kernels inside the models that azft trains: on a GPU, or interpreted on a CPU (`make test-kernels`).

Interpreted, Triton runs the kernels' own Python, a number at a time in fp32, so their formulas, gradients included, are
compared with torch's here. Three things that only its compiler knows are put in the interpreter's reach first.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from azft.training import kernels
from azft.training.devices import Arithmetic
from tests.training.test_finetune import losses, run
from tests.training.tiny import save_model, tiny_dataset, tiny_model

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("liger_kernel") is None or not (INTERPRETED or torch.cuda.is_available()),
    reason="needs extra `kernels`, and an NVIDIA GPU or TRITON_INTERPRET=1",
)
HERE = Arithmetic(torch.device("cpu" if INTERPRETED else "cuda"), "fp32")
ARCHITECTURES = ["llama", "mistral", "phi3", "qwen2", "gemma2"]


@pytest.fixture(autouse=True, scope="module")
def interpreter() -> Iterator[None]:
    """Numbers of Python as arguments, and two functions of CUDA's library, which the interpreter has none of."""
    if not INTERPRETED:
        yield
        return
    import numpy as np
    from liger_kernel.ops import geglu, rms_norm
    from triton import language as tl
    from triton.runtime import interpreter as triton_interpreter

    from tests.helpers import triton_functions

    convert = triton_interpreter._implicit_cvt

    def with_numbers(value: Any) -> Any:
        if type(value) is not float:
            return convert(value)
        handle = triton_interpreter.TensorHandle(np.array([value], dtype=np.float32), tl.float32)
        return tl.tensor(handle, tl.float32)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(triton_interpreter, "_implicit_cvt", with_numbers)
        patch.setattr(rms_norm, "rsqrt", triton_functions.rsqrt)
        patch.setattr(geglu, "tanh", triton_functions.tanh)
        patch.setattr(kernels, "DEVICE", HERE.device.type)
        yield


@pytest.fixture(autouse=True)
def modules() -> Iterator[dict[str, dict[str, Any]]]:
    """Python modules of the models as they were; restored, because how queries are rotated is looked up in them."""
    for name in ARCHITECTURES:
        importlib.import_module(f"transformers.models.{name}.modeling_{name}")
    before = {
        name: dict(vars(module)) for name, module in sys.modules.items() if ".modeling_" in name and "models" in name
    }
    yield before
    for name, names in before.items():
        vars(sys.modules[name]).update(names)


def outcome(model: Any) -> list[torch.Tensor]:
    """Logits, and the gradients of all weights."""
    model.zero_grad()
    ids = torch.arange(3, 40, device=model.device)[None]
    logits = model(input_ids=ids, use_cache=False).logits
    logits.log_softmax(-1)[0, torch.arange(36), ids[0, 1:]].sum().backward()
    return [logits.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_model_has_the_same_logits_and_gradients(architecture: str, modules: dict[str, dict[str, Any]]) -> None:
    model = tiny_model(architecture).to(HERE.device)
    plain = outcome(model)
    said = kernels.fuse(model, HERE)
    assert said.startswith("Liger's kernels (with "), said
    assert model.base_model.norm.forward.__module__.startswith("liger_kernel")
    assert model.base_model.layers[0].mlp.forward.__module__.startswith("liger_kernel")
    fused = outcome(model)
    assert not all(torch.equal(a, b) for a, b in zip(plain, fused, strict=True)), "they are others"
    for a, b in zip(plain, fused, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5 * float(a.abs().max()))
    module = vars(sys.modules[type(model).__module__])
    before = modules[type(model).__module__]
    assert {name for name in module if module[name] is not before.get(name)} == {"apply_rotary_pos_emb"}
    other = tiny_model(architecture)
    assert not other.base_model.norm.forward.__module__.startswith("liger_kernel"), (
        "a model that is made later is plain"
    )


def test_kernels_that_compute_something_else_are_not_taken(
    modules: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from liger_kernel.transformers.rms_norm import LigerRMSNorm

    monkeypatch.setattr(LigerRMSNorm, "forward", lambda self, x: 1.01 * x * self.weight)
    model = tiny_model("llama").to(HERE.device)
    plain = outcome(model)
    assert kernels.fuse(model, HERE).startswith("not Liger's kernels, with ")
    assert all(torch.equal(a, b) for a, b in zip(plain, outcome(model), strict=True))
    module = vars(sys.modules[type(model).__module__])
    assert module == modules[type(model).__module__]


def test_kernels_that_fail_are_not_taken(modules: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    from liger_kernel.transformers.rms_norm import LigerRMSNorm

    def fails(_self: Any, _hidden: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("out of resource: shared memory\nRequired: 98304")

    monkeypatch.setattr(LigerRMSNorm, "forward", fails)
    model = tiny_model("llama").to(HERE.device)
    said = kernels.fuse(model, HERE)
    assert said == "Liger's kernels do not run here: out of resource: shared memory"
    assert vars(sys.modules[type(model).__module__]) == modules[type(model).__module__]
    outcome(model)


@pytest.mark.parametrize("which", ["full", "lora", "ia3", "prompt-tuning"])
def test_a_run_with_them_is_the_run_without(which: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, dataset = save_model(tmp_path / "model"), tiny_dataset(tmp_path / "dataset", count=4)
    with_them, without = (
        losses(run(tmp_path / way, model=model, dataset=dataset, technique={"name": which}, kernels=way, max_steps=2))
        for way in ("auto", "torch")
    )
    assert with_them == pytest.approx(without, rel=1e-5)
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("kernels: ")]
    assert [words.partition(" (with")[0] for words in said] == [
        "kernels: flash attention does not compute in fp32",
        "kernels: Liger's kernels",
        "kernels: torch's own operators, as training.kernels says",
    ]
