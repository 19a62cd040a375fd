"""Errors as Python shows and carries them: below a traceback, in a notebook, into another process."""

from __future__ import annotations

import copy
import pickle
import traceback

import pytest

from azft.errors import AzftError, FindingsError, MissingDependencyError, NotFoundError, RecipeError
from azft.findings import Finding, Severity


def findings(count: int) -> list[Finding]:
    return [Finding("data-odd", Severity.ERROR, f"Row {n} is odd.", file="train.jsonl", line=n) for n in range(count)]


ERRORS = [
    AzftError("It broke.", fix="Mend it."),
    NotFoundError("Nothing there."),
    RecipeError("The recipe has 2 errors.", findings(2), fix="Look."),
    MissingDependencyError("torch", extra="train", purpose="Training"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_crosses_into_another_process_whole(error: AzftError) -> None:
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(again) is type(error)
        assert (str(again), again.args, vars(again)) == (str(error), error.args, vars(error))


def test_below_a_scripts_traceback_stand_the_findings() -> None:
    shown = "".join(traceback.format_exception(FindingsError("It has 2 errors.", findings(2))))
    assert shown.splitlines()[-3:] == [
        "azft.errors.FindingsError: It has 2 errors.",
        "train.jsonl:0: error: Row 0 is odd. [data-odd]",
        "train.jsonl:1: error: Row 1 is odd. [data-odd]",
    ]


def test_of_many_findings_the_first_are_shown_and_how_many_there_are() -> None:
    shown = traceback.format_exception(FindingsError("It has many.", findings(1020)))
    assert len(shown) < 30
    assert "and 1,000 more" in shown[-1]
