"""The tables of docs/azure.md, made from the rules and the catalog themselves, so that the page can't drift."""

from __future__ import annotations

from collections.abc import Iterable

from azft.catalog import load_catalog
from azft.catalog.rows import MaasRow
from azft.catalog.system_pipelines import provenance, system_pipelines
from azft.catalog.vm_sizes import vm_sizes
from azft.targets.finetuning import FINETUNING, ON_MACHINES
from azft.targets.own import OWN_PIPELINE
from azft.targets.system import SYSTEM, keys_of_parameters
from azft.targets.table import Elsewhere, Row, Told


def tables() -> str:
    """All of them, as Markdown."""
    return "\n".join([*_keys(), *_machines(), *_inputs(), *_models(), *_sizes()]).rstrip() + "\n"


def _keys() -> list[str]:
    keys = [path for path in FINETUNING if not path.startswith("modes.")]
    rows = [(f"`{path}`", _cell(FINETUNING[path]), _cell(SYSTEM[path])) for path in keys]
    words = (
        "azft's own pipeline takes every one of them as local mode does. A dash means that the service has nothing for "
        "the key; `azft plan` says so when you set it."
    )
    head = ("key", "fine-tuning job (maas; maap `finetuning`)", "registry's pipeline (maap `system`)")
    return ["### What becomes of each key of the recipe", "", words, "", *_table(head, rows)]


def _machines() -> list[str]:
    rows = [
        (f"`{path}`", _cell(OWN_PIPELINE[path]), _cell(SYSTEM[path]), _cell(ON_MACHINES[path]))
        for path in OWN_PIPELINE
        if path.startswith("modes.maap.")
    ]
    head = ("key", "`azft`", "`system`", "`finetuning`")
    return ["### What becomes of each key of `modes.maap`, by `pipeline`", "", *_table(head, rows)]


def _inputs() -> list[str]:
    source, date = provenance()
    keys = keys_of_parameters()
    chat = system_pipelines()["chat-completion"].inputs
    rows = [
        (
            f"`{name}`",
            " ".join(f"`{value}`" for value in spec.one_of) or spec.type,
            "" if spec.default is None else f"`{spec.default}`",
            f"`{keys[name]}`" if name in keys else "",
        )
        for name, spec in chat.items()
    ]
    others = [
        (f"`{row.name}`", ", ".join(f"`{n}`" for n in row.inputs if n not in chat or row.inputs[n] != chat[n]))
        for row in system_pipelines().values()
    ]
    words = (
        f"Inputs of `chat_completion_pipeline` ({source}; {date}). Those without a key of the recipe can be given in "
        "`modes.maap.parameters`."
    )
    sisters = "Its sisters, of which each is planned by its task, have these besides, or otherwise."
    return [
        *("### The registry's pipelines", "", words, ""),
        *_table(("input", "value", "default there", "key of the recipe"), rows),
        *(sisters, ""),
        *_table(("pipeline", "inputs of its own"), others),
    ]


def _models() -> list[str]:
    rows = [
        (
            row.name,
            row.azure.provider,
            f"`{row.azure.registry}`",
            _maas(row.azure.maas) if row.azure.maas else "never offered",
            f"{row.azure.source}; {row.azure.date}",
        )
        for row in load_catalog().models
        if row.azure is not None
    ]
    head = ("model", "provider", "registry", "serverless fine-tuning", "source; gone over on")
    return ["### Models in Azure's registries", "", *_table(head, rows)]


def _maas(maas: MaasRow) -> str:
    if maas.retired is None:
        return ", ".join(maas.regions)
    return f"retired {maas.retired}; take {maas.successor}"


def _sizes() -> list[str]:
    rows = [
        (
            f"`{row.name}`",
            f"{row.memory} GiB" if row.memory else "",
            f"{row.gpus} x {row.gpu}" if row.gpu else "none",
            f"{row.gpu_memory} GiB" if row.gpu_memory else "",
            ("yes" if row.bf16 else "no") if row.gpu else "",
            f"retired {row.retired}; take `{row.successor}`" if row.retired else "",
            f"{row.source}; {row.date}",
        )
        for row in vm_sizes().values()
    ]
    head = ("VM size", "memory", "GPUs", "memory of each", "bf16", "", "source; gone over on")
    return ["### VM sizes", "", *_table(head, rows)]


def _cell(row: Row) -> str:
    if isinstance(row, Told):
        names = ", ".join(f"`{name}`" for name in row.names)
        return f"{names} ({row.note})" if row.note else names
    return row.what if isinstance(row, Elsewhere) else f"- {row.why}"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    lines = [f"| {' | '.join(head)} |", f"| {' | '.join('---' for _ in head)} |"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return [*lines, ""]
