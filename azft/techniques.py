"""The technique table's parameters: what a recipe may say about which weights move, checked without torch.

Each technique is one class here and one row in `azft.training.techniques`, which applies it to a real model. Defaults
follow the paper or library named beside them.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

Rank = Annotated[int, Field(ge=1, le=4096)]
Alpha = Annotated[float, Field(gt=0)]
Layer = Annotated[int, Field(ge=0)]


class TechniqueBase(BaseModel):
    """What every technique shares: strict keys, frozen values, and a learning rate to start from."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    default_learning_rate: ClassVar[float]
    """Where the learning rate starts when the recipe gives none, which `Recipe.learning_rate` adapts to the task; its
    source stands beside each."""
    is_adapter: ClassVar[bool] = True
    """Whether what is trained is kept beside the base model, and not a whole model."""
    merges: ClassVar[bool] = True
    """Whether what is trained can become part of the base model's weights."""
    needs: ClassVar[str | None] = None
    """The extra of azft's packages that it needs besides `train`."""

    name: str

    @property
    def changes_base(self) -> bool:
        """Whether the base model's weights move, or are rewritten once: then they are kept in fp32."""
        return not self.is_adapter


class Full(TechniqueBase):
    """Full fine-tuning: every weight moves."""

    default_learning_rate: ClassVar[float] = 2e-5  # Stanford Alpaca's, of LLaMA-7B (tatsu-lab/stanford_alpaca)
    is_adapter: ClassVar[bool] = False

    name: Literal["full"] = Field(description="Every weight of the model is trained.")


class Freeze(TechniqueBase):
    """Freeze: only the last layers move, as they are; the rest of the model stays."""

    default_learning_rate: ClassVar[float] = 2e-5  # as for full fine-tuning: the weights that move are the same kind
    is_adapter: ClassVar[bool] = False

    name: Literal["freeze"] = Field(description="Only the last layers are trained; the others stay as they are.")
    layers: int = Field(2, ge=1, description="How many of the last layers (of encoder and decoder each) are trained.")
    head: bool = Field(
        False,
        description="Train the output head and the final norm too. A head that shares its weights with the "
        "embeddings moves them. The new head of a classification is always trained.",
    )


class LowRank(TechniqueBase):
    """What the techniques with a low-rank update share."""

    rank: Rank = Field(16, description="Rank r of the update B·A.")
    alpha: Alpha = Field(32, description="The update is scaled by alpha / rank.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout on the adapter's input while training.")
    target_modules: Literal["all-linear"] | list[str] = Field(
        "all-linear",
        description="Names of the linear modules to adapt, or `all-linear` for every one but the output head. "
        "A name that matches no module of the model is an error.",
    )
    use_rslora: bool = Field(
        False,
        description="Scale by alpha / sqrt(rank) instead, so that high ranks learn as well as low ones "
        "(rsLoRA, arXiv:2312.03732).",
    )
    init: Annotated[str, StringConstraints(pattern=r"^(default|gaussian|orthogonal|eva|pissa(_niter_[1-9]\d?)?)$")] = (
        Field(
            "default",
            description="First values of A and B: default (B is zero), gaussian, orthogonal; pissa or pissa_niter_16 "
            "(the weights' largest singular values, exactly or by 16 quick iterations; arXiv:2404.02948); eva (the "
            "inputs' main directions in the training data, which also decide each module's rank; arXiv:2410.07170).",
        )
    )
    layers: list[Layer] = Field(
        default_factory=list, description="Numbers, from 0, of the layers to adapt; all of them when empty."
    )
    rank_pattern: dict[str, Rank] = Field(
        default_factory=dict, description="Modules with another rank: the end of a module's name: its rank."
    )
    alpha_pattern: dict[str, Alpha] = Field(
        default_factory=dict, description="Modules with another alpha: the end of a module's name: its alpha."
    )
    modules_to_save: list[str] = Field(
        default_factory=list,
        description="Modules that are trained whole and saved with the adapter, like `lm_head`.",
    )

    @model_validator(mode="after")
    def _orthogonal_halves(self) -> Self:
        odd = [rank for rank in (self.rank, *self.rank_pattern.values()) if rank % 2]
        if self.init == "orthogonal" and odd:
            raise ValueError(f"`init: orthogonal` needs even ranks, and {odd[0]} is odd")
        return self

    @model_validator(mode="after")
    def _eva_decides_ranks(self) -> Self:
        if self.init == "eva" and (self.rank_pattern or self.alpha_pattern):
            raise ValueError("`init: eva` decides each module's rank: leave `rank_pattern` and `alpha_pattern` out")
        return self

    @property
    def changes_base(self) -> bool:
        """PiSSA takes the adapter's first values out of the base weights; saving undoes it."""
        return self.init.startswith("pissa")


class Lora(LowRank):
    """LoRA (Hu et al. 2021, arXiv:2106.09685): a low-rank update beside frozen weights."""

    # About ten times full fine-tuning's, as in the QLoRA paper (arXiv:2305.14314, table 9).
    default_learning_rate: ClassVar[float] = 2e-4

    name: Literal["lora"] = Field(
        description="Low-rank adapters are trained, the model's own weights stay as they are."
    )


