"""What Azure would have before a plan gets there: the registry's model and pipeline, and the cluster that it names.

Only what the plan needs is made, when it needs it. The model is a stand-in of the real one's architecture in the form
in which the registry keeps it; a pipeline is one command component with the real pipeline's inputs and outputs that
runs `azft.rehearsal.trainer`. The emulator is told through its admin routes, and of clusters through Azure's own.
"""

from __future__ import annotations

import re
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from azft.catalog import materialize, resolve_model
from azft.catalog.rows import ModelRow, find
from azft.catalog.system_pipelines import SystemInput, SystemPipeline, output_types, system_pipelines
from azft.catalog.vm_sizes import vm_sizes
from azft.emulator import Emulator, Request
from azft.emulator.identity import issue
from azft.errors import AzftError
from azft.execution.ranks import own_module
from azft.pipeline import quiet_sdk
from azft.plan import Plan, Target
from azft.recipe import Recipe
from azft.recipe_file import RecipeFile
from azft.rehearsal.model_folder import write_mlflow_folder
from azft.targets.system import COLUMN_INPUTS

_REGISTRY_ID = re.compile(
    r"^azureml://registries/([^/]+)/(models|components)/([^/]+)(?:/(?:versions/([^/]+)|labels/.+))?$"
)
_NEWEST = "1"
"""The version that a label finds."""
_CLUSTER_SIZE = "Standard_NC24ads_A100_v4"
"""Of a cluster that a recipe names without saying what it is."""
_SERVING_SIZES = {"pipeline": _CLUSTER_SIZE, "system-pipeline": "Standard_DS3_v2"}
"""By service, of an endpoint's machines where a person would have to name them; Azure's own samples take the second."""
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "special_tokens_map.json")
_NOT_FOR_THE_TRAINER = {
    "batch_size", "dataloader_num_workers", "enable_full_determinism", "eval_accumulation_steps",
    "evaluation_config_params", "huggingface_id", "logging_strategy", "resume_from_checkpoint", "shm_size_finetune",
    "task_name",
}  # fmt: skip
"""Inputs of the pipelines that say where and how the other steps run, not what is trained."""
_DEFAULTS = {"apply_lora": "true", "apply_deepspeed": "true", "deepspeed_stage": 2, "precision": 16}
"""The tag `model_specific_defaults` of Azure's larger chat models (their cards, 2026)."""


def seed(emu: Emulator, plan: Plan, *, cluster: bool = True) -> list[str]:
    """Make what the plan needs and the emulator hasn't; returns what was made, a line each.

    Without `cluster` its cluster is not made: somebody else will, such as `submit --create-compute`.
    """
    target = plan.target
    assert target is not None, "a plan for this machine needs nothing of Azure"
    made = []
    if (found := _parse(target.model_id)) and not _has(emu, *found):
        registry, _, name, version = found
        seed_model(emu, plan, registry, name, version)
        made.append(f"a stand-in of {name} in the registry {registry}")
    if target.component and (found := _parse(target.component)) and not _has(emu, *found):
        registry, _, name, version = found
        seed_pipeline(emu, registry, _pipeline(name), version)
        made.append(f"{name} in the registry {registry}, played by azft's own trainer")
    if cluster and target.compute and not _has_cluster(emu, target.compute):
        size = seed_cluster(emu, target)
        made.append(f"the cluster {target.compute} ({size})")
    return made


def serving_size(target: Target) -> str | None:
    """The VM size to name for the endpoint of a model that is no registry's; None where a registry recommends one."""
    return None if _parse(target.model_id) else _SERVING_SIZES.get(target.service)


def seed_for(emu: Emulator, what: str) -> list[str]:
    """Make what a saved plan, or a recipe in every mode of Azure, needs; returns what was made, a line each."""
    from azft import api

    plans = [api.load_plan(what)] if what.endswith(".json") else [api.plan(what, mode) for mode in ("maas", "maap")]
    return [line for plan in plans if plan.target is not None for line in seed(emu, plan)]


