"""A tiny Stable Diffusion with random weights, as diffusers writes it, and rows of pictures for it."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np

SIDE = 32
"""Pixels of its pictures' sides; its latents have half."""
TOKENS = 24


def write_painter(folder: Path, *, seed: int = 0, prediction: str = "epsilon", **unet: Any) -> Path:
    """A folder with model_index.json: 2 blocks in the UNet, 2 in the VAE, 2 layers in CLIP."""
    import torch
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(seed)
    pipeline = StableDiffusionPipeline(
        unet=UNet2DConditionModel(
            **{
                "sample_size": SIDE // 2, "in_channels": 4, "out_channels": 4, "layers_per_block": 1,
                "block_out_channels": (16, 32), "norm_num_groups": 8, "cross_attention_dim": 24,
                "attention_head_dim": 8, "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
                "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"), **unet,
            }
        ),
        vae=AutoencoderKL(
            block_out_channels=(8, 16), norm_num_groups=8, latent_channels=4, sample_size=SIDE,
            down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        ),
        text_encoder=CLIPTextModel(
            CLIPTextConfig(
                vocab_size=520, hidden_size=24, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
                max_position_embeddings=TOKENS, bos_token_id=512, eos_token_id=513, pad_token_id=513,
            )
        ),
        tokenizer=tiny_tokenizer(),
        scheduler=DDIMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type=prediction,
            clip_sample=False, steps_offset=1,
        ),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipeline.save_pretrained(folder)
    return folder


def tiny_tokenizer() -> Any:
    """CLIP's tokenizer over single bytes, with a few merges."""
    from transformers import CLIPTokenizer

    return CLIPTokenizer(vocab=vocabulary(), merges=MERGES, model_max_length=TOKENS)


MERGES = [("r", "e"), ("re", "d</w>"), ("b", "l"), ("bl", "u"), ("blu", "e</w>")]


def vocabulary() -> dict[str, int]:
    from tokenizers import pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    words += ["".join(pair) for pair in MERGES]
    return {word: number for number, word in enumerate(words)}


def picture(color: str = "red", *, size: tuple[int, int] = (64, 64), mode: str = "RGB", seed: int = 0) -> Any:
    """A rectangle of a colour on noise that the seed tells apart."""
    from PIL import Image, ImageDraw

    noise = np.random.default_rng(seed).integers(200, 256, (size[1], size[0], 3), dtype=np.uint8)
    drawn = Image.fromarray(noise)
    ImageDraw.Draw(drawn).rectangle((size[0] // 4, size[1] // 4, size[0] // 2, size[1] // 2), fill=color)
    return drawn.convert(mode)


def in_base64(drawn: Any, file_format: str = "PNG") -> str:
    file = io.BytesIO()
    drawn.save(file, file_format)
    return base64.b64encode(file.getvalue()).decode()


COLORS = ("red", "blue", "green", "black", "orange", "purple", "gray", "brown", "pink", "gold")


def picture_rows(count: int = 10, start: int = 0) -> list[dict[str, str]]:
    return [
        {
            "image": in_base64(picture(COLORS[n % len(COLORS)], seed=n)),
            "text": f"A {COLORS[n % len(COLORS)]} box no. {n}",
        }
        for n in range(start, start + count)
    ]


def write_picture_rows(path: Path, rows: list[dict[str, str]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
