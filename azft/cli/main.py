"""`azft`: the entry point, and the one place where an exception becomes a message and an exit code.

Imports click and nothing heavier; what renders an error is imported when there is one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper

import click

import azft
from azft.cli.group import LazyGroup, ReaderGoneError
from azft.errors import AzftError, ExitCode

EPILOG = """\b
A first run, without an account or a GPU:
  azft init demo
  azft submit demo/recipe.yaml --mode local

\b
Exit codes: 0 done, 1 failure, 2 bad usage or recipe, 3 not found or stale
plan, 4 sign-in, 5 check found errors, 6 quota or price limit, 7 the job
failed, 130 interrupted.
"""


@click.group(
    cls=LazyGroup, epilog=EPILOG, no_args_is_help=True, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(azft.__version__, prog_name="azft", message="%(prog)s %(version)s")
@click.option("--debug", is_flag=True, envvar="AZFT_DEBUG", help="Show the traceback of an error, secrets blotted out.")
@click.pass_context
def cli(ctx: click.Context, debug: bool) -> None:
    """One recipe becomes a fine-tuned model.

    Everything that can go wrong is shown before it costs money.
    """
    ctx.meta["azft.debug"] = debug


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line and exit the process with one of `ExitCode`."""
    _prepare_streams()
    sys.exit(run(list(sys.argv[1:] if args is None else args)))


def run(args: list[str]) -> int:
    """Run one command and return its exit code; every error has been shown on standard error."""
    debug = os.environ.get("AZFT_DEBUG", "") not in {"", "0"} or "--debug" in args
    try:
        # --debug is taken anywhere on the line, because it is added after something went wrong.
        result = cli.main([arg for arg in args if arg != "--debug"], prog_name="azft", standalone_mode=False)
        sys.stdout.flush()
    except (ReaderGoneError, BrokenPipeError):
        _forget_stdout()
        return ExitCode.DONE
    except click.exceptions.Abort:
        click.echo("Interrupted.", err=True)
        return ExitCode.INTERRUPTED
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except AzftError as error:
        from azft.cli.errors import show_error, show_traceback

        if debug:
            show_traceback()
        show_error(error)
        return error.exit_code
    except KeyboardInterrupt:
        click.echo("\nInterrupted.", err=True)
        return ExitCode.INTERRUPTED
    except Exception as error:  # a person never sees a traceback unasked
        from azft.cli.errors import of_the_disk, show_error, show_traceback, show_unexpected

        if debug:
            show_traceback()
        if isinstance(error, OSError) and (known := of_the_disk(error)) is not None:
            show_error(known)
            return known.exit_code
        show_unexpected(error, debug=debug)
        return ExitCode.FAILURE
    return int(result) if isinstance(result, int) else ExitCode.DONE


def _prepare_streams() -> None:
    """Make any text printable: what the terminal's encoding lacks is escaped instead of raising."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _forget_stdout() -> None:
    """Point standard output at nothing, so that the interpreter's last flush stays quiet."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)
