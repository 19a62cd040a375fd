"""Before a run: laying out a recipe, checking it, planning it, and knowing the models and the machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from azft.errors import NotFoundError, UsageError
from azft.extras import needs
from azft.recipe_file import RecipeFile, load_recipe

if TYPE_CHECKING:
    from azft.azureml.connection import Access
    from azft.data.check import DataReport
    from azft.data.convert import Conversion
    from azft.data.preview import PreviewReport
    from azft.machine import Machine
    from azft.plan import Plan
    from azft.scaffold import Scaffold

RecipeLike = RecipeFile | Path | str
"""A recipe that was read, or the path of one."""


def init(
    folder: Path | str = ".",
    *,
    task: str = "chat-completion",
    model: str | None = None,
    name: str | None = None,
    force: bool = False,
) -> Scaffold:
    """Write a commented recipe, its JSON Schema and example data into a folder.

    Raises `UsageError` when a file is already there and `force` is not given.
    """
    from azft import scaffold

    return scaffold.init(folder, task=task, model=model, name=name, force=force)


def check(recipe: RecipeLike, *, near_duplicates: bool = True, processes: int | None = None) -> DataReport:
    """Every problem of the recipe's data and model, in one pass over each file; none of them is raised.

    Token lengths and the chat template are checked where the model is on this machine. Raises `RecipeError` for a
    recipe that does not validate.
    """
    from azft.data_check import check_recipe

    return check_recipe(recipe_of(recipe), near_duplicates=near_duplicates, processes=processes)


def convert(
    source: Path | str,
    target: Path | str,
    *,
    task: str | None = None,
    format: str | None = None,  # noqa: A002 - what it is called everywhere else
    columns: Mapping[str, str] | None = None,
    skip_errors: bool = False,
    force: bool = False,
) -> Conversion:
    """Make a task's JSON lines of a file in another format: ShareGPT, Alpaca, OpenAI chat, CSV, SQuAD, CoNLL, ...

    Format and task are recognised where they are not given; `columns` maps their names to the file's own. Raises
    `FindingsError` with every row that can't be converted, and writes nothing then, unless `skip_errors` leaves those
    out; `UsageError` when the target is there already and `force` is not given.
    """
    from azft.data.convert import convert as run

    return run(source, target, task=task, format=format, columns=columns, skip_errors=skip_errors, force=force)


def preview(recipe: RecipeLike, *, rows: int = 3) -> PreviewReport:
    """The first rows as the model will see them: text, tokens, and which of them are in the loss."""
    if rows < 1:
        raise UsageError(f"A preview shows at least one row, not {rows}.")
    from azft.catalog import materialize, resolve_model

    with needs("data", "The preview"):
        from azft.data.preview import preview as render
        from azft.data.tokenizer import load_tokenizer

    file = recipe_of(recipe)
    return render(file, load_tokenizer(materialize(resolve_model(file))), rows=rows)


def plan(recipe: RecipeLike, mode: str = "local") -> Plan:
    """What a run of the recipe would do, exactly. Findings are in the plan; a model that can't be found raises.

    A plan for Azure needs neither account nor network.
    """
    from azft.modes import get_mode

    return get_mode(mode).plan(recipe_of(recipe))


def plan_from_azureml(path: Path | str) -> Plan:
    """The plan of an Azure ML job file of `type: finetuning`, which is taken as it is. Raises `UsageError`."""
    from azft.azureml_job_file import plan_job_file

    return plan_job_file(Path(path))


def payload(plan: Plan) -> dict[str, Any]:
    """The exact JSON of a plan for Azure, as if everything had been uploaded. Needs the SDK, and no network."""
    from azft.payloads import build_job, content_references, to_wire

    if plan.target is None:
        raise UsageError("A run on this machine sends nothing, so it has no payload.", fix="Add --mode maas or maap.")
    if plan.target.job_file is None and not any(entry.role == "train" for entry in plan.inputs):
        from azft.plan_checks import require_no_errors

        require_no_errors(plan)  # without its data a job can't be said
    # Neither folder is read: the references name what would be in them.
    return to_wire(build_job(plan, code=Path(), parameters=Path(), references=content_references(plan)))


def export_azureml(recipe: RecipeLike, folder: Path | str, *, mode: str) -> Path:
    """Write the job of a recipe as Azure ML's own YAML, with all that it needs; returns the job's file."""
    from azft.payloads.export import export

    return export(plan(recipe, mode), Path(folder))


def load_plan(path: Path | str) -> Plan:
    """A plan that `azft plan --out` saved. Raises `NotFoundError` or `UsageError`."""
    from azft.plan import Plan

    try:
        return Plan.from_json(Path(path).read_bytes())
    except OSError as error:
        raise NotFoundError(f"The plan {path} can't be read: {error.strerror}.") from None
    except ValueError:
        raise UsageError(f"{path} is no plan of this version of azft.", fix="Make one with: azft plan --out") from None


def check_remote(plan: Plan, *, access: Access | None = None) -> Plan:
    """The plan with what only the account can tell: more findings, and which uploads are there. Changes nothing."""
    from azft.azureml.remote_check import check_plan

    return check_plan(access_of(access).connect(), plan)


def models() -> list[dict[str, Any]]:
    """The models known by name, as plain data, each with whether its weights are on this machine."""
    from azft.catalog import load_catalog
    from azft.catalog.cache import hub_folder, model_folder

    listed = []
    for row in load_catalog().models:
        in_hub = row.hub_id is not None and hub_folder(row.hub_id, row.revision) is not None
        here = model_folder(row.name).is_dir() or in_hub
        listed.append({**row.model_dump(mode="json"), "here": here})
    return listed


def get_model(name: str, *, progress: Callable[[str], None] | None = None) -> Path:
    """Bring a model's real weights to this machine; returns their folder. Needs the network once."""
    from azft.catalog.get import get_model as fetch

    return fetch(name, progress)


def schema() -> dict[str, Any]:
    """The JSON Schema of a recipe, which editors use to complete and check it."""
    from azft.recipe_schema import json_schema

    return json_schema()


def doctor() -> Machine:
    """What this machine has, and what is missing for what."""
    from azft.machine import inspect_machine

    return inspect_machine()


def recipe_of(recipe: RecipeLike) -> RecipeFile:
    """The recipe, read where only its path was given."""
    return recipe if isinstance(recipe, RecipeFile) else load_recipe(recipe)


def access_of(access: Access | None) -> Access:
    """Which workspace and whose sign-in: as given, else found by environment and files."""
    from azft.azureml.connection import Access as Flags

    return access or Flags()
