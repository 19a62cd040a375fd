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
        export_azureml,
        follow_logs,
        get_model,
        get_run,
        init,
        inventory,
        load_plan,
        models,
        open_chat,
        open_endpoint,
        payload,
        plan,
        plan_from_azureml,
        preview,
        refresh,
        register,
        remote_outputs,
        remote_runs,
        resume,
        runs,
        schema,
        submit,
        summarize,
    )
    from azft.azureml.connection import Access
    from azft.azureml.deployment import DeploymentFailedError
    from azft.azureml.errors import ConflictError, LimitError, ServiceError, SignInError
    from azft.errors import (
        AzftError,
        FindingsError,
        InterruptedRunError,
        JobFailedError,
        MissingDependencyError,
        NotFoundError,
        RecipeError,
        StalePlanError,
        UnreachableError,
        UsageError,
    )
    from azft.findings import Finding, Severity
    from azft.jupyter import watch
    from azft.plan import Plan
    from azft.recipe import Recipe
    from azft.recipe_file import RecipeFile, load_recipe
    from azft.rehearsal.flow import rehearse
    from azft.rehearsal.session import rehearsal
    from azft.runs import Run, RunState

__version__ = "0.1.0"

__all__ = [
    "Access",
    "AzftError",
    "ConflictError",
    "DeploymentFailedError",
    "Finding",
    "FindingsError",
    "InterruptedRunError",
    "JobFailedError",
    "LimitError",
    "MissingDependencyError",
    "NotFoundError",
    "Plan",
    "Recipe",
    "RecipeError",
    "RecipeFile",
    "Run",
    "RunState",
    "ServiceError",
    "Severity",
    "SignInError",
    "StalePlanError",
    "UnreachableError",
    "UsageError",
    "__version__",
    "cancel",
    "check",
    "check_remote",
    "convert",
    "deploy",
    "doctor",
    "down",
    "download",
    "export_azureml",
    "follow_logs",
    "get_model",
    "get_run",
    "init",
    "inventory",
    "load_plan",
    "load_recipe",
    "models",
    "open_chat",
    "open_endpoint",
    "payload",
    "plan",
    "plan_from_azureml",
    "preview",
    "refresh",
    "register",
    "rehearsal",
    "rehearse",
    "remote_outputs",
    "remote_runs",
    "resume",
    "runs",
    "schema",
    "submit",
    "summarize",
    "watch",
]

_HOMES = {
    "Access": "azft.azureml.connection",
    "AzftError": "azft.errors",
    "ConflictError": "azft.azureml.errors",
    "DeploymentFailedError": "azft.azureml.deployment",
    "Finding": "azft.findings",
    "FindingsError": "azft.errors",
    "InterruptedRunError": "azft.errors",
    "JobFailedError": "azft.errors",
    "LimitError": "azft.azureml.errors",
    "MissingDependencyError": "azft.errors",
    "NotFoundError": "azft.errors",
    "Plan": "azft.plan",
    "Recipe": "azft.recipe",
    "RecipeError": "azft.errors",
    "RecipeFile": "azft.recipe_file",
    "Run": "azft.runs",
    "RunState": "azft.runs",
    "ServiceError": "azft.azureml.errors",
    "Severity": "azft.findings",
    "SignInError": "azft.azureml.errors",
    "StalePlanError": "azft.errors",
    "UnreachableError": "azft.errors",
    "UsageError": "azft.errors",
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
