"""What an architecture is for a stand-in: how transformers names its tensors, and random numbers for them.

Written out by hand, because asking transformers would cost six seconds and torch; a test holds the two together.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from azft.training.stand_in import StandInSpec


class Architecture(BaseModel):
    """How one transformers class names its tensors, and what its config needs besides the common keys."""

    model_config = ConfigDict(frozen=True)

    name: str
    model_type: str
    fused: bool = False
    """q, k, v in one `qkv_proj` and gate, up in one `gate_up_proj`."""
    qkv_bias: bool = False
    four_norms: bool = False
    """Gemma 2: norms before and after each block, stored as an offset from one."""
    tied: bool = False
    writes: bool = True
    """Whether it writes text; encoders only read it."""
    paints: bool = False
    """Whether it is one of diffusers, whose folder is `azft.training.stand_in_painter`'s to write."""
    reads_and_writes: bool = False
    """Whether it is an encoder-decoder."""
    opens: bool = False
    closes: bool = False
    """Whether the tokenizer puts its bos token before a text, its eos token behind one, unless asked not to."""
    extra: dict[str, Any] = {}

    def config(self, spec: StandInSpec, *, vocab_size: int, ids: dict[str, int]) -> dict[str, Any]:
        """What config.json holds."""
        special = spec.special_tokens
        config = {
            "architectures": [self.name],
            "model_type": self.model_type,
            "vocab_size": vocab_size,
            "hidden_size": spec.hidden_size,
            "intermediate_size": spec.intermediate_size,
            "num_hidden_layers": spec.layers,
            "num_attention_heads": spec.heads,
            "num_key_value_heads": spec.kv_heads,
            "head_dim": spec.hidden_size // spec.heads,
            "max_position_embeddings": spec.context_length,
            "tie_word_embeddings": self.tied,
            "bos_token_id": ids[special.bos] if special.bos else None,
            "eos_token_id": ids[special.eos],
            "pad_token_id": ids[special.pad],
            "dtype": "float32",
            **self.extra,
        }
        if self.model_type == "phi3":
            config["original_max_position_embeddings"] = spec.context_length
        if self.model_type == "gemma2":
            config["query_pre_attn_scalar"] = spec.hidden_size // spec.heads
        return config

    @property
    def tokenizer_config(self) -> dict[str, Any]:
        """What tokenizer_config.json says besides."""
        return {}

    def shapes(self, spec: StandInSpec, vocab_size: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Names and shapes of the tensors."""
        yield from _shapes(spec, self, vocab_size)

    def values(self, random: Any, name: str, shape: tuple[int, ...]) -> Any:
        """A tensor's numbers, where the architecture has its own way of drawing them; else None."""
        del random, name, shape

    def scale(self, spec: StandInSpec, name: str) -> float:
        """What a tensor's random numbers are multiplied by, besides what its shape and place in a block ask for."""
        del spec, name
        return 1.0


class T5Architecture(Architecture):
    """T5's later form (gated, no scaling of the output head), encoder and decoder of equal size."""

    def config(self, spec: StandInSpec, *, vocab_size: int, ids: dict[str, int]) -> dict[str, Any]:
        special = spec.special_tokens
        return {
            "architectures": [self.name],
            "model_type": self.model_type,
            "is_encoder_decoder": True,
            "vocab_size": vocab_size,
            "d_model": spec.hidden_size,
            "d_kv": spec.hidden_size // spec.heads,
            "d_ff": spec.intermediate_size,
            "num_layers": spec.layers,
            "num_decoder_layers": spec.layers,
            "num_heads": spec.heads,
            "n_positions": spec.context_length,
            "feed_forward_proj": "gated-gelu",
            "dropout_rate": 0.0,  # as the other architectures have it
            "scale_decoder_outputs": False,
            "tie_word_embeddings": True,
            "eos_token_id": ids[special.eos],
            "pad_token_id": ids[special.pad],
            "decoder_start_token_id": ids[special.pad],
            "dtype": "float32",
            **self.extra,
        }

    def shapes(self, spec: StandInSpec, vocab_size: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        hidden, inner = spec.hidden_size, spec.intermediate_size
        yield "shared.weight", (vocab_size, hidden)
        for side in ("encoder", "decoder"):
            attentions = ["SelfAttention"] if side == "encoder" else ["SelfAttention", "EncDecAttention"]
            for block in range(spec.layers):
                for layer, attention in enumerate(attentions):
                    prefix = f"{side}.block.{block}.layer.{layer}."
                    for part in "qkvo":
                        yield f"{prefix}{attention}.{part}.weight", (hidden, hidden)
                    if block == layer == 0:
                        yield f"{prefix}{attention}.relative_attention_bias.weight", (_BUCKETS, spec.heads)
                    yield prefix + "layer_norm.weight", (hidden,)
                prefix = f"{side}.block.{block}.layer.{len(attentions)}."
                yield prefix + "DenseReluDense.wi_0.weight", (inner, hidden)
                yield prefix + "DenseReluDense.wi_1.weight", (inner, hidden)
                yield prefix + "DenseReluDense.wo.weight", (hidden, inner)
                yield prefix + "layer_norm.weight", (hidden,)
            yield f"{side}.final_layer_norm.weight", (hidden,)

    def values(self, random: Any, name: str, shape: tuple[int, ...]) -> Any:
        import numpy

        if name.endswith(".relative_attention_bias.weight"):  # all that T5 knows of positions, so it has to be felt
            return random.standard_normal(shape)
        parts = name.split(".")  # encoder.block.0.layer.1.layer_norm.weight
        feed_forward = "1" if parts[0] == "encoder" else "2"
        before_attention = parts[-2] == "layer_norm" and parts[4] != feed_forward
        # The encoder's last norm is one of them: the decoder's blocks look at what it gives.
        if before_attention or name == "encoder.final_layer_norm.weight":
            return numpy.full(shape, _T5_ATTENTION_GAIN)
        return None

    def scale(self, spec: StandInSpec, name: str) -> float:
        parts = name.split(".")
        if not parts[-3].endswith("Attention") or parts[-2] == "o":
            return 1.0
        # T5's attention does not divide by the root of the head's size; its queries are that much smaller.
        own = math.sqrt(spec.heads / spec.hidden_size) if parts[-2] == "q" else 1.0
        return own * _GAIN / _T5_ATTENTION_GAIN


_BUCKETS = 32
"""Of distances that T5 tells apart: transformers' default."""


_GAIN = 200.0
"""The norms before each block multiply by this, and the matrices after them divide by it. The model's output stays as
it was, but LoRA's updates count that much more, so that a learning rate for real models (2e-4) moves a random one
visibly: 39 steps on the chat example take the held-out loss from 6.8 to 2.0, and without this to 6.5."""
_T5_ATTENTION_GAIN = 25.0
"""The same for what T5's attention reads, which is not divided by the root of the head's size: with more, the updates
make it look at one token only, and the loss jumps."""
_EMBEDDING_SCALE = 0.1
"""Standard deviation of the embeddings, and so of the tied output head. The head stays frozen under LoRA: at the usual
0.02 its logits are too small for a confident prediction."""


def random_weights(spec: StandInSpec, architecture: Architecture, vocab_size: int) -> Iterator[tuple[str, Any]]:
    """Named float32 tensors; the same spec gives the same numbers on every machine (numpy's PCG64)."""
    import numpy

    random = numpy.random.Generator(numpy.random.PCG64(spec.seed))
    offset = 1.0 if architecture.four_norms else 0.0
    gained = "pre_feedforward_layernorm" if architecture.four_norms else "post_attention_layernorm"
    for name, shape in architecture.shapes(spec, vocab_size):
        part = name.split(".")[-2]
        if (own := architecture.values(random, name, shape)) is not None:
            value = own
        elif part in ("input_layernorm", "layer_norm", gained):
            value = numpy.full(shape, _GAIN - offset)
        elif part.endswith("norm"):  # the last one
            value = numpy.full(shape, 1.0 - offset)
        elif name.endswith(".bias"):
            value = numpy.zeros(shape)
        elif part in ("embed_tokens", "shared", "lm_head"):
            value = random.standard_normal(shape) * _EMBEDDING_SCALE
        else:
            gain = 1.0 if part in ("o_proj", "down_proj", "o", "wo") else _GAIN
            value = random.standard_normal(shape) / (gain * math.sqrt(shape[1]) / architecture.scale(spec, name))
        yield name, value.astype(numpy.float32)


def _shapes(spec: StandInSpec, architecture: Architecture, vocab_size: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    hidden, inner, head = spec.hidden_size, spec.intermediate_size, spec.hidden_size // spec.heads
    queries, keys = spec.heads * head, spec.kv_heads * head
    yield "model.embed_tokens.weight", (vocab_size, hidden)
    for layer in range(spec.layers):
        prefix = f"model.layers.{layer}."
        if architecture.fused:
            yield prefix + "self_attn.qkv_proj.weight", (queries + 2 * keys, hidden)
            yield prefix + "mlp.gate_up_proj.weight", (2 * inner, hidden)
        else:
            for part, rows in (("q", queries), ("k", keys), ("v", keys)):
                yield f"{prefix}self_attn.{part}_proj.weight", (rows, hidden)
                if architecture.qkv_bias:
                    yield f"{prefix}self_attn.{part}_proj.bias", (rows,)
            yield prefix + "mlp.gate_proj.weight", (inner, hidden)
            yield prefix + "mlp.up_proj.weight", (inner, hidden)
        yield prefix + "self_attn.o_proj.weight", (hidden, queries)
        yield prefix + "mlp.down_proj.weight", (hidden, inner)
        norms = ["input_layernorm", "post_attention_layernorm"]
        if architecture.four_norms:
            norms += ["pre_feedforward_layernorm", "post_feedforward_layernorm"]
        for norm in norms:
            yield f"{prefix}{norm}.weight", (hidden,)
    yield "model.norm.weight", (hidden,)
    if not architecture.tied:
        yield "lm_head.weight", (vocab_size, hidden)
