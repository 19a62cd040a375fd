"""Fused kernels of a GPU, as far as a machine without one can tell: what is handed to them, and when they are taken.

torch's contract of `varlen_attn` is written out here in plain operators and stands in for the kernel; so what azft
hands over is proven, and that the kernel itself keeps the contract, `try_varlen` proves on the GPU it runs on.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.nn.attention import varlen as torch_varlen

from azft.training import attention, kernels
from azft.training.batches import assemble
from azft.training.devices import Arithmetic
from azft.training.probe import token_loss
from tests.training.tiny import random_documents, tiny_model

LENGTHS = (5, 1, 40, 17)
CPU = Arithmetic(torch.device("cpu"), "fp32")


def contract(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    cu_seq_q: torch.Tensor,
    cu_seq_k: torch.Tensor,
    max_q: int,
    max_k: int,
    *,
    scale: float | None = None,
    window_size: tuple[int, int] = (-1, -1),
    enable_gqa: bool = False,
) -> torch.Tensor:
    """torch.nn.attention.varlen.varlen_attn, as its documentation has it."""
    assert query.dim() == key.dim() == 3
    assert cu_seq_q.dtype == cu_seq_k.dtype == torch.int32
    assert query.stride(-1) == key.stride(-1) == value.stride(-1) == 1, "the kernel wants rows in one piece"
    assert enable_gqa == (query.shape[1] != key.shape[1])
    sizes = (cu_seq_q[1:] - cu_seq_q[:-1]).tolist()
    assert max_q == max_k >= max(sizes)
    left, right = window_size
    outs = []
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    for q, k, v in zip(*(torch.split(t, sizes) for t in (query, key, value)), strict=True):
        distance = torch.arange(len(q))[:, None] - torch.arange(len(q))[None]
        seen = torch.ones_like(distance, dtype=torch.bool)
        if left >= 0:
            seen &= distance <= left
        if right >= 0:
            seen &= -distance <= right
        scores = torch.einsum("qhd,khd->hqk", q, k) * (q.shape[-1] ** -0.5 if scale is None else scale)
        weights = scores.masked_fill(~seen, float("-inf")).softmax(-1)
        outs.append(torch.einsum("hqk,khd->qhd", weights, v))
    return torch.cat(outs)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """As if the CPU were a GPU that computes in every type; the calls of the kernel are noted."""
    calls: list[Any] = []

    def noted(*args: Any, **options: Any) -> torch.Tensor:
        calls.append((args, options))
        return contract(*args, **options)

    monkeypatch.setattr(kernels, "DEVICE", "cpu")
    monkeypatch.setattr(kernels, "TYPES", (*kernels.TYPES, torch.float32, torch.float64))
    monkeypatch.setattr(kernels, "varlen_attn", noted)
    kernels.try_varlen.cache_clear()
    yield calls
    kernels.try_varlen.cache_clear()


def inputs(groups: int, head_dim: int = 16) -> tuple[torch.Tensor, ...]:
    draw = torch.Generator().manual_seed(1)
    shapes = [(1, sum(LENGTHS), heads, head_dim) for heads in (2 * groups, 2, 2)]
    return tuple(torch.randn(shape, generator=draw, dtype=torch.float64).transpose(1, 2) for shape in shapes)


def attend(*tensors: torch.Tensor, **options: Any) -> torch.Tensor:
    """Document attention, as a model's first layer asks for it."""
    layer: Any = torch.nn.Module()
    layer.layer_idx = 0
    query, key, value = tensors
    out, _ = attention.document_attention(layer, query, key, value, None, document_lengths=LENGTHS, **options)
    return out


