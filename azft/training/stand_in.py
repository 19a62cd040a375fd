"""Make a stand-in: a tiny model of a real architecture, with random weights and a tokenizer trained on the user's rows.

It proves the pipeline and never the quality. No torch and no transformers are imported here, so that a stand-in costs
half a second; what it writes is a plain Hugging Face folder that they load.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from azft.errors import MissingDependencyError, UsageError
from azft.files import atomic_path, canonical_json, sha256_bytes, write_json, write_text
from azft.training.stand_in_architectures import ARCHITECTURES
from azft.training.stand_in_weights import random_weights

if TYPE_CHECKING:
    import tokenizers

MARK = "azft_stand_in"
"""A key of its config.json, by which a step knows that a model is one."""
_TEXT_LIMIT = 4 << 20
"""Characters of training text that the tokenizer sees: more costs seconds and changes little at this vocabulary."""


class SpecialTokens(BaseModel):
    """The tokens that a family's chat template writes, and the roles some of them play."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bos: str | None = None
    eos: str
    pad: str
    stop: str
    """Ends a turn; generation stops at it, or at `eos`."""
    others: tuple[str, ...] = ()

    @property
    def all(self) -> tuple[str, ...]:
        """Every token once, in a fixed order: their ids are 0, 1, 2, ..."""
        roles = [token for token in (self.pad, self.eos, self.bos, self.stop) if token]
        return tuple(dict.fromkeys((*roles, *self.others)))


class StandInSpec(BaseModel):
    """Everything that decides a stand-in's bytes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    architecture: str
    """A key of `azft.training.stand_in_architectures.ARCHITECTURES`."""
    chat_template: str | None = None
    special_tokens: SpecialTokens
    data: Path
    """Rows to train the tokenizer on. The path is no part of the identity; the contents' hash is."""
    data_sha256: str
    vocab_size: int = Field(384, ge=300)
    """Small against `hidden_size`, because LoRA leaves the random output head as it is: 256 numbers can still pick out
    each of 384 tokens, but not each of 1,000."""
    hidden_size: int = Field(256, ge=8)
    layers: int = Field(2, ge=1)
    heads: int = Field(4, ge=1)
    kv_heads: int = Field(2, ge=1)
    intermediate_size: int = Field(512, ge=8)
    context_length: int = Field(4096, ge=8)
    seed: int = 0
    format: int = 2
    """Raised when this module writes something else for the same spec, so that cached stand-ins are made again."""

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a spec file; `UsageError` says which value is wrong."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except ValidationError as error:
            raise UsageError(f"{path}: {error}") from None

    @property
    def identity(self) -> str:
        """Hex SHA-256: equal identities give equal models, byte for byte."""
        return sha256_bytes(canonical_json(self.model_dump(mode="json", exclude={"data"})))


def make(spec: StandInSpec, output: Path) -> None:
    """Write the model folder `output`, whole or not at all.

    Raises `UsageError` for an architecture that is not in `ARCHITECTURES`.
    """
    try:
        import tokenizers  # noqa: F401
        from safetensors.numpy import save_file
    except ImportError as error:
        raise MissingDependencyError(error.name or "tokenizers", extra="train", purpose="Making a stand-in") from None

    if spec.architecture not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise UsageError(f"No stand-in of architecture `{spec.architecture}` can be made.", fix=f"Known: {known}.")
    architecture = ARCHITECTURES[spec.architecture]
    if architecture.paints:
        from azft.training.stand_in_painter import write_painter

        with atomic_path(output) as folder:
            folder.mkdir()
            write_painter(spec, _texts(spec.data), folder)
        return
    tokenizer = train_tokenizer(spec)
    # The trainer gives the special tokens the first ids, in their order.
    ids = {token: index for index, token in enumerate(spec.special_tokens.all)}
    config = architecture.config(spec, vocab_size=tokenizer.get_vocab_size(), ids=ids)
    with atomic_path(output) as folder:
        folder.mkdir()
        tokenizer.save(str(folder / "tokenizer.json"))
        write_json(folder / "tokenizer_config.json", _tokenizer_config(spec))
        if spec.chat_template is not None:
            write_text(folder / "chat_template.jinja", spec.chat_template)
        write_json(folder / "config.json", config | {MARK: True})
        if architecture.writes:
            write_json(folder / "generation_config.json", _generation_config(spec, ids))
        weights = dict(random_weights(spec, architecture, tokenizer.get_vocab_size()))
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def train_tokenizer(spec: StandInSpec) -> tokenizers.Tokenizer:
    """A byte-level BPE over the rows' text: every input can be encoded, and the same rows give the same tokenizer."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=spec.vocab_size,
        special_tokens=list(spec.special_tokens.all),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(spec.data), trainer)
    tokenizer.post_processor = _around(spec, tokenizer)
    return tokenizer


def _around(spec: StandInSpec, tokenizer: tokenizers.Tokenizer) -> Any:
    """What the architecture's tokenizers put around a text or a pair of them: T5's </s>, BERT's [CLS] and [SEP]."""
    from tokenizers.processors import TemplateProcessing

    architecture, special = ARCHITECTURES[spec.architecture], spec.special_tokens
    before = f"{special.bos} " if architecture.opens else ""
    after = f" {special.eos}" if architecture.closes else ""
    if not before and not after:
        return None
    return TemplateProcessing(
        single=f"{before}$A{after}",
        pair=f"{before}$A{after} $B:1{after and after + ':1'}",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in (special.bos, special.eos) if token],
    )


def _texts(path: Path) -> Iterator[str]:
    """Text of the rows, whatever their columns are; broken rows are passed over, for the check reports them."""
    from azft.data.readers import Row, read_rows

    seen = 0
    for row in read_rows(path):
        if seen > _TEXT_LIMIT:
            return
        if isinstance(row, Row):
            for text in _strings(row.data):
                seen += len(text)
                yield text


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value.encode("utf-8", "replace").decode("utf-8")  # a lone surrogate would stop the trainer
    elif isinstance(value, dict):
        yield from itertools.chain.from_iterable(_strings(child) for child in value.values())
    elif isinstance(value, list):
        yield from itertools.chain.from_iterable(_strings(child) for child in value)


def _tokenizer_config(spec: StandInSpec) -> dict[str, Any]:
    special = spec.special_tokens
    return {
        # Not the family's own class: those rebuild their pre-tokenizer and would ignore ours.
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": special.bos,
        "eos_token": special.eos,
        "pad_token": special.pad,
        "clean_up_tokenization_spaces": False,
        "model_max_length": spec.context_length,
        **ARCHITECTURES[spec.architecture].tokenizer_config,
    }


def _generation_config(spec: StandInSpec, ids: dict[str, int]) -> dict[str, Any]:
    special = spec.special_tokens
    begins = {"decoder_start_token_id": ids[special.pad]} if ARCHITECTURES[spec.architecture].reads_and_writes else {}
    return {
        **begins,
        "bos_token_id": ids[special.bos] if special.bos else None,
        "eos_token_id": list(dict.fromkeys([ids[special.stop], ids[special.eos]])),
        "pad_token_id": ids[special.pad],
    }


def main(arguments: list[str] | None = None) -> None:
    """`python -m azft.training.stand_in --spec spec.json --output DIR`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spec", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    given = parser.parse_args(arguments)
    make(StandInSpec.read(given.spec), given.output)


if __name__ == "__main__":
    main()
