"""Options that commands share, so that they are spelled, explained and parsed the same everywhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, TypeVar

import click

from azft.cli.render import FORMATS, Output, note

Command = TypeVar("Command", bound=Callable[..., Any])


def not_empty(_context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    """A click callback: an empty text, as an unset variable of a script leaves it, is a mistake and no folder."""
    given = value if isinstance(value, tuple) else (value,)
    if any(isinstance(text, str) and not text.strip() for text in given):
        raise click.BadParameter("it is empty.", param=parameter)
    return value


def output(command: Command) -> Command:
    """`-o` and `--query`; the command gets them as one argument `output`."""

    @wraps(command)
    def wrapper(*args: Any, output_format: str, query: str | None, **kwargs: Any) -> Any:
        return command(*args, output=Output(output_format, query), **kwargs)

    click.option("--query", metavar="JMESPATH", help="Show only what this JMESPath expression picks.")(wrapper)
    click.option(
        "-o",
        "--output",
        "output_format",
        type=click.Choice(FORMATS),
        default="table",
        envvar="AZFT_OUTPUT",
        show_default=True,
        help="Format of the data on standard output; AZFT_OUTPUT sets the default.",
    )(wrapper)
    return wrapper  # type: ignore[return-value]


def recipe(command: Command) -> Command:
    """The recipe's path (recipe.yaml by default), and `--set`."""
    click.option(
        "--set",
        "overrides",
        metavar="KEY=VALUE",
        multiple=True,
        help="Override a key of the recipe, e.g. training.epochs=1. Repeatable.",
    )(command)
    click.argument("recipe", default="recipe.yaml", metavar="[RECIPE]", callback=not_empty)(command)
    return command


mode = click.option(
    "--mode",
    type=click.Choice(["local", "maas", "maap"]),
    default="local",
    show_default=True,
    help="Where it runs: here, on Azure's serverless fine-tuning, or on your own machines in Azure ML.",
)
"""`--mode`; a new mode adds its name here and its class in `azft.modes`."""


job_file = click.option(
    "--from-azureml",
    "job_file",
    metavar="JOB.YML",
    callback=not_empty,
    help="In place of a recipe: an Azure ML job of type finetuning, taken as it is. It says itself where it runs.",
)
"""`--from-azureml`"""


latest = click.option("--latest", is_flag=True, help="In place of RUN: the newest run of this folder.")
"""`--latest`, wherever a run is named; `down` has none, because what is ended is to be named."""


def run(command: Command) -> Command:
    """The run's name as an argument, or `--latest`; the command gets the run itself as `run`.

    Under `azure`, a run that is not known here is looked for in the workspace.
    """

    @wraps(command)
    def wrapper(*args: Any, run_name: str | None, latest: bool, **kwargs: Any) -> Any:
        return command(*args, run=find_run(run_name, latest, kwargs.get("access")), **kwargs)

    latest(wrapper)
    click.argument("run_name", required=False, metavar="[RUN]", callback=not_empty)(wrapper)
    return wrapper  # type: ignore[return-value]


def run_and_names(command: Command) -> Command:
    """As `run`, with names of something of the run's behind it, which the command gets as `names`."""

    @wraps(command)
    def wrapper(*args: Any, words: tuple[str, ...], latest: bool, **kwargs: Any) -> Any:
        run_name, names = (None, words) if latest or not words else (words[0], words[1:])
        return command(*args, run=find_run(run_name, latest, kwargs.get("access")), names=names, **kwargs)

    latest(wrapper)
    click.argument("words", nargs=-1, metavar="[RUN] [NAME]...", callback=not_empty)(wrapper)
    return wrapper  # type: ignore[return-value]


def find_run(name: str | None, latest: bool, access: Any = None) -> Any:
    """The run that was asked for. Never guesses: a command may cancel it."""
    from azft import api
    from azft.errors import UsageError

    if latest and name is not None:
        raise UsageError("Give either a run or --latest, not both.")
    if latest or name is not None:
        return api.get_run(name, access=access)
    names = [run.name for run in api.runs()[:5]]
    if not names:
        api.get_run()  # raises: there are none
    raise UsageError("Which run?", fix=f"Name it, or add --latest. The newest here: {', '.join(names)}")


AZURE_FLAGS = {
    "subscription": "--subscription",
    "resource_group": "--resource-group",
    "workspace": "--workspace",
    "auth": "--auth",
}
"""Parameter -> the flag of `azure` that sets it."""


def place_in_help(parameter: click.Parameter) -> int:
    """Sorts what a command takes as every help lists it: its own options, which workspace, and the output's form."""
    if parameter.name in ("output_format", "query"):
        return 2
    return int(parameter.name in AZURE_FLAGS)


def given_flags(flags: Mapping[str, str]) -> list[str]:
    """Which of these flags (by their parameters) stand on the command line; the environment's values are no flags."""
    context = click.get_current_context()
    from_line = click.core.ParameterSource.COMMANDLINE
    return [flag for name, flag in flags.items() if context.get_parameter_source(name) is from_line]


def azure(command: Command) -> Command:
    """Which workspace of Azure ML, and whose sign-in; the command gets them as one argument `access`.

    Waits that Azure, or its sign-in, asks for are said on standard error, where nobody else listens for them.
    """

    @wraps(command)
    def wrapper(
        *args: Any,
        subscription: str | None,
        resource_group: str | None,
        workspace: str | None,
        auth: str,
        **kwargs: Any,
    ) -> Any:
        from azft.azureml.connection import Access
        from azft.azureml.patience import telling

        with telling(_tell_wait):
            return command(*args, access=Access(subscription, resource_group, workspace, auth), **kwargs)

    click.option(
        "--auth",
        type=click.Choice(["default", "cli", "env", "managed-identity", "workload", "browser", "device-code"]),
        default="default",
        envvar="AZFT_AUTH",
        show_default=True,
        help="Whose sign-in to use in Azure; AZFT_AUTH sets the default.",
    )(wrapper)
    click.option("--subscription", metavar="ID", help="Its subscription.")(wrapper)
    click.option("-g", "--resource-group", metavar="NAME", help="Its resource group.")(wrapper)
    click.option(
        "-w",
        "--workspace",
        metavar="NAME",
        help="Azure ML workspace; else AZUREML_WORKSPACE_NAME, config.json, az.",
    )(wrapper)
    return wrapper  # type: ignore[return-value]


def _tell_wait(event: Mapping[str, Any]) -> None:
    from azft.cli.azure_words import words

    if text := words(event):
        note(text)