@pytest.mark.parametrize("window", [None, 1, 7, 16, 400])
@pytest.mark.parametrize("scaling", [None, 0.3])
@pytest.mark.parametrize("groups", [1, 3])
def test_the_kernel_is_handed_what_the_operators_compute(
    groups: int, scaling: float | None, window: int | None, gpu: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = inputs(groups)
    results = []
    for on in (True, False):
        monkeypatch.setattr(kernels.chosen, "flash_attention", on)
        leaves = [tensor.clone().requires_grad_() for tensor in given]
        out = attend(*leaves, scaling=scaling, sliding_window=window)
        results.append((out.detach(), *torch.autograd.grad(out.square().sum(), leaves)))
        if on:
            used = len(gpu)
    assert used >= 1
    assert len(gpu) == used, "not when it is turned off"
    for fused, plain in zip(*results, strict=True):
        assert fused.shape == plain.shape
        torch.testing.assert_close(fused, plain, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("architecture", ["llama", "mistral", "phi3", "qwen2", "gemma2"])
def test_a_models_gradients_are_the_same(architecture: str, gpu: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Gemma-2 caps its scores, which no such kernel does, so there the operators stay."""
    batch = assemble(random_documents(3))
    found = []
    for on in (True, False):
        monkeypatch.setattr(kernels.chosen, "flash_attention", on)
        module = token_loss(tiny_model(architecture).double(), one_document=False)
        module(batch).backward()
        found.append([p.grad for p in module.parameters() if p.grad is not None])
    assert bool(gpu) == (architecture != "gemma2")
    for fused, plain in zip(*found, strict=True):
        torch.testing.assert_close(fused, plain, rtol=1e-9, atol=1e-9)


def test_under_autocast_it_computes_in_autocasts_type(gpu: list[Any]) -> None:
    query, key, value = (tensor.float() for tensor in inputs(2))
    with torch.autocast("cpu", torch.bfloat16):
        out = attend(query, key, value)
    assert out.dtype is torch.bfloat16
    assert {tensor.dtype for args, _ in gpu for tensor in args[:3]} == {torch.bfloat16}


def test_what_the_kernel_can_not_do_stays_with_the_operators(gpu: list[Any]) -> None:
    query, key, value = inputs(1)
    ways: list[dict[str, Any]] = [{"softcap": 5.0}, {"dropout": 0.1}, {"prefix": [(key[:, :, :3], value[:, :, :3])]}]
    for way in ways:
        attend(query, key, value, **way)
    odd = [tensor[..., :12] for tensor in (query, key, value)]  # heads of 12 numbers
    attend(*odd)
    assert not gpu


def test_a_kernel_that_computes_something_else_is_not_taken(gpu: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "varlen_attn", lambda *a, **o: contract(*a, **{**o, "window_size": (-1, -1)}))
    query, key, value = inputs(1)
    assert kernels.takes(query, key, 0.0) is None
    trial = kernels.try_varlen(query.device, query.dtype, 16, 1)
    assert re.fullmatch(r"not flash attention, with \d+ times the error of torch's own operators here", trial.words)
    out = attend(query, key, value)
    monkeypatch.setattr(kernels.chosen, "flash_attention", False)
    plain = attend(query, key, value)
    assert torch.equal(out, plain)


def test_a_kernel_that_fails_is_not_taken_and_said(gpu: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_args: Any, **_options: Any) -> torch.Tensor:
        raise RuntimeError("no kernel image is available\nfor this device")

    monkeypatch.setattr(kernels, "varlen_attn", fails)
    query, key, _ = inputs(1)
    assert kernels.takes(query, key, 0.0) is None
    trial = kernels.try_varlen(query.device, query.dtype, 16, 1)
    assert trial.words == "flash attention does not run here: no kernel image is available"


def test_the_first_to_ask_may_be_an_evaluation(gpu: list[Any]) -> None:
    query, key, _ = inputs(1)
    with torch.no_grad():
        assert kernels.takes(query, key, 0.0) is torch.float64


def test_it_may_be_tried_in_a_pass_whose_activations_a_checkpoint_counts(gpu: list[Any]) -> None:
    """The second pass finds it tried, and must not miss the activations of the trial."""
    from torch.utils.checkpoint import checkpoint

    leaves = [tensor.requires_grad_() for tensor in inputs(1)]
    checkpoint(attend, *leaves, use_reentrant=False).sum().backward()
    assert len(gpu) > 2


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("wrong", ["", "window", "scale", "neighbour"])
def test_rounding_is_told_from_a_mistake(
    kind: torch.dtype, wrong: str, gpu: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def kernel(*args: Any, **options: Any) -> torch.Tensor:
        if wrong == "window":
            options["window_size"] = (options["window_size"][0] + 1, 0) if options["window_size"][0] > 0 else (-1, 0)
        if wrong == "scale":
            options["scale"] = 1.05 * args[0].shape[-1] ** -0.5
        if wrong == "neighbour":  # the documents' borders are one off
            args = (*args[:3], *(torch.cat([b[:1], b[1:-1] + 1, b[-1:]]) for b in args[3:5]), 131, 131)
        exact = contract(*(tensor.float() for tensor in args[:3]), *args[3:], **options)
        return exact.to(args[0].dtype)

    monkeypatch.setattr(kernels, "varlen_attn", kernel)
    trial = kernels.try_varlen(torch.device("cpu"), kind, 64, 2)
    assert trial.good == (not wrong), trial.words


def test_torch_has_the_contract() -> None:
    """What is used of torch's function, which is young, has the names and places that it is called by."""
    theirs = inspect.signature(torch_varlen.varlen_attn).parameters
    ours = inspect.signature(contract).parameters
    assert list(theirs)[:7] == list(ours)[:7]
    assert set(ours) <= set(theirs)
    words = inspect.getdoc(torch_varlen.varlen_attn) or ""
    assert "(-1, 0) for causal attention" in words
    assert "(W, 0) for causal attention with sliding window" in words


def test_a_cpu_is_given_none_of_them() -> None:
    query, key, _ = (tensor.bfloat16() for tensor in inputs(1))
    assert kernels.takes(query, key, 0.0) is None
    assert kernels.choose(tiny_model("llama"), CPU, wanted=True, documents=True) == []


def test_without_liger_it_is_said(gpu: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "liger_kernel.transformers.monkey_patch", None)
    assert kernels.fuse(tiny_model("llama"), CPU) == "Liger's kernels are not installed (extra `kernels`)"


@pytest.mark.parametrize(
    ("architecture", "words"),
    [
        ("llama", "flash attention (with "),
        ("gemma2", "flash attention does not cap scores, as this model does"),
    ],
)
def test_what_is_taken_is_said(architecture: str, words: str, gpu: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "fuse", lambda _model, _arithmetic: "liger")
    monkeypatch.setattr(kernels, "chosen", kernels.Choice())
    model = tiny_model(architecture)
    first, second = kernels.choose(model, CPU, wanted=True, documents=True)
    assert first.startswith(words)
    assert second == "liger"
    assert kernels.choose(model, CPU, wanted=True, documents=False) == ["liger"]  # encoders have another attention
    assert kernels.choose(model, CPU, wanted=False, documents=True) == [
        "torch's own operators, as training.kernels says"
    ]
    assert not kernels.chosen.flash_attention


def test_heads_of_another_size_are_said(gpu: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "fuse", lambda _model, _arithmetic: "liger")
    model = tiny_model("llama")
    model.config.head_dim = 80 * 4
    assert kernels.choose(model, CPU, wanted=True, documents=True)[0] == "flash attention does not take heads of 320"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("head_dim", [64, 96, 128, 256])
def test_on_a_gpu_they_are_as_good_as_torchs_own(kind: torch.dtype, head_dim: int) -> None:
    trial = kernels.try_varlen(torch.device("cuda", 0), kind, head_dim, 4)
    assert trial.good, trial.words
