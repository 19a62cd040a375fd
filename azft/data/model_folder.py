"""Where in a model's folder the Hugging Face files are (at its root, or in the parts of an MLflow model), and its kind.

Models of Azure's registries come as MLflow models. Two layouts are known: Azure's own (`data/model`, `data/tokenizer`)
and that of MLflow's transformers flavour (`model`, `components/tokenizer`). A registry may also put either one folder
deeper. Whoever reads a model's files asks here first; a plain folder is its own answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import orjson

ModelKind = Literal["decoder", "encoder", "encoder-decoder", "diffusion"]
"""What a model can do with text: go on with it, read it, read one and write another, or paint what it says."""

PIPELINE = "model_index.json"
"""What tells a folder of diffusers, whose parts (UNet, VAE, text encoder, tokenizer ...) have folders of their own."""

_ENCODER_DECODERS = frozenset(
    (
        "bart", "bigbird_pegasus", "blenderbot", "fsmt", "led", "longt5", "m2m_100", "marian", "mbart", "mt5", "mvp",
        "nllb-moe", "pegasus", "pegasus_x", "plbart", "prophetnet", "switch_transformers", "t5", "t5gemma", "umt5",
    )
)  # fmt: skip
_ENCODERS = frozenset(
    (
        "albert", "bert", "camembert", "convbert", "deberta", "deberta-v2", "distilbert", "electra", "ernie",
        "eurobert", "ibert", "longformer", "megatron-bert", "mobilebert", "modernbert", "mpnet", "mra",
        "nystromformer", "roberta", "roberta-prelayernorm", "roformer", "squeezebert", "xlm-roberta",
        "xlm-roberta-xl", "xmod",
    )
)  # fmt: skip
"""transformers' model types (config.json's `model_type`, version 5.23) of each kind that do not say it themselves."""

_MODEL = ("data/model", "model", "artifacts/model", "components/model")
_TOKENIZER = ("data/tokenizer", "components/tokenizer", "tokenizer", "artifacts/tokenizer")


CLIP_TOKENIZER = ("vocab.json", "merges.txt")
"""The two files of CLIP's old tokenizer, which folders of diffusers have instead of tokenizer.json."""


def has_clip_tokenizer(folder: Path) -> bool:
    """Whether CLIP's old tokenizer lies in this very folder."""
    return all((folder / name).is_file() for name in CLIP_TOKENIZER)


def find_model_folder(folder: Path) -> Path:
    """The folder with config.json and the weights, or with model_index.json; `folder` itself where there is none."""
    root = _root(folder)
    return _find(root, "config.json", _MODEL) or _find(root, PIPELINE, _MODEL) or folder


def has_model(folder: Path) -> bool:
    """Whether a model begins in this very folder, whole or of parts."""
    return any((folder / name).is_file() for name in ("config.json", PIPELINE))


def is_pipeline(folder: Path) -> bool:
    """Whether the model in `folder` is one of diffusers, a folder of parts."""
    return (find_model_folder(folder) / PIPELINE).is_file()


def find_config(folder: Path) -> Path:
    """The config.json of what reads texts in `folder`: the model's own, or its text encoder's."""
    model = find_model_folder(folder)
    return model / "text_encoder" / "config.json" if is_pipeline(model) else model / "config.json"


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of what can be trained in `folder`, sorted: the model's, or its UNet's."""
    model = find_model_folder(folder)
    return sorted((model / "unet" if is_pipeline(model) else model).glob("*.safetensors"))


def find_tokenizer_folder(folder: Path) -> Path:
    """The folder with the tokenizer: beside the model, or a part of its own; else where the model is."""
    root = _root(folder)
    model = find_model_folder(folder)
    if is_pipeline(model):
        return model / "tokenizer"
    if (model / "tokenizer.json").is_file():
        return model
    return _find(root, "tokenizer.json", _TOKENIZER) or model


def model_kind(folder: Path) -> ModelKind:
    """The kind of the model in `folder`, by its config.json; "decoder" where it says nothing else, or isn't there."""
    if is_pipeline(folder):
        return "diffusion"
    try:
        config: Any = orjson.loads((find_model_folder(folder) / "config.json").read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return "decoder"  # whoever loads the model says what is wrong with the file
    if not isinstance(config, dict):
        return "decoder"
    kind = config.get("model_type")
    if config.get("is_encoder_decoder") or kind in _ENCODER_DECODERS:
        return "encoder-decoder"
    masked = any(str(name).endswith("ForMaskedLM") for name in config.get("architectures") or ())
    return "encoder" if (kind in _ENCODERS or masked) and not config.get("is_decoder") else "decoder"


READING_HEADS = ("ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering")
"""How the names of transformers' classes of models end that tell something about a text."""


def reading_class(folder: Path) -> str | None:
    """The transformers auto class of a model that reads texts and writes none; None for one that writes."""
    try:
        config: Any = orjson.loads((find_model_folder(folder) / "config.json").read_bytes())
        names = [str(name) for name in config.get("architectures") or ()]
    except (OSError, orjson.JSONDecodeError, AttributeError):
        return None
    ending = next((ending for ending in READING_HEADS if any(name.endswith(ending) for name in names)), None)
    if ending is not None:
        return f"AutoModel{ending}"
    return "AutoModel" if model_kind(folder) == "encoder" else None


_PAST_FILLER = frozenset(
    ("camembert", "data2vec-text", "ibert", "longformer", "mpnet", "roberta", "roberta-prelayernorm", "xlm-roberta",
     "xlm-roberta-xl", "xmod")
)  # fmt: skip
"""Model types that number positions from behind their filler's token: of 514 places 512 hold a token."""


def positions_of(config: Mapping[str, Any]) -> int | None:
    """Most tokens that a model with this config.json can attend to; None where it doesn't say.

    Multimodal models keep the numbers of their language part under `text_config`.
    """
    for section in (config, config.get("text_config")):
        for key in ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length"):
            value = section.get(key) if isinstance(section, dict) else None
            if isinstance(value, int) and value > 0:
                filler = config.get("pad_token_id")
                past = (filler if isinstance(filler, int) else 1) + 1
                return value - past if config.get("model_type") in _PAST_FILLER else value
    return None


def _find(root: Path, file: str, parts: tuple[str, ...]) -> Path | None:
    candidates = (root, *(root / part for part in parts))
    return next((candidate for candidate in candidates if (candidate / file).is_file()), None)


def _is_model(folder: Path) -> bool:
    return any(_find(folder, file, _MODEL) is not None for file in ("config.json", PIPELINE))


def _root(folder: Path) -> Path:
    """The model's own root: `folder`, or its one subfolder that looks like a model."""
    if _is_model(folder) or not folder.is_dir():
        return folder
    below = [child for child in folder.iterdir() if child.is_dir() and _is_model(child)]
    return below[0] if len(below) == 1 else folder
