"""An Azure ML job file of `type: finetuning`, taken as it is: checked and planned like a recipe, sent in its own words.

What the file says goes to Azure unchanged; only local files become the assets that they are uploaded as, and azft's
labels are added. Everything that a recipe's plan would find wrong is found here, too, at the file's own lines.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from azft.azure_plan import data_check_findings
from azft.catalog import ResolvedModel, locate_model
from azft.catalog.folder import cached_sha256
from azft.errors import FindingsError, UsageError
from azft.files import sha256_bytes, sha256_tree
from azft.findings import Finding, Severity, by_severity
from azft.plan import Plan, PlannedInput, PlannedUpload, Target, put_together
from azft.planned_uploads import data_name, data_uploads, folder_upload
from azft.recipe import Recipe
from azft.recipe_errors import closest
from azft.recipe_file import RecipeFile
from azft.recipe_yaml import KeyPath, parse
from azft.targets.bills import bills
from azft.targets.data import data_findings
from azft.targets.job_file_words import in_a_job_files_words
from azft.targets.machines import Machines, choose_machines, machine_findings
from azft.targets.models import GivenModel, model_findings, needs_marketplace

_KEYS = {
    "$schema", "type", "task", "model_provider", "model", "training_data", "validation_data", "hyperparameters", "name",
    "display_name", "experiment_name", "description", "tags", "properties", "compute", "resources", "queue_settings",
    "outputs",
}  # fmt: skip
_TASKS = {
    "chat_completion": "chat-completion",
    "text_completion": "text-generation",
    "text_classification": "text-classification",
    "question_answering": "question-answering",
    "text_summarization": "summarization",
    "token_classification": "token-classification",
    "text_translation": "translation",
}
_ROLES = {"training_data": "train", "validation_data": "validation"}


def plan_job_file(path: Path) -> Plan:
    """The plan of a job file. Raises `UsageError` for what is no fine-tuning job, `FindingsError` for wrong keys."""
    return _JobFile.read(path).plan()


@dataclass(frozen=True)
class _JobFile:
    path: Path
    data: Mapping[str, Any]
    lines: Mapping[KeyPath, int]

    @classmethod
    def read(cls, path: Path) -> _JobFile:
        """The file's content, once it is sure that it is what it should be."""
        try:
            text = path.read_text(encoding="utf-8-sig")
        except OSError as error:
            raise UsageError(f"The job file {path} can't be read: {error.strerror}.") from None
        except UnicodeDecodeError:
            raise UsageError(f"The job file {path} is no text in UTF-8.") from None
        document = parse(text)
        found = [
            Finding(f"azureml-{problem.code}", Severity.ERROR, problem.message, problem.fix, str(path), problem.line)
            for problem in document.problems
        ]
        data = document.value if isinstance(document.value, dict) else {}
        kind = str(data.get("type", "")).replace("_", "").replace("-", "").casefold()
        if not found and kind != "finetuning":
            raise UsageError(
                f"{path} is no Azure ML job of type finetuning{f' (its type is {kind})' if kind else ''}.",
                fix="Submit other jobs with Azure's own tools: az ml job create --file ...",
            )
        self = cls(path.resolve(), data, document.lines)
        found += list(self._wrong_keys())
        if found:
            raise FindingsError(f"{path}: the job file can't be used.", by_severity(found))
        return self

    def _finding(self, key: str, code: str, severity: Severity, message: str, fix: str = "") -> Finding:
        line = self.lines.get((key,)) or self.lines.get(())
        return Finding(f"azureml-{code}", severity, message, fix, str(self.path), line)

    def _wrong_keys(self) -> Iterator[Finding]:
        for key in self.data:
            if key not in _KEYS:
                fix = closest(str(key), sorted(_KEYS))
                yield self._finding(str(key), "unknown-key", Severity.ERROR, f"A fine-tuning job has no `{key}`.", fix)
        for key in ("task", "model", "training_data"):
            if not self.data.get(key):
                yield self._finding(key, "missing-key", Severity.ERROR, f"`{key}` is missing.")
        provider = str(self.data.get("model_provider", "custom")).casefold()
        if provider != "custom":
            message = f"`model_provider: {provider}` is another service, which this version does not reach."
            yield self._finding("model_provider", "provider", Severity.ERROR, message, "azft takes: custom")
        outputs = self.data.get("outputs")
        if outputs is not None and (not isinstance(outputs, dict) or set(outputs) - {"registered_model"}):
            message = "A fine-tuning job has one output: registered_model."
            yield self._finding("outputs", "outputs", Severity.ERROR, message)
        for key in ("hyperparameters", "tags", "properties", "resources", "queue_settings"):
            if self.data.get(key) is not None and not isinstance(self.data[key], dict):
                yield self._finding(key, "not-a-mapping", Severity.ERROR, f"`{key}` is a mapping of names to values.")

    # --- what the file says ---

    @property
    def name(self) -> str:
        """What the run is called: the file's own name for it, made fit."""
        said = self.data.get("name") or self.data.get("display_name") or self.data.get("experiment_name")
        plain = re.sub(r"[^A-Za-z0-9_-]+", "-", str(said or self.path.stem)).strip("-_")
        return plain[:64] or "job"

    @property
    def task(self) -> str:
        """What azft calls the task; the service's own word where azft has none."""
        said = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", str(self.data["task"])).casefold()
        return _TASKS.get(said, said)

    @property
    def instance_types(self) -> tuple[str, ...]:
        """VM sizes, when there is no cluster."""
        named = (self.data.get("resources") or {}).get("instance_types") or []
        return tuple(str(name) for name in ([named] if isinstance(named, str) else named))

    @property
    def compute(self) -> str | None:
        """The cluster's name."""
        said = self.data.get("compute")
        return str(said).removeprefix("azureml:") if said else None

    @property
    def registered_name(self) -> str:
        """Under which name the result is registered."""
        output = (self.data.get("outputs") or {}).get("registered_model") or {}
        return str(output.get("name") or self.name)

    def _path_of(self, key: str) -> str:
        value = self.data[key]
        return str(value.get("path", "") if isinstance(value, dict) else value)

    def _local(self, key: str) -> Path | None:
        """The file or folder that a key names on this machine; None for something in the cloud."""
        text = self._path_of(key).removeprefix("file:")
        return None if re.match(r"^[a-z][a-z0-9+]+:", text) else (self.path.parent / text).resolve()

    def inputs(self) -> tuple[PlannedInput, ...]:
        """The files to upload."""
        found = []
        for key, role in _ROLES.items():
            local = self._local(key) if self.data.get(key) else None
            if local is not None and local.is_file():
                found.append(
                    PlannedInput(role=role, path=local, bytes=local.stat().st_size, sha256=cached_sha256(local))
                )
        return tuple(found)

    def recipe_file(self) -> RecipeFile:
        """The same job as a recipe, as far as a recipe can say it, with the job file's lines: for the checks."""
        told = self.data.get("hyperparameters") or {}
        paths = {role: self._local(key) for key, role in _ROLES.items() if self.data.get(key)}
        maap: dict[str, Any] = {"pipeline": "finetuning", "instance_types": list(self.instance_types)}
        if self.compute:
            maap["compute"] = self.compute
        if self._tier() == "low-priority":
            maap["tier"] = "low-priority"
        training = {"epochs": number} if (number := _number(told.get("num_train_epochs"), most=1000)) else {}
        model = self._local("model")
        recipe = Recipe.model_validate(
            {
                "name": self.name,
                "description": str(self.data.get("description") or ""),
                "task": "chat-completion",
                "model": self._path_of("model") if model is None else str(model),
                "data": {role: str(path or f"in-azure-{role}.jsonl") for role, path in paths.items()},
                "training": training,
                "output": {"model_name": self.registered_name},
                "modes": {"maap": maap},
            }
        )
        if rate := _number(told.get("learning_rate")):  # past the bounds of a recipe's, too, so that it is warned of
            training_section = recipe.training.model_copy(update={"learning_rate": rate})
            recipe = recipe.model_copy(update={"training": training_section})
        places: dict[KeyPath, str] = {
            ("model",): "model",
            ("data", "train"): "training_data",
            ("data", "validation"): "validation_data",
            ("data",): "training_data",
            ("modes", "maap", "compute"): "compute",
            ("modes", "maap", "instance_types"): "resources",
            ("modes", "maap", "tier"): "queue_settings",
            ("modes",): "type",
            ("training", "learning_rate"): "hyperparameters.learning_rate",
        }
        lines = {
            place: line for place, key in places.items() if (line := self.lines.get(tuple(key.split(".")))) is not None
        }
        return RecipeFile(recipe=recipe, path=self.path, lines=lines)

    def _tier(self) -> str:
        tier = str((self.data.get("queue_settings") or {}).get("job_tier") or "")
        return "low-priority" if tier.casefold() == "spot" else "dedicated"

    # --- the plan ---

    def plan(self) -> Plan:
        """Everything decided, as for a recipe."""
        recipe_file = self.recipe_file()
        recipe = recipe_file.recipe
        mode = "maap" if self.compute or self.instance_types else "maas"
        service = "finetuning-job" if mode == "maap" else "serverless-finetuning"
        inputs = self.inputs()
        located = locate_model(recipe_file)
        given, model_uploads = self._model()
        job_file, told = self._words(inputs, given)
        target = Target(
            service="finetuning-job" if mode == "maap" else "serverless-finetuning",
            model_id=given.id,
            model_type=given.type,
            compute=self.compute,
            instance_types=self.instance_types,
            tier="low-priority" if self._tier() == "low-priority" else "dedicated",
            max_nodes=1 if self.compute else None,
            marketplace=needs_marketplace(located.row, service),
            hyperparameters=told,
            job_file=job_file,
            uploads=(*data_uploads(inputs), *model_uploads),
        )
        target = target.model_copy(update={"bills": tuple(bills(recipe, target))})
        found = [
            *self._own_findings(inputs),
            *model_findings(recipe_file, replace(located, problems=()), given, service=service),
            *data_findings(recipe_file, [(i.role, i.path, i.bytes) for i in inputs], service=service),
        ]
        if mode == "maap":
            machines: Machines = choose_machines(recipe)
            found += machine_findings(recipe_file, machines)
        if self.task == "chat-completion" and any(entry.role == "train" for entry in inputs):
            found += data_check_findings(recipe_file, located, own=False)
        else:  # no rows here to check
            from azft.data_check import learning_rate_findings  # numpy and msgspec; see `data_check_findings`

            found += learning_rate_findings(recipe_file)
        return put_together(
            recipe_file,
            mode,
            inputs=inputs,
            model=ResolvedModel(
                kind="registry",
                name=self._path_of("model"),
                identity=sha256_bytes(given.id.encode()),
                description=given.id,
                context_length=located.row.context_length if located.row else None,
            ),
            findings=map(in_a_job_files_words, found),
            own=False,
            target=target,
            recipe={**recipe.to_dict(), "task": self.task, "model": self._path_of("model")},
        )

    def _model(self) -> tuple[GivenModel, list[PlannedUpload]]:
        """How the job names the model, and the upload of a local folder (an MLflow model's whole tree)."""
        folder = self._local("model")
        value = self.data["model"]
        custom = isinstance(value, dict) and value.get("type") == "custom_model"
        if folder is None:
            return GivenModel(self._path_of("model"), "custom_model" if custom else "mlflow_model"), []
        files = [file for file in folder.rglob("*") if file.is_file()] if folder.is_dir() else []
        digest = sha256_tree(folder) if files else sha256_bytes(b"")
        upload = folder_upload("model", "azft-model", folder, files, digest)
        given = GivenModel(upload.reference, "custom_model" if custom else "mlflow_model", folder)
        return given, [upload]

    def _words(self, inputs: tuple[PlannedInput, ...], given: GivenModel) -> tuple[dict[str, Any], dict[str, str]]:
        """The job in its own words, local files replaced by their assets; and its hyperparameters, as text."""
        told = {str(name): _text(value) for name, value in (self.data.get("hyperparameters") or {}).items()}
        words = {key: value for key, value in self.data.items() if key not in ("$schema", "name")}
        words["type"], words["model_provider"] = "finetuning", "custom"
        words["model"] = {"type": given.type, "path": given.id}
        words["hyperparameters"] = told
        words.setdefault("outputs", {"registered_model": {"type": "mlflow_model", "name": self.registered_name}})
        references = {entry.role: f"azureml:{data_name(entry)}:1" for entry in inputs}
        for key, role in _ROLES.items():
            if role in references:
                words[key] = {"type": "uri_file", "path": references[role]}
        return words, told

    def _own_findings(self, inputs: tuple[PlannedInput, ...]) -> Iterator[Finding]:
        here = {entry.role for entry in inputs}
        for key, role in _ROLES.items():
            if self.data.get(key) and role not in here:
                if self._local(key) is not None:
                    message = f"There is no file {self._path_of(key)}."
                    yield self._finding(key, "data-missing", Severity.ERROR, message, "Check the path in the job file.")
                else:
                    message = f"`{key}` is in Azure already, so its rows are not checked."
                    yield self._finding(key, "data-in-azure", Severity.INFO, message)
        folder = self._local("model")
        if folder is not None and not folder.is_dir():
            yield self._finding("model", "model-missing", Severity.ERROR, f"There is no folder {folder}.")
        if self.task != "chat-completion" and here:
            message = f"azft has no check for the rows of the task {self.data['task']} in this version."
            yield self._finding("task", "rows-unchecked", Severity.INFO, message)
        if self.data.get("name"):
            message = (
                f"The job is named {self.name}-<hash>, after the file's name and its contents: so it is sent once."
            )
            yield self._finding("name", "job-name", Severity.INFO, message)
        if not self.data.get("hyperparameters"):
            message = "There are no hyperparameters: the service's own defaults hold."
            yield self._finding("hyperparameters", "no-hyperparameters", Severity.INFO, message)


def _number(value: Any, *, most: float = math.inf) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if 0 < number <= most and math.isfinite(number) else None


def _text(value: Any) -> str:
    """As the service wants it: text. The SDK itself refuses numbers without quotes."""
    return str(value).lower() if isinstance(value, bool) else str(value)
