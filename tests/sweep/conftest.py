from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.sweep.sweep import Sweep
from tests.sweep.world import Template, light


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sweep]:
    """The flows, prepared once for all tests; in memory where this machine has such a folder."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(
        prefix="azft-sweep-", dir=memory if os.access(memory, os.W_OK) else tmp_path_factory.mktemp("sweep")
    ) as name:
        folder = Path(name)
        with _lightly(folder):
            template = Template.make(folder / "shop")
        yield Sweep(template, folder / "worlds")


@pytest.fixture(scope="module")
def sweep(prepared: Sweep) -> Iterator[Sweep]:
    """The flows, to be lived through; while a module's tests run, and not when others do, a life is cheap."""
    with _lightly(prepared.folder.parent):
        yield prepared


@contextmanager
def _lightly(folder: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AZFT_CACHE", str(folder / "cache"))
        light(patch)
        yield