def seed_model(emu: Emulator, plan: Plan, registry: str, name: str, version: str = _NEWEST) -> None:
    """Put a stand-in of the plan's model into a registry, with the tags that say what can be done with it."""
    row = find(plan.recipe["model"]) or find(name)
    plain = materialize(resolve_model(_as_stand_in(plan)))
    kind = row.azure.type if row and row.azure else "mlflow_model"
    with tempfile.TemporaryDirectory(prefix="azft-seed-") as scratch:
        folder = plain if kind == "custom_model" else _as_mlflow(plain, Path(scratch) / "mlflow_model_folder", plan)
        body = {
            "name": name,
            "version": version,
            "folder": str(folder),
            "type": kind,
            "tags": dict(_tags(row)),
            "properties": _properties(),
        }
        _tell(emu, "POST", f"/_emulator/registries/{registry}/models", body)


def seed_pipeline(emu: Emulator, registry: str, pipeline: SystemPipeline, version: str = _NEWEST) -> None:
    """Put one of the registry's pipelines there, as a command component of the same inputs and outputs."""
    body = {"name": pipeline.name, "version": version, "spec": component_spec(pipeline, version)}
    _tell(emu, "POST", f"/_emulator/registries/{registry}/components", body)


def seed_cluster(emu: Emulator, target: Target) -> str:
    """Make the cluster that a plan names; returns its VM size."""
    size = target.vm_size or _CLUSTER_SIZE
    properties = {
        "vmSize": size,
        "vmPriority": "LowPriority" if target.tier == "low-priority" else "Dedicated",
        "scaleSettings": {"minNodeCount": 0, "maxNodeCount": target.max_nodes or target.nodes},
    }
    path = f"{_workspace(emu)}/computes/{target.compute}?api-version=2024-01-01-preview"
    _tell(
        emu,
        "PUT",
        path,
        {"location": emu.settings.location, "properties": {"computeType": "AmlCompute", "properties": properties}},
    )
    return size


def component_spec(pipeline: SystemPipeline, version: str = _NEWEST) -> dict[str, Any]:
    """The component's specification as it goes over the wire: written by the SDK, so that its form is the real one."""
    with quiet_sdk():
        from azure.ai.ml import Input, Output
        from azure.ai.ml.entities import CommandComponent

        component = CommandComponent(
            name=pipeline.name,
            version=version,
            display_name=pipeline.name.replace("_", " ").capitalize(),
            inputs={name: Input(**_input(entry)) for name, entry in pipeline.inputs.items()},
            outputs={name: Output(type=kind) for name, kind in output_types().items()},
            command=trainer_command_line(pipeline),
            environment="azureml://registries/azureml/environments/acft-hf-nlp-gpu/labels/latest",
        )
        spec: dict[str, Any] = component._to_rest_object().properties.component_spec
    return orjson.loads(orjson.dumps(spec, default=str))  # type: ignore[no-any-return]


def trainer_command_line(pipeline: SystemPipeline) -> str:
    """What the component runs. Values are quoted, as Azure's components do; they may hold neither ' nor a backslash."""
    known = {*system_pipelines()["chat-completion"].inputs, *COLUMN_INPUTS}  # more the trainer does not take
    told = [name for name, entry in pipeline.inputs.items() if name in known and _is_for_the_trainer(name, entry)]
    values = (_option(pipeline.inputs[name], f"--set {name}='${{{{inputs.{name}}}}}'") for name in told)
    parts = [
        shlex.join(trainer_command()),
        f"--task {pipeline.task}",
        "$[[--model ${{inputs.mlflow_model_path}}]]",
        "$[[--model ${{inputs.pytorch_model_path}}]]",
        "$[[--hub-model ${{inputs.huggingface_id}}]]",
        "$[[--train ${{inputs.train_file_path}}]]",
        "$[[--validation ${{inputs.validation_file_path}}]]",
        *values,
        "--output ${{outputs.mlflow_model_folder}}",
        "--pytorch-output ${{outputs.pytorch_model_folder}}",
    ]
    return " ".join(parts)


def trainer_command() -> tuple[str, ...]:
    """The command line that plays the fine-tuning service."""
    return own_module("azft.rehearsal.trainer")


def server_command() -> tuple[str, ...]:
    """The command line that plays a model's server."""
    return own_module("azft.rehearsal.server")


def _is_for_the_trainer(name: str, entry: SystemInput) -> bool:
    elsewhere = name.startswith(("compute_", "instance_type_")) or name in _NOT_FOR_THE_TRAINER
    return not entry.is_asset and not elsewhere


