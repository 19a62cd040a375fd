"""The plan: a recipe and a mode, resolved to exactly what will run. Immutable, JSON, and named by a hash.

The hash covers what decides the result (recipe, contents of data and model, code, components) and nothing that doesn't
(paths, times). Equal hashes mean the same job, which is how submitting twice starts one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict

import azft
from azft.catalog import ResolvedModel, resolve_model
from azft.catalog.cache import stand_in_folder
from azft.catalog.facts import facts_sha256
from azft.catalog.folder import cached_sha256
from azft.catalog.trainable import TrainableShare, trainable_share
from azft.errors import FindingsError
from azft.files import canonical_json, sha256_bytes, sha256_file, sha256_tree
from azft.findings import Finding, by_severity, has_errors
from azft.parameters import EvaluateParameters, FinetuneParameters, PackageParameters, Parameters, PrepareParameters
from azft.recipe import Recipe
from azft.recipe_file import RecipeFile
from azft.staging import COMPONENTS, code_hash, component_file, environment_folder

_PARAMETERS: dict[str, type[PrepareParameters | FinetuneParameters | EvaluateParameters | PackageParameters]] = {
    "prepare": PrepareParameters,
    "finetune": FinetuneParameters,
    "evaluate": EvaluateParameters,
    "package": PackageParameters,
}
BLOB_STORE = "azureml://datastores/workspaceblobstore/paths"
"""The workspace's own blob store, where parameters and checkpoints go."""
_SAID_BY_THE_TARGET = {"data-few-rows"}
"""Findings of the data's check that a plan says exactly, by `azft.targets`, or need not say."""
HASH_CHARACTERS = 8
"""How much of the hash is in a run's name; the whole one is compared before a run is adopted."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PlannedInput(_Part):
    """A data file that the job reads."""

    role: str
    """train, validation, test, or the system pipeline's input that it is for."""
    path: Path
    bytes: int
    sha256: str


class PlannedStep(_Part):
    """A step of the pipeline, what it is told, and the hashes of its component.yaml and of its environment's folder."""

    name: str
    parameters: dict[str, Any]
    component_sha256: str
    environment_sha256: str

    def parameters_json(self) -> bytes:
        """The parameters file's bytes."""
        return _PARAMETERS[self.name].model_validate(self.parameters).to_json()


UploadKind = Literal["data", "parameters", "model", "code", "environment"]


class PlannedUpload(_Part):
    """Something that Azure must have before the job starts. It is named by its contents, so it is sent once."""

    kind: UploadKind
    name: str
    """The asset's name; for parameters the path in the workspace's blob store."""
    version: str = "1"
    path: Path | None = None
    """Where the bytes are; None for what azft makes (parameters, code)."""
    bytes: int
    files: int = 1
    sha256: str
    there: bool | None = None
    """Whether Azure has it already; None as long as nobody asked."""

    @property
    def reference(self) -> str:
        """What a job calls it."""
        if self.kind == "parameters":
            return f"{BLOB_STORE}/{self.name}"
        return f"azureml:{self.name}:{self.version}"


class Target(_Part):
    """Where in Azure a plan runs and what exactly the service is told; all of it is decided without a network."""

    service: Literal["serverless-finetuning", "pipeline", "system-pipeline", "finetuning-job"]
    model_id: str
    """azureml://registries/<registry>/models/<name>/labels/latest or /versions/N, or the asset of a local folder."""
    model_type: Literal["mlflow_model", "custom_model"] = "mlflow_model"
    """How the model is kept there."""
    region: str | None = None
    compute: str | None = None
    vm_size: str | None = None
    instance_types: tuple[str, ...] = ()
    nodes: int = 1
    gpus_per_node: int = 1
    tier: Literal["dedicated", "low-priority"] = "dedicated"
    max_nodes: int | None = None
    idle_seconds: int | None = None
    marketplace: bool = False
    """Whether a subscription in Azure's marketplace is needed first (models that aren't Microsoft's)."""
    hyperparameters: dict[str, str] = {}
    """What a fine-tuning job is told."""
    component: str | None = None
    """The registry's pipeline component."""
    parameters: dict[str, str | int | float] = {}
    """What that component is told."""
    job_file: dict[str, Any] | None = None
    """The Azure ML job file that is taken as it is, in place of what a recipe would say."""
    uploads: tuple[PlannedUpload, ...] = ()
    bills: tuple[str, ...] = ()
    """What will cost money, in words."""
    catalog_sha256: str = ""
    """Of the catalog's rows that the plan was made with."""

    def identity(self) -> dict[str, Any]:
        """What of it decides the result: not where files lie on this machine, nor what Azure has already."""
        data = self.model_dump(mode="json", exclude={"bills"})
        data["uploads"] = [[upload.kind, upload.name, upload.sha256] for upload in self.uploads]
        return data

    def upload(self, kind: str, role: str | None = None) -> PlannedUpload | None:
        """The first planned upload of a kind (of a name that ends with `role`), if there is one."""
        for upload in self.uploads:
            if upload.kind == kind and (role is None or upload.name.endswith(role)):
                return upload
        return None


