"""The recipe: the one file a user writes. These classes are the source of its format, JSON Schema, help and reference.

They say what a recipe may contain and mean; reading the YAML file, with lines and overrides, is `azft.recipe_file`'s.
Every key has a description, because editors, `azft init` and the reference page show it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from azft.tasks import TASKS
from azft.techniques import TECHNIQUES, Lora, Technique


class Section(BaseModel):
    """A mapping of the recipe: unknown keys are errors, values don't change once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _known_task(name: str) -> str:
    if name not in TASKS:
        raise ValueError(f"unknown task {name!r}; this version knows: {', '.join(TASKS)}")
    return name


TaskName = Annotated[str, AfterValidator(_known_task), Field(json_schema_extra={"enum": list(TASKS)})]


_LONG_ROWS = "drop, but " + ", ".join(
    f"{fate} for {' and '.join(name for name, task in TASKS.items() if task.long_rows == fate)}"
    for fate in ("truncate", "split")
)


class Data(Section):
    """Which files hold the rows, and what to do with them. Paths are relative to the recipe."""

    train: Path = Field(description="Training rows: .jsonl, .json, .csv or .parquet.")
    validation: Path | None = Field(None, description="Rows to evaluate on while training.")
    validation_split: float = Field(
        0.1,
        gt=0,
        lt=1,
        description="Share of the training rows split off when there is no validation file; chosen by content and "
        "seed, so the same rows are chosen on every machine.",
    )
    test: Path | None = Field(
        None, description="Held-out rows for the evaluation before and after; the validation rows when absent."
    )
    columns: dict[str, str] = Field(
        default_factory=dict, description="The task's column: the file's column, where the two names differ."
    )
    prompt: str | None = Field(
        None,
        description="How a row's columns make the prompt, for tasks that have one: text with {column} in the places of "
        "their values; by default the task's own. A line whose column the row lacks is left out.",
    )
    labels: list[str] = Field(
        default_factory=list,
        description="The labels of a classification, in the order of their numbers; by default all that the training "
        "rows have, by name.",
    )
    resolution: int | None = Field(
        None,
        ge=16,
        le=4096,
        description="Pixels of each side to which the middle square of a picture is scaled; by default the model's "
        "own.",
    )
    long_rows: Literal["drop", "truncate", "split", "error"] | None = Field(
        None,
        description="What happens to a row with more than max_length tokens: left out; cut (where a prompt is "
        "answered, in the prompt, and the answer stays whole; else at the end); cut into pieces that each see only "
        f"themselves; or refused. By default {_LONG_ROWS}.",
    )

    @model_validator(mode="after")
    def _one_source_of_validation(self) -> Self:
        if self.validation is not None and "validation_split" in self.model_fields_set:
            raise ValueError("give either `validation` or `validation_split`, not both")
        return self


_RATES = ", ".join(f"{kind.default_learning_rate:.0e} {name}" for name, kind in TECHNIQUES.items()).replace("e-0", "e-")
RATE_ABOVE, RATE_BELOW = 100, 1000
"""How many times above or below its default a learning rate is warned of. T5's own, 1e-3 for whole models
(arXiv:1910.10683, section 3.1.2), is 50 times above; far below it, a run learns little, but spoils nothing."""
_LOWER_RATES = "".join(
    f"; for {name} 1/{task.rate_divisor} of that" for name, task in TASKS.items() if task.rate_divisor > 1
)


