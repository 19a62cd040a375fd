"""CLIP's tokenizer of its two old files, as folders of diffusers have them: vocab.json and merges.txt.

It is put together as transformers' own CLIPTokenizer is (version 5.23; a test compares the two).
"""

from __future__ import annotations

from pathlib import Path

import orjson
from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE

from azft.data.model_folder import CLIP_TOKENIZER
from azft.errors import AzftError

BEGIN, END = "<|startoftext|>", "<|endoftext|>"
WORD_END = "</w>"
"""What ends the last token of each word, also in decoded text."""
_WORDS = r"""<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"""


def read(folder: Path) -> Tokenizer:
    """The tokenizer of a folder; `AzftError` for files that are damaged."""
    try:
        vocabulary: dict[str, int] = orjson.loads((folder / CLIP_TOKENIZER[0]).read_bytes())
        lines = (folder / CLIP_TOKENIZER[1]).read_text(encoding="utf-8").splitlines()
        pairs = [line.split() for line in lines if line.strip() and not line.startswith("#version")]
        return build(vocabulary, [(first, second) for first, second in pairs])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise AzftError(
            f"The tokenizer in {folder} can't be read from {' and '.join(CLIP_TOKENIZER)}: {error}.",
            fix="Copy the model folder again.",
        ) from None
    except Exception as error:  # the library raises plain Exception
        raise AzftError(f"The tokenizer in {folder} can't be read: {error}.", fix="Copy it again.") from None


def build(vocabulary: dict[str, int], merges: list[tuple[str, str]]) -> Tokenizer:
    """The tokenizer of a vocabulary and the pairs that are merged, best first."""
    tokenizer = Tokenizer(
        BPE(
            vocab=vocabulary,
            merges=merges,
            continuing_subword_prefix="",
            end_of_word_suffix=WORD_END,
            fuse_unk=False,
            unk_token=END,
        )
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.RobertaProcessing(
        (END, vocabulary[END]), (BEGIN, vocabulary[BEGIN]), False, False
    )
    tokenizer.add_special_tokens([BEGIN, END])
    return tokenizer
