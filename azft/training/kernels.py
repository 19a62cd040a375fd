"""Fused kernels of an NVIDIA GPU in the places of torch's own operators: taken only once they have given the same.

Two kinds. Flash attention's kernel for documents in a row, which torch itself ships, computes the attention of all
documents of a batch in one launch (`varlen`). Liger's kernels (extra `kernels`) compute norms, gated activations and
rotary positions in one pass over memory each (`fuse`). Both round otherwise than torch's operators, and must not be
further from the exact result by it. So each is tried on the very GPU, in the type that it will compute in, forward and
backward: its error and that of torch's operators are measured against the same in higher precision. What errs more, or
does not run, is not used, and that is said.

Neither runs on a CPU. The loss over large vocabularies is azft's own (`azft.training.loss`), on every device.
"""

from __future__ import annotations

import copy
import functools
import math
import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.nn.attention.varlen import varlen_attn

from azft.errors import first_line

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from azft.training.devices import Arithmetic

DEVICE = "cuda"
TYPES = (torch.bfloat16, torch.float16)
"""What flash attention computes in."""
_LARGEST_HEAD = 256
"""Numbers in a head; flash attention takes no more, and multiples of 8 only."""
_OLDEST = (8, 0)
"""Ampere: what flash attention 2 needs."""
_WORST = 3.0
"""Times the error of torch's operators that a kernel may have in any result. A wrong one has a hundred times."""
_EXACT = {
    torch.bfloat16: torch.float32,
    torch.float16: torch.float32,
    torch.float32: torch.float64,
    torch.float64: torch.float64,
}
_LEAST = {torch.bfloat16: 4e-3, torch.float16: 5e-4, torch.float32: 1e-6, torch.float64: 1e-12}
"""An error that may be had at any rate, where torch's operators happen to have none: the type's rounding."""
_TRIED_LENGTHS = (5, 130, 1, 67)
_LAYERS = 2
"""Of the model on which Liger's kernels are tried; two, because some models' layers alternate."""


class Trial(NamedTuple):
    """What came of comparing kernels with torch's operators."""

    good: bool
    words: str


@dataclass
class Choice:
    """What this process takes where it can."""

    flash_attention: bool = True


chosen = Choice()
"""By `choose`: attention functions are registered with transformers for the whole process, and know no recipe."""