class Training(Section):
    """How the weights are moved. A sequence is one packed row, or one document when packing is off."""

    epochs: float = Field(3, gt=0, le=1000, description="Passes over the training data.")
    max_steps: int | None = Field(
        None, ge=1, description="Stop after this many optimizer steps, whatever `epochs` says."
    )
    learning_rate: float | None = Field(
        None,
        gt=0,
        lt=10,
        description=f"Peak learning rate; by default the technique's: {_RATES}{_LOWER_RATES}. More than "
        f"{RATE_ABOVE} times above the default or {RATE_BELOW} times below it is warned of.",
    )
    schedule: Literal["cosine", "linear", "constant"] = Field(
        "cosine", description="How the learning rate falls after warm-up: to zero by a cosine or a line, or not at all."
    )
    warmup_ratio: float = Field(0.03, ge=0, le=1, description="Share of the steps over which the learning rate rises.")
    global_batch_size: int = Field(
        16, ge=1, description="Sequences per optimizer step, over all ranks and accumulation."
    )
    micro_batch_size: int = Field(1, ge=1, description="Sequences per forward pass on each rank.")
    max_length: int = Field(
        4096, ge=8, description="Most tokens in a sequence; no more than the model's context is ever used."
    )
    packing: bool = Field(True, description="Put several documents into one sequence; none of them sees another.")
    precision: Literal["auto", "bf16", "fp16", "fp32"] = Field(
        "auto",
        description="Arithmetic of the forward and backward pass, beside trained weights and optimizer in fp32; auto "
        "takes bf16 where the hardware has it, else fp32; fp16, which comes with loss scaling, is for GPUs without "
        "bf16 (V100, T4).",
    )
    weight_decay: float = Field(0.0, ge=0, description="AdamW's decoupled weight decay.")
    adam_beta1: float = Field(0.9, ge=0, lt=1, description="AdamW's decay of the first moment.")
    adam_beta2: float = Field(0.999, ge=0, lt=1, description="AdamW's decay of the second moment.")
    adam_epsilon: float = Field(1e-8, gt=0, description="AdamW's epsilon.")
    max_grad_norm: float = Field(1.0, ge=0, description="Gradients are scaled down to this norm; 0 turns clipping off.")
    gradient_checkpointing: bool = Field(
        False, description="Recompute activations in the backward pass: less memory, about a third more time."
    )
    kernels: Literal["auto", "torch"] = Field(
        "auto",
        description="What computes on an NVIDIA GPU; auto: flash attention over documents and, with extra `kernels`, "
        "Liger's norms, gates and rotations, each where it has shown there that it errs no more than torch's operators "
        "do; torch: those operators.",
    )
    dpo_beta: float = Field(
        0.1, gt=0, description="Preference tuning: how closely the model is held to the base model (DPO's beta)."
    )
    seed: int = Field(42, ge=0, lt=2**32, description="Seed of every random choice.")
    logging_steps: int = Field(1, ge=1, description="Steps between two lines of metrics.")
    eval_steps: int | None = Field(None, ge=1, description="Steps between evaluations; by default one per epoch.")
    save_steps: int | None = Field(None, ge=1, description="Steps between checkpoints; by default one per epoch.")
    save_total_limit: int = Field(2, ge=1, description="Newest checkpoints kept; the best one is kept besides.")
    early_stopping_patience: int | None = Field(
        None,
        ge=1,
        description="Stop after this many evaluations without improvement; the best checkpoint is the result.",
    )
    early_stopping_threshold: float = Field(
        0.0, ge=0, description="How much the evaluation loss must fall to count as an improvement."
    )

    @model_validator(mode="after")
    def _batch_divides(self) -> Self:
        if self.global_batch_size % self.micro_batch_size:
            raise ValueError(
                f"`global_batch_size` ({self.global_batch_size}) must be a multiple of `micro_batch_size` "
                f"({self.micro_batch_size})"
            )
        return self


