"""A rehearsal's beginning and end: what it changes in this process, and that it changes it back."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import azft
from azft.azureml.connection import connect
from azft.errors import UsageError
from azft.rehearsal.session import Rehearsal, rehearsal
from azft.runs import RunStore


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_meanwhile_the_environment_points_to_the_emulator_and_afterwards_it_is_as_before(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_CLIENT_SECRET", "a real one")
    monkeypatch.setenv("NO_PROXY", "example.com")
    monkeypatch.delenv("AZFT_HOME", raising=False)
    before = dict(os.environ)
    with rehearsal() as stage:
        assert os.environ["AZFT_AZURE_ENDPOINT"] == stage.emulator.url
        assert "AZURE_CLIENT_SECRET" not in os.environ  # it would be tried first, at Azure itself
        assert os.environ["NO_PROXY"] == "example.com,127.0.0.1,localhost"
        assert RunStore().root == here / ".azft" / "rehearsal"
        assert "nothing is billed" in repr(stage)
    assert dict(os.environ) == before
    assert "not on" in repr(stage)


def test_the_environment_comes_back_after_an_error_too() -> None:
    before = dict(os.environ)
    with pytest.raises(KeyError), rehearsal():
        raise KeyError
    assert dict(os.environ) == before


def test_azure_answers_by_the_real_sdk_and_again_in_a_second_rehearsal_of_the_same_process() -> None:
    for _ in range(2):  # another emulator with other secrets; an old token would be refused
        with rehearsal():
            assert connect().location == "eastus2"


def test_what_the_sdk_leaves_in_the_environment_breaks_no_process_that_is_started_then_or_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("AZUREML_CURRENT_CLOUD", raising=False)  # an earlier test's connection may have left its own
    code = "import azft, azure.ai.ml, sys; from azft.azureml.connection import connect; print(connect().location)"
    with rehearsal():
        assert connect().location == "eastus2"
        assert os.environ["AZUREML_CURRENT_CLOUD"].startswith("azft-")
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.stdout == "eastus2\n", done.stderr[-2000:]
    assert not os.environ.get("AZUREML_CURRENT_CLOUD", "").startswith("azft-")


def test_two_at_once_in_one_folder_are_refused_and_in_one_process_the_second_ends_the_first(here: Path) -> None:
    first = rehearsal().start()
    second = rehearsal().start()  # a notebook's cell, run again
    with pytest.raises(UsageError, match="not on"):
        _ = first.emulator
    assert second.home == first.home == here / ".azft" / "rehearsal"
    code = "from azft.rehearsal.session import rehearsal; rehearsal().start()"
    variables = {key: value for key, value in os.environ.items() if key != "AZFT_HOME"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=variables, check=False)
    assert "is on in" in done.stderr
    second.close()
    second.close()  # twice does no harm


def test_every_rehearsal_begins_with_nothing_unless_it_is_to_go_on(here: Path) -> None:
    with rehearsal() as stage:
        left = stage.home / "runs" / "old"
        left.mkdir(parents=True)
    with rehearsal(keep=True):
        assert left.is_dir()
    with rehearsal():
        assert not left.exists()


def test_a_folder_that_is_somebody_elses_is_never_emptied(here: Path) -> None:
    (here / "mine").mkdir()
    (here / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match="something else"):
        Rehearsal(home=here / "mine").start()
    assert (here / "mine" / "thesis.txt").is_file()


def test_a_rehearsal_that_cannot_begin_leaves_nothing_behind(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = azft.plan(azft.init(here / "bakery").recipe, mode="local")  # has no target in Azure
    before = dict(os.environ)
    with pytest.raises(AssertionError):
        rehearsal(plan).start()
    assert dict(os.environ) == before
    with rehearsal():
        pass  # and the folder is free again


def test_it_is_part_of_the_api() -> None:
    assert azft.rehearsal is rehearsal
