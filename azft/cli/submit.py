"""`azft submit`: run a recipe or a saved plan, and watch it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from azft.cli import options
from azft.cli.render import Output
from azft.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from azft.plan import Plan

EPILOG = """\b
Example:
  $ azft submit recipe.yaml --mode local --set training.epochs=1
  prepare   reused
  finetune  done    11 s
  evaluate  running  2 s
  step 84/84  loss 1.207  eval loss 1.398  9,120 tokens/s
\b
  run        linden-bakery-3f2a91c0
  state      Completed
  held-out   before  after
  loss        6.812  1.402
  ...

\b
The same plan twice is one run: a second submit shows the first one's result,
or goes on with it when it was cut off. --again starts another: one more each
time, also from two shells at once. (In Azure, another that was cut off before
its job was sent is gone on with.)
Ctrl-C stops a local run, and says how to go on. A run in Azure goes on.
With -o json every event is a line of JSON; the last has "event": "result".

\b
--rehearse does all of it on this machine, to the endpoint and back, with an
emulator of Azure and a stand-in of the model; nothing is sent or billed.
"""


_NOT_REHEARSED = {"dry_run": "--dry-run", "again": "--again", "force": "--force", **options.AZURE_FLAGS}
"""Parameter -> flag that says nothing to a rehearsal."""


@click.command(epilog=EPILOG)
@options.recipe
@options.mode
@options.job_file
@click.option("--dry-run", is_flag=True, help="Show what would run, and run nothing.")
@click.option("--rehearse", is_flag=True, help="Play the whole way to an endpoint and back on this machine.")
@click.option(
    "--wait/--no-wait", default=True, show_default=True, help="Watch to the end, or return once it has started."
)
@click.option("--follow", is_flag=True, help="While waiting, show what the steps print.")
@click.option("--again", is_flag=True, help="Start another run, even if this plan was run before.")
@click.option("--force", is_flag=True, help="Reuse no step of an earlier run.")
@click.option("--create-compute", is_flag=True, help="Make the cluster (modes.maap.compute) if it isn't there.")
@options.azure
@options.output
def command(
    recipe: str,
    overrides: tuple[str, ...],
    mode: str,
    job_file: str | None,
    dry_run: bool,
    rehearse: bool,
    wait: bool,
    follow: bool,
    again: bool,
    force: bool,
    create_compute: bool,
    access: Any,
    output: Output,
) -> int:
    """Run a recipe, or a plan that `azft plan --out` saved.

    A saved plan (plan.json) is refused with exit code 3 when recipe, data, model or code changed since.
    """
    from azft import api
    from azft.cli import results

    if follow and not wait:
        raise UsageError("--follow needs --wait.", fix="Leave out one of --follow and --no-wait.")
    if rehearse and (useless := [*options.given_flags(_NOT_REHEARSED), *([] if wait else ["--no-wait"])]):
        given = " and ".join(useless)
        where = "once, from beginning to end, on this machine"
        raise UsageError(f"--rehearse goes by itself, {where}: nothing comes of {given}.", fix=f"Leave out {given}.")
    plan = _plan(recipe, overrides, mode, job_file)
    if dry_run:
        return _dry_run(plan, overrides, output)
    results.announce(plan, output, again=again)
    if rehearse:
        from azft.cli import rehearse as rehearsal

        return rehearsal.rehearse(plan, output, follow=follow, create_compute=create_compute)
    access = replace(access, create_compute=create_compute)
    return results.watch(
        lambda on_event: api.submit(plan, again=again, force=force, wait=wait, on_event=on_event, access=access),
        output,
        follow=follow,
        wait=wait,
    )


def _plan(recipe: str, overrides: tuple[str, ...], mode: str, job_file: str | None) -> Plan:
    from azft import api
    from azft.cli.plan import make_plan, require_mode

    if job_file is not None or not recipe.endswith(".json"):
        return make_plan(recipe, overrides, mode, job_file)
    if overrides:
        raise UsageError(
            "--set can't change a saved plan.", fix="Make a new one: azft plan recipe.yaml --set ... --out"
        )
    saved = api.load_plan(recipe)
    require_mode(saved, mode, recipe)
    return saved


def _dry_run(plan: Plan, overrides: tuple[str, ...], output: Output) -> int:
    from azft.cli.plan import view
    from azft.cli.render import note
    from azft.plan_checks import require_fresh

    require_fresh(plan)
    data: dict[str, Any] = plan.model_dump(mode="json")
    if plan.target is None:
        output.show(data, lambda: view(plan, overrides))
        note("Nothing was started (--dry-run).")
    else:
        from azft.cli.plan_azure import payload_summary, payload_view

        summary = None if plan.has_errors else payload_summary(plan)  # what is refused is not sent
        output.show({**data, "payload": summary}, lambda: payload_view(view(plan, overrides), summary))
        note("Nothing was sent or started, and Azure was not asked (--dry-run).")
    return ExitCode.CHECK_FAILED if plan.has_errors else ExitCode.DONE
