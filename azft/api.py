"""The Python API: everything the command line can do, as functions. `azft.<name>` loads them on first use.

    import azft
    recipe = azft.load_recipe("recipe.yaml")
    print(azft.check(recipe).findings)
    run = azft.submit(recipe, mode="local")
    print(run.outputs()["packaged"])

Nothing prints or asks here. Whatever a person should read is in the returned value or in the `AzftError` raised.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from azft.errors import NotFoundError, UsageError
from azft.extras import needs
from azft.recipe_file import RecipeFile, load_recipe

if TYPE_CHECKING:
    from azft.chat import Chat
    from azft.data.check import DataReport
    from azft.data.preview import PreviewReport
    from azft.machine import Machine
    from azft.plan import Plan
    from azft.run_summary import RunSummary
    from azft.runs import Run
    from azft.scaffold import Scaffold

AZURE_MODES = ("maas", "maap")
OnEvent = Callable[[dict[str, Any]], None]
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

    return check_recipe(_recipe(recipe), near_duplicates=near_duplicates, processes=processes)


def preview(recipe: RecipeLike, *, rows: int = 3) -> PreviewReport:
    """The first rows as the model will see them: text, tokens, and which of them are in the loss."""
    from azft.catalog import materialize, resolve_model

    with needs("data", "The preview"):
        from azft.data.preview import preview as render
        from azft.data.tokenizer import load_tokenizer

    file = _recipe(recipe)
    return render(file, load_tokenizer(materialize(resolve_model(file))), rows=rows)


def plan(recipe: RecipeLike, mode: str = "local") -> Plan:
    """What a run of the recipe would do, exactly. Findings are in the plan; a model that can't be found raises.

    A plan for Azure needs neither account nor network.
    """
    if mode in AZURE_MODES:
        from azft.azure_plan import make_azure_plan

        return make_azure_plan(_recipe(recipe), mode)
    from azft.modes import get_mode

    return get_mode(mode).plan(_recipe(recipe))


def plan_from_azureml(path: Path | str) -> Plan:
    """The plan of an Azure ML job file of `type: finetuning`, which is taken as it is. Raises `UsageError`."""
    from azft.azureml_job_file import plan_job_file

    return plan_job_file(Path(path))


def payload(plan: Plan) -> dict[str, Any]:
    """The exact JSON of a plan for Azure, as if everything had been uploaded. Needs the SDK, and no network."""
    from azft.payloads import build_job, content_references, to_wire

    if plan.target is None:
        raise UsageError("A run on this machine sends nothing, so it has no payload.", fix="Add --mode maas or maap.")
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


def submit(
    what: Plan | RecipeLike,
    *,
    mode: str = "local",
    again: bool = False,
    force: bool = False,
    wait: bool = True,
    on_event: OnEvent | None = None,
) -> Run:
    """Carry out a plan, or a recipe planned for `mode`. The same plan twice is one run.

    `again` asks for a second run of the same plan; `force` reuses no step of an earlier one; without `wait` the run
    goes on in a process of its own. `on_event` gets each event as it happens.

    Raises `FindingsError` when a finding stands in the way, `StalePlanError` when something changed since the plan was
    made, `JobFailedError` when the run failed and `InterruptedRunError` when it was stopped.
    """
    from azft.modes import get_mode
    from azft.plan import Plan

    made = what if isinstance(what, Plan) else plan(what, mode)
    return get_mode(made.mode).submit(made, again=again, force=force, wait=wait, on_event=on_event)


def runs() -> list[Run]:
    """The runs of this folder (or of AZFT_HOME), newest first."""
    from azft.runs import RunStore

    return RunStore().list()


def get_run(name: str | None = None) -> Run:
    """A run by its name or the start of it; the newest without a name. Raises `NotFoundError` with what there is."""
    from azft.runs import RunStore

    store = RunStore()
    if name is not None:
        return store.get(name)
    listed = store.list()
    if not listed:
        raise NotFoundError(f"There are no runs in {store.runs_folder}.", fix="Start one with: azft submit recipe.yaml")
    return listed[0]


def resume(run: Run | str, *, wait: bool = True, on_event: OnEvent | None = None) -> Run:
    """Go on with a run that failed, was canceled or was cut off, from its last checkpoint. Raises as `submit` does."""
    from azft.modes import get_mode

    found = _run(run)
    return get_mode(found.plan["mode"]).resume(found, wait=wait, on_event=on_event)


def cancel(run: Run | str) -> Run:
    """Ask a run to end; it saves a checkpoint first. Returns at once."""
    from azft.modes import get_mode

    found = _run(run)
    get_mode(found.plan["mode"]).cancel(found)
    return found


def summarize(run: Run | str) -> RunSummary:
    """Where a run stands and what came of it: state, model, training, evaluation before and after, outputs."""
    from azft.run_summary import summarize as read

    return read(_run(run))


def open_chat(what: Run | Path | str) -> Chat:
    """A model to talk to: a run's result (by the run, or its name), or any model folder (as a `Path`). Loads torch."""
    from azft.chat import open_chat as load

    return load(what if isinstance(what, Path) else _run(what))


def doctor() -> Machine:
    """What this machine has, and what is missing for what."""
    from azft.machine import inspect_machine

    return inspect_machine()


def follow_logs(
    run: Run | str,
    on_line: Callable[[dict[str, str]], None],
    *,
    step: str | None = None,
    offsets: dict[str, int] | None = None,
) -> str:
    """Pass on the lines of a run's logs as `{"step", "line"}` until it ends; returns the state it ended in.

    `offsets` says, by step, up to which byte the lines are known already. Stopping this never stops the run.
    """
    import time

    found = _run(run)
    known = dict(offsets or {})
    while True:
        state = found.state  # before the lines: whatever was written before the end is then read
        for name in [step] if step is not None else found.log_steps():
            lines, known[name] = found.log(name, known.get(name, 0))
            for line in lines:
                on_line({"step": name, "line": line})
        if not state.active:
            return str(state)
        time.sleep(0.2)


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


def _recipe(recipe: RecipeLike) -> RecipeFile:
    return recipe if isinstance(recipe, RecipeFile) else load_recipe(recipe)


def _run(run: Run | str) -> Run:
    return get_run(run) if isinstance(run, str) else run
