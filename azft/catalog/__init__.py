"""The models that azft knows by name, and where the weights of a recipe's model are on this machine.

It never loads a model: torch and transformers stay out, and nothing here opens a connection but `azft.catalog.get`.
"""

from __future__ import annotations

from azft.catalog.resolve import ResolvedModel, materialize, resolve_model
from azft.catalog.rows import ModelRow, find, load_catalog

__all__ = ["ModelRow", "ResolvedModel", "find", "load_catalog", "materialize", "resolve_model"]
