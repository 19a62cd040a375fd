"""azft: one recipe becomes a fine-tuned model, on this machine or on Azure.

The public API is loaded on first use, so that `import azft` stays light:

    import azft
    recipe = azft.load_recipe("recipe.yaml")
    run = azft.submit(azft.plan(recipe, mode="local"))
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from azft.api import check, plan, preview, runs, submit
    from azft.errors import AzftError
    from azft.findings import Finding, Severity
    from azft.recipe import Recipe
    from azft.recipe_file import load_recipe

__version__ = "0.1.0"

_HOMES = {
    "check": "azft.api",
    "plan": "azft.api",
    "preview": "azft.api",
    "runs": "azft.api",
    "submit": "azft.api",
    "AzftError": "azft.errors",
    "Finding": "azft.findings",
    "Severity": "azft.findings",
    "Recipe": "azft.recipe",
    "load_recipe": "azft.recipe_file",
}
__all__ = [
    "AzftError",
    "Finding",
    "Recipe",
    "Severity",
    "__version__",
    "check",
    "load_recipe",
    "plan",
    "preview",
    "runs",
    "submit",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'azft' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
