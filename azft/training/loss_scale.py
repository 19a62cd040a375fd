"""Loss scaling for fp16: how much larger losses are made, so that small gradients do not vanish.

From Micikevicius et al. 2018 (arXiv:1710.03740, section 3.2). The factor is as large as does not overflow, which is
found by trying; the numbers are those of torch's GradScaler.
"""

from __future__ import annotations

from dataclasses import dataclass

_GROWS_AFTER = 2000
"""Updates without overflow after which the scale is doubled."""


@dataclass(frozen=True)
class LossScale:
    """The factor of a step's losses, and how many steps in a row it has held."""

    factor: float = 2.0**16
    held: int = 0

    def after(self, *, updated: bool) -> LossScale:
        """The scale of the next step: halved after one whose gradients overflowed, so that nothing was updated."""
        if not updated:
            return LossScale(self.factor / 2)
        if self.held + 1 == _GROWS_AFTER:
            return LossScale(self.factor * 2)
        return LossScale(self.factor, self.held + 1)

    @property
    def exhausted(self) -> bool:
        """Whether gradients that overflow even so are simply not finite."""
        return self.factor < 1.0


UNSCALED = LossScale(1.0)
"""Of bf16 and fp32, which have the same smallest exponents."""
