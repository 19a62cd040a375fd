"""The models that azft knows by name, and where the weights of a recipe's model are on this machine.

It never loads a model: torch and transformers stay out, and nothing here opens a connection but `azft.catalog.get`.
"""

from __future__ import annotations

from azft.catalog.resolve import Located, ResolvedModel, locate_model, materialize, resolve_model
from azft.catalog.rows import ModelRow, find, load_catalog

__all__ = [
    "Located",
    "ModelRow",
    "ResolvedModel",
    "find",
    "load_catalog",
    "locate_model",
    "materialize",
    "resolve_model",
]
