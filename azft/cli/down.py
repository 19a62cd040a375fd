"""`azft down`: list and end what azft started in Azure, so that nothing keeps billing unseen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from azft.cli import options
from azft.cli.render import Output, is_interactive, note, write
from azft.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from azft.azureml.ending import Outcome
    from azft.azureml.inventory import Item
    from azft.azureml.teardown import Whole

EPILOG = """\b
Example:
  $ azft down --dry-run
  what                 name                state      bills  run
  serverless endpoint  bakery-3f2a91-77d1  Succeeded  yes    bakery-3f2a91
  compute cluster      gpu-cluster         Succeeded  no     bakery-3f2a91
  $ azft down bakery-3f2a91 --yes

\b
What exists is read from the workspace's tags, whoever started it from which
machine. What azft did not start is never listed and never touched. Exit code
1 when something could not be ended, 4 where the sign-in was the reason; doing
it twice is fine.
"""


@click.command(epilog=EPILOG)
@click.argument("what", required=False, metavar="[RUN]", callback=options.not_empty)
@click.option("--all", "everything", is_flag=True, help="End everything that azft started.")
@click.option("--dry-run", is_flag=True, help="List what there is, and end nothing.")
@click.option("-y", "--yes", is_flag=True, help="Don't ask.")
@options.azure
@options.output
def command(what: str | None, everything: bool, dry_run: bool, yes: bool, access: Any, output: Output) -> int:
    """End what azft started in Azure: jobs, endpoints, clusters, marketplace subscriptions.

    RUN is a run's name (or the start of it), or the name of an endpoint, job or cluster; there is no --latest, because
    what is ended is to be named. Each thing is asked to end and looked at until it is gone.
    """
    from azft import api
    from azft.azureml.ending import exit_code
    from azft.cli.serving_words import tell_progress

    if what is not None and everything:
        raise UsageError("Give either a run or --all, not both.")
    if what is None and not everything and not dry_run:
        raise UsageError("End what?", fix="Name a run or an endpoint, or add --all. What there is: azft down --dry-run")
    whole = api.inventory(what, access=access)
    complete = not whole.unknown
    if dry_run or not whole.items:
        _show(whole, [], output, dry_run=dry_run)
        return ExitCode.DONE if complete else ExitCode.FAILURE
    _confirm(whole.items, yes=yes)
    outcomes = api.down(whole.items, access=access, on_event=tell_progress(output))
    _show(whole, outcomes, output, dry_run=False)
    return exit_code(outcomes) or (ExitCode.DONE if complete else ExitCode.FAILURE)


def _confirm(items: Sequence[Item], *, yes: bool) -> None:
    if yes:
        return
    if not is_interactive():
        things = "One thing" if len(items) == 1 else f"{len(items)} things"
        raise UsageError(
            f"{things} would be ended, and nobody can be asked without a terminal.",
            fix="Add --yes, or look first with --dry-run.",
        )
    write(_table(items), stderr=True)
    if not click.confirm(f"End {'this' if len(items) == 1 else f'these {len(items)}'}?", err=True):
        raise click.Abort


def _show(whole: Whole, outcomes: Sequence[Outcome], output: Output, *, dry_run: bool) -> None:
    data = {**whole.to_dict(), "outcomes": [outcome.to_dict() for outcome in outcomes], "dry_run": dry_run}
    output.show(data, lambda: _view(whole, outcomes))
    if output.is_table:
        for name, why in whole.unknown:
            note(f"The workspace {name} could not be looked into: {why}")
        if dry_run and whole.items:
            note("Nothing was ended (--dry-run).")


def _view(whole: Whole, outcomes: Sequence[Outcome]) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    from azft.cli import views

    if not whole.items:
        return views.text(f"Nothing that azft started exists in {' and '.join(whole.workspaces) or 'Azure'}.")
    if not outcomes:
        return Group(_table(whole.items), Text(""), _billing(whole.items))
    rows = [
        (outcome.item.words, outcome.item.run or None, _result(outcome), outcome.why or None) for outcome in outcomes
    ]
    return views.table(("what", "run", "ended", "why"), rows)


def _result(outcome: Outcome) -> Any:
    from rich.text import Text

    return Text("yes", style="green") if outcome.ended else Text("NO", style="bold red")


def _table(items: Sequence[Item]) -> RenderableType:
    from rich.text import Text

    from azft.azureml.resources import KINDS
    from azft.cli import views

    rows = [
        (
            KINDS[item.kind][2],
            item.name,
            item.state,
            Text("yes", style="bold yellow") if item.bills else Text("no"),
            item.run or None,
            item.detail,
            item.workspace,
        )
        for item in items
    ]
    return views.table(("what", "name", "state", "bills", "run", "detail", "workspace"), rows)


def _billing(items: Sequence[Item]) -> RenderableType:
    """How each kind that is there bills, and what an hour of it costs where that is known."""
    from azft.azureml.resources import KINDS
    from azft.cli import views

    words = {KINDS[item.kind][2]: f"billed {item.billing}" for item in items}
    costs = [(item.name, item.hourly) for item in items if item.hourly]
    return views.facts([*words.items(), *costs])
