"""vLLM as it serves a model that classifies: `POST /classify`, and nothing that writes.

After vLLM 0.32.0, entrypoints/pooling/classify: one text or several, and of each the likeliest label with the
probabilities of all, in the order of their numbers.
"""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from azft.emulator.http import ApiError, Response
from azft.emulator.serving import ModelServers

if TYPE_CHECKING:
    from azft.emulator.app import Emulator


def classifies(folder: Path) -> bool:
    """Whether the model in a folder has a classification's head, by its config.json."""
    described = folder / "config.json"
    if not described.is_file():
        return False
    names = json.loads(described.read_text("utf-8")).get("architectures") or []
    return any(str(name).endswith("ForSequenceClassification") for name in names)


def classify(emu: Emulator, folder: Path, name: str, body: dict[str, Any]) -> Response:
    """The answer to a request of `/classify`."""
    given = body.get("input")
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise ApiError(400, "BadRequest", "The request needs an input: a text, or a list of texts.")
    data, words = [], 0
    for index, text in enumerate(texts):
        told = emu.part(ModelServers).ask(folder, {"row": {"input_string": text}}).get("told") or {}
        scores = told.get("scores") or {}
        if not scores:
            raise ApiError(424, "ModelError", "The model's server told no probabilities.")
        data.append(
            {"index": index, "label": told["label"], "probs": list(scores.values()), "num_classes": len(scores)}
        )
        words += len(text.split())
    usage = {"prompt_tokens": words, "total_tokens": words, "completion_tokens": 0}
    base = {"id": f"classify-{uuid.uuid4().hex}", "object": "list", "created": int(emu.clock.now()), "model": name}
    return Response(200, {**base, "data": data, "usage": usage})
