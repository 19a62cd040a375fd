"""What each component is told: one JSON file a step, made from the recipe, read by the step's main.py.

Parameters travel in a file and never on a command line, because Azure ML pastes input values into a shell command. A
step gets only what it uses: changing the learning rate must not make the data step run again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from azft.errors import UsageError
from azft.recipe import Distribution, Evaluation, Recipe, TaskName, Training
from azft.techniques import Technique


class Parameters(BaseModel):
    """Shared behaviour of the four classes below: strict, frozen, read from and written to JSON."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a parameters file; `UsageError` says which value is wrong."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except ValidationError as error:
            raise UsageError(f"{path}: {error}") from None

    def to_json(self) -> bytes:
        """Canonical bytes: equal parameters hash the same."""
        return orjson.dumps(self.model_dump(mode="json"), option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2)


class PrepareParameters(Parameters):
    """Rows to token ids: check, template, tokenize, mask, pack."""

    task: TaskName
    columns: dict[str, str]
    validation_split: float | None
    """Share of the training rows to split off; None when there is a validation file."""
    prompt: str | None
    labels: tuple[str, ...]
    resolution: int | None
    """Pixels of a picture's side; None: the model's own."""
    long_rows: Literal["drop", "truncate", "split", "error"]
    max_length: int
    packing: bool
    seed: int
    measures: tuple[str, ...] = ()
    """What the last step will measure: this one, the first, refuses a package that is missing for it."""

    @classmethod
    def of(cls, recipe: Recipe) -> Self:
        """The part of the recipe that this step uses."""
        data, training = recipe.data, recipe.training
        return cls(
            task=recipe.task,
            columns=data.columns,
            validation_split=None if data.validation else data.validation_split,
            prompt=data.prompt,
            labels=tuple(data.labels),
            resolution=data.resolution,
            long_rows=recipe.long_rows,
            max_length=training.max_length,
            packing=training.packing,
            seed=training.seed,
            measures=recipe.measures,
        )


class FinetuneParameters(Parameters):
    """Token ids to trained weights. `training.learning_rate` is always filled in."""

    task: TaskName
    technique: Technique
    training: Training
    distribution: Distribution
    trust_remote_code: bool

    @classmethod
    def of(cls, recipe: Recipe) -> Self:
        """The part of the recipe that this step uses."""
        return cls(
            task=recipe.task,
            technique=recipe.technique,
            training=recipe.training.model_copy(update={"learning_rate": recipe.learning_rate}),
            distribution=recipe.distribution,
            trust_remote_code=recipe.trust_remote_code,
        )

    def override(self, **values: Any) -> Self:
        """The same with some `training` values replaced (a sweep's typed inputs); None leaves a value as it is."""
        given = {key: value for key, value in values.items() if value is not None}
        return self.model_copy(update={"training": Training.model_validate({**self.training.model_dump(), **given})})


class EvaluateParameters(Parameters):
    """Base and tuned model on held-out rows."""

    task: TaskName
    evaluation: Evaluation
    precision: Literal["auto", "bf16", "fp16", "fp32"]
    dpo_beta: float
    seed: int
    trust_remote_code: bool

    @classmethod
    def of(cls, recipe: Recipe) -> Self:
        """The part of the recipe that this step uses."""
        return cls(
            task=recipe.task,
            evaluation=recipe.evaluation,
            precision=recipe.training.precision,
            dpo_beta=recipe.training.dpo_beta,
            seed=recipe.training.seed,
            trust_remote_code=recipe.trust_remote_code,
        )


class PackageParameters(Parameters):
    """Trained weights to a folder that servers load, with a card that says where it came from."""

    task: TaskName
    model_name: str
    base_model: str
    merge: bool
    trust_remote_code: bool

    @classmethod
    def of(cls, recipe: Recipe) -> Self:
        """The part of the recipe that this step uses."""
        return cls(
            task=recipe.task,
            model_name=recipe.model_name,
            base_model=recipe.model,
            merge=recipe.merges,
            trust_remote_code=recipe.trust_remote_code,
        )
