"""What renderers for models that read, and don't write, share: texts encoded whole, with the tokenizer's own marks."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from azft.data.encoded import Encoded
from azft.data.rendering import Rendered, RenderedText, Renderer
from azft.data.tokenizer import ModelTokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class Read(Rendered):
    """A row as tokens, with what the tokenizer gave them: where each is from."""

    encoded: Encoded


class ReadingRenderer(Renderer):
    """Renders rows for a model with a head that tells something about them. `names` are the labels, by number."""

    packs = False

    def __init__(self, tokenizer: ModelTokenizer, names: Sequence[str] = ()) -> None:
        super().__init__(tokenizer)
        self.names = tuple(names)

    @property
    def labels(self) -> tuple[str, ...]:
        return self.names

    @abstractmethod
    def inputs(self, text: RenderedText) -> str | tuple[str, str]:
        """The one text, or the two, that a rendered row is encoded as."""

    def encode(self, texts: Sequence[RenderedText], *, offsets: bool = True) -> list[Any]:
        return self._encoded([self.inputs(text) for text in texts], special_tokens=True, offsets=offsets)
