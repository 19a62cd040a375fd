"""`azft plan`: what a run would do, with every default filled in; and the plan as a file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from azft.cli import options
from azft.cli.render import Output, note
from azft.errors import ExitCode, UsageError
from azft.words import MODES

if TYPE_CHECKING:
    from rich.console import RenderableType

    from azft.plan import Plan

EPILOG = """\b
Example:
  $ azft plan --out plan.json
  run        linden-bakery-3f2a91c0
  mode       local: on this machine; nothing is sent, nothing is billed
  model      a stand-in: the architecture of Phi-4-mini-instruct, made tiny
  trains     lora, rank 16: 106 K of 1.4 M weights (7.7 %) of the stand-in
  steps      prepare, finetune, evaluate, package
  ...
  $ azft submit plan.json
  $ azft plan --mode maas --payload       # what Azure would get, to the byte
  $ azft plan --mode maap --check-remote  # and what the account says of it

\b
A saved plan is carried out exactly, or refused (exit code 3) when recipe,
data, model or code changed since.
"""


@click.command(epilog=EPILOG)
@options.recipe
@options.mode
@options.job_file
@click.option("--check-remote", is_flag=True, help="Ask the account, too: sign-in, workspace, quota, model, uploads.")
@click.option("--payload", is_flag=True, help="Print the exact JSON that Azure would get (modes maas and maap).")
@click.option(
    "--out",
    type=click.Path(dir_okay=False),
    metavar="PLAN.JSON",
    callback=options.not_empty,
    help="Save the plan, for `azft submit`.",
)
@options.azure
@options.output
def command(
    recipe: str,
    overrides: tuple[str, ...],
    mode: str,
    job_file: str | None,
    check_remote: bool,
    payload: bool,
    out: str | None,
    access: Any,
    output: Output,
) -> int:
    """Show what a run of the recipe would do, with every default filled in.

    Nothing is started, sent or billed; only --check-remote asks the account. Exit code 5 when a finding would stop the
    run.
    """
    from azft import api
    from azft.files import write_bytes

    with _nothing_passes_for_the_new_plan(out):
        plan = make_plan(recipe, overrides, mode, job_file)
        if check_remote:
            plan = api.check_remote(plan, access=access)
        if out is not None:
            write_bytes(Path(out), plan.to_json())
    if payload:
        # JSON is what it is; the table of a person who asked for it is that JSON.
        show = Output("json", output.query) if output.is_table else output
        show.show(api.payload(plan))
    else:
        output.show(plan.model_dump(mode="json"), lambda: view(plan, overrides))
    if out is not None:
        ready = f"Carry it out with: azft submit {out}"
        then = "Its errors stand in the way of carrying it out." if plan.has_errors else ready
        note(f"Saved the plan of {plan.run_name} ({plan.mode}) as {out}. {then}")
    return ExitCode.CHECK_FAILED if plan.has_errors else ExitCode.DONE


@contextmanager
def _nothing_passes_for_the_new_plan(out: str | None) -> Iterator[None]:
    """Say of an older plan in the file that it is still there, when no new one comes: it is another run's."""
    try:
        yield
    except BaseException:
        if out is not None and (older := _read_plan(Path(out))) is not None:
            from azft.plan import HASH_CHARACTERS

            name = f"{older['name']}-{str(older['hash'])[:HASH_CHARACTERS]}"
            note(f"{out} still holds the older plan of {name} ({older['mode']}): nothing was saved.")
        raise


def make_plan(recipe: str, overrides: tuple[str, ...], mode: str, job_file: str | None) -> Plan:
    """The plan of a recipe and its --set options, or of an Azure ML job file in its place."""
    from azft import api
    from azft.recipe_file import load_recipe

    if job_file is None:
        if recipe.endswith(".json") and _read_plan(Path(recipe)) is not None:
            raise UsageError(f"{recipe} is a plan already.", fix=f"See it: azft submit {recipe} --dry-run")
        return api.plan(load_recipe(recipe, overrides=overrides), mode)
    if overrides:
        raise UsageError("--set can't change a job file, which is taken as it is.", fix="Edit the file.")
    made = api.plan_from_azureml(job_file)
    require_mode(made, mode, job_file)
    return made


def require_mode(plan: Plan, mode: str, file: str) -> None:
    """Raise `UsageError` when --mode is on the command line and the file, which says itself where it runs, differs."""
    if options.given_flags({"mode": "--mode"}) and plan.mode != mode:
        fix = "Leave out --mode, or plan the recipe for the other one."
        raise UsageError(f"{file} is for mode {plan.mode}, not {mode}.", fix=fix)


def _read_plan(file: Path) -> dict[str, Any] | None:
    """What a file holds, of any version of azft, when it is a plan."""
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and {"name", "mode", "hash", "recipe_sha256"} <= found.keys() else None


def view(plan: Plan, overrides: tuple[str, ...] = ()) -> RenderableType:
    """A plan as a person reads it. `overrides` are the --set options that it was made with."""
    from rich.console import Group
    from rich.text import Text

    from azft.cli import views

    if plan.target is not None:
        from azft.cli.plan_azure import view as azure_view

        return azure_view(plan, plan.target, overrides)
    model = Text(plan.model.description, style="bold yellow" if plan.model.kind == "stand-in" else "")
    processes = f", finetune on {plan.processes} processes" if plan.processes > 1 else ""
    head = views.facts(
        [
            ("run", plan.run_name),
            ("mode", MODES[plan.mode]),
            ("model", model),
            ("trains", plan.trainable_words),
            ("steps", ", ".join(step.name for step in plan.steps) + processes),
        ]
    )
    data = views.table(
        ("data", "file", "size"),
        [(entry.role, views.place(entry.path), views.size(entry.bytes)) for entry in plan.inputs],
        right=("size",),
    )
    return Group(
        head,
        Text(""),
        data,
        Text(""),
        views.heading("Recipe, defaults filled in"),
        views.facts(settings(plan)),
        Text(""),
        *views.closing(plan.findings),
        *next_command(plan, "Run it with", overrides),
    )


def next_command(plan: Plan, words: str, overrides: tuple[str, ...]) -> list[RenderableType]:
    """The command that carries this very plan out, its --set options included; none while errors stand in the way."""
    import shlex

    from rich.text import Text

    from azft.cli import views

    if plan.has_errors:
        return []
    file = shlex.quote(str(views.place(plan.recipe_path)))
    is_job_file = plan.target is not None and plan.target.job_file
    source = f"--from-azureml {file}" if is_job_file else f"{file} --mode {plan.mode}"
    changes = "".join(f" --set {shlex.quote(override)}" for override in overrides)
    return [Text(f"{words}: azft submit {source}{changes}")]


def settings(plan: Plan) -> list[tuple[str, object]]:
    """The recipe's sections, one line each; what is empty by default is left out."""
    rows: list[tuple[str, object]] = []
    finetune = next((step.parameters for step in plan.steps if step.name == "finetune"), {})
    for name in ("technique", "training", "distribution", "evaluation", "output"):
        section = finetune.get(name) or plan.recipe[name]
        rows.append((name, "  ".join(f"{key}={_short(value)}" for key, value in section.items() if value is not None)))
    return rows


def _short(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
