"""The host's memory as the system and a container's limit say it, and how many models fit in it."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from azft import host_memory

GIB = 1 << 30


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of which 8 GiB can be taken, in a folder; no container yet."""
    (tmp_path / "meminfo").write_text("MemTotal:       16777216 kB\nMemAvailable:    8388608 kB\n")
    monkeypatch.setattr(host_memory, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(host_memory, "_CGROUP", tmp_path)
    return tmp_path


def test_without_a_limit_the_machines_own_figures_count(system: Path) -> None:
    assert host_memory.available() == 8 * GIB
    (system / "memory.max").write_text("max\n")
    assert host_memory.available() == 8 * GIB
    total = host_memory.total()
    assert total is not None
    assert total > GIB // 8


def test_a_containers_limit_counts_where_it_is_less_and_files_are_free(system: Path) -> None:
    (system / "memory.max").write_text(f"{4 * GIB}\n")
    (system / "memory.current").write_text(f"{3 * GIB}\n")
    assert host_memory.available() == GIB
    (system / "memory.stat").write_text(f"anon {GIB}\ninactive_file {GIB}\nactive_file {GIB}\n")
    assert host_memory.available() == 3 * GIB
    (system / "memory.max").write_text(f"{GIB}\n")
    assert host_memory.total() == GIB
    assert host_memory.available() == 0
    (system / "memory.max").write_text(f"{64 * GIB}\n")
    assert host_memory.available() == 8 * GIB


def test_a_system_that_does_not_say_has_none(system: Path) -> None:
    for broken in ("", "MemAvailable\n", "MemAvailable:\n", "MemAvailable: much kB\n"):
        (system / "meminfo").write_text(broken)
        assert host_memory.available() is None
    (system / "meminfo").unlink()
    assert host_memory.available() is None


@pytest.mark.parametrize(
    ("memory", "ranks", "whole", "kept", "fitting"),
    [
        (256, 8, 32, 0, 8),
        (255, 8, 32, 0, 7),
        (31, 8, 32, 0, 0),
        # Parts of 4 stay with each of 8 ranks, also with those whose turn is to come: 32, and 28 more while one loads.
        (60, 8, 32, 4, 1),
        (59, 8, 32, 4, 0),
        (32 + 3 * 28, 8, 32, 4, 3),
        # What is only a view of its files takes nothing, but parts of it do.
        (32, 8, 0, 4, 8),
        (31, 8, 0, 4, 0),
        (64, 2, 32, 32, 2),
        (63, 2, 32, 32, 0),
    ],
)
def test_how_many_models_fit(memory: int, ranks: int, whole: int, kept: int, fitting: int) -> None:
    assert host_memory.at_once(memory, ranks=ranks, whole=whole, kept=kept) == fitting


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="Linux says what a process has in memory")
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library keeps less")
def test_freed_blocks_go_back_to_the_system() -> None:
    """The C library keeps those that lie below one in use, as a model's do below the parts that were cut out of it."""

    def anonymous() -> int:
        lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("Anonymous:"))

    blocks = [bytes(b"1" * 100_000) for _ in range(500)]
    last = blocks.pop()
    with_all = anonymous()
    del blocks
    host_memory.give_back()
    assert anonymous() < with_all - 30_000_000
    assert last
