"""A recipe becomes an exact plan for Azure, without a network and without an account.

What the service will be told, what would be uploaded, what will be billed and every problem that the recipe, the data
and the dated catalog can show are decided here; `azft.payloads` only puts it into the SDK's objects.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import orjson

from azft.catalog import Located, ResolvedModel, locate_model, resolve_model
from azft.catalog.folder import cached_sha256, folder_identity
from azft.catalog.system_pipelines import SystemPipeline, component_id, system_pipelines
from azft.catalog.trainable import TrainableShare, trainable_share
from azft.errors import FindingsError
from azft.files import sha256_bytes
from azft.findings import Finding, Severity
from azft.plan import Plan, PlannedInput, Target, planned_inputs, planned_steps, put_together
from azft.planned_uploads import data_uploads, model_upload, own_uploads
from azft.recipe_file import RecipeFile
from azft.targets import finetuning, system
from azft.targets.bills import bills
from azft.targets.columns import columns_given
from azft.targets.data import ROLES, count_rows, data_findings
from azft.targets.gpu_memory import too_small_gpus
from azft.targets.loading import known_weights, node_of, too_small
from azft.targets.machines import Machines, choose_machines, machine_findings
from azft.targets.models import (
    GivenModel,
    give_model,
    model_findings,
    needs_marketplace,
    region_name,
    result_findings,
    route_findings,
)
from azft.targets.own import OWN_PIPELINE
from azft.targets.table import Scalar, Setting, Table, finding, not_offered, task_not_offered, translate

Service = Literal["serverless-finetuning", "pipeline", "system-pipeline", "finetuning-job"]
_SERVICES: dict[str, Service] = {"azft": "pipeline", "system": "system-pipeline", "finetuning": "finetuning-job"}
TABLES: dict[str, Table] = {
    "serverless-finetuning": finetuning.SERVERLESS,
    "finetuning-job": finetuning.ON_MACHINES,
    "system-pipeline": system.SYSTEM,
    "pipeline": OWN_PIPELINE,
}
_WORDS = {
    "serverless-finetuning": "serverless fine-tuning",
    "finetuning-job": "a fine-tuning job",
    "system-pipeline": "the system pipeline",
    "pipeline": "azft's pipeline",
}
_COUNT_HERE = (
    "To have them counted, get the model's files: azft models get. Azure cuts longer rows off, and says nothing."
)


def make_azure_plan(recipe_file: RecipeFile, mode: str) -> Plan:
    """Resolve a recipe for `maas` or `maap`.

    Errors among the findings don't raise here; a model whose name means nothing does (`FindingsError`), because there
    is nothing to plan with.
    """
    draft = _Draft.of(recipe_file, mode)
    target = draft.target()
    return put_together(
        recipe_file,
        mode,
        inputs=draft.inputs,
        model=draft.resolved_model(),
        findings=draft.findings(target),
        own=draft.own,
        processes=draft.machines.gpus_per_node,
        target=target,
        trainable=draft.trainable(),
    )


@dataclass(frozen=True)
class _Draft:
    """All that is found out about a recipe before the plan is put together."""

    recipe_file: RecipeFile
    mode: str
    service: Service
    located: Located
    given: GivenModel | None
    machines: Machines
    inputs: tuple[PlannedInput, ...]
    setting: Setting

    def trainable(self) -> TrainableShare | None:
        """How many weights azft's own steps train, where the model's files are here; others count by themselves."""
        folder = self.given.folder if self.given is not None and self.own else None
        return None if folder is None else trainable_share(self.recipe_file.recipe, folder)

    @classmethod
    def of(cls, recipe_file: RecipeFile, mode: str) -> _Draft:
        recipe = recipe_file.recipe
        service: Service = "serverless-finetuning" if mode == "maas" else _SERVICES[recipe.modes.maap.pipeline]
        located = locate_model(recipe_file)
        machines = Machines(None, 1) if mode == "maas" else choose_machines(recipe)
        nodes = 1 if mode == "maas" else recipe.modes.maap.nodes
        system_rows = service == "system-pipeline"
        rows = count_rows(recipe_file.resolve(recipe.data.train)) if system_rows else None
        files = planned_inputs(recipe_file, ROLES[service])
        if service == "system-pipeline":
            files += tuple(_parameter_files(recipe_file))
        return cls(
            recipe_file=recipe_file,
            mode=mode,
            service=service,
            located=located,
            given=give_model(located, service=service),
            machines=machines,
            inputs=files,
            setting=Setting(
                recipe,
                ranks=nodes * machines.gpus_per_node,
                rows=rows,
                columns=columns_given(recipe_file) if system_rows else {},
            ),
        )

    @property
    def own(self) -> bool:
        """Whether azft's own pipeline runs."""
        return self.service == "pipeline"

    def target(self) -> Target:
        """Where and what, exactly."""
        recipe = self.recipe_file.recipe
        maap = recipe.modes.maap if self.mode == "maap" else None
        folder = self.given.folder if self.given else None
        uploads = data_uploads(self.inputs)
        if folder is not None:
            uploads.append(model_upload(folder))
        if self.own:
            uploads += own_uploads(planned_steps(recipe))
        target = Target(
            service=self.service,
            model_id=self._model_id(),
            model_type=self.given.type if self.given else "mlflow_model",
            region=region_name(recipe.modes.maas.region) if not maap and recipe.modes.maas.region else None,
            compute=maap.compute if maap else None,
            vm_size=maap.vm_size if maap else None,
            instance_types=tuple(maap.instance_types) if maap else (),
            nodes=maap.nodes if maap else 1,
            gpus_per_node=self.machines.gpus_per_node,
            tier=maap.tier if maap else "dedicated",
            max_nodes=(maap.max_nodes or maap.nodes) if maap and maap.compute else None,
            idle_seconds=maap.idle_seconds if maap and maap.compute else None,
            marketplace=needs_marketplace(self.located.row, self.service),
            hyperparameters=self._hyperparameters(),
            component=component_id(pipeline) if (pipeline := self.pipeline()) is not None else None,
            parameters=self._parameters(),
            uploads=tuple(uploads),
        )
        return target.model_copy(update={"bills": tuple(bills(recipe, target))})

    def pipeline(self) -> SystemPipeline | None:
        """The registry's pipeline of the task; None for another service, or a task that has none there."""
        return system_pipelines().get(self.recipe_file.recipe.task) if self.service == "system-pipeline" else None

    def _model_id(self) -> str:
        if self.given is None:
            return self.located.name
        return model_upload(self.given.folder).reference if self.given.folder is not None else self.given.id

    def resolved_model(self) -> ResolvedModel:
        """The model as the plan names it; a folder that is uploaded is watched for changes."""
        model_id = self._model_id()
        folder = self.given.folder if self.given else None
        row = self.located.row
        return ResolvedModel(
            kind="registry" if folder is None else "folder" if self.located.folder is not None else "cached",
            name=self.located.name,
            path=folder,
            identity=sha256_bytes(model_id.encode()) if folder is None else folder_identity(folder),
            description=f"{self.located.name}, from {folder}" if folder is not None else model_id,
            context_length=row.context_length if row else None,
        )

    def _hyperparameters(self) -> dict[str, str]:
        if self.service not in ("serverless-finetuning", "finetuning-job"):
            return {}
        told = finetuning.hyperparameters(TABLES[self.service], self.setting)
        if self.service == "finetuning-job":
            told |= {name: str(value) for name, value in self.recipe_file.recipe.modes.maap.parameters.items()}
        return told

    def _mapped(self, pipeline: SystemPipeline) -> dict[str, Scalar]:
        recipe = self.recipe_file.recipe
        mapped = translate(system.SYSTEM, self.setting)
        mapped |= system.machine_parameters(recipe, self.machines.gpus_per_node)
        mapped["task_name"] = pipeline.task_name
        if self.given is not None and self.given.hub:
            mapped["huggingface_id"] = self.given.id
        return mapped

    def _parameters(self) -> dict[str, Scalar]:
        if (pipeline := self.pipeline()) is None:
            return {}
        recipe = self.recipe_file.recipe
        known = pipeline.inputs
        own = {n: v for n, v in recipe.modes.maap.parameters.items() if n in known and not known[n].is_asset}
        return {**self._mapped(pipeline), **own}

    def findings(self, target: Target) -> Iterator[Finding]:
        """Every problem that can be seen from here."""
        recipe_file, service = self.recipe_file, self.service
        yield from data_check_findings(recipe_file, self.located, own=self.own)
        yield from model_findings(recipe_file, self.located, self.given, service=service)
        yield from result_findings(recipe_file)
        yield from not_offered(TABLES[service], recipe_file, _WORDS[service])
        files = [(entry.role, entry.path, entry.bytes) for entry in self.inputs if entry.role in ROLES[service]]
        yield from data_findings(recipe_file, files, service=service)
        if self.mode == "maas":
            yield from route_findings(recipe_file)
        else:
            yield from machine_findings(recipe_file, self.machines)
        if self.own:
            yield from self._too_small()
        if service in ("serverless-finetuning", "finetuning-job"):
            if recipe_file.recipe.task not in finetuning.TASKS:
                yield task_not_offered(recipe_file, "fine-tuning jobs know no such task", finetuning.TASKS)
            elif service == "serverless-finetuning" and recipe_file.recipe.task != finetuning.CHAT:
                yield task_not_offered(recipe_file, "serverless fine-tuning reads chats only", (finetuning.CHAT,))
            yield from finetuning.mapping_findings(recipe_file, on_machines=service == "finetuning-job")
        elif service == "system-pipeline":
            yield from self._system_findings(target)

    def _too_small(self) -> Iterator[Finding]:
        """What is wrong with nodes whose memory, or whose GPUs', can't hold what the training takes."""
        recipe, size = self.recipe_file.recipe, self.machines.size
        node = node_of(recipe, size, self.machines.gpus_per_node) if size is not None else None
        if node is None:
            return
        known = known_weights(self.located.folder or self.located.cached, self.located.row)
        path = "modes.maap.instance_types" if recipe.modes.maap.instance_types else "modes.maap.vm_size"
        for code, judge in (("host-memory", too_small), ("gpu-memory", too_small_gpus)):
            if (problem := judge(recipe, node, known)) is not None:
                severity = Severity.ERROR if problem.exact else Severity.WARNING
                yield finding(self.recipe_file, path, code, severity, problem.message, problem.fix)

    def _system_findings(self, target: Target) -> Iterator[Finding]:
        recipe_file = self.recipe_file
        pipeline = self.pipeline()
        if pipeline is None:
            yield task_not_offered(recipe_file, "the registry has no pipeline for it", system_pipelines())
            return
        yield from system.mapping_findings(recipe_file, self.setting)
        yield from system.own_parameters(recipe_file, pipeline, self._mapped(pipeline))
        keys = system.keys_of_parameters()
        deepspeed = next((entry.path for entry in self.inputs if entry.role == "deepspeed"), None)
        told: dict[str, Scalar] = {**target.parameters}
        for name, what, fix in system.check_parameters(pipeline, told, _json(deepspeed)):
            own = name in recipe_file.recipe.modes.maap.parameters
            path = f"modes.maap.parameters.{name}" if own else keys.get(name, "modes.maap")
            yield finding(recipe_file, path, "parameter", Severity.ERROR, f"{pipeline.name}, `{name}`: {what}.", fix)
        for name, spec in pipeline.inputs.items():
            path = f"modes.maap.parameters.{name}"
            if name not in recipe_file.recipe.modes.maap.parameters or not spec.is_asset:
                continue
            if spec.type != "uri_file":
                message = f"`{name}` is a {spec.type}, which the recipe's own keys name."
                yield finding(recipe_file, path, "parameter", Severity.ERROR, message, "Say model or data.")
            elif not any(entry.role == name for entry in self.inputs):
                yield finding(
                    recipe_file, path, "parameter-file", Severity.ERROR, f"The file of `{name}` is not there."
                )


