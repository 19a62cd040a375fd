"""Encoders as stand-ins: BERT and RoBERTa, by transformers' names of their tensors."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from azft.training.stand_in_weights import Architecture

if TYPE_CHECKING:
    from azft.training.stand_in import StandInSpec

_BESIDE_WORDS = 0.2
"""Standard deviation of what a token's place and text add to its embedding; words have 1, so that they tell more."""


class EncoderArchitecture(Architecture):
    """An encoder with norms after each block. Stand-ins have no output head, which every task here replaces."""

    prefix: str
    text_types: int = 2
    pooler: bool = True
    first_position: int = 0
    """Rows of the position embeddings that no token has: RoBERTa counts from behind its filler's number."""
    writes: bool = False
    opens: bool = True
    closes: bool = True

    def config(self, spec: StandInSpec, *, vocab_size: int, ids: dict[str, int]) -> dict[str, Any]:
        special = spec.special_tokens
        return {
            "architectures": [self.name],
            "model_type": self.model_type,
            "vocab_size": vocab_size,
            "hidden_size": spec.hidden_size,
            "intermediate_size": spec.intermediate_size,
            "num_hidden_layers": spec.layers,
            "num_attention_heads": spec.heads,
            "max_position_embeddings": self.first_position + spec.context_length,
            "type_vocab_size": self.text_types,
            "bos_token_id": ids[special.bos] if special.bos else None,
            "eos_token_id": ids[special.eos],
            "pad_token_id": ids[special.pad],
            "dtype": "float32",
            **self.extra,
        }

    @property
    def tokenizer_config(self) -> dict[str, Any]:
        types = ["token_type_ids"] if self.text_types > 1 else []
        return {"model_input_names": ["input_ids", *types, "attention_mask"]}

    def shapes(self, spec: StandInSpec, vocab_size: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        hidden, inner = spec.hidden_size, spec.intermediate_size
        yield f"{self.prefix}.embeddings.word_embeddings.weight", (vocab_size, hidden)
        positions = self.first_position + spec.context_length
        yield f"{self.prefix}.embeddings.position_embeddings.weight", (positions, hidden)
        yield f"{self.prefix}.embeddings.token_type_embeddings.weight", (self.text_types, hidden)
        yield from _norm(f"{self.prefix}.embeddings.LayerNorm", hidden)
        for layer in range(spec.layers):
            block = f"{self.prefix}.encoder.layer.{layer}."
            for part in ("query", "key", "value"):
                yield from _linear(f"{block}attention.self.{part}", hidden, hidden)
            yield from _linear(f"{block}attention.output.dense", hidden, hidden)
            yield from _norm(f"{block}attention.output.LayerNorm", hidden)
            yield from _linear(f"{block}intermediate.dense", inner, hidden)
            yield from _linear(f"{block}output.dense", hidden, inner)
            yield from _norm(f"{block}output.LayerNorm", hidden)
        if self.pooler:
            yield from _linear(f"{self.prefix}.pooler.dense", hidden, hidden)

    def values(self, random: Any, name: str, shape: tuple[int, ...]) -> Any:
        part = name.split(".")[-2]
        if name.endswith(".bias"):
            return random.standard_normal(shape) * 0
        if part == "LayerNorm":
            return random.standard_normal(shape) * 0 + 1
        if part.endswith("embeddings"):
            return random.standard_normal(shape) * (1.0 if part == "word_embeddings" else _BESIDE_WORDS)
        return random.standard_normal(shape) / math.sqrt(shape[1])


def _linear(name: str, out: int, into: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", (out, into)
    yield f"{name}.bias", (out,)


def _norm(name: str, hidden: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", (hidden,)
    yield f"{name}.bias", (hidden,)