class Distribution(Section):
    """How ranks share the work."""

    strategy: Literal["none", "ddp", "fsdp", "deepspeed"] = Field(
        "none",
        description="none: one process; ddp: every rank holds the model and takes its share of each batch; fsdp: every "
        "rank holds a part of every weight, gradient and optimizer state (torch's FSDP2); deepspeed: ZeRO, in its "
        "stages.",
    )
    zero_stage: Literal[1, 2, 3] = Field(
        2, description="deepspeed: what is in parts; 1: optimizer states; 2: gradients too; 3: weights too."
    )
    offload: Literal["none", "optimizer", "all"] = Field(
        "none",
        description="What waits in the host's memory while the GPU doesn't need it; optimizer: its states, with "
        "deepspeed; all: weights too, with fsdp or ZeRO stage 3.",
    )
    config: Path | dict[str, Any] | None = Field(
        None,
        description="deepspeed: your own configuration, a JSON file (relative to the recipe) or a mapping; it must not "
        "contradict the recipe. By default one is made from the recipe.",
    )

    @model_validator(mode="after")
    def _keys_of_strategy(self) -> Self:
        for key in ("zero_stage", "config"):
            if getattr(self, key) != type(self).model_fields[key].default and self.strategy != "deepspeed":
                raise ValueError(f"`{key}` is DeepSpeed's: say `strategy: deepspeed`, or leave it out")
        if self.offload != "none" and self.strategy in ("none", "ddp"):
            raise ValueError(
                f"`offload: {self.offload}` can't be had with `strategy: {self.strategy}`, under which a rank keeps "
                "the whole model on its device; say `strategy: fsdp` or `deepspeed`"
            )
        if self.offload == "optimizer" and self.strategy == "fsdp":
            raise ValueError("`offload: optimizer` can't be had with `strategy: fsdp`, which moves all or nothing")
        if self.offload == "all" and self.strategy == "deepspeed" and self.zero_stage != 3:
            raise ValueError(
                f"`offload: all` can't be had in stage {self.zero_stage}, in which every rank keeps all weights; say "
                "`zero_stage: 3`, or `offload: optimizer`"
            )
        return self

    @property
    def needs(self) -> str | None:
        """The extra of azft that the strategy needs besides `train`."""
        return "deepspeed" if self.strategy == "deepspeed" else None

    @property
    def shards_weights(self) -> bool:
        """Whether every rank holds a part of each weight only."""
        return self.strategy == "fsdp" or (self.strategy == "deepspeed" and self.zero_stage == 3)


class Evaluation(Section):
    """What the evaluation before and after the tuning does besides the loss."""

    samples: int = Field(3, ge=0, le=1000, description="Held-out prompts that base and tuned model both answer.")
    generate_rows: int = Field(
        64,
        ge=0,
        description="Held-out rows whose answers both models write for the task's metrics over texts (BLEU, ROUGE, "
        "exact match ...), where it has any; 0 for none.",
    )
    max_new_tokens: int = Field(64, ge=1, description="Most tokens in such an answer.")


class LocalMode(Section):
    """Running on this machine."""

    processes: int = Field(1, ge=1, description="Ranks to start; more than one needs a distribution strategy.")
    weights: Literal["auto", "real", "stand-in"] = Field(
        "auto",
        description="real: the model itself; stand-in: a tiny model of the same architecture with random weights, "
        "which proves the pipeline and not the quality; auto: real where the weights are on this machine, else "
        "the stand-in.",
    )


class MaasMode(Section):
    """Azure's serverless fine-tuning (MaaS): Azure trains on machines of its own and bills by the token."""

    region: str | None = Field(
        None, description="Azure region of the workspace, for checking that it offers the model: eastus2."
    )
    route: Literal["auto", "azureml"] = Field(
        "auto", description="Which service does it; azureml: a fine-tuning job of Azure Machine Learning."
    )


ComputeName = Annotated[str, AfterValidator(lambda name: name.removeprefix("azureml:"))]
"""Azure ML's YAML writes `azureml:` before a cluster's name."""


class MaapMode(Section):
    """Machines of your own subscription in Azure Machine Learning (MaaP)."""

    compute: ComputeName | None = Field(
        None, description="A compute cluster of the workspace; or give `instance_types`."
    )
    instance_types: list[str] = Field(
        default_factory=list,
        description="VM sizes to run on without a cluster, best first; Azure makes the machines for the job.",
    )
    vm_size: str | None = Field(
        None,
        description="VM size of the cluster's nodes: looked up for their GPUs, and made by `--create-compute`.",
    )
    nodes: int = Field(1, ge=1, le=1000, description="Machines that train together.")
    gpus_per_node: int | None = Field(
        None, ge=1, le=16, description="Ranks on each machine; by default as many as the VM size has GPUs."
    )
    tier: Literal["dedicated", "low-priority"] = Field(
        "dedicated",
        description="low-priority is cheaper and can be taken away at any time; the job goes on from its checkpoint.",
    )
    pipeline: Literal["azft", "system", "finetuning"] = Field(
        "azft",
        description="azft: azft's own pipeline, as in local mode; system: the azureml registry's pipeline of the task; "
        "finetuning: a fine-tuning job, whose pipeline Azure chooses.",
    )
    parameters: dict[str, str | int | float] = Field(
        default_factory=dict,
        description="Further inputs of the system pipeline, or hyperparameters of the fine-tuning job, by its own "
        "names; what the recipe's other keys say can't be said here too.",
    )
    max_nodes: int | None = Field(
        None, ge=1, description="Most nodes of a cluster that `--create-compute` makes; by default `nodes`."
    )
    idle_seconds: int = Field(
        1200,
        ge=60,
        description="Seconds without work after which a cluster that `--create-compute` makes shrinks to 0.",
    )


