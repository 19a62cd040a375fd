"""What tests of findings about machines share."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest


@pytest.fixture
def no_data_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("azft.data_check.check_for_plan", lambda *_: ())


@pytest.fixture
def eight_billion(tmp_path: Path) -> Path:
    """The header of 8 billion weights in bf16, and no weights: only headers are read."""
    header = orjson.dumps({"w": {"dtype": "BF16", "shape": [8_000, 1_000_000], "data_offsets": [0, 0]}})
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    return folder
