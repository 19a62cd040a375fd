"""The technique table's parameters: what a recipe may say about which weights move, checked without torch.

Each technique is one class here and one row in `azft.training.techniques`, which applies it to a real model. Defaults
follow the paper or library named beside them.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class TechniqueBase(BaseModel):
    """What every technique shares: strict keys, frozen values, and a learning rate to start from."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @property
    def default_learning_rate(self) -> float:
        """The learning rate used when the recipe gives none."""
        raise NotImplementedError


class Full(TechniqueBase):
    """Full fine-tuning: every weight moves."""

    name: Literal["full"] = Field(description="Every weight of the model is trained.")

    @property
    def default_learning_rate(self) -> float:
        """2e-5: the usual start for full fine-tuning of instruction models."""
        return 2e-5


class Lora(TechniqueBase):
    """LoRA (Hu et al. 2021, arXiv:2106.09685): a low-rank update beside frozen weights."""

    name: Literal["lora"] = Field(
        description="Low-rank adapters are trained, the model's own weights stay as they are."
    )
    rank: int = Field(16, ge=1, le=4096, description="Rank r of the update B·A.")
    alpha: float = Field(32, gt=0, description="The update is scaled by alpha / rank.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout on the adapter's input while training.")
    target_modules: Literal["all-linear"] | list[str] = Field(
        "all-linear",
        description="Names of the linear modules to adapt, or `all-linear` for every one but the output head. "
        "A name that matches no module of the model is an error.",
    )

    @property
    def default_learning_rate(self) -> float:
        """2e-4: about ten times full fine-tuning's, as in the QLoRA paper (arXiv:2305.14314, table 9)."""
        return 2e-4


Technique = Annotated[Full | Lora, Field(discriminator="name")]
"""Any technique, told apart by its `name`."""

TECHNIQUES: dict[str, type[TechniqueBase]] = {"full": Full, "lora": Lora}
