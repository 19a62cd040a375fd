"""A stand-in of Stable Diffusion: a folder as diffusers has it, its parts tiny and random, CLIP's tokenizer beside.

Unlike the stand-ins of models of words it needs torch and diffusers, which know how many tensors a UNet has.
"""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from azft.data import clip_tokenizer
from azft.extras import needs
from azft.files import write_json, write_text

if TYPE_CHECKING:
    from azft.training.stand_in import StandInSpec

SIDE = 64
"""Pixels of its pictures' sides: large enough to see on them what is meant, small enough for a CPU."""
_FACTOR = 4
_WIDTH = 64
_WORDS, _MERGES = 2000, 500
"""Commonest words that the tokenizer is learned from, and pairs that it merges at most: a second's work."""
_LONGEST_WORD = 200
"""Characters from which on a text without a space is no caption: a picture in base64, for one."""


def write_painter(spec: StandInSpec, texts: Iterable[str], folder: Path) -> None:
    """Write model_index.json and the five parts into an existing folder; the same rows give the same bytes."""
    with needs("images", "A stand-in of a model that paints"):
        import torch
        from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from safetensors.torch import save_file
    from transformers import CLIPTextConfig, CLIPTextModel

    vocabulary, merges = _vocabulary(text for text in texts if " " in text[:_LONGEST_WORD] or len(text) < _LONGEST_WORD)
    begin, end = vocabulary[clip_tokenizer.BEGIN], vocabulary[clip_tokenizer.END]
    with torch.device("meta"):
        unet = UNet2DConditionModel(
            sample_size=SIDE // _FACTOR,
            in_channels=4,
            out_channels=4,
            layers_per_block=1,
            block_out_channels=(32, 64),
            norm_num_groups=8,
            cross_attention_dim=_WIDTH,
            attention_head_dim=8,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        )
        vae = AutoencoderKL(
            block_out_channels=(16, 32, 32),
            norm_num_groups=8,
            latent_channels=4,
            sample_size=SIDE,
            scaling_factor=1.0,
            down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
        )
        text_encoder = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(vocabulary),
                hidden_size=_WIDTH,
                intermediate_size=2 * _WIDTH,
                num_hidden_layers=spec.layers,
                num_attention_heads=4,
                max_position_embeddings=min(spec.context_length, 77),
                bos_token_id=begin,
                eos_token_id=end,
                pad_token_id=end,
            )
        )
    for number, (part, model, file) in enumerate(
        (
            ("unet", unet, "diffusion_pytorch_model.safetensors"),
            ("vae", vae, "diffusion_pytorch_model.safetensors"),
            ("text_encoder", text_encoder, "model.safetensors"),
        )
    ):
        (folder / part).mkdir()
        save_file(_random(model, spec.seed, number), folder / part / file, metadata={"format": "pt"})
        write_json(folder / part / "config.json", _config(model))
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, steps_offset=1
    )
    write_json(folder / "scheduler" / "scheduler_config.json", json.loads(scheduler.to_json_string()))
    _write_tokenizer(folder / "tokenizer", vocabulary, merges, min(spec.context_length, 77))
    write_json(folder / "model_index.json", _INDEX)


_INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "feature_extractor": [None, None],
    "requires_safety_checker": False,
    "safety_checker": [None, None],
    "scheduler": ["diffusers", "DDIMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}


def _vocabulary(texts: Iterable[str]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """CLIP's: each byte inside a word and at its end, the pairs that the texts have most, begin and end."""
    from tokenizers import pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    split = clip_tokenizer.build({clip_tokenizer.BEGIN: 0, clip_tokenizer.END: 1}, [])
    words: Counter[str] = Counter()
    for text in texts:
        plain = split.normalizer.normalize_str(text)
        words.update(word for word, _ in split.pre_tokenizer.pre_tokenize_str(plain))
    merges = _merges(words)
    names = [*letters, *(f"{letter}{clip_tokenizer.WORD_END}" for letter in letters)]
    names += ["".join(pair) for pair in merges] + [clip_tokenizer.BEGIN, clip_tokenizer.END]
    return {name: number for number, name in enumerate(dict.fromkeys(names))}, merges


def _merges(words: Counter[str]) -> list[tuple[str, str]]:
    """The pairs of byte-pair encoding, commonest first; of equal ones the first by name, which libraries leave open."""
    commonest = sorted(words.items(), key=lambda item: (-item[1], item[0]))[:_WORDS]
    parts = [([*word[:-1], word[-1] + clip_tokenizer.WORD_END], count) for word, count in commonest]
    merges: list[tuple[str, str]] = []
    while len(merges) < _MERGES:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, count in parts:
            for pair in itertools.pairwise(word):
                pairs[pair] += count
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        parts = [(_merged(word, best), count) for word, count in parts]
    return merges


def _merged(word: list[str], pair: tuple[str, str]) -> list[str]:
    merged: list[str] = []
    for part in word:
        if merged and (merged[-1], part) == pair:
            merged[-1] += part
        else:
            merged.append(part)
    return merged


def _write_tokenizer(folder: Path, vocabulary: dict[str, int], merges: list[tuple[str, str]], length: int) -> None:
    write_json(folder / "vocab.json", vocabulary)
    write_text(folder / "merges.txt", "\n".join(["#version: 0.2", *(" ".join(pair) for pair in merges), ""]))
    begin, end = clip_tokenizer.BEGIN, clip_tokenizer.END
    config: dict[str, Any] = {"bos_token": begin, "eos_token": end, "pad_token": end, "unk_token": end}
    config |= {"tokenizer_class": "CLIPTokenizer", "model_max_length": length}
    write_json(folder / "tokenizer_config.json", config)


def _random(model: Any, seed: int, part: int) -> dict[str, Any]:
    """fp32 tensors of the model's shapes; the same numbers on every machine (numpy's PCG64)."""
    import numpy
    import torch

    random = numpy.random.Generator(numpy.random.PCG64([seed, part]))
    values = {}
    for name, tensor in sorted(model.state_dict().items()):
        if not tensor.is_floating_point():
            continue
        if tensor.dim() > 1:
            fan_in = tensor.numel() / tensor.shape[0]
            value = random.standard_normal(tuple(tensor.shape)) / math.sqrt(fan_in)
        else:
            value = numpy.full(tuple(tensor.shape), float(name.endswith("weight")))  # norms; biases are 0
        values[name] = torch.from_numpy(value.astype(numpy.float32))
    return values


def _config(model: Any) -> dict[str, Any]:
    """What the library that loads the part writes beside its weights."""
    if hasattr(model.config, "to_json_string"):  # transformers'
        return {**json.loads(model.config.to_json_string(use_diff=False)), "architectures": [type(model).__name__]}
    config: dict[str, Any] = json.loads(model.to_json_string())
    return config
