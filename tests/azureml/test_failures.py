from __future__ import annotations

from typing import Any

import pytest

from azft.azureml.failures import explain, request_id

NAME = "support-3f2a91c0"


def document(message: str, *inner: str, code: str = "UserError") -> dict[str, Any]:
    nested: dict[str, Any] | None = None
    for part in reversed(inner):
        nested = {"code": part, "innerError": nested}
    return {
        "error": {"code": code, "message": message, "innerError": nested, "details": []},
        "correlation": {"operation": "op", "request": "req-7"},
    }


EXITED = "Execution failed. User process '/bin/bash' exited with status code {}. Please check log file for details."


@pytest.mark.parametrize(
    ("error", "what", "fix"),
    [
        (document("Image build failed for environment x", "ImageBuildFailure"), "could not build", "environments/"),
        (document("exceeding approved NCads Cores quota", "QuotaExceeded"), "quota", "azft resume"),
        (document("The node was preempted"), "taken away", "tier: dedicated"),
        (document(EXITED.format(137), "ContainerOutOfMemory"), "memory was not enough", "micro_batch_size"),
        (document("Model X is not supported in region y"), "region", "azft plan --check-remote"),
        (document("A marketplace subscription is required"), "marketplace", "purchases"),
        (document("AuthorizationFailed: ..."), "lacks a role", "Storage Blob Data Contributor"),
        (document("Temporary failure in name resolution"), "name resolution", "outbound rule"),
        (document("validation of the training data failed"), "refuses the data", "azft check"),
        (document("DataAccessError(NotFound)"), "could not read its input", "blob store"),
        (document("ComputeNotFound: gpu"), "compute is not there", "--create-compute"),
        (document("AllocationFailed in zone 1"), "no machine", "VM size"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_known_causes_have_a_reason_and_a_way_out(error: dict[str, Any], what: str, fix: str) -> None:
    told = explain(NAME, error, step="finetune")
    assert told.message.startswith("Step `finetune` failed: ")
    assert what in told.message
    assert fix in told.fix
    assert "{go_on}" not in told.fix


@pytest.mark.parametrize(
    "words", ["exceeding approved NCads Cores quota", "The node was preempted", "AllocationFailed"]
)
def test_what_cannot_be_resumed_is_not_told_to_be(words: str) -> None:
    told = explain(NAME, document(words), step="finetune", go_on="azft submit plan.json --again")
    assert "azft resume" not in told.fix
    assert "azft submit plan.json --again" in told.fix
    assert "{go_on}" not in told.fix


def test_another_size_is_another_plan_and_no_resume() -> None:
    """A resumed run carries out its own plan: the recipe's new VM size would not be looked at."""
    told = explain(NAME, document("exceeding approved NCads Cores quota", "VMFamilyQuotaExceeded"))
    assert f"ended; then: azft resume {NAME}\n" in told.fix
    assert "another VM size, and submit the recipe again" in told.fix


def test_a_quota_that_is_of_no_machine_is_not_called_one() -> None:
    told = explain(NAME, document("The quota of fine-tuning jobs in this region is reached"))
    assert told.message == "The job failed: A quota is used up."
    assert "VM" not in told.fix


def test_the_services_words_code_and_request_id_stand_beneath() -> None:
    told = explain(NAME, document("Something odd happened.", "Strange"), step=None)
    assert told.message == "The job failed: Something odd happened."
    assert told.fix.endswith("Azure's words (UserError/Strange, request req-7): Something odd happened.")


def test_what_the_step_itself_said_is_told_first() -> None:
    lines = [
        "Traceback (most recent call last):",
        "azft.errors.AzftError: The loss is no longer finite at step 7.",
        "Lower training.learning_rate.",
    ]
    told = explain(NAME, document(EXITED.format(1)), step="finetune", lines=lines)
    assert told.message == "Step `finetune` failed: The loss is no longer finite at step 7."
    assert told.fix.startswith("Lower training.learning_rate.")
    assert f"azft logs {NAME} --step finetune" in told.fix


def test_a_log_that_everybody_knows_is_explained() -> None:
    lines = ["torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB"]
    told = explain(NAME, document(EXITED.format(1)), step="finetune", lines=lines)
    assert told.message == "Step `finetune` failed: The GPU ran out of memory."
    assert "  | torch.OutOfMemoryError" in told.fix


def test_an_unknown_exception_is_better_than_that_a_process_exited() -> None:
    told = explain(NAME, document(EXITED.format(1)), step="prepare", lines=["x", "KeyError: 'messages'"])
    assert told.message == "Step `prepare` failed: KeyError: 'messages'"


def test_without_any_reason_it_says_so() -> None:
    assert explain(NAME, None).message == "The job failed: Azure gives no reason."


def test_secrets_in_the_words_are_blotted_out() -> None:
    told = explain(NAME, document("can't read https://a/b?sig=abcdefabcdef123"), lines=["token: abcdef123456789"])
    assert "abcdefabcdef123" not in told.fix
    assert "abcdef123456789" not in told.fix


def test_long_words_are_cut() -> None:
    assert len(explain(NAME, document("word " * 1000)).fix) < 900


def test_the_request_id() -> None:
    assert request_id(document("x")) == "req-7"
    assert request_id({"correlation": None}) == ""
    assert request_id(None) == ""
