"""Plan -> a folder of Azure ML's own YAML that `az ml job create --file` takes: nobody is locked in.

Everything that the job reads from this machine is copied into the folder, so that it can be moved, kept and submitted
without azft. Reading it back with the SDK's `load_job` gives the same job; a test compares what would be sent.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from azft.catalog.folder import loaded_files
from azft.errors import UsageError
from azft.files import atomic_path, write_text
from azft.payloads.build import build_job
from azft.pipeline import need_sdk, write_parameters
from azft.plan import Plan, PlannedUpload
from azft.plan_checks import require_no_errors
from azft.planned_uploads import data_name
from azft.staging import COMPONENTS, component_file, environment_folder, stage_code

if TYPE_CHECKING:
    from azure.ai.ml.entities import Job

_HEAD = """\
# Written by azft {version} from the recipe {recipe}, as plan {run}.
# Submit it without azft, from this folder (a fine-tuning job's paths are looked up from where you are):
#   az ml job create --file {file} --resource-group ... --workspace-name ...
"""
_SCHEMAS = {
    "pipeline": "https://azuremlschemas.azureedge.net/latest/pipelineJob.schema.json",
    "finetuning": "https://azuremlschemas.azureedge.net/latest/finetuningJob.schema.json",
}


def export(plan: Plan, folder: Path) -> Path:
    """Write the folder; returns the job's file.

    Raises `UsageError` when the folder holds something already or the plan is one for this machine, `FindingsError`
    when a finding stands in the way.
    """
    if plan.target is None:
        raise UsageError("A run on this machine has no job to export.", fix="Add --mode maas or maap.")
    require_no_errors(plan)
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty.", fix="Name a new folder: --out DIR")
    with atomic_path(folder.absolute()) as temporary:
        temporary.mkdir()
        job = build_exported(plan, temporary)
        with need_sdk():
            words: dict[str, Any] = _plain(job._to_dict())
        if "jobs" in words:
            file = temporary / "pipeline.yml"
            words = {"$schema": _SCHEMAS["pipeline"], **_without_components(plan, words, temporary)}
        else:
            file = temporary / "job.yml"
            words = {"$schema": _SCHEMAS["finetuning"], **words, "type": "finetuning", "model_provider": "custom"}
            words["task"] = re.sub(r"(?=[A-Z])", "_", words["task"]).lower()
        head = _HEAD.format(version=plan.azft_version, recipe=plan.recipe_path.name, run=plan.run_name, file=file.name)
        write_text(file, head + _yaml(_relative(words, temporary)))
    return folder / file.name


def build_exported(plan: Plan, folder: Path) -> Job:
    """The job with everything that it reads copied below `folder`."""
    assert plan.target is not None
    references = {
        upload.name: str(_copy(plan, upload, folder))
        for upload in plan.target.uploads
        if upload.kind in ("data", "model", "parameters")
    }
    if plan.steps:
        write_parameters(plan, folder / "parameters")
        code = stage_code(folder / ".staging").folder
        code.rename(folder / "code")
        shutil.rmtree(folder / ".staging")
        for environment in {environment_folder(step) for step in COMPONENTS}:
            shutil.copytree(environment, folder / "environments" / environment.name)
        for step in COMPONENTS:
            _write_component(step, folder)
    return build_job(
        plan,
        code=folder / "code",
        parameters=folder / "parameters",
        components=folder / "components" if plan.steps else None,
        references=references,
    )


def _copy(plan: Plan, upload: PlannedUpload, folder: Path) -> Path:
    """Copy what would be uploaded; where it is then."""
    if upload.kind == "parameters":
        return folder / "parameters" / upload.name.rpartition("/")[2]
    assert upload.path is not None
    if upload.kind == "model":
        target = folder / "model"
        target.mkdir()
        if plan.model.path is None:
            shutil.copytree(upload.path, target, dirs_exist_ok=True)
        else:
            for file in loaded_files(upload.path):
                copy = target / file.relative_to(upload.path)
                copy.parent.mkdir(exist_ok=True)
                shutil.copyfile(file, copy)
        return target
    role = next(entry.role for entry in plan.inputs if data_name(entry) == upload.name)
    target = folder / "data" / f"{role}{upload.path.suffix}"
    target.parent.mkdir(exist_ok=True)
    shutil.copyfile(upload.path, target)
    return target


def _write_component(step: str, folder: Path) -> None:
    """The component as it is, but for where its code and environment are."""
    spec = yaml.safe_load(component_file(step).read_text(encoding="utf-8"))
    spec["code"] = "../code"
    spec["environment"] = {"build": {"path": f"../environments/{environment_folder(step).name}"}}
    write_text(folder / "components" / f"{step}.yml", _yaml(spec))


def _without_components(plan: Plan, words: dict[str, Any], folder: Path) -> dict[str, Any]:
    """A pipeline whose steps refer to their components' files, and name inputs in the short way."""
    for step, node in words["jobs"].items():
        if plan.steps:
            node["component"] = str(folder / "components" / f"{step}.yml")
        node["inputs"] = {
            name: value["path"] if isinstance(value, dict) and value.keys() == {"path"} else value
            for name, value in node["inputs"].items()
        }
    return words


def _relative(value: Any, folder: Path) -> Any:
    """Paths below the folder as they are said from its top."""
    if isinstance(value, dict):
        return {key: _relative(inner, folder) for key, inner in value.items()}
    if isinstance(value, list):
        return [_relative(inner, folder) for inner in value]
    text = value.removeprefix("azureml:") if isinstance(value, str) else ""  # the SDK puts it before any path
    if text.startswith(f"{folder}{os.sep}"):
        return f"./{Path(text).relative_to(folder).as_posix()}"
    return value


def _plain(value: Any) -> Any:
    """The SDK's mappings and enumerations as plain data."""
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _yaml(value: dict[str, Any]) -> str:
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=120)
