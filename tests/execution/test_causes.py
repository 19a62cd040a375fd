"""The likely cause of a failure, from what really is in logs."""

from __future__ import annotations

import pytest

from azft.execution.causes import Cause, likely_cause, telling


@pytest.mark.parametrize(
    ("status", "lines", "what"),
    [
        (137, ["step 3/9"], "ran out of memory"),
        (139, [], "native code"),
        (127, ["bash: line 1: pyhton: command not found"], "not found"),
        (1, ["torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."], "GPU ran out"),
        (1, ["RuntimeError: [enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"], "machine ran out"),
        (1, ["OSError: [Errno 28] No space left on device"], "disk is full"),
        (1, ["ModuleNotFoundError: No module named 'peft.tuners'"], "`peft` is not installed"),
        (1, ["azft.errors.UsageError: The dataset has no rows.", "see above"], "The dataset has no rows."),
        (1, ["PermissionError: [Errno 13] Permission denied: '/data/x'"], "/data/x"),
        (
            1,
            ["No space left on device", "azft.errors.AzftError: Checkpoint 3 can't be written."],
            "Checkpoint 3 can't be written.",
        ),
    ],
)
def test_known_causes(status: int, lines: list[str], what: str) -> None:
    cause = likely_cause(status, lines)
    assert cause is not None
    assert what in cause.what


def test_an_error_of_our_own_brings_its_fix() -> None:
    lines = ["azft.errors.UsageError: The dataset is empty.", "Name more data.", "[rank0]: more"]
    assert likely_cause(1, lines) == Cause("The dataset is empty.", "Name more data.")
    assert likely_cause(1, ["[rank0]: azft.errors.UsageError: Bad.", "E1124 torchrun says"]) == Cause("Bad.", "")


def test_the_traceback_of_an_error_of_our_own_is_left_out_and_no_other() -> None:
    traceback = ["Traceback (most recent call last):", '  File "main.py", line 1, in <module>']
    own = ["azft.errors.FindingsError: No row is left.", "Add rows."]
    assert telling(["step 1/2", *traceback, *own, "after"]) == ["step 1/2", "after"]
    assert telling([*traceback, own[0], "[rank0]: more"]) == ["[rank0]: more"]
    for lines in (["step 1/2", *traceback, "ValueError: 3"], ["step 1/2"], own):
        assert telling(lines) == lines


@pytest.mark.parametrize("lines", [[], ["ValueError: something else"], ["No module named 'azft.training.x'"]])
def test_without_a_match_nothing_is_guessed(lines: list[str]) -> None:
    assert likely_cause(1, lines) is None
