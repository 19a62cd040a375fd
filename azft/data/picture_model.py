"""What a folder of diffusers says about itself: its parts, the pictures it paints, and how much of a text it reads.

Only Stable Diffusion 1 and 2 are known here: a UNet that takes noise out of latents, a VAE that makes them of pictures,
and CLIP, which reads the caption. No torch is imported, and no weights are read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from azft.data.model_folder import PIPELINE, positions_of
from azft.errors import AzftError

PIPELINE_CLASS = "StableDiffusionPipeline"
PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
WITH_WEIGHTS = PARTS[:3]
PREDICTIONS = ("epsilon", "v_prediction")


@dataclass(frozen=True, slots=True)
class PictureModel:
    """Facts of such a folder."""

    resolution: int
    """Pixels of each side of the square pictures that it was made for."""
    factor: int
    """Pixels of a picture's side that one of its latents' stands for."""
    tokens: int
    """Tokens of a caption that it reads, begin and end among them; shorter ones are filled up."""


def read_picture_model(folder: Path) -> PictureModel:
    """The facts of a folder; `AzftError` says why it is none that can be trained here."""
    for what, fix in faults(folder):
        raise AzftError(f"The model in {folder} can't be trained to paint: {what}.", fix=fix)
    vae, unet = _config(folder, "vae"), _config(folder, "unet")
    factor = _factor(vae)
    tokens = positions_of(_config(folder, "text_encoder"))
    return PictureModel(int(unet["sample_size"]) * factor, factor, tokens or 77)


def faults(folder: Path) -> Iterator[tuple[str, str]]:
    """Why the folder is none of Stable Diffusion 1 or 2 that can be trained, with what to do about it."""
    other = "Take a Stable Diffusion 1 or 2 that makes pictures of texts, saved by diffusers."
    again = "Copy the model folder again."
    try:
        index = _json(folder / PIPELINE)
        if index.get("_class_name") != PIPELINE_CLASS:
            yield f"it is a {index.get('_class_name')}, and only {PIPELINE_CLASS} is known", other
            return
        configs = {part: _config(folder, part) for part in PARTS if part != "tokenizer"}
    except FileNotFoundError as error:
        yield f"it has no {Path(error.filename).relative_to(folder)}", again
        return
    except (OSError, orjson.JSONDecodeError, TypeError) as error:
        yield f"its configuration can't be read ({error})", again
        return
    unet, vae = configs["unet"], configs["vae"]
    if not isinstance(unet.get("sample_size"), int):
        yield "unet/config.json has no whole number as `sample_size`", other
    if unet.get("in_channels") != vae.get("latent_channels"):
        channels = f"its UNet reads {unet.get('in_channels')} channels where its VAE makes {vae.get('latent_channels')}"
        yield f"{channels} (one that fills in parts of pictures reads more)", other
    prediction = configs["scheduler"].get("prediction_type", "epsilon")
    if prediction not in PREDICTIONS:
        yield f"its scheduler's prediction_type is {prediction}, not {' or '.join(PREDICTIONS)}", other


def _factor(vae: dict[str, Any]) -> int:
    """Every block of a VAE but the last halves the sides."""
    return int(2 ** (len(vae["block_out_channels"]) - 1))


def _config(folder: Path, part: str) -> dict[str, Any]:
    return _json(folder / part / ("scheduler_config.json" if part == "scheduler" else "config.json"))


def _json(path: Path) -> dict[str, Any]:
    value = orjson.loads(path.read_bytes())
    if not isinstance(value, dict):
        raise TypeError(f"{path.name} is no JSON object")
    return value
