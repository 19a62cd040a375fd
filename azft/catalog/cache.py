"""Where models lie on this machine: azft's own cache, and the hub's, which is only read here.

`AZFT_CACHE` moves azft's; the hub's follows `HF_HOME` and `HF_HUB_CACHE`, as huggingface_hub defines them.
"""

from __future__ import annotations

import os
import re
import warnings
from pathlib import Path

from azft.data.model_folder import PIPELINE


def cache_root() -> Path:
    """The folder of everything that azft can make or fetch again."""
    if given := os.environ.get("AZFT_CACHE"):
        return Path(given).expanduser().resolve()
    import platformdirs

    return Path(platformdirs.user_cache_dir("azft", appauthor=False))


def model_folder(name: str) -> Path:
    """Where azft keeps the model of a catalog name or hub id; it need not be there."""
    return cache_root() / "models" / re.sub(r"[^a-z0-9._-]+", "--", name.casefold()).strip(".")


def stand_in_folder(identity: str) -> Path:
    """Where the stand-in of a spec is kept."""
    return cache_root() / "models" / "stand-ins" / identity[:32]


def hub_folder(hub_id: str, revision: str | None) -> Path | None:
    """The snapshot of a hub model that is already in the hub's cache; no connection is opened.

    None when there is none, or when huggingface_hub (extra `train`) isn't installed. The snapshot may be incomplete.
    """
    try:
        from huggingface_hub.constants import HF_HUB_CACHE, REPO_ID_SEPARATOR

        folder = REPO_ID_SEPARATOR.join(("models", *hub_id.split("/")))
        if not (Path(HF_HUB_CACHE) / folder).is_dir():
            return None  # most models that are planned for aren't here, and the import below takes 0.1 s
        with warnings.catch_warnings():
            # In a notebook without ipywidgets the import tells of bars that it can't draw; none is drawn here.
            warnings.filterwarnings("ignore", message="IProgress not found")
            from huggingface_hub import try_to_load_from_cache
            from huggingface_hub.errors import HFValidationError
    except ImportError:
        return None
    try:
        found = (try_to_load_from_cache(hub_id, file, revision=revision) for file in ("config.json", PIPELINE))
        return next((Path(path).parent for path in found if isinstance(path, str)), None)
    except HFValidationError:
        return None
