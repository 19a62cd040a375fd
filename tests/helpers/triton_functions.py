"""Two functions of CUDA's mathematical library in Triton's own terms, for its interpreter, which has no such library.

In a module of their own, because the interpreter looks for `tl` among a module's names.
"""

from __future__ import annotations

from typing import Any

import triton
from triton import language as tl


@triton.jit
def rsqrt(x: Any) -> Any:
    """1 / sqrt(x)."""
    return 1.0 / tl.sqrt(x)


@triton.jit
def tanh(x: Any) -> Any:
    """The hyperbolic tangent."""
    return 2.0 * tl.sigmoid(2.0 * x) - 1.0
