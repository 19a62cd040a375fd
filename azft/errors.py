"""Exit codes, and the one exception family that azft raises for a person to read.

An `AzftError` says what happened, where, and what to do. It never carries a traceback's worth of detail, and never a
secret: whoever builds one passes text that may be shown, logged and stored.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from azft.findings import Finding


_NOTES = 20
"""Findings that stand below a traceback."""


class ExitCode(IntEnum):
    """What a command's exit status means; stable, because CI scripts branch on it."""

    DONE = 0
    FAILURE = 1
    USAGE = 2
    """Bad usage of a command, or a recipe that does not validate."""
    NOT_FOUND = 3
    """A run, model or file that is not there, or a plan that no longer matches what it was made from."""
    SIGN_IN = 4
    CHECK_FAILED = 5
    """A check found at least one error."""
    LIMIT = 6
    """A quota or price limit."""
    JOB_FAILED = 7
    INTERRUPTED = 130
    """Ctrl-C: the job may go on; the message says how to attach again."""


class AzftError(Exception):
    """Anything that azft reports to a person instead of a traceback.

    `message` is one line that says what happened and where; `fix` says what to do about it.
    """

    exit_code: ExitCode = ExitCode.FAILURE

    def __init__(self, message: str, *, fix: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.message}\n{self.fix}" if self.fix else self.message

    def __reduce__(self) -> tuple[Any, ...]:
        """An error crosses into another process whole, whatever its class is made from."""
        return _again, (type(self), self.args, self.__dict__)

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows in the place of a traceback: what to do, and not where in azft it was noticed."""
        return [f"{type(self).__name__}: {self}", *(str(finding) for finding in getattr(self, "findings", ()))]


def _again(kind: type[AzftError], args: tuple[Any, ...], state: dict[str, Any]) -> AzftError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


def first_line(error: BaseException) -> str:
    """What an error of somebody else's says, in one line: the first of its text, or its name where it has none."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


class UsageError(AzftError):
    """A command or function was asked for something that makes no sense."""

    exit_code = ExitCode.USAGE


class MissingDependencyError(UsageError):
    """An optional package is needed and is not installed."""

    def __init__(self, package: str, *, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package `{package}`, which is not installed.",
            fix=f"Install it with: pip install 'azft[{extra}]'",
        )


class FindingsError(AzftError):
    """One or more findings of severity error stand in the way; all of them are attached.

    The first of them are notes, too, so that a script that ends on one shows them below its traceback.
    """

    exit_code = ExitCode.CHECK_FAILED

    def __init__(self, message: str, findings: Sequence[Finding], *, fix: str = "") -> None:
        super().__init__(message, fix=fix)
        self.findings = tuple(findings)
        for finding in self.findings[:_NOTES]:
            self.add_note(str(finding))
        if (more := len(self.findings) - _NOTES) > 0:
            self.add_note(f"... and {more:,} more in its `findings`")


class RecipeError(FindingsError):
    """The recipe does not validate. Every problem is in `findings`, each with its line."""

    exit_code = ExitCode.USAGE


class NotFoundError(AzftError):
    """A run, model or file that was named does not exist."""

    exit_code = ExitCode.NOT_FOUND


class StalePlanError(AzftError):
    """Data, recipe, code or catalog changed since the plan was made."""

    exit_code = ExitCode.NOT_FOUND


class UnreachableError(AzftError):
    """The place where something runs can't be reached or does not answer. What runs there goes on."""


class JobFailedError(AzftError):
    """A submitted job ended in failure."""

    exit_code = ExitCode.JOB_FAILED


class InterruptedRunError(AzftError):
    """The person pressed Ctrl-C, or the run was told to stop; it can be resumed."""

    exit_code = ExitCode.INTERRUPTED