def takes(query: Tensor, key: Tensor, dropout: float) -> torch.dtype | None:
    """The type in which flash attention computes the attention of documents in a row; None where torch's operators do.

    Args:
        query: (1, heads, tokens, head_dim).
        key: (1, key_value_heads, tokens, head_dim).
        dropout: Probability of dropping a weight, which the kernel can't.
    """
    if not chosen.flash_attention or query.device.type != DEVICE or dropout > 0:
        return None
    kind = torch.get_autocast_dtype(DEVICE) if torch.is_autocast_enabled(DEVICE) else query.dtype
    size = query.shape[-1]
    if kind not in TYPES or not _takes_heads_of(size):
        return None
    return kind if try_varlen(query.device, kind, size, query.shape[1] // key.shape[1]).good else None


def varlen(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    lengths: Sequence[int],
    *,
    kind: torch.dtype,
    scaling: float | None,
    window: int | None,
) -> Tensor:
    """Causal attention inside each of the documents that stand in a row, in one launch.

    Args:
        query: (1, heads, tokens, head_dim).
        key: (1, key_value_heads, tokens, head_dim).
        value: As `key`.
        lengths: Tokens of each document; they add up to `tokens`.
        kind: The type to compute in.
        scaling: Factor of the scores; 1/sqrt(head_dim) by default.
        window: A token sees itself and this many minus one before it.

    Returns:
        (1, tokens, heads, head_dim).
    """
    borders = _borders(tuple(lengths), query.device)
    longest = max(lengths)
    q, k, v = (tensor[0].transpose(0, 1).to(kind) for tensor in (query, key, value))
    # The kernel counts the tokens before one, not the one itself.
    reach = -1 if window is None or window >= longest else window - 1
    out = varlen_attn(
        q,
        k,
        v,
        borders,
        borders,
        longest,
        longest,
        scale=scaling,
        window_size=(reach, 0),
        enable_gqa=query.shape[1] != key.shape[1],
    )
    assert isinstance(out, torch.Tensor)
    return out[None]


@functools.lru_cache(maxsize=16)
def _borders(lengths: tuple[int, ...], device: torch.device) -> Tensor:
    """Where documents begin and the last one ends, (documents + 1,); the layers of a pass ask for the same ones."""
    return torch.tensor([0, *lengths], dtype=torch.int32).cumsum(0, dtype=torch.int32).to(device)


@functools.cache
def try_varlen(device: torch.device, kind: torch.dtype, head_dim: int, groups: int) -> Trial:
    """Flash attention beside torch's own attention on this device, forward and backward, with a window and without."""
    if torch.cuda.is_available() and torch.cuda.get_device_capability(device) < _OLDEST:
        return Trial(False, "flash attention needs an Ampere GPU or a newer one")
    draw = torch.Generator().manual_seed(0)
    tokens = sum(_TRIED_LENGTHS)
    shapes = [(1, heads, tokens, head_dim) for heads in (2 * groups, 2, 2)] + [(1, tokens, 2 * groups, head_dim)]
    given = [torch.randn(shape, generator=draw).to(device, kind) for shape in shapes]
    worst = 0.0
    try:
        # The first to ask may be a forward pass without gradients, or one whose activations a checkpoint counts.
        with torch.enable_grad(), _own_activations(), torch.autocast(device.type, enabled=False):
            for window in (None, 16):
                fused = functools.partial(varlen, lengths=_TRIED_LENGTHS, kind=kind, scaling=None, window=window)
                plain = functools.partial(_by_documents, window=window)
                exact = _with_gradients(plain, [tensor.to(_EXACT[kind]) for tensor in given])
                worst = max(worst, error_ratio(exact, _with_gradients(plain, given), _with_gradients(fused, given)))
    except (RuntimeError, NotImplementedError, ValueError) as error:
        return Trial(False, f"flash attention does not run here: {first_line(error)[:200]}")
    return _judged("flash attention", worst)


def _own_activations() -> AbstractContextManager[Any]:
    return torch.autograd.graph.saved_tensors_hooks(lambda tensor: tensor, lambda tensor: tensor)


def _by_documents(query: Tensor, key: Tensor, value: Tensor, *, window: int | None) -> Tensor:
    from azft.training.attention import one_document

    parts = zip(*(torch.split(tensor, list(_TRIED_LENGTHS), 2) for tensor in (query, key, value)), strict=True)
    return torch.cat([one_document(q, k, v, 0.0, None, window, None) for q, k, v in parts], 2).transpose(1, 2)


def _with_gradients(attend: Callable[..., Tensor], given: Sequence[Tensor]) -> list[Tensor]:
    """What comes out, and the gradients of what goes in; `given` ends with the gradient of what comes out."""
    *inputs, gradient = given
    leaves = [tensor.detach().clone().requires_grad_() for tensor in inputs]
    out = attend(*leaves)
    return [out.detach(), *torch.autograd.grad(out, leaves, gradient)]


def choose(model: Any, arithmetic: Arithmetic, *, wanted: bool, documents: bool) -> list[str]:
    """Let a base model compute with the kernels that give the same on its device; what is to be said about each.

    Args:
        model: transformers' model, or one of diffusers, which is left as it is.
        arithmetic: What it will compute in, and where.
        wanted: `training.kernels: auto`; otherwise torch's operators are used.
        documents: Whether its attention will be that of documents in a row.
    """
    chosen.flash_attention = wanted
    if arithmetic.device.type != DEVICE or not hasattr(model, "get_input_embeddings"):
        return []
    if not wanted:
        return ["torch's own operators, as training.kernels says"]
    return [
        *([_about_attention(model.config.get_text_config(), arithmetic)] if documents else []),
        fuse(model, arithmetic),
    ]


def _about_attention(config: Any, arithmetic: Arithmetic) -> str:
    if arithmetic.compute not in TYPES:
        return f"flash attention does not compute in {arithmetic.precision}"
    if getattr(config, "attn_logit_softcapping", None):
        return "flash attention does not cap scores, as this model does"
    heads = config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    groups = heads // (getattr(config, "num_key_value_heads", None) or heads)
    if not _takes_heads_of(size):
        return f"flash attention does not take heads of {size}"
    return try_varlen(arithmetic.device, arithmetic.compute, size, groups).words


def _takes_heads_of(size: int) -> bool:
    return size % 8 == 0 and size <= _LARGEST_HEAD


def fuse(model: Any, arithmetic: Arithmetic) -> str:
    """Let a model compute with Liger's kernels, if that gives the same; what is to be said.

    They are tried on a model of the same configuration with two layers and random weights, so that neither where the
    model's own weights are nor in how many parts matters. Nothing is changed where they fail.
    """
    try:
        from liger_kernel.transformers.monkey_patch import MODEL_TYPE_TO_APPLY_LIGER_FN as KNOWN
    except ImportError:
        return "Liger's kernels are not installed (extra `kernels`)"
    kind = model.config.get_text_config().model_type
    if kind not in KNOWN:
        return f"Liger has no kernels for {kind}"
    trial = try_liger(model, arithmetic)
    if trial.good:
        _apply(model)
    return trial.words


def try_liger(model: Any, arithmetic: Arithmetic) -> Trial:
    """Liger's kernels beside torch's operators, in a small model like this one; afterwards none is in use."""
    namespace = _namespace(model)
    before = dict(namespace)
    try:
        small = _small_model_like(model, arithmetic)
        weight = small.get_input_embeddings().weight
        draw = torch.Generator().manual_seed(0)
        embeddings = torch.randn((1, 33, weight.shape[1]), generator=draw).to(weight.device, weight.dtype)
        plain = _outcome(small, embeddings, arithmetic.autocast())
        exact = _outcome(copy.deepcopy(small).to(_EXACT[arithmetic.compute]), embeddings, nullcontext())
        _apply(small)
        fused = _outcome(small, embeddings, arithmetic.autocast())
    except Exception as error:  # whatever a compiler and a library's patches may raise; training goes on without them
        return Trial(False, f"Liger's kernels do not run here: {first_line(error)[:200]}")
    finally:
        namespace.update(before)
    return _judged("Liger's kernels", error_ratio(exact, plain, fused))


def _apply(model: Any) -> None:
    """Patch the model's modules, and of their Python module nothing but what rotates queries and keys.

    Liger replaces classes as well, for models that are made later; another model must not change by that.
    """
    from liger_kernel.transformers.monkey_patch import _apply_liger_kernel_to_instance

    namespace = _namespace(model)
    before = dict(namespace)
    # Both losses stay azft's: theirs are means, and make logits of tokens that nobody learns.
    _apply_liger_kernel_to_instance(model=model, cross_entropy=False, fused_linear_cross_entropy=False)
    rotate = namespace.get("apply_rotary_pos_emb")
    namespace.update(before)
    if rotate is not None:
        namespace["apply_rotary_pos_emb"] = rotate


def _namespace(model: Any) -> dict[str, Any]:
    """The names of the Python module in which the model's class stands."""
    return vars(sys.modules[type(model).__module__])


def _small_model_like(model: Any, arithmetic: Arithmetic) -> Any:
    config = copy.deepcopy(model.config)
    vars(config).pop("quantization_config", None)
    config.num_hidden_layers = _LAYERS
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:_LAYERS]
    config._attn_implementation = "eager"  # the models' own reference; sdpa refuses a softcap
    with torch.random.fork_rng(devices=[arithmetic.device] if arithmetic.device.type == "cuda" else []):
        torch.manual_seed(0)
        with arithmetic.device:
            made = type(model)._from_config(config, dtype=model.dtype)
    return made.to(arithmetic.device).eval()


