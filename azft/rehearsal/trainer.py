"""Plays Azure's fine-tuning service in a rehearsal: a job's description in, an MLflow model folder out.

    python -m azft.rehearsal.trainer --job job.json --output folder [--pytorch-output folder]

job.json is `{"task", "model": folder, "train": file, "validation": file or null, "hyperparameters": {name: text}}`. It
trains with azft's own code, on whatever model it is given (a stand-in, most likely), and keeps its checkpoints beside
job.json, so that a second attempt after a preemption goes on where the first one stopped. A system pipeline's component
can give the same on its command line: `--task --model --train [--validation] [--set name=value ...]`.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from azft.catalog import materialize, resolve_model
from azft.data.dataset import read_manifest
from azft.data.prepare import prepare
from azft.errors import AzftError, UsageError
from azft.parameters import FinetuneParameters
from azft.recipe import Recipe
from azft.recipe_file import RecipeFile
from azft.rehearsal.hyperparameters import read_hyperparameters
from azft.rehearsal.model_folder import SIGNATURES, plain_folder, write_mlflow_folder
from azft.targets.finetuning import TASKS


def _letters(text: str) -> str:
    return "".join(letter for letter in text.lower() if letter.isalpha())


_TASKS = {_letters(name): task for task, theirs in TASKS.items() for name in (task, theirs)}
"""azft's tasks and the service's task types, letters only, and the task that azft trains for them."""


class Job(BaseModel):
    """What the service is asked to do."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: str
    model: Path | None = None
    hub_model: str | None = None
    """The service would fetch it from the hub; a stand-in takes its place."""
    train: Path
    validation: Path | None = None
    hyperparameters: dict[str, str] = {}


def main(arguments: list[str] | None = None) -> int:
    """Train; 1 with the service's words on stderr when the job can't be done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--job", type=Path)
    parser.add_argument("--task")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--hub-model", help="a model hub's id, in whose place a stand-in is trained")
    parser.add_argument("--train", type=Path)
    parser.add_argument("--validation", type=Path)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", dest="values")
    parser.add_argument("--work", type=Path, help="where checkpoints go; beside the job file, else beside the output")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--pytorch-output", type=Path)
    args = parser.parse_args(arguments)
    try:
        job = _read_job(args)
        work = args.work or (args.job.parent if args.job else args.output.parent) / "work"
        train(job, output=args.output, work=work, pytorch_output=args.pytorch_output)
    except AzftError as error:
        sys.stderr.write(f"UserError: {error}\n")
        return 1
    return 0


def train(job: Job, *, output: Path, work: Path, pytorch_output: Path | None = None) -> None:
    """Carry a job out. `work` keeps the checkpoints; `output` becomes an MLflow model folder."""
    task = _TASKS.get(_letters(job.task))
    if task is None:
        raise UsageError(f"The task type '{job.task}' is not supported by the rehearsal's trainer.")
    settings = read_hyperparameters(job.hyperparameters, task=task, has_validation=job.validation is not None)
    for note in settings.notes:
        _say(f"note: {note}")
    model = plain_folder(job.model or _stand_in(job, task), work / "model")
    dataset = work / "dataset"
    prepare(settings.prepare, model=model, train=job.train, validation=job.validation, output=dataset, progress=_say)
    parameters = settings.with_warmup(int(read_manifest(dataset)["splits"]["train"]["sequences"]))
    trained = _finetune(parameters, model, dataset, work)
    _write_model(model, trained, output, task, inputs=() if job.hub_model else SIGNATURES.get(task, ()))
    if pytorch_output is not None:
        _fill(pytorch_output, output / "data" / "model")
    _say(f"model: {output.name}")


def _stand_in(job: Job, task: str) -> Path:
    """A stand-in of a hub's model, its tokenizer trained on the job's rows."""
    if job.hub_model is None:
        raise UsageError("The job names no model.")
    recipe = {
        "name": "rehearsal",
        "task": task,
        "model": job.hub_model,
        "data": {"train": str(job.train.resolve())},
        "modes": {"local": {"weights": "stand-in"}},
    }
    return materialize(resolve_model(RecipeFile(Recipe.model_validate(recipe), job.train.resolve(), {})))


def _finetune(parameters: FinetuneParameters, model: Path, dataset: Path, work: Path) -> Path:
    from azft.training.finetune import finetune  # torch takes seconds, and a wrong job needs none

    trained = work / "trained"
    finetune(
        parameters,
        model=model,
        dataset=dataset,
        trained=trained,
        checkpoints=work / "checkpoints",
        metrics=work / "metrics",
    )
    return trained


def _write_model(model: Path, trained: Path, output: Path, task: str, *, inputs: tuple[str, ...]) -> None:
    import torch

    from azft.training import adapters, models
    from azft.training.objectives import OBJECTIVES
    from azft.training.package import merge
    from azft.training.stored import stored_dtype

    output.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(output / "data", ignore_errors=True)
    target = output / "data" / "model"
    target.mkdir(parents=True)
    made = orjson.loads((trained / "training.json").read_bytes())
    head = OBJECTIVES[made["objective"]].head
    if (trained / adapters.CONFIG).is_file():
        base = models.load_model(model, head=head, labels=made["labels"], dtype=torch.float32)
        models.save_model(merge(base, trained), target, stored_dtype(model))
    else:
        for file in sorted(trained.iterdir()):
            if file.is_file() and file.name != "training.json":
                shutil.copyfile(file, target / file.name)
    before = {file.name for file in target.iterdir()}
    models.copy_tokenizer(model, target)
    tokenizer = [file for file in sorted(target.iterdir()) if file.name not in before or "token" in file.name]
    if (model / "generation_config.json").is_file():
        shutil.copyfile(model / "generation_config.json", target / "generation_config.json")
    write_mlflow_folder(output, task=task, tokenizer_files=tokenizer, head=head, inputs=inputs)


def _fill(target: Path, source: Path) -> None:
    """Copy a folder's contents; the target may be a mount point."""
    target.mkdir(parents=True, exist_ok=True)
    shutil.copytree(source, target, dirs_exist_ok=True)


def _read_job(args: argparse.Namespace) -> Job:
    fields: dict[str, Any]
    if args.job is not None:
        fields = orjson.loads(args.job.read_bytes())
    else:
        pairs = [text.partition("=") for text in args.values]
        fields = {
            "task": args.task,
            "model": args.model,
            "hub_model": args.hub_model,
            "train": args.train,
            "validation": args.validation,
            "hyperparameters": {name: value for name, _, value in pairs},
        }
    try:
        return Job.model_validate(fields)
    except ValidationError as error:
        raise UsageError(f"The job can't be read: {error}") from None


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