class Plan(_Part):
    """What will run. `submit` carries out exactly this."""

    format: Literal[1] = 1
    name: str
    """The recipe's name."""
    mode: str
    hash: str
    """Hex SHA-256 of all that decides the result."""
    created: datetime
    azft_version: str
    recipe_path: Path
    recipe_sha256: str
    """Of the recipe file's bytes; tells a stale plan, and is no part of `hash`."""
    recipe: dict[str, Any]
    """The recipe with every default filled in."""
    inputs: tuple[PlannedInput, ...]
    model: ResolvedModel
    code_hash: str
    """Of the staged code folder."""
    processes: int
    """Ranks of the finetune step on each machine."""
    steps: tuple[PlannedStep, ...]
    findings: tuple[Finding, ...]
    target: Target | None = None
    """Where in Azure; None for a run on this machine."""
    trainable: TrainableShare | None = None
    """How many weights move; None where only the training can tell. Follows from the rest, so it is no part of
    `hash`."""

    @property
    def trainable_words(self) -> str:
        """The same for a person: `lora, rank 16: 3.1 M of 3,836 M weights (0.08 %)`."""
        technique = self.recipe["technique"]
        which = str(technique["name"]) + (f", rank {technique['rank']}" if "rank" in technique else "")
        if self.trainable is None:
            return f"{which}: how many weights, the log says when training starts"
        return f"{which}: {self.trainable.words}{' of the stand-in' if self.model.kind == 'stand-in' else ''}"

    @property
    def run_name(self) -> str:
        """The job's name, the same wherever and whenever the same plan is made."""
        return f"{self.name}-{self.hash[:HASH_CHARACTERS]}"

    @property
    def has_errors(self) -> bool:
        """Whether a finding stands in the way of submitting."""
        return has_errors(self.findings)

    def to_json(self) -> bytes:
        """The plan as canonical JSON; `Plan.from_json` reads it back."""
        return canonical_json(self.model_dump(mode="json"))

    def _repr_html_(self) -> str:
        from azft.views_html.plan import show

        return show(self)

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Read a plan. Raises pydantic's `ValidationError` (a ValueError) for what is no plan of this version."""
        return cls.model_validate_json(data)

    def computed_hash(self) -> str:
        """The hash that the contents have; differs from `hash` in a plan that was edited."""
        recipe = {**self.recipe, "modes": {self.mode: self.recipe["modes"].get(self.mode, {})}}
        recipe["data"] = {
            key: value for key, value in recipe["data"].items() if key not in {"train", "validation", "test"}
        }
        target = {} if self.target is None else {"target": self.target.identity()}
        return sha256_bytes(
            canonical_json(
                {
                    **target,
                    "format": self.format,
                    "mode": self.mode,
                    "recipe": recipe,
                    # Not the path, but its suffix: that decides how the bytes are read.
                    "inputs": {entry.role: [entry.path.suffix, entry.sha256] for entry in self.inputs},
                    "model": self.model.identity,
                    "code": self.code_hash,
                    "processes": self.processes,
                    "steps": [step.model_dump(mode="json") for step in self.steps],
                }
            )
        )


def make_plan(
    recipe_file: RecipeFile,
    mode: str,
    *,
    processes: int = 1,
    findings: Callable[[ResolvedModel | None], Iterable[Finding]] = lambda _: (),
) -> Plan:
    """Resolve a recipe for a mode: check the data, find the model, hash all that decides the result.

    `findings` gives the mode's own, about the model that was found (None: none was). Errors among
    findings don't raise here; a model that can't be resolved does (`FindingsError`, with the data's findings attached),
    because there is nothing to plan with.
    """
    from azft import data_check  # numpy and msgspec; a plan that is only read needs neither

    try:
        model = resolve_model(recipe_file)
    except FindingsError as error:
        seen = [*findings(None), *data_check.check_for_plan(recipe_file, None)]
        error.findings = (*error.findings, *by_severity(seen))
        raise
    seen = [*findings(model), *data_check.check_for_plan(recipe_file, model)]
    return put_together(
        recipe_file,
        mode,
        inputs=planned_inputs(recipe_file),
        model=model,
        findings=[*seen, *model.findings],
        own=True,
        processes=processes,
        trainable=_trainable(recipe_file.recipe, model),
    )