def _outcome(model: Any, embeddings: Tensor, context: AbstractContextManager[Any]) -> list[Tensor]:
    """Hidden states of a few tokens, and a loss's gradients in their embeddings and in all vectors, as norms have."""
    vectors = [parameter for parameter in model.base_model.parameters() if parameter.dim() == 1]
    embeddings = embeddings.to(model.get_input_embeddings().weight.dtype).requires_grad_()
    with torch.enable_grad(), context:
        hidden = model.base_model(inputs_embeds=embeddings, use_cache=False).last_hidden_state
        target = torch.linspace(-1, 1, hidden.shape[-1], device=hidden.device)
        loss = (hidden.to(torch.promote_types(hidden.dtype, torch.float32)) - target).square().sum()
    gradients = torch.autograd.grad(loss, [embeddings, *vectors], allow_unused=True)
    return [hidden.detach(), *(gradient for gradient in gradients if gradient is not None)]


def error_ratio(exact: Sequence[Tensor], plain: Sequence[Tensor], fused: Sequence[Tensor]) -> float:
    """How many times the error of `plain` results that of `fused` ones is, in the worst of them; infinite for a NaN."""
    worst = 0.0
    for right, own, other in zip(exact, plain, fused, strict=True):
        size = float(right.double().norm()) or 1.0
        mine, theirs = (float((tensor.double() - right.double()).norm()) / size for tensor in (other, own))
        ratio = mine / max(theirs, _LEAST[own.dtype])
        worst = max(worst, math.inf if math.isnan(ratio) else ratio)
    return worst


def _judged(which: str, ratio: float) -> Trial:
    if ratio <= _WORST:
        return Trial(True, f"{which} (with {ratio:.1f} times the error of torch's own operators)")
    return Trial(False, f"not {which}, with {ratio:.0f} times the error of torch's own operators here")
