"""Stable Diffusion as one module: a UNet that is trained, and the VAE and the text encoder that stay as they are.

It has what the rest of this room asks of a transformers model (its configuration, its embeddings, loading and saving),
so that techniques, checkpoints and packaging treat it as one. Folders are those that diffusers writes and loads.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import nn

from azft.data.model_folder import find_model_folder
from azft.data.picture_model import PIPELINE_CLASS, read_picture_model
from azft.data.picture_rendering import filler_of
from azft.data.tokenizer import load_tokenizer
from azft.errors import AzftError, first_line
from azft.extras import needs
from azft.training.stored import stored_dtype

if TYPE_CHECKING:
    from torch import Tensor

HEAD = PIPELINE_CLASS
"""What the objective's table calls this kind of model."""
TRAINED = "unet"
WEIGHTS = "diffusion_pytorch_model.safetensors"
"""diffusers' name of the weights of a UNet."""
_STEPS = 20
"""Denoising steps of a sampled picture: enough for DDIM to show what a model paints."""


class Painter(nn.Module):
    """UNet, VAE, text encoder and noise schedule of a folder."""

    base_model_prefix = ""
    """transformers asks for it when peft looks whether it knows old names of the model's weights; there are none."""

    def __init__(self, folder: Path, unet: Any, vae: Any, text_encoder: Any) -> None:
        super().__init__()
        from transformers import PretrainedConfig

        self.folder = folder
        self.unet, self.vae, self.text_encoder = unet, vae, text_encoder
        self.schedule = _schedule(folder)
        self.config = PretrainedConfig(is_encoder_decoder=False)
        self.name_or_path = str(folder)
        facts, tokenizer = read_picture_model(folder), load_tokenizer(folder)
        self.caption_length, self.filler = facts.tokens, filler_of(tokenizer)
        self.no_caption: list[int] = list(tokenizer.backend.encode("", add_special_tokens=True).ids)
        self.requires_grad_(False)

    @classmethod
    def from_pretrained(cls, folder: Path, *, dtype: torch.dtype | str | None = None, **_: Any) -> Self:
        """Load a folder; by default, or with "auto", in the types in which its parts are stored.

        Raises:
            AzftError: It is none that can be trained, or diffusers can't load it.
        """
        folder = find_model_folder(folder)
        read_picture_model(folder)
        with needs("images", "Models that paint"):
            from diffusers import AutoencoderKL, UNet2DConditionModel
        from transformers import CLIPTextModel

        options: dict[str, Any] = {"use_safetensors": True, "local_files_only": True}
        given = None if dtype in (None, "auto") else dtype
        parts = []
        try:
            for name, kind in (("unet", UNet2DConditionModel), ("vae", AutoencoderKL)):
                stored = given or stored_dtype(folder / name)
                parts.append(kind.from_pretrained(folder / name, torch_dtype=stored, **options))
            parts.append(CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=given or "auto", **options))
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise AzftError(
                f"The model in {folder} can't be loaded: {first_line(error)}",
                fix="Check that the folder is complete, with safetensors in unet, vae and text_encoder.",
            ) from error
        return cls(folder, *parts)

    @classmethod
    def empty(cls, folder: Path) -> Self:
        """The same without weights, on torch's meta device."""
        folder = find_model_folder(folder)
        with needs("images", "Models that paint"):
            from diffusers import AutoencoderKL, UNet2DConditionModel
        from transformers import CLIPTextConfig, CLIPTextModel

        with torch.device("meta"):
            unet = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(folder / "unet"))
            vae = AutoencoderKL.from_config(AutoencoderKL.load_config(folder / "vae"))
            text_encoder = CLIPTextModel(CLIPTextConfig.from_pretrained(folder / "text_encoder"))
        return cls(folder, unet, vae, text_encoder)

    def train(self, mode: bool = True) -> Self:
        """Training is the UNet's: the other parts stay as they are asked later, without dropout."""
        super().train(mode)
        self.vae.eval()
        self.text_encoder.eval()
        return self

    def forward(self, latents: Tensor, timesteps: Tensor, captions: Tensor) -> Tensor:
        """What the UNet says about noisy latents (pictures, channels, height, width), in their shape.

        `timesteps` (pictures,) and `captions` (pictures, tokens, hidden), as `read` gives them.
        """
        said: Tensor = self.unet(latents, timesteps, captions, return_dict=False)[0]
        return said

    @torch.no_grad()
    def read(self, captions: Sequence[Sequence[int]]) -> Tensor:
        """The text encoder's hidden states of captions, each filled up: (captions, tokens, hidden)."""
        length = self.caption_length
        full = [[*ids, *[self.filler] * (length - len(ids))] for ids in captions]
        hidden: Tensor = self.text_encoder(torch.tensor(full, device=self.device)).last_hidden_state
        return hidden

    @torch.no_grad()
    def latents(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the latents of pictures (pictures, 3, height, width) in [-1, 1]."""
        seen = self.vae.encode(pixels.to(next(self.vae.parameters()).dtype)).latent_dist
        return seen.mean * self.vae.config.scaling_factor, seen.std * self.vae.config.scaling_factor

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        device: torch.device = next(self.unet.parameters()).device
        return device

    @property
    def timesteps(self) -> int:
        """Steps from a picture to pure noise."""
        return int(self.schedule.config.num_train_timesteps)

    def get_input_embeddings(self) -> nn.Module:
        """The text encoder's."""
        embeddings: nn.Module = self.text_encoder.get_input_embeddings()
        return embeddings

    def get_output_embeddings(self) -> None:
        """None: it writes no tokens."""

    def activation_checkpointing_enable(self, _options: Any = None) -> None:
        """Recompute the UNet's activations in the backward pass."""
        self.unet.enable_gradient_checkpointing()

    @torch.no_grad()
    def probe(self) -> Tensor:
        """What the UNet says about fixed noise, of any folder the same: to compare two models by."""
        channels, side, width = self.unet.config.in_channels, self.unet.config.sample_size, _width(self.unet)
        draw = torch.Generator().manual_seed(0)
        latents = torch.randn(2, channels, side, side, generator=draw).to(self.device)
        captions = torch.randn(2, self.caption_length, width, generator=draw).to(self.device)
        said: Tensor = self(latents, torch.tensor([1, self.timesteps // 2], device=self.device), captions)
        return said

    @torch.no_grad()
    def paint(self, captions: Sequence[Sequence[int]], *, side: int, seed: int) -> list[Any]:
        """A picture of each caption (Pillow's, `side` pixels), by DDIM with guidance, as diffusers does it.

        Each begins with the noise of the same seed, so that pictures of two models differ by the models alone.
        """
        from diffusers import DDIMScheduler, StableDiffusionPipeline

        pipeline = StableDiffusionPipeline(
            vae=self.vae,
            text_encoder=self.text_encoder,
            tokenizer=None,
            unet=self.unet,
            scheduler=DDIMScheduler.from_config(self.schedule.config, **_UP_TO_DATE),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        pipeline.set_progress_bar_config(disable=True)
        pictures = []
        for caption in captions:
            made = pipeline(
                prompt_embeds=self.read([caption]),
                negative_prompt_embeds=self.read([self.no_caption]),
                height=side,
                width=side,
                num_inference_steps=_STEPS,
                generator=torch.Generator().manual_seed(seed),
            )
            pictures += made.images
        return pictures

    def save(self, folder: Path, dtype: torch.dtype) -> None:
        """Write the whole folder: what was trained as `dtype`, everything else as it is in the model's own folder."""
        from safetensors.torch import save_file

        copy_without_unet(self.folder, folder)
        state = {n: t.detach().cpu().to(dtype).contiguous() for n, t in self.unet.state_dict().items()}
        save_file(state, folder / TRAINED / WEIGHTS, metadata={"format": "pt"})


_UP_TO_DATE = {"clip_sample": False, "steps_offset": 1}
"""What diffusers' pipeline sets itself, with a warning, in the schedules of old folders."""


def copy_without_unet(source: Path, target: Path) -> None:
    """Copy a folder of diffusers, hidden files and weights of the UNet aside, and weights only as safetensors."""
    unet = source / TRAINED

    def ignored(folder: str, names: list[str]) -> set[str]:
        pickles = {name for name in names if Path(name).suffix in (".bin", ".ckpt", ".pt", ".pth", ".msgpack")}
        weights = {n for n in names if Path(folder) == unet and (n.endswith((".safetensors", ".index.json")))}
        whole = {n for n in names if Path(folder) == source and n.endswith(".safetensors")}
        return {n for n in names if n.startswith(".")} | pickles | weights | whole

    shutil.copytree(source, target, ignore=ignored, dirs_exist_ok=True)


def _schedule(folder: Path) -> Any:
    """The noise that the model was made with, whatever scheduler its folder samples with."""
    with needs("images", "Models that paint"):
        from diffusers import DDPMScheduler
    return DDPMScheduler.from_config(DDPMScheduler.load_config(folder / "scheduler"), **_UP_TO_DATE)


def _width(unet: Any) -> int:
    width = unet.config.cross_attention_dim
    return int(width[0] if isinstance(width, list | tuple) else width)
