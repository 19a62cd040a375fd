from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.azure_shop import Azure, azure_in_process, make_shop
from tests.helpers.toy import Toy


@pytest.fixture
def azure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Azure]:
    with azure_in_process(tmp_path / "azure", monkeypatch) as made:
        yield made


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    return make_shop(tmp_path / "shop", monkeypatch)
