from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sweep.sweep import Sweep
from tests.sweep.world import Template, light


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sweep]:
    """The flows, prepared once a module; in memory where this machine has such a folder."""
    memory = Path("/dev/shm")
    with (
        pytest.MonkeyPatch.context() as patch,
        tempfile.TemporaryDirectory(
            prefix="azft-sweep-", dir=memory if os.access(memory, os.W_OK) else tmp_path_factory.mktemp("sweep")
        ) as folder,
    ):
        patch.setenv("AZFT_CACHE", str(Path(folder) / "cache"))
        light(patch)
        yield Sweep(Template.make(Path(folder) / "shop"), Path(folder) / "worlds")