def _option(entry: SystemInput, text: str) -> str:
    return text if entry.default is not None or entry.required else f"$[[{text}]]"


def _input(entry: SystemInput) -> dict[str, Any]:
    made: dict[str, Any] = {"type": entry.type, "optional": entry.default is None and not entry.required}
    if entry.default is not None:
        made["default"] = entry.default
    if entry.one_of:
        made["enum"] = list(entry.one_of)
    if entry.min is not None:
        made["min"] = entry.min
    return made


def _as_stand_in(plan: Plan) -> RecipeFile:
    """The plan's recipe, wanting a stand-in whatever weights are on this machine."""
    modes = {**plan.recipe["modes"]}
    modes["local"] = {**(modes.get("local") or {}), "weights": "stand-in"}
    data = {**plan.recipe["data"]}
    if data.get("validation") is not None:  # with every default filled in the recipe says both, which it may not
        data.pop("validation_split", None)
    recipe = Recipe.model_validate({**plan.recipe, "data": data, "modes": modes})
    return RecipeFile(recipe, plan.recipe_path, {})


def _as_mlflow(plain: Path, target: Path, plan: Plan) -> Path:
    model = target / "data" / "model"
    model.mkdir(parents=True)
    tokenizer = [file for file in plain.iterdir() if file.name in _TOKENIZER_FILES]
    for file in plain.iterdir():
        if file.is_file() and file not in tokenizer:
            shutil.copyfile(file, model / file.name)
    write_mlflow_folder(target, task=plan.recipe["task"], tokenizer_files=tokenizer)
    return target


def _tags(row: ModelRow | None) -> Iterator[tuple[str, str]]:
    """As the registry writes them: Python literals in a string."""
    yield (
        "finetune_compute_allow_list",
        str([size.name for size in vm_sizes().values() if size.gpus and not size.retired]),
    )
    yield "model_specific_defaults", str(_DEFAULTS)
    if row and row.azure and row.azure.maas and row.azure.maas.regions:
        yield "maas-finetuning-deploy-regions", ", ".join(row.azure.maas.regions)


def _properties() -> dict[str, str]:
    return {
        "finetune-recommended-sku": f"{_CLUSTER_SIZE}, Standard_ND96amsr_A100_v4",
        "inference-recommended-sku": f"Standard_NC40ads_H100_v5, {_CLUSTER_SIZE}",
    }


def _parse(reference: str) -> tuple[str, str, str, str] | None:
    """(registry, models or components, name, version); None for what no registry holds."""
    match = _REGISTRY_ID.match(reference)
    return None if match is None else (match[1], match[2], match[3], match[4] or _NEWEST)


def _pipeline(name: str) -> SystemPipeline:
    return next(row for row in system_pipelines().values() if row.name == name)


def _has(emu: Emulator, registry: str, kind: str, name: str, version: str) -> bool:
    path = f"/subscriptions/{emu.settings.subscription}/resourceGroups/registry-{registry}"
    path += f"/providers/Microsoft.MachineLearningServices/registries/{registry}/{kind}/{name}/versions/{version}"
    return _status(emu, "GET", f"{path}?api-version=2024-01-01-preview")[0] == 200


def _has_cluster(emu: Emulator, name: str) -> bool:
    return _status(emu, "GET", f"{_workspace(emu)}/computes/{name}?api-version=2024-01-01-preview")[0] == 200


def _workspace(emu: Emulator) -> str:
    given = emu.settings
    group = f"/subscriptions/{given.subscription}/resourceGroups/{given.resource_group}"
    return f"{group}/providers/Microsoft.MachineLearningServices/workspaces/{given.workspace}"


def _tell(emu: Emulator, method: str, path: str, body: dict[str, Any]) -> None:
    status, content = _status(emu, method, path, body)
    if status >= 300:
        message = str(orjson.loads(content)["error"]["message"])
        raise AzftError(f"The rehearsal could not be set up: {message}", fix="What it asked the emulator for: " + path)


def _status(emu: Emulator, method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, bytes]:
    token, _ = issue(emu.secret, "https://management.azure.com", 600)
    headers = [("Authorization", f"Bearer {token}"), ("Content-Type", "application/json")]
    request = Request.of(method, emu.url + path, headers, orjson.dumps(body) if body is not None else b"")
    reply = emu.handle(request)
    return reply.status, reply.content()
