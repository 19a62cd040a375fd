"""A second device that every machine has: tensors that say they are on `gpu`, and refuse to meet the CPU's.

It finds what else shows on a GPU alone: a mask, an index or a weight that was left on the CPU. A tensor of it is a
shell around a CPU tensor, which does the arithmetic; so the results are the CPU's. It stands on torch's backends in
Python (`torch.utils.backend_registration`), which are experimental, and on the key that torch keeps for others' use.

What it can't show: CUDA's own kernels and memory, NCCL, and libraries that have kernels for CUDA only (bitsandbytes).
Importing it changes torch for the whole process, so tests do that in a process of their own.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map


class _Module(backend_registration._DummyBackendModule):  # type: ignore[misc]
    """What torch asks of `torch.gpu`."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16, torch.float32]

    def get_rng_state(self, _device: Any = None) -> torch.Tensor:
        return torch.get_rng_state()

    def set_rng_state(self, state: torch.Tensor, _device: Any = None) -> None:
        torch.set_rng_state(state)


backend_registration._setup_privateuseone_for_python_backend("gpu", backend_module=_Module())
torch.__future__.set_swap_module_params_on_conversion(True)  # else `module.to` unties weights that are a subclass
DEVICE = torch.device("gpu", 0)
_CPU = torch.device("cpu")
_aten = torch.ops.aten
_MAY_MIX = {_aten.copy_.default, _aten._to_copy.default, _aten.index.Tensor, _aten.index_put_.default,
            _aten.index_put.default}  # fmt: skip
"""What takes tensors of two devices on a GPU, too: copies, and indices, which are small and copied."""


class There(torch.Tensor):
    """A tensor on the second device; `raw` is its content, on the CPU."""

    raw: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    def __new__(cls, raw: torch.Tensor) -> There:
        shell: There = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, raw.size(), strides=raw.stride(), storage_offset=raw.storage_offset(), dtype=raw.dtype,
            layout=raw.layout, device=DEVICE,
        )  # fmt: skip
        shell.raw = raw
        return shell

    def __init__(self, raw: torch.Tensor) -> None: ...

    @classmethod
    def __torch_dispatch__(cls, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})

    def __repr__(self, **_: Any) -> str:
        return f"There({self.raw})"

    def __deepcopy__(self, memo: dict[int, Any]) -> torch.Tensor:
        made: torch.Tensor = There(copy.deepcopy(self.raw.detach()))
        if isinstance(self, torch.nn.Parameter):
            made = torch.nn.Parameter(made, requires_grad=self.requires_grad)
        memo[id(self)] = made
        return made

    def tolist(self) -> Any:
        return self.raw.tolist()

    def numpy(self, **_: Any) -> Any:
        raise TypeError("can't convert gpu:0 device type tensor to numpy. Use Tensor.cpu() first.")

    __array__ = numpy

    def untyped_storage(self) -> torch.UntypedStorage:  # by which shared weights are known
        return self.raw.untyped_storage()

    def data_ptr(self) -> int:
        return self.raw.data_ptr()


class SecondDevice(TorchDispatchMode):
    """The context in which `device="gpu"` works wherever it is said."""

    def __torch_dispatch__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """One operation, on the contents; its results are where its arguments are, or where `device` says."""
    tensors = [value for value in tree_leaves((args, kwargs)) if isinstance(value, torch.Tensor)]
    there = [tensor for tensor in tensors if isinstance(tensor, There)]
    here = [tensor for tensor in tensors if not isinstance(tensor, There) and tensor.device == _CPU]
    if there and func not in _MAY_MIX and any(tensor.dim() for tensor in here):  # a CPU's number is taken anywhere
        shapes = [[tuple(tensor.shape) for tensor in some] for some in (there, here)]
        raise RuntimeError(f"{func}: tensors of shapes {shapes[0]} on gpu meet {shapes[1]} on cpu")
    raw_args, raw_kwargs = tree_map(lambda value: value.raw if isinstance(value, There) else value, (args, kwargs))
    device = kwargs.get("device")
    if device is not None and device.type == DEVICE.type:
        raw_kwargs["device"] = _CPU
    result = func(*raw_args, **raw_kwargs)
    if device is not None:
        placed = device.type == DEVICE.type
    else:
        placed = isinstance(args[0], There) if func is _aten.copy_.default else bool(there)
    shells = {id(tensor.raw): tensor for tensor in there}  # what works in place returns the tensor that it was given

    def shell(value: Any) -> Any:
        if not (placed and isinstance(value, torch.Tensor)):
            return value
        known = shells.get(id(value))
        return known if known is not None and known.shape == value.shape else There(value)

    return tree_map(shell, result)


# Contexts belong to a thread, and batches are made in another one: copies to the device work there by these two.
def _copy(self: There, source: torch.Tensor, _non_blocking: bool = False) -> There:
    self.raw.copy_(source.raw if isinstance(source, There) else source)
    return self


def _empty_strided(size: Any, stride: Any, *, dtype: Any = None, **_: Any) -> There:
    return There(torch.empty_strided(size, stride, dtype=dtype))


_kernels = torch.library.Library("aten", "IMPL")  # they live as long as it does
_kernels.impl("copy_", _copy, "PrivateUse1")
_kernels.impl("empty_strided", _empty_strided, "PrivateUse1")
