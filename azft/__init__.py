"""azft: one recipe becomes a fine-tuned model, on this machine or on Azure.

The public API is loaded on first use, so that `import azft` stays light:

    import azft
    recipe = azft.load_recipe("recipe.yaml")
    run = azft.submit(azft.plan(recipe, mode="local"))
"""
# ruff: noqa: TC004 - the names are imported for readers and type checkers; at run time _Package loads them

from __future__ import annotations

import os
import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from azft.api import (
        cancel,
        check,
        check_remote,
        convert,
        deploy,
        doctor,
        down,
        download,
        get_model,
        get_run,
        init,
        inventory,
        load_plan,
        models,
        open_chat,
        open_endpoint,
        plan,
        preview,
        register,
        resume,
        runs,
        submit,
        summarize,
    )
    from azft.errors import AzftError
    from azft.findings import Finding, Severity
    from azft.jupyter import watch
    from azft.recipe import Recipe
    from azft.recipe_file import RecipeFile, load_recipe
    from azft.rehearsal.flow import rehearse
    from azft.rehearsal.session import rehearsal

__version__ = "0.1.0"

__all__ = [
    "AzftError",
    "Finding",
    "Recipe",
    "RecipeFile",
    "Severity",
    "__version__",
    "cancel",
    "check",
    "check_remote",
    "convert",
    "deploy",
    "doctor",
    "down",
    "download",
    "get_model",
    "get_run",
    "init",
    "inventory",
    "load_plan",
    "load_recipe",
    "models",
    "open_chat",
    "open_endpoint",
    "plan",
    "preview",
    "register",
    "rehearsal",
    "rehearse",
    "resume",
    "runs",
    "submit",
    "summarize",
    "watch",
]

_HOMES = {
    "AzftError": "azft.errors",
    "Finding": "azft.findings",
    "Recipe": "azft.recipe",
    "RecipeFile": "azft.recipe_file",
    "Severity": "azft.findings",
    "load_recipe": "azft.recipe_file",
    "rehearsal": "azft.rehearsal.session",
    "rehearse": "azft.rehearsal.flow",
    "watch": "azft.jupyter",
}
"""Where a public name lives when it isn't `azft.api`."""


class _Package(ModuleType):
    """This package, where `azft.plan` and `azft.runs` are functions although modules of those names exist.

    Python puts an imported submodule into its package under its name; here a public name keeps meaning the API.
    `from azft.plan import Plan` works as ever.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if not (isinstance(value, ModuleType) and name in __all__):
            super().__setattr__(name, value)

    def __getattr__(self, name: str) -> Any:
        if name not in __all__:
            raise AttributeError(f"module 'azft' has no attribute {name!r}")
        return getattr(import_module(_HOMES.get(name, "azft.api")), name)

    def __dir__(self) -> list[str]:
        return __all__


sys.modules[__name__].__class__ = _Package

# The Azure SDK keeps its current cloud in the environment, and a cloud of azft's is known to one process only: in its
# children the SDK could not even be imported.
_cloud = os.environ.get("AZUREML_CURRENT_CLOUD", "")
if _cloud.startswith("azft-") and not _cloud.startswith(f"azft-{os.getpid()}-"):
    del os.environ["AZUREML_CURRENT_CLOUD"]