def _trainable(recipe: Recipe, model: ResolvedModel) -> TrainableShare | None:
    """Of the model's files, where they are here. The data's check has made a stand-in's."""
    if model.path is None and model.spec is None:
        return None
    folder = model.path or stand_in_folder(model.spec.identity if model.spec else "")
    return trainable_share(recipe, folder) if folder.is_dir() else None


def put_together(
    recipe_file: RecipeFile,
    mode: str,
    *,
    inputs: tuple[PlannedInput, ...],
    model: ResolvedModel,
    findings: Iterable[Finding],
    own: bool,
    processes: int = 1,
    target: Target | None = None,
    recipe: dict[str, Any] | None = None,
    trainable: TrainableShare | None = None,
) -> Plan:
    """The plan of what has been decided, with the hashes that its contents have. Every plan is made here.

    `own`: azft's own pipeline runs, so its code and its steps belong to the plan. `recipe` replaces what the recipe
    file says of itself, for a job file that has words of its own. What the data's check can only warn of, because it
    doesn't know where the rows go, is left out: the plan knows, and has an error of the service's where it matters.
    """
    draft = Plan(
        name=recipe_file.recipe.name,
        mode=mode,
        hash="",
        created=datetime.now(UTC),
        azft_version=azft.__version__,
        recipe_path=recipe_file.path,
        recipe_sha256=sha256_file(recipe_file.path),
        recipe=recipe_file.recipe.to_dict() if recipe is None else recipe,
        inputs=inputs,
        model=model,
        code_hash=code_hash() if own else "",
        processes=processes,
        steps=planned_steps(recipe_file.recipe) if own else (),
        findings=tuple(by_severity(seen for seen in findings if seen.code not in _SAID_BY_THE_TARGET)),
        target=target,
        trainable=trainable,
    )
    return _seal(draft)


def _seal(draft: Plan) -> Plan:
    """The draft with the hashes that its contents have: the catalog's, where it is for Azure, and then its own."""
    if draft.target is not None:
        target = draft.target.model_copy(update={"catalog_sha256": catalog_sha256(draft)})
        draft = draft.model_copy(update={"target": target})
    return draft.model_copy(update={"hash": draft.computed_hash()})


def catalog_sha256(plan: Plan) -> str:
    """Of the catalog's rows that decide a plan for Azure, as they are now."""
    target = plan.target
    assert target is not None
    sizes = [*target.instance_types, *([target.vm_size] if target.vm_size else [])]
    task = plan.recipe["task"] if target.service == "system-pipeline" else None
    return facts_sha256(plan.recipe["model"], sizes, task)


def planned_inputs(
    recipe_file: RecipeFile, roles: Iterable[str] = ("train", "validation", "test")
) -> tuple[PlannedInput, ...]:
    """The recipe's data files that are there, hashed."""
    data = recipe_file.recipe.data
    given = {"train": data.train, "validation": data.validation, "test": data.test}
    planned = []
    for role in roles:
        if (name := given[role]) is not None:
            path = recipe_file.resolve(name)
            if path.is_file():  # the data check has already said so when it isn't
                planned.append(
                    PlannedInput(role=role, path=path, bytes=path.stat().st_size, sha256=cached_sha256(path))
                )
    return tuple(planned)


def planned_steps(recipe: Recipe) -> tuple[PlannedStep, ...]:
    """The steps of azft's own pipeline."""
    return tuple(planned_step(name, recipe) for name in COMPONENTS)


def planned_step(name: str, recipe: Recipe | None, parameters: dict[str, Any] | None = None) -> PlannedStep:
    """A step as it is now, with the recipe's parameters or given ones."""
    component = component_file(name)
    if recipe is not None:
        made: Parameters = _PARAMETERS[name].of(recipe)
        parameters = made.model_dump(mode="json")
    return PlannedStep(
        name=name,
        parameters=parameters or {},
        component_sha256=sha256_file(component),
        environment_sha256=sha256_tree(environment_folder(name)),
    )