class Modes(Section):
    """A section for each place a recipe can run."""

    local: LocalMode = Field(default_factory=LocalMode, description="Running on this machine.")
    maas: MaasMode = Field(default_factory=MaasMode, description="Azure's serverless fine-tuning.")
    maap: MaapMode = Field(default_factory=MaapMode, description="Machines of your own in Azure Machine Learning.")


class Output(Section):
    """What comes out."""

    model_name: str | None = Field(None, description="Name of the tuned model; the recipe's name when absent.")
    merge: bool | None = Field(
        None,
        description="Also merge an adapter into the full-precision base, for servers that load plain models; by "
        "default wherever the technique's adapters can be merged.",
    )


class Recipe(Section):
    """One fine-tuning, from data to model."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$",
        description="Short name: letters, digits, - and _. Runs and models are named after it.",
    )
    description: str = Field("", description="A line for people.")
    task: TaskName = Field(description="What the model learns to do.")
    model: str = Field(min_length=1, description="A catalog name, a hub id, an azureml:// id, or a folder.")
    model_revision: str | None = Field(None, description="Revision of a hub model; a commit hash never moves.")
    trust_remote_code: bool = Field(
        False, description="Run Python code that comes with the model. Only for models whose code you have read."
    )
    data: Data = Field(description="The rows to learn from.")
    technique: Technique = Field(default_factory=lambda: Lora(name="lora"), description="Which weights move.")
    training: Training = Field(default_factory=Training, description="How they move.")
    distribution: Distribution = Field(default_factory=Distribution, description="How ranks share the work.")
    evaluation: Evaluation = Field(default_factory=Evaluation, description="What is measured at the end.")
    modes: Modes = Field(default_factory=Modes, description="A section for each place to run.")
    output: Output = Field(default_factory=Output, description="What comes out.")

    @model_validator(mode="after")
    def _ranks_need_a_strategy(self) -> Self:
        if self.modes.local.processes > 1 and self.distribution.strategy == "none":
            raise ValueError(
                "`modes.local.processes` is above 1, so `distribution.strategy` must say how they share the work"
            )
        return self

    @model_validator(mode="after")
    def _merge_is_possible(self) -> Self:
        if self.output.merge and not self.technique.merges:
            raise ValueError(
                f"`output.merge` can't be true with {self.technique.name}: virtual tokens are no part of the weights; "
                "leave it out, and serve the base model with the adapter"
            )
        return self

    @property
    def merges(self) -> bool:
        """Whether an adapter is merged: as the recipe says, else wherever it is possible."""
        return self.technique.merges if self.output.merge is None else self.output.merge

    @property
    def long_rows(self) -> Literal["drop", "truncate", "split", "error"]:
        """What becomes of rows that are too long: as the recipe says, else as the task has it."""
        return self.data.long_rows or TASKS[self.task].long_rows

    @property
    def measures(self) -> tuple[str, ...]:
        """The metrics that evaluation is to report; without written answers those over texts are among them in vain."""
        return TASKS[self.task].metrics if self.evaluation.generate_rows else ()

    @property
    def usual_learning_rate(self) -> float:
        """Where the peak learning rate starts: the technique's default over the task's divisor."""
        rate = self.technique.default_learning_rate / TASKS[self.task].rate_divisor
        return float(f"{rate:.6g}")  # 5e-07, and not 5.000000000000001e-07

    @property
    def learning_rate(self) -> float:
        """The peak learning rate: the recipe's, else the usual one."""
        return self.training.learning_rate or self.usual_learning_rate

    @property
    def model_name(self) -> str:
        """The tuned model's name."""
        return self.output.model_name or self.name

    def to_dict(self) -> dict[str, Any]:
        """The recipe with every default filled in, as JSON values."""
        return self.model_dump(mode="json")