class Dora(LowRank):
    """DoRA (Liu et al. 2024, arXiv:2402.09353): the update's direction is low-rank, its magnitude is trained apart."""

    default_learning_rate: ClassVar[float] = 2e-4  # LoRA's; the authors' for LLaMA-2-7B (NVlabs/DoRA)

    name: Literal["dora"] = Field(description="LoRA with each output's magnitude trained apart from its direction.")


class Qlora(LowRank):
    """QLoRA (Dettmers et al. 2023, arXiv:2305.14314): LoRA on a base model whose weights are kept in 4 bits."""

    default_learning_rate: ClassVar[float] = 2e-4  # the paper's table 9, models up to 13B
    needs: ClassVar[str | None] = "quant"

    name: Literal["qlora"] = Field(description="LoRA on a base that is kept in 4 bits; a merge goes into the full one.")
    use_dora: bool = Field(False, description="DoRA instead of LoRA on the 4-bit base (QDoRA).")
    quantization: Literal["nf4", "fp4"] = Field("nf4", description="The 4-bit numbers; nf4 suits normal weights.")
    double_quantization: bool = Field(True, description="Quantise the scales too: 0.4 bits a weight less.")

    @model_validator(mode="after")
    def _base_stays_quantised(self) -> Self:
        if self.changes_base:
            raise ValueError(f"`init: {self.init}` rewrites the base's weights, which 4 bits can't hold; take eva")
        return self


class Ia3(TechniqueBase):
    """(IA)³ (Liu et al. 2022, arXiv:2205.05638): keys, values and inner activations are scaled by trained vectors."""

    default_learning_rate: ClassVar[float] = 3e-3  # the paper's section 3.4 (T-Few)

    name: Literal["ia3"] = Field(description="Only vectors that scale keys, values and inner activations are trained.")
    target_modules: list[str] | None = Field(
        None,
        description="Linear modules to scale; by default those that make keys and values, and `feedforward_modules`.",
    )
    feedforward_modules: list[str] | None = Field(
        None,
        description="Those of the target modules whose input is scaled, not the output; by default the last "
        "linear module of each feed-forward block.",
    )
    modules_to_save: list[str] = Field(
        default_factory=list,
        description="Modules that are trained whole and saved with the adapter, like `lm_head`.",
    )

    @model_validator(mode="after")
    def _feedforward_is_a_target(self) -> Self:
        others = set(self.feedforward_modules or ()) - set(self.target_modules or self.feedforward_modules or ())
        if others:
            raise ValueError(f"`feedforward_modules` names {min(others)!r}, which `target_modules` does not")
        return self


class VirtualTokens(TechniqueBase):
    """What the techniques share that put trained vectors before each document. Nothing of them fits into weights."""

    merges: ClassVar[bool] = False

    virtual_tokens: int = Field(
        20, ge=1, le=1000, description="Trained vectors before each document; they take room in the model's context."
    )


class PromptTuning(VirtualTokens):
    """Prompt tuning (Lester et al. 2021, arXiv:2104.08691): trained embeddings stand before each document."""

    default_learning_rate: ClassVar[float] = 3e-2  # peft's guide; the paper's 0.3 is for Adafactor and T5

    name: Literal["prompt-tuning"] = Field(description="Only the embeddings of a few virtual tokens are trained.")
    init: Literal["vocabulary", "text", "random"] = Field(
        "vocabulary",
        description="First values: embeddings of random tokens (better than random numbers, says the paper's section "
        "3.2), of the words of `init_text`, or random numbers.",
    )
    init_text: str = Field("", description="With `init: text`: the words, repeated or cut to fit.")

    @model_validator(mode="after")
    def _text_goes_with_text(self) -> Self:
        if (self.init == "text") != bool(self.init_text.strip()):
            raise ValueError("`init: text` and `init_text` go together")
        return self


class PrefixTuning(VirtualTokens):
    """Prefix tuning (Li and Liang 2021, arXiv:2101.00190): trained keys and values stand before each layer's own."""

    default_learning_rate: ClassVar[float] = 1e-2  # peft's guide; the paper's 5e-5 goes with its projection

    name: Literal["prefix-tuning"] = Field(description="Only keys and values of a few virtual tokens are trained.")
    projection: bool = Field(
        False, description="Make the prefix by a small network, as in the paper; only what it makes is saved."
    )
    hidden_size: int | None = Field(None, ge=1, description="Width of that network; by default the model's.")


class PTuning(VirtualTokens):
    """P-tuning (Liu et al. 2021, arXiv:2103.10385): a small network makes the embeddings of the virtual tokens."""

    default_learning_rate: ClassVar[float] = 1e-3  # peft's guide

    name: Literal["p-tuning"] = Field(description="A small network that makes virtual tokens' embeddings is trained.")
    encoder: Literal["mlp", "lstm"] = Field("mlp", description="The network; the paper's is an LSTM, peft's an MLP.")
    hidden_size: int | None = Field(None, ge=1, description="Width of the network; by default the model's.")


Technique = Annotated[
    Full | Freeze | Lora | Dora | Qlora | Ia3 | PromptTuning | PrefixTuning | PTuning, Field(discriminator="name")
]
"""Any technique, told apart by its `name`."""

TECHNIQUES: dict[str, type[TechniqueBase]] = {
    "full": Full,
    "freeze": Freeze,
    "lora": Lora,
    "dora": Dora,
    "qlora": Qlora,
    "ia3": Ia3,
    "prompt-tuning": PromptTuning,
    "prefix-tuning": PrefixTuning,
    "p-tuning": PTuning,
}
