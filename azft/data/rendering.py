"""What every renderer shares: a row becomes text with learned spans in it, and that token ids with a loss mask.

A renderer says where the spans lie (`text`); mapping them to tokens, encoding in batches on all cores, and counting are
here. Which renderer a task has is `azft.data.renderers`' table.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from azft.data.documents import Counts, LongRows, Piece, Spare, pieces
from azft.data.template_probe import RefusalError, control_pattern
from azft.data.tokenizer import ModelTokenizer
from azft.data.values import strings_of
from azft.findings import Finding

Row = Mapping[str, Any]
"""A checked row in its normal form: the task's column to its value."""


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch in the loss: characters [start, end) of the rendered text, its stop token the last of them."""

    start: int
    stop: int
    """Where the stop token begins."""
    end: int


@dataclass(frozen=True, slots=True)
class RenderedText:
    """A row as text, and the spans of it that are in the loss."""

    text: str
    spans: tuple[Span, ...] = ()
    references: tuple[str, ...] = ()
    """Texts any of which is right as the model's answer, for metrics over what it writes."""
    spare: Spare | None = None
    """The characters of its prompt that can go when it is too long; None where it is not a prompt and its answer."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """A row as tokens."""

    text: str
    spans: tuple[Span, ...]
    token_ids: list[int]
    loss_spans: tuple[tuple[int, int], ...]
    """[first, last + 1) token of each stretch in the loss."""
    straddling: int = 0
    """Tokens that hold both text outside the loss and the beginning of a span; they are outside the loss."""
    targets: NDArray[np.int32] | None = None
    """What is to be told at each token in the loss, (tokens in the loss, numbers each); None: the token itself."""
    references: tuple[str, ...] = ()
    spare: Spare | None = None
    """The tokens of its prompt that can go when it is too long; None where it is not a prompt and its answer."""

    @property
    def longest(self) -> int:
        """Tokens of the longest document that this becomes."""
        return len(self.token_ids)

    @property
    def loss_mask(self) -> NDArray[np.bool_]:
        """True where a token is in the loss; (tokens,)."""
        mask = np.zeros(len(self.token_ids), dtype=np.bool_)
        for first, end in self.loss_spans:
            mask[first:end] = True
        return mask


Result = Rendered | RefusalError
Item = TypeVar("Item")


class Renderer(ABC):
    """Renders the rows of one task with one model's tokenizer."""

    objective = "next-token"
    """What the tokens are learned by: a row of `azft.training.objectives`."""
    packs = True
    """Whether several documents may share a sequence."""
    splits = True
    """Whether a row that is too long may become several documents (data.long_rows: split)."""
    refuses_by_shape = True
    """Whether rows of one shape (`azft.data.template_trial`) are refused all or none."""
    documents_per_row = 1
    """Documents that belong together, in turn."""
    target_width = 0
    """Numbers to be told at each token in the loss; 0: the token itself is."""
    pixels: tuple[int, ...] = ()
    """The shape of the picture that belongs to each document; () where there are none."""

    def __init__(
        self,
        tokenizer: ModelTokenizer,
        *,
        stop: str = "",
        stop_id: int = -1,
        control_texts: tuple[str, ...] = (),
        findings: tuple[Finding, ...] = (),
    ) -> None:
        self.tokenizer = tokenizer
        self.stop, self.stop_id = stop, stop_id
        self.control_texts = control_texts
        """What the tokenizer would read in data as a marker, longest first; rows that hold one are refused."""
        self.findings = findings
        """What is to be known about rendering for this model, whatever the rows are."""
        self._control_tokens = control_pattern(control_texts)

    @property
    def marks(self) -> dict[str, Any]:
        """What a renderer that renders by this one is made with, besides the tokenizer."""
        return {
            "stop": self.stop,
            "stop_id": self.stop_id,
            "control_texts": self.control_texts,
            "findings": self.findings,
        }

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of what can be told about a row or token, by number; () where that is a token."""
        return ()

    @abstractmethod
    def text(self, row: Row) -> RenderedText:
        """One row as text, with the spans that are in the loss. Raises `RefusalError`."""

    def render(self, row: Row) -> Rendered:
        """One row as tokens. Raises `RefusalError` for a row whose mask can't be told for certain."""
        rendered = self.text(row)
        return self.tokens(rendered, self.encode([rendered])[0])

    def render_batches(
        self, batches: Iterable[list[Item]], row_of: Callable[[Item], Row]
    ) -> Iterator[tuple[list[Item], list[Result]]]:
        """Batches of items with the tokens of each one's row, or the refusal in its place.

        A batch is encoded (on all cores, unless TOKENIZERS_PARALLELISM is off) while the next one is read and rendered.
        """
        with ThreadPoolExecutor(max_workers=1) as encoder:
            before: tuple[list[Item], list[RenderedText | RefusalError], Future[list[Any]]] | None = None
            for items in batches:
                texts = [self._text_or_refusal(row_of(item)) for item in items]
                encodings = encoder.submit(self.encode, [one for one in texts if isinstance(one, RenderedText)])
                if before is not None:
                    yield before[0], self._results(before[1], before[2].result())
                before = items, texts, encodings
            if before is not None:
                yield before[0], self._results(before[1], before[2].result())

    def count_tokens(self, rows: Sequence[Row]) -> list[int]:
        """Tokens of each row, as `azft.data.check` wants to know them. Raises the first row's `RefusalError`."""
        return [len(encoding) for encoding in self.encode([self.text(row) for row in rows], offsets=False)]

    def encode(self, texts: Sequence[RenderedText], *, offsets: bool = True) -> list[Any]:
        """The tokenizer's encodings of rendered texts, all at once; without `offsets` where only ids are wanted."""
        return self._encoded([one.text for one in texts], special_tokens=False, offsets=offsets)

    def tokens(self, rendered: RenderedText, encoding: Any) -> Rendered:
        """Map character positions to tokens: a token is in the loss if it lies inside a span, or is its stop token."""
        ids, offsets = encoding.ids, encoding.offsets
        spans, straddling = [], 0
        for span in rendered.spans:
            first = bisect_left(offsets, (span.start, -1))
            # Some tokenizers let a marker swallow the white space around it, so the stop token is known by its id: its
            # offsets may reach over the end of the span (Phi-3) or begin before it.
            last = bisect_right(offsets, (span.stop, len(rendered.text))) - 1
            if ids[last] != self.stop_id or offsets[last][1] < span.end:
                raise RefusalError(
                    "template-no-stop",
                    f"{self.stop} after an answer is not read as one token by the tokenizer.",
                )
            if 0 < first <= last and offsets[first - 1][1] > span.start:
                straddling += 1
            spans.append((min(first, last), last + 1))
        spare = None if rendered.spare is None else rendered.spare.tokens(offsets)
        return Rendered(
            rendered.text,
            rendered.spans,
            ids,
            tuple(spans),
            straddling,
            references=rendered.references,
            spare=spare,
        )

    def documents(self, rendered: Rendered, max_length: int, long_rows: LongRows, counts: Counts) -> Iterator[Piece]:
        """The documents of a row that have something to learn; `counts` is kept up to date."""
        return pieces(
            rendered.token_ids,
            rendered.loss_mask,
            max_length,
            long_rows,
            counts,
            straddling=rendered.straddling > 0,
            references=rendered.references,
            spare=rendered.spare,
        )

    def refuse_control_tokens(self, value: Any, where: str) -> None:
        """Raise `RefusalError` when a text in `value` holds what the tokenizer takes for a marker."""
        for text in strings_of(value):
            if found := self._control_tokens.search(text):
                raise RefusalError(
                    "data-special-token",
                    f"{where} contains {found.group()}, which the model's tokenizer reads as a marker and not as text.",
                    fix="Take it out of the data, or write it differently (a space inside is enough).",
                )

    def refuse_what_is_no_text(self, text: str) -> None:
        """Raise `RefusalError` for half a surrogate pair, which JSON can write and no encoding can."""
        try:
            text.encode()
        except UnicodeEncodeError:
            raise RefusalError("data-not-unicode", "The row holds half a surrogate pair, which is no text.") from None

    def _encoded(self, inputs: Sequence[Any], *, special_tokens: bool, offsets: bool) -> list[Any]:
        """The tokenizer's encodings of texts, or of pairs of them."""
        backend = self.tokenizer.backend
        encode = backend.encode_batch if offsets else backend.encode_batch_fast
        return list(encode(inputs, add_special_tokens=special_tokens))

    def _results(self, texts: list[RenderedText | RefusalError], encodings: list[Any]) -> list[Result]:
        following = iter(encodings)
        return [
            one if isinstance(one, RefusalError) else self._tokens_or_refusal(one, next(following)) for one in texts
        ]

    def _text_or_refusal(self, row: Row) -> RenderedText | RefusalError:
        try:
            return self.text(row)
        except RefusalError as refusal:
            return refusal

    def _tokens_or_refusal(self, rendered: RenderedText, encoding: Any) -> Result:
        try:
            return self.tokens(rendered, encoding)
        except RefusalError as refusal:
            return refusal
