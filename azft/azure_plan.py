"""A recipe becomes an exact plan for Azure, without a network and without an account.

What the service will be told, what would be uploaded, what will be billed and every problem that the recipe, the data
and the dated catalog can show are decided here; `azft.payloads` only puts it into the SDK's objects.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

import azft
from azft.catalog import ResolvedModel
from azft.catalog.rows import find
from azft.files import sha256_bytes, sha256_file, sha256_tree
from azft.findings import by_severity
from azft.plan import Plan, PlannedStep, PlannedUpload, Target, planned_inputs, planned_steps
from azft.recipe_file import RecipeFile
from azft.staging import code_files, code_hash, environment_folder

Service = Literal["serverless-finetuning", "pipeline", "system-pipeline", "finetuning-job"]
_SERVICES: dict[str, Service] = {"azft": "pipeline", "system": "system-pipeline", "finetuning": "finetuning-job"}
NAME_CHARACTERS = 32
"""How much of a content hash is in an asset's name: 128 bits."""


def make_azure_plan(recipe_file: RecipeFile, mode: str) -> Plan:
    """Resolve a recipe for `maas` or `maap`. Errors among the findings don't raise."""
    recipe = recipe_file.recipe
    maap = recipe.modes.maap
    service: Service = "serverless-finetuning" if mode == "maas" else _SERVICES[maap.pipeline]
    inputs = planned_inputs(recipe_file)
    own = service == "pipeline"
    steps = planned_steps(recipe) if own else ()
    model, model_id = _model(recipe_file)
    gpus = (maap.gpus_per_node or 1) if mode == "maap" else 1
    uploads = [
        PlannedUpload(
            kind="data", name=f"azft-data-{i.sha256[:NAME_CHARACTERS]}", path=i.path, bytes=i.bytes, sha256=i.sha256
        )
        for i in inputs
    ]
    if own:
        uploads += _own_uploads(steps)
    target = Target(
        service=service,
        model_id=model_id,
        region=recipe.modes.maas.region if mode == "maas" else None,
        compute=maap.compute if mode == "maap" else None,
        vm_size=maap.vm_size if mode == "maap" else None,
        instance_types=tuple(maap.instance_types) if mode == "maap" else (),
        nodes=maap.nodes if mode == "maap" else 1,
        gpus_per_node=gpus,
        tier=maap.tier if mode == "maap" else "dedicated",
        hyperparameters={
            "num_train_epochs": f"{recipe.training.epochs:g}",
            "per_device_train_batch_size": str(recipe.training.micro_batch_size),
            "learning_rate": str(recipe.learning_rate),
        }
        if service in ("serverless-finetuning", "finetuning-job")
        else {},
        uploads=tuple(uploads),
    )
    draft = Plan(
        name=recipe.name,
        mode=mode,
        hash="",
        created=datetime.now(UTC),
        azft_version=azft.__version__,
        recipe_path=recipe_file.path,
        recipe_sha256=sha256_file(recipe_file.path),
        recipe=recipe.to_dict(),
        inputs=inputs,
        model=model,
        code_hash=code_hash() if own else "",
        processes=gpus,
        steps=steps,
        findings=tuple(by_severity([])),
        target=target,
    )
    return draft.model_copy(update={"hash": draft.computed_hash()})


def _model(recipe_file: RecipeFile) -> tuple[ResolvedModel, str]:
    name = recipe_file.recipe.model
    row = find(name)
    model_id = (
        name
        if name.startswith("azureml://")
        else f"azureml://registries/azureml/models/{row.name if row else name}/labels/latest"
    )
    return (
        ResolvedModel(
            kind="registry",
            name=name,
            identity=sha256_bytes(model_id.encode()),
            description=model_id,
            context_length=row.context_length if row else None,
        ),
        model_id,
    )


def _own_uploads(steps: tuple[PlannedStep, ...]) -> list[PlannedUpload]:
    """What azft's own pipeline needs besides the data: parameters, code and the environments' build folders."""
    uploads = []
    for step in steps:
        content = step.parameters_json()
        digest = sha256_bytes(content)
        name = f"azft/parameters/{digest[:NAME_CHARACTERS]}/{step.name}.json"
        uploads.append(PlannedUpload(kind="parameters", name=name, version="", bytes=len(content), sha256=digest))
    files = code_files()
    digest = code_hash(files)
    uploads.append(
        PlannedUpload(
            kind="code",
            name=f"azft-code-{digest[:NAME_CHARACTERS]}",
            bytes=sum(map(len, files.values())),
            files=len(files),
            sha256=digest,
        )
    )
    for folder in dict.fromkeys(environment_folder(step.name) for step in steps):
        contents = [file for file in folder.rglob("*") if file.is_file()]
        digest = sha256_tree(folder)
        uploads.append(
            PlannedUpload(
                kind="environment",
                name=f"azft-{folder.name}-{digest[:NAME_CHARACTERS]}",
                path=folder,
                bytes=sum(file.stat().st_size for file in contents),
                files=len(contents),
                sha256=digest,
            )
        )
    return uploads
