"""What there is before a run: a recipe, and the machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from azft.views_html.findings import findings
from azft.views_html.parts import Html, badge, code, element, facts, join, line, page
from azft.words import size

if TYPE_CHECKING:
    from azft.machine import Extra, Machine
    from azft.recipe_file import RecipeFile


def show_recipe(file: RecipeFile) -> str:
    """What the recipe says, overrides included; a plan shows the defaults, too."""
    said = file.recipe.model_dump(mode="json", exclude_unset=True)
    rows = [(key, line(value) if isinstance(value, dict) else value) for key, value in said.items()]
    return page(
        f"Recipe {file.recipe.name}",
        element("div", f"Recipe {file.recipe.name}", name="azft-title"),
        facts([("file", code(file.path)), *rows]),
    )


def show_machine(machine: Machine) -> str:
    """Versions, cores, memory, GPUs, and which extras are there."""
    gpus = ", ".join(f"{gpu.name}, {gpu.memory_mib / 1024:.0f} GiB" for gpu in machine.gpus)
    free = "" if machine.cache_free is None else f" ({size(machine.cache_free)} free)"
    rows: list[tuple[str, object]] = [
        ("azft", f"{machine.azft}, Python {machine.python}, {machine.platform}"),
        ("cores", machine.cores),
        ("memory", None if machine.memory is None else size(machine.memory)),
        ("GPU", gpus or "none"),
        ("cache", machine.cache + free),
    ]
    ready = "A recipe can be trained here." if machine.ready else "Recipes can be checked here, but not trained."
    return page(
        "This machine",
        element("div", "This machine", name="azft-title"),
        facts([*rows, *((extra.name, _extra(extra)) for extra in machine.extras)]),
        findings(machine.findings) if machine.findings else Html(),
        element("p", ready),
    )


def _extra(extra: Extra) -> object:
    if extra.complete:
        return ", ".join(f"{name} {number}" for name, number in extra.installed.items())
    return join([badge("missing", "warning"), f" {', '.join(extra.missing)}"])
