"""The architectures that a stand-in can take: how transformers names their tensors, and random numbers for them.

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


ARCHITECTURES: dict[str, Architecture] = {
    architecture.name: architecture
    for architecture in (
        Architecture(name="Phi3ForCausalLM", model_type="phi3", fused=True, tied=True),
        Architecture(name="LlamaForCausalLM", model_type="llama", tied=True),
        Architecture(name="MistralForCausalLM", model_type="mistral", extra={"sliding_window": None}),
        Architecture(name="Qwen2ForCausalLM", model_type="qwen2", qkv_bias=True, tied=True),
        Architecture(name="Gemma2ForCausalLM", model_type="gemma2", four_norms=True, tied=True),
    )
}
"""The architectures that a stand-in can take."""


_GAIN = 200.0
"""The norms before each block multiply by this, and the matrices after them divide by it. The model's output stays as
it was, but LoRA's updates count that much more, so that a learning rate for real models (2e-4) moves a random one
visibly: 39 steps on the chat example take the held-out loss from 6.8 to 2.0, and without this to 6.5."""
_EMBEDDING_SCALE = 0.1
"""Standard deviation of the embeddings, and so of the tied output head. The head stays frozen under LoRA: at the usual
0.02 its logits are too small for a confident prediction."""


def random_weights(spec: StandInSpec, architecture: Architecture, vocab_size: int) -> Iterator[tuple[str, Any]]:
    """Named float32 tensors; the same spec gives the same numbers on every machine (numpy's PCG64)."""
    import numpy

    random = numpy.random.Generator(numpy.random.PCG64(spec.seed))
    offset = 1.0 if architecture.four_norms else 0.0
    gained = "pre_feedforward_layernorm" if architecture.four_norms else "post_attention_layernorm"
    for name, shape in _shapes(spec, architecture, vocab_size):
        part = name.split(".")[-2]
        if part in ("input_layernorm", gained):
            value = numpy.full(shape, _GAIN - offset)
        elif part.endswith("norm"):
            value = numpy.full(shape, 1.0 - offset)
        elif name.endswith(".bias"):
            value = numpy.zeros(shape)
        elif part in ("embed_tokens", "lm_head"):
            value = random.standard_normal(shape) * _EMBEDDING_SCALE
        else:
            gain = 1.0 if part in ("o_proj", "down_proj") else _GAIN
            value = random.standard_normal(shape) / (gain * math.sqrt(shape[1]))
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
