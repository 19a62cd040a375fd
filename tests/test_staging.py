"""The code folder that travels: the same bytes everywhere, nothing but what a step needs, and importable as it is."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from azft import staging
from azft.files import sha256_tree

CHECKOUT = Path(__file__).parents[1]


def test_it_is_a_handful_of_files_addressed_by_content(tmp_path: Path) -> None:
    code = staging.stage_code(tmp_path)
    files = sorted(path.relative_to(code.folder).as_posix() for path in code.folder.rglob("*") if path.is_file())
    assert files == ["azft.zip", "evaluate/main.py", "finetune/main.py", "package/main.py", "prepare/main.py"]
    assert code.hash == code.folder.name == sha256_tree(code.folder) == staging.code_hash()


def test_the_zip_is_the_same_bytes_whenever_and_wherever_it_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for source in ("azft", "components", "environments"):
        for file in (CHECKOUT / source).rglob("*"):
            if file.is_file() and "__pycache__" not in file.parts:
                copy = tmp_path / "copy" / file.relative_to(CHECKOUT)
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_bytes(file.read_bytes())
                os.utime(copy, (0, 0))
    (tmp_path / "copy" / "azft" / "data" / "__pycache__").mkdir()
    (tmp_path / "copy" / "azft" / "data" / "__pycache__" / "x.pyc").write_bytes(b"of one machine")
    here = staging.code_files()
    monkeypatch.setattr(staging, "_PACKAGE", tmp_path / "copy" / "azft")
    assert staging.code_files() == here


def test_components_are_found_in_a_wheel_as_in_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert staging.bundled("components") == CHECKOUT / "components"
    (tmp_path / "azft" / "_bundled" / "components").mkdir(parents=True)
    monkeypatch.setattr(staging, "_PACKAGE", tmp_path / "azft")
    assert staging.bundled("components") == tmp_path / "azft" / "_bundled" / "components"


def test_only_the_vocabulary_data_and_training_travel() -> None:
    names = zipfile.ZipFile(io.BytesIO(staging.package_zip())).namelist()
    packages = {name.split("/")[1] for name in names if name.count("/") > 1}
    assert packages == {"data", "training"}
    assert not {"azft/plan.py", "azft/pipeline.py", "azft/staging.py", "azft/api.py"} & set(names)


def test_a_folder_that_was_tampered_with_is_written_again(tmp_path: Path) -> None:
    code = staging.stage_code(tmp_path)
    (code.folder / "prepare" / "main.py").write_text("raise SystemExit")
    (code.folder / "extra.py").touch()
    assert sha256_tree(staging.stage_code(tmp_path).folder) == code.hash


@pytest.mark.parametrize("step", staging.COMPONENTS)
def test_every_main_imports_from_the_zip_alone(step: str, tmp_path: Path) -> None:
    code = staging.stage_code(tmp_path)
    check = (
        "import runpy, sys; sys.argv = ['main.py', '--help']\n"
        f"try: runpy.run_path('{step}/main.py', run_name='__main__')\n"
        "except SystemExit as end: assert not end.code\n"
        "import azft; assert 'azft.zip' in azft.__file__, azft.__file__\n"
        "assert not [name for name in sys.modules if name.startswith(('azure', 'click', 'azft.modes', 'azft.runs'))]"
    )
    environment = {**os.environ, "PYTHONPATH": staging.ARCHIVE}
    done = subprocess.run(
        [sys.executable, "-c", check], cwd=code.folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "--parameters" in done.stdout
