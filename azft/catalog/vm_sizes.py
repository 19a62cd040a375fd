"""VM sizes: their GPUs, and whether Azure still has them. The facts, with source and date, are in vm_sizes.yaml."""

from __future__ import annotations

import datetime
import difflib
import functools

from azft.catalog.tables import Row, read_shipped, read_table


class VmSizeRow(Row):
    """One size. Memory is in GiB, `gpu_memory` that of one GPU."""

    name: str
    family: str
    """The name under which Azure counts its quota."""
    memory: int | None = None
    """The host's; None where Azure's page of the size could not be seen."""
    gpu: str | None = None
    gpus: int
    gpu_memory: int | None = None
    bf16: bool = False
    retired: datetime.date | None = None
    successor: str | None = None
    source: str
    date: datetime.date


class _Sizes(Row):
    sizes: tuple[VmSizeRow, ...]


@functools.cache
def vm_sizes() -> dict[str, VmSizeRow]:
    """All rows, by name in lower case: Azure doesn't tell cases apart."""
    table, _ = read_table(read_shipped("vm_sizes.yaml"), _Sizes, name="azft/catalog/vm_sizes.yaml")
    return {row.name.casefold(): row for row in table.sizes}


def find_size(name: str) -> VmSizeRow | None:
    """The row of a size, in any case; None when there is none."""
    return vm_sizes().get(name.casefold())


def closest_size(name: str) -> str | None:
    """The size that `name` was probably meant to be."""
    found = difflib.get_close_matches(name.casefold(), vm_sizes(), n=1, cutoff=0.8)
    return vm_sizes()[found[0]].name if found else None
