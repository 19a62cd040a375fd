"""Data against what the services read."""

from __future__ import annotations

from pathlib import Path

import pytest

from azft.findings import Finding, Severity
from azft.targets import data
from tests.helpers.azure_recipes import azure_plan, codes, write_rows


@pytest.fixture(autouse=True)
def no_data_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("azft.data_check.check_for_plan", lambda *_: ())


def test_serverless_takes_files_below_512_mb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert data.MAAS_BYTES == 512_000_000
    assert "azure-data-too-large" not in codes(azure_plan(tmp_path, "maas"))
    monkeypatch.setattr(data, "MAAS_BYTES", (tmp_path / "train.jsonl").stat().st_size)
    assert "azure-data-too-large" in codes(azure_plan(tmp_path, "maas"), "error")
    assert "azure-data-too-large" not in codes(azure_plan(tmp_path, "finetuning"))


@pytest.mark.parametrize(
    ("target", "refused"), [("maas", True), ("finetuning", True), ("system", False), ("azft", False)]
)
def test_only_the_fine_tuning_service_refuses_few_rows(tmp_path: Path, target: str, refused: bool) -> None:
    write_rows(tmp_path / "train.jsonl", 9)
    plan = azure_plan(tmp_path, target)
    assert ("azure-few-rows" in codes(plan, "error")) is refused
    if refused:
        found = next(finding for finding in plan.findings if finding.code == "azure-few-rows")
        assert found.message == "train.jsonl has 9 rows, and the fine-tuning service refuses fewer than 10."
        assert found.line is not None
    write_rows(tmp_path / "train.jsonl", 10)
    assert "azure-few-rows" not in codes(azure_plan(tmp_path, target))


@pytest.mark.parametrize("target", ["maas", "azft"])
def test_what_the_check_warns_of_without_knowing_the_target_is_not_said_twice(
    tmp_path: Path, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = Finding("data-few-rows", Severity.WARNING, "There are only 9 rows; Azure's fine-tuning refuses fewer.")
    monkeypatch.setattr("azft.data_check.check_for_plan", lambda *_: [few])
    assert "data-few-rows" not in codes(azure_plan(tmp_path, target))


@pytest.mark.parametrize(("target", "wrong"), [("maas", True), ("finetuning", True), ("system", True), ("azft", False)])
def test_the_services_read_the_column_messages(tmp_path: Path, target: str, wrong: bool) -> None:
    plan = azure_plan(tmp_path, target, "data.columns={messages: chat}")
    assert ("azure-data-column" in codes(plan, "error")) is wrong
    assert "azure-data-column" not in codes(azure_plan(tmp_path, target, "data.columns={messages: messages}"))


def test_fine_tuning_jobs_read_json_lines(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.json")
    for target, wrong in (("maas", True), ("system", False), ("azft", False)):
        plan = azure_plan(tmp_path, target, "data.train=rows.json")
        assert ("azure-data-format" in codes(plan, "error")) is wrong


@pytest.mark.parametrize("target", ["maas", "finetuning", "system"])
def test_missing_validation_rows_are_said(tmp_path: Path, target: str) -> None:
    plan = azure_plan(tmp_path, target, data={"train": "train.jsonl"})
    assert "azure-no-validation" in codes(plan, "warning")
    asked = azure_plan(tmp_path, target, data={"train": "train.jsonl", "validation_split": 0.2})
    assert "azure-not-offered" in codes(asked, "warning")
    assert "azure-no-validation" not in codes(azure_plan(tmp_path, "azft", data={"train": "train.jsonl"}))


def test_only_what_the_service_reads_is_uploaded(tmp_path: Path) -> None:
    everything = {"train": "train.jsonl", "validation": "validation.jsonl", "test": "test.jsonl"}
    for target, roles in (("maas", ["train", "validation"]), ("system", ["train", "validation", "test"])):
        plan = azure_plan(tmp_path, target, data=everything)
        assert [entry.role for entry in plan.inputs] == roles
        assert plan.target is not None
        assert len([u for u in plan.target.uploads if u.kind == "data"]) == len(roles)


def test_a_row_more_is_counted_only_in_json_lines(tmp_path: Path) -> None:
    assert data.count_rows(write_rows(tmp_path / "rows.jsonl", 7)) == 7
    (tmp_path / "rows.csv").write_text("messages\n")
    assert data.count_rows(tmp_path / "rows.csv") is None
    assert data.count_rows(tmp_path / "gone.jsonl") is None


@pytest.mark.parametrize(
    ("target", "words"), [("maas", "models get"), ("system", "models get"), ("azft", "prepare step")]
)
def test_who_counts_lengths_when_no_tokenizer_is_here(
    target: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A prepare step is part of azft's own pipeline only: elsewhere nobody would count before rows are cut."""
    uncounted = Finding("data-lengths-unchecked", Severity.INFO, "Not counted.", "Wait for the prepare step.")
    monkeypatch.setattr("azft.data_check.check_for_plan", lambda *_: [uncounted])
    plan = azure_plan(tmp_path, target)
    assert words in next(finding.fix for finding in plan.findings if finding.code == uncounted.code)