def data_check_findings(recipe_file: RecipeFile, located: Located, *, own: bool) -> Iterator[Finding]:
    """The data's own check, with the model's template and tokenizer where they are on this machine.

    Where azft's own pipeline doesn't run there is no prepare step that would count lengths (`own`).
    """
    from azft import data_check  # numpy and msgspec; a plan that is only read needs neither

    model: ResolvedModel | None
    try:
        model = resolve_model(recipe_file)
    except FindingsError:  # local mode's business, unless the folder is broken, which is said elsewhere
        model = None
    if model is not None and model.kind == "stand-in" and located.row is None:
        model = None  # the template of a model that nobody knows would be a guess
    for found in data_check.check_for_plan(recipe_file, model):
        uncounted = not own and found.code == "data-lengths-unchecked"
        yield replace(found, fix=_COUNT_HERE) if uncounted else found


def _parameter_files(recipe_file: RecipeFile) -> Iterator[PlannedInput]:
    """Files that `modes.maap.parameters` names: a DeepSpeed configuration, for one."""
    recipe = recipe_file.recipe
    pipeline = system_pipelines().get(recipe.task)
    inputs = pipeline.inputs if pipeline is not None else {}
    for name, value in recipe.modes.maap.parameters.items():
        if name in inputs and inputs[name].type == "uri_file" and name not in system.DATA_INPUTS.values():
            path = recipe_file.resolve(Path(str(value)))
            if path.is_file():
                yield PlannedInput(role=name, path=path, bytes=path.stat().st_size, sha256=cached_sha256(path))


def _json(path: Path | None) -> dict[str, Any] | None:
    if path is None:
        return None
    try:
        value = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return None
    return value if isinstance(value, dict) else None
