"""Tiny real tokenizers for tests: a byte-level BPE trained on the spot, with the special tokens of a model family.

    folder = tokenizer_folder(tmp_path / "model", family="phi-4-mini")
    tokenizer = load_tokenizer(folder)

The same arguments always give the same files; one takes about 0.05 s.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import orjson
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

TEMPLATES = Path(__file__).parent.parent / "assets" / "templates"

CORPUS = (
    "The quick brown fox jumps over the lazy dog. What is the capital of France? It is Paris, of course.",
    "You are a helpful assistant. Answer the question as well as you can, and say so when you don't know.",
    "How many apples are left? There were 12 apples and 5 were eaten, so 12 - 5 = 7 apples are left.",
    "system user assistant model tool\n\n  hello hello, how are you today?\n\n\n I am fine, thank you.\n",
)


@dataclass(frozen=True)
class Family:
    """What a model family's tokenizer brings: its markers, which of them are bos and eos, and what ends a turn."""

    special: tuple[str, ...]
    eos: str
    stop: str
    bos: str | None = None
    rstrip: tuple[str, ...] = ()
    """Markers that swallow the white space after them, as Phi-3's do."""
    added: tuple[str, ...] = field(default=())
    """Added tokens that are not special: data may contain them."""
    splits: str | None = None
    """How text is cut before BPE; GPT-2's way when None."""
    nfc: bool = False
    """Text is brought to Unicode's composed form first, as Qwen's tokenizers do."""


_GPT4_SPLITS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_PHI = ("<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|tool|>", "<|/tool|>")
_CHATML = Family(("<|endoftext|>", "<|im_start|>", "<|im_end|>"), eos="<|im_end|>", stop="<|im_end|>")
_LLAMA = ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
_INST = Family(("<s>", "</s>", "[INST]", "[/INST]"), eos="</s>", stop="</s>", bos="<s>")

FAMILIES: dict[str, Family] = {
    "phi-3": Family(
        _PHI, eos="<|endoftext|>", stop="<|end|>", rstrip=("<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
    ),
    "phi-4-mini": Family(_PHI, eos="<|endoftext|>", stop="<|end|>", splits=_GPT4_SPLITS),
    "llama-3": Family(_LLAMA, bos="<|begin_of_text|>", eos="<|eot_id|>", stop="<|eot_id|>", splits=_GPT4_SPLITS),
    "qwen-2.5": Family(
        _CHATML.special,
        eos="<|im_end|>",
        stop="<|im_end|>",
        added=("<tool_call>", "</tool_call>"),
        splits=_GPT4_SPLITS,
        nfc=True,
    ),
    "chatml": _CHATML,
    "mistral-v1": Family(("<s>", "</s>"), eos="</s>", stop="</s>", bos="<s>"),
    "mistral-system-last": _INST,
    "gemma": Family(
        ("<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"), bos="<bos>", eos="<eos>", stop="<end_of_turn>"
    ),
}


def template_source(name: str) -> str:
    """A template of tests/assets/templates, such as `llama-3` or `bad/no-stop`."""
    return (TEMPLATES / f"{name}.jinja").read_text(encoding="utf-8").rstrip("\n")


@cache
def _trained(family: str, vocab_size: int, corpus: tuple[str, ...]) -> str:
    kind = FAMILIES[family]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if kind.nfc:
        tokenizer.normalizer = normalizers.NFC()
    if kind.splits:
        cut = pre_tokenizers.Split(Regex(kind.splits), "isolated")
        to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([cut, to_bytes])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[AddedToken(text, rstrip=text in kind.rstrip, special=True) for text in kind.special],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in kind.added])
    return str(tokenizer.to_str())


def tokenizer_folder(
    folder: Path,
    family: str = "chatml",
    *,
    template: str | None = None,
    vocab_size: int = 400,
    corpus: tuple[str, ...] = CORPUS,
) -> Path:
    """Write the tokenizer files of a model folder. `template` is another template's source than the family's own."""
    kind = FAMILIES[family]
    folder.mkdir(parents=True, exist_ok=True)
    named = {"eos_token": kind.eos, "pad_token": kind.eos} | ({"bos_token": kind.bos} if kind.bos else {})
    tokenizer = _trained(family, vocab_size, corpus)
    (folder / "tokenizer.json").write_text(tokenizer, encoding="utf-8")
    (folder / "tokenizer_config.json").write_bytes(
        orjson.dumps({"tokenizer_class": "PreTrainedTokenizerFast", **named})
    )
    source = template_source(family) if template is None else template
    (folder / "chat_template.jinja").write_text(source, encoding="utf-8")
    stop = sorted({_id(tokenizer, kind.stop), _id(tokenizer, kind.eos)})
    (folder / "generation_config.json").write_bytes(orjson.dumps({"eos_token_id": stop}))
    return folder


def _id(tokenizer: str, text: str) -> int:
    return next(token["id"] for token in orjson.loads(tokenizer)["added_tokens"] if token["content"] == text)


def sentencepiece_tokenizer(kind: str) -> Tokenizer:
    """A BPE with byte fallback that writes spaces as `▁`, as converted SentencePiece models do (Llama 2, Mistral).

    `kind` says who puts a `▁` before text: `normalizer` (before every piece), or Metaspace's `first` or `always`.
    """
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    if kind == "normalizer":
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme=kind, split=False)
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(steps)
    fallback = [f"<0x{byte:02X}>" for byte in range(256)]
    special = ["<unk>", "<s>", "</s>"]
    trainer = trainers.BpeTrainer(vocab_size=500, special_tokens=special + fallback, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    written = orjson.loads(tokenizer.to_str())
    written["added_tokens"] = [token for token in written["added_tokens"] if token["content"] in special]
    return Tokenizer.from_str(orjson.dumps(written).decode())
