"""One set of tiny models and prepared data for all cells that a process runs."""

from __future__ import annotations

import pytest

from tests.matrix.cells import Bench


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("matrix"))
