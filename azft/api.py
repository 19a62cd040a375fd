"""The Python API: everything the command line can do, as functions. `azft.<name>` loads them on first use.

    import azft
    recipe = azft.load_recipe("recipe.yaml")
    print(azft.check(recipe).findings)
    run = azft.submit(recipe, mode="local")
    print(run.outputs()["packaged"])

Nothing prints or asks here. Whatever a person should read is in the returned value or in the `AzftError` raised.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from azft.errors import NotFoundError, UsageError
from azft.extras import needs
from azft.recipe_file import RecipeFile, load_recipe

if TYPE_CHECKING:
    from azft.azureml.connection import Access
    from azft.azureml.deployment import Deployment
    from azft.azureml.ending import Outcome
    from azft.azureml.inference import EndpointChat
    from azft.azureml.inventory import Item
    from azft.azureml.outputs import RemoteOutput
    from azft.azureml.registration import RegisteredModel
    from azft.azureml.remote_runs import RemoteRun
    from azft.azureml.serving_choice import Kind
    from azft.azureml.teardown import Whole
    from azft.chat import Chat
    from azft.data.check import DataReport
    from azft.data.preview import PreviewReport
    from azft.machine import Machine
    from azft.plan import Plan
    from azft.run_summary import RunSummary
    from azft.runs import Run, RunStore
    from azft.scaffold import Scaffold

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
    if plan.target.job_file is None and not any(entry.role == "train" for entry in plan.inputs):
        from azft.plan import require_no_errors

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


def submit(
    what: Plan | RecipeLike,
    *,
    mode: str = "local",
    again: bool = False,
    force: bool = False,
    wait: bool = True,
    on_event: OnEvent | None = None,
    access: Access | None = None,
) -> Run:
    """Carry out a plan, or a recipe planned for `mode`. The same plan twice is one run.

    `again` asks for a second run of the same plan; `force` reuses no step of an earlier one; without `wait` the run
    goes on in a process of its own, or in Azure. `on_event` gets each event as it happens; `access` says which
    workspace and whose sign-in, where the mode needs one (`azft.azureml.connection.Access`).

    Raises `FindingsError` when a finding stands in the way, `StalePlanError` when something changed since the plan was
    made, `JobFailedError` when the run failed and `InterruptedRunError` when it was stopped.
    """
    from azft.modes import get_mode
    from azft.plan import Plan

    made = what if isinstance(what, Plan) else plan(what, mode)
    _store()
    mode_of_plan = get_mode(made.mode, access=access)
    return mode_of_plan.submit(made, again=again, force=force, wait=wait, on_event=on_event)


def runs() -> list[Run]:
    """The runs of this folder (or of AZFT_HOME), newest first, as they were last known here."""
    return _store().list()


def remote_runs(*, access: Access | None = None) -> list[RemoteRun]:
    """The runs of a workspace, whoever started them from where, newest first."""
    from azft.azureml.remote_runs import list_remote

    return list_remote(_access(access).connect())


def get_run(name: str | None = None, *, access: Access | None = None) -> Run:
    """A run by its name or the start of it; the newest without a name. Raises `NotFoundError` with what there is.

    With `access`, a run that is not known here is looked for in Azure by its whole name, and gets a record here.
    """
    store = _store()
    if name is not None:
        try:
            return store.get(name)
        except NotFoundError:
            found = None if access is None else _adopt(name, access)
            if found is None:
                raise
            return found
    listed = store.list()
    if not listed:
        raise NotFoundError(f"There are no runs in {store.runs_folder}.", fix="Start one with: azft submit recipe.yaml")
    return listed[0]


def refresh(run: Run | str, *, access: Access | None = None) -> Run:
    """The run, its record brought up to date from where it runs; nothing to do for a run on this machine.

    Raises `UnreachableError` when that place does not answer; the record then says what was last known.
    """
    from azft.modes import get_mode

    found = _run(run)
    if found.remote:
        get_mode(found.plan["mode"], access=access).refresh(found)
    return found


def resume(run: Run | str, *, wait: bool = True, on_event: OnEvent | None = None, access: Access | None = None) -> Run:
    """Go on with a run that failed, was canceled or was cut off, from its last checkpoint. Raises as `submit` does."""
    from azft.modes import get_mode

    found = _run(run)
    return get_mode(found.plan["mode"], access=access).resume(found, wait=wait, on_event=on_event)


def cancel(run: Run | str, *, access: Access | None = None) -> Run:
    """Ask a run to end; it saves a checkpoint first. Returns at once."""
    from azft.modes import get_mode

    found = _run(run)
    get_mode(found.plan["mode"], access=access).cancel(found)
    return found


def remote_outputs(run: Run | str, *, access: Access | None = None) -> list[RemoteOutput]:
    """What a run in Azure has to give: each output, where it lies, how large it is."""
    from azft.azureml.outputs import list_outputs

    found = _run(run)
    return list_outputs(_connect_for(found, access), found)


def download(
    run: Run | str,
    names: Iterable[str] = (),
    *,
    folder: Path | str | None = None,
    on_event: OnEvent | None = None,
    access: Access | None = None,
) -> dict[str, Path]:
    """Bring outputs of a run in Azure here, all or the named ones, into the run's folder or another; their places.

    May be cut off and repeated: what is here already and right is not fetched again.
    """
    from azft.azureml.outputs import download as fetch

    found = _run(run)
    target = None if folder is None else Path(folder)
    return fetch(_connect_for(found, access), found, names, folder=target, on_event=on_event or (lambda _: None))


def summarize(run: Run | str) -> RunSummary:
    """Where a run stands and what came of it: state, model, training, evaluation before and after, outputs."""
    from azft.run_summary import summarize as read

    return read(_run(run))


def open_chat(what: Run | Path | str) -> Chat:
    """A model to talk to: a run's result (by the run, or its name), or any model folder (as a `Path`). Loads torch."""
    from azft.chat import open_chat as load

    return load(what if isinstance(what, Path) else _run(what))


