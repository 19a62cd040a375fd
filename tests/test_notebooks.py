"""The notebooks run as shipped, and are shipped without outputs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

import azft
from azft.rehearsal.session import Rehearsal
from tests.sweep.test_secrets import PLANTED

CHECKOUT = Path(__file__).parent.parent
NOTEBOOKS = sorted((CHECKOUT / "notebooks").glob("*.ipynb"))
CHAT = CHECKOUT / "notebooks" / "chat_completion.ipynb"
STRIP = [sys.executable, str(CHECKOUT / "scripts" / "strip_notebooks.py")]


def run(notebook: Any, folder: Path) -> Any:
    """The notebook with its outputs. A cell that raises ends the test."""
    NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(folder)}}).execute()
    return notebook


def outputs(notebook: Any, kind: str) -> Iterator[str]:
    """What the cells show, of one MIME type; `stderr` and `stdout` are kinds too."""
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if output.output_type == "stream" and output.name == kind:
                yield output.text
            elif kind in output.get("data", {}):
                yield output.data[kind]


def test_there_are_notebooks() -> None:
    assert CHAT in NOTEBOOKS


@pytest.mark.slow  # the longest one, below, is executed in the fast tests
@pytest.mark.parametrize("path", [path for path in NOTEBOOKS if path != CHAT], ids=lambda path: path.stem)
def test_a_notebook_runs_from_top_to_bottom(path: Path, tmp_path: Path) -> None:
    run(nbformat.read(path, as_version=4), tmp_path)
    assert (tmp_path / "bakery" / "recipe.yaml").exists()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the notebook is run."""
    return tmp_path_factory.mktemp("notebook")


@pytest.fixture(scope="module")
def rehearsed(folder: Path) -> Iterator[Any]:
    """The chat-completion notebook, run as shipped."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AZFT_CACHE", str(folder / "cache"))
        for name, value in PLANTED.items():
            patch.setenv(name, value)
        done = run(nbformat.read(CHAT, as_version=4), folder)
        nbformat.write(done, folder / "executed.ipynb")
        yield done


def test_the_chat_completion_notebook_goes_the_whole_way_and_leaves_nothing(rehearsed: Any) -> None:
    said = "\n".join(outputs(rehearsed, "stdout"))
    assert "nothing is billed" in said
    assert "custom_model" in said
    assert "ended" in said  # the endpoint; that nothing is left is asserted by the notebook itself
    assert not list(outputs(rehearsed, "stderr"))


def test_what_it_shows_is_rich(rehearsed: Any) -> None:
    pages = list(outputs(rehearsed, "text/html"))
    for label in ("Data check", "Preview of the training rows", "Plan of bakery-", "Run bakery-"):
        assert any(f'aria-label="{label}' in page for page in pages), label
    assert any("Completed" in page and "held-out" in page for page in pages)
    assert len(list(outputs(rehearsed, "image/png"))) >= 3  # the data, the loss curve, before and after
    described = [
        output.metadata["image/png"]["alt"]
        for cell in rehearsed.cells
        for output in cell.get("outputs", ())
        if "alt" in output.get("metadata", {}).get("image/png", {})
    ]
    assert [text for text in described if text.startswith("Loss curve: from ")]


def test_no_output_holds_a_token_a_key_or_a_signature(rehearsed: Any) -> None:
    shown = json.dumps(rehearsed)
    for secret in ("Bearer ", "eyJ", "sig=", "IDENTITY_HEADER"):
        assert secret not in shown


@pytest.mark.usefixtures("rehearsed")
def test_no_file_that_it_leaves_holds_what_the_environment_keeps_secret(folder: Path) -> None:
    """Records, logs, what was uploaded, and the executed notebook itself."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert folder / "executed.ipynb" in files
    assert len(files) > 30
    for file in files:
        content = file.read_bytes()
        assert not [name for name, value in PLANTED.items() if value.encode() in content], file


@pytest.mark.slow
def test_one_cell_changed_it_goes_to_whatever_azure_the_environment_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Azure is here an emulator that the notebook knows nothing of: it begins none itself."""
    notebook = nbformat.read(CHAT, as_version=4)
    changed = [cell for cell in notebook.cells if cell.source.startswith('where = "rehearsal"')]
    assert len(changed) == 1
    changed[0].source = changed[0].source.replace('where = "rehearsal"', 'where = "azure"')
    recipe = azft.load_recipe(azft.init(tmp_path / "bakery").recipe, overrides=["modes.maap.compute=gpu-cluster"])
    with Rehearsal(azft.plan(recipe, mode="maap"), home=tmp_path / "elsewhere") as stage:
        monkeypatch.delenv("AZFT_HOME")  # what a person's own run has: records in the notebook's folder
        done = run(notebook, tmp_path)
        assert any(entry["method"] == "PUT" and "/jobs/" in entry["path"] for entry in stage.emulator.log.list())
    assert "nothing is billed" not in "\n".join(outputs(done, "stdout"))
    assert list((tmp_path / ".azft" / "runs").iterdir())


def test_one_cell_says_where_it_runs() -> None:
    sources = [cell.source for cell in nbformat.read(CHAT, as_version=4).cells if cell.cell_type == "code"]
    assert [source for source in sources if source.startswith("where = ")] == sources[:1]
    for source in sources[1:]:
        assert "stage" not in source or source.startswith('if where == "rehearsal":')


def test_its_cells_are_short() -> None:
    for cell in nbformat.read(CHAT, as_version=4).cells:
        assert len(cell.source.splitlines()) <= 12, cell.source
        assert max(map(len, cell.source.splitlines())) <= 140, cell.source


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_shipped_without_outputs(path: Path) -> None:
    for cell in nbformat.read(path, as_version=4).cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
    done = subprocess.run([*STRIP, "--check", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_commit_hook_takes_outputs_out_and_says_so(tmp_path: Path) -> None:
    notebook = nbformat.v4.new_notebook(metadata={"widgets": {"state": {}}})
    shown = nbformat.v4.new_output("stream", text="my token")
    notebook.cells = [nbformat.v4.new_code_cell("1 + 1", outputs=[shown], execution_count=7)]
    path = tmp_path / "mine.ipynb"
    nbformat.write(notebook, path)
    assert subprocess.run([*STRIP, "--check", str(path)], capture_output=True, check=False).returncode == 1
    assert "my token" in path.read_text()
    assert subprocess.run([*STRIP, str(path)], capture_output=True, check=False).returncode == 1  # it changed the file
    assert "my token" not in path.read_text()
    assert "widgets" not in path.read_text()
    assert nbformat.read(path, as_version=4).cells[0].source == "1 + 1"
    assert subprocess.run([*STRIP, str(path)], capture_output=True, check=False).returncode == 0


def test_the_hook_is_among_those_that_run_on_a_commit() -> None:
    assert "scripts/strip_notebooks.py" in (CHECKOUT / ".pre-commit-config.yaml").read_text()
    assert os.access(CHECKOUT / "scripts" / "strip_notebooks.py", os.R_OK)