def check_remote(plan: Plan, *, access: Access | None = None) -> Plan:
    """The plan with what only the account can tell: more findings, and which uploads are there. Changes nothing."""
    from azft.azureml.remote_check import check_plan

    return check_plan(_access(access).connect(), plan)


def register(
    run: Run | str, *, name: str | None = None, access: Access | None = None, on_event: OnEvent | None = None
) -> RegisteredModel:
    """The run's model in the workspace, registered when it isn't yet; the same version however often it is asked for.

    Raises `JobFailedError` for a run that did not complete and `NotFoundError` when it has no model.
    """
    from azft.azureml.registration import register as have

    found = _fresh(run, access)
    return have(_connect_for(found, access), found, name=name, on_event=on_event)


def deploy(
    run: Run | str,
    *,
    name: str | None = None,
    kind: Kind | None = None,
    instance_type: str | None = None,
    instances: int = 1,
    access: Access | None = None,
    on_event: OnEvent | None = None,
) -> Deployment:
    """The run's model behind an endpoint that answers: one, however often it is asked for. It bills until `down`.

    Raises `FindingsError`, `LimitError`, `ConflictError` and `DeploymentFailedError`; see `azft.azureml.deployment`.
    """
    from azft.azureml.deployment import deploy as have

    found = _fresh(run, access)
    connection = _connect_for(found, access)
    return have(
        connection, found, name=name, kind=kind, instance_type=instance_type, instances=instances, on_event=on_event
    )


def open_endpoint(name: str, *, access: Access | None = None) -> EndpointChat:
    """An endpoint of the workspace to talk to. Its key is asked for at each call, and kept nowhere."""
    from azft.azureml.inference import open_endpoint as find

    return find(_access(access).connect(), name)


def inventory(what: str | None = None, *, access: Access | None = None) -> Whole:
    """What azft started in Azure (for a run, or by a thing's name) and that still exists, and which of it bills.

    Raises `NotFoundError` only for a name that nobody knows.
    """
    from azft.azureml.teardown import look, narrow

    return narrow(look(_access(access)), what)


def down(
    what: str | Sequence[Item] | None = None, *, access: Access | None = None, on_event: OnEvent | None = None
) -> list[Outcome]:
    """End what azft started for a run (or an endpoint, by name), items of an inventory, or everything.

    Returns what became of each thing; never touches what azft did not start. Raises `NotFoundError` only for a name
    that nobody knows.
    """
    from azft.azureml.teardown import end_all

    items = inventory(what, access=access).items if what is None or isinstance(what, str) else what
    return end_all(_access(access), items, on_event=on_event)


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
    on_event: OnEvent | None = None,
    access: Access | None = None,
) -> str:
    """Pass on the lines of a run's logs as `{"step", "line"}` until it ends; returns the state it ended in.

    `offsets` says, by step, up to which byte the lines are known already; `on_event` hears of outages of the place
    where it runs, which are waited out. Stopping this never stops the run.
    """
    import time

    from azft.runs.watching import Pace, Refresher

    found = _run(run)
    known = dict(offsets or {})
    bring = Refresher(found, on_event, lambda remote: _refresh(remote, access))
    pace = Pace.of(found)
    while True:
        bring()
        state = found.state  # before the lines: whatever was written before the end is then read
        news = False
        for name in [step] if step is not None else found.log_steps():
            lines, known[name] = found.log(name, known.get(name, 0))
            for line in lines:
                news = True
                on_line({"step": name, "line": line})
        if not state.active:
            return str(state)
        time.sleep(pace.next(news=news))


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


def _store() -> RunStore:
    """The runs' store. Runs that it hands out can be waited for, wherever they run."""
    from azft.runs import RunStore as Store
    from azft.runs.watching import refresh_with

    refresh_with(_refresh)
    return Store()


def _refresh(run: Run, access: Access | None = None) -> None:
    refresh(run, access=access)


def _adopt(name: str, access: Access) -> Run | None:
    """The record of a run that only Azure knows; None when no workspace is known, or it has no such run."""
    from azft.azureml.remote_runs import adopt, find_remote

    try:
        workspace = access.find()
    except UsageError:
        return None
    connection = access.connect(workspace)
    job = find_remote(connection, name)
    return None if job is None else adopt(_store(), connection, job)


def _access(access: Access | None) -> Access:
    from azft.azureml.connection import Access as Flags

    return access or Flags()


def _connect_for(run: Run, access: Access | None) -> Any:
    from azft.azureml.teardown import connect_for

    return connect_for(run, _access(access))


def _fresh(run: Run | str, access: Access | None) -> Run:
    """The run, its record brought up to date where it runs elsewhere."""
    found = _run(run)
    if found.remote:
        from azft.modes import get_mode

        get_mode(found.plan["mode"], access=access).status(found)
    return found
