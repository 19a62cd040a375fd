"""The first held-out rows as text, with what is right and what a model that reads told about them, for samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from azft.training.classes import tags_by_document
from azft.training.label_metrics import entities
from azft.training.spans import answers_by_row, references_by_row

if TYPE_CHECKING:
    import torch

    from azft.training.objectives import Totals

Decode = Callable[[Sequence[int]], str]
"""Text of token ids, without special tokens."""
NOTHING = "(none)"


class Sample(NamedTuple):
    """A row as text, and what is right and what was told about it."""

    prompt: str
    reference: str
    answer: str


def class_samples(totals: Totals, decode: Decode, count: int) -> list[Sample]:
    """Of each text its class."""
    return [
        Sample(_text(totals, number, decode), totals.names[int(right[0])], totals.names[int(said)])
        for number, right, said in _first_documents(totals, count)
    ]


def classes_samples(totals: Totals, decode: Decode, count: int) -> list[Sample]:
    """Of each text all its classes."""
    return [
        Sample(_text(totals, number, decode), _named(totals, right), _named(totals, said))
        for number, right, said in _first_documents(totals, count)
    ]


def tag_samples(totals: Totals, decode: Decode, count: int) -> list[Sample]:
    """Of each text its entities with their kinds."""
    right, said = tags_by_document(totals)
    samples = []
    for number in sorted(right)[:count]:
        words = _words(totals, number, decode)
        samples.append(Sample(" ".join(words), _entities(words, right[number]), _entities(words, said[number])))
    return samples


def span_samples(totals: Totals, decode: Decode, count: int) -> list[Sample]:
    """Of each row the question with its context, and the answer."""
    right, said = references_by_row(totals), answers_by_row(totals)
    samples: list[Sample] = []
    for number, source in enumerate(totals.rows.all_sources()):
        if source.text and len(samples) < count:
            document = totals.rows.document(number)
            question = decode(document.tokens[: document.second].tolist())
            prompt = f"{question}\n{source.text}"
            samples.append(Sample(prompt, right[source.row][0] or NOTHING, said[source.row] or NOTHING))
    return samples


def _first_documents(totals: Totals, count: int) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
    """Number, what is right, what was said, of the first documents; batches have them in another order."""
    order = [number for sequences in totals.sequences for number in sequences]
    for number in sorted(order)[:count]:
        place = order.index(number)
        yield number, totals.right[place], totals.said[place]


def _text(totals: Totals, number: int, decode: Decode) -> str:
    """A document as text; the second text on a line of its own."""
    document = totals.rows.document(number)
    cut = len(document.tokens) if document.second is None else document.second
    return "\n".join(filter(None, (decode(document.tokens[:cut].tolist()), decode(document.tokens[cut:].tolist()))))


def _words(totals: Totals, number: int, decode: Decode) -> list[str]:
    """The words that have a tag: from each one's first token to the next one's."""
    document = totals.rows.document(number)
    starts = document.loss_mask.nonzero()[0].tolist()
    ends = [*starts[1:], len(document.tokens)]
    return [decode(document.tokens[start:end].tolist()).strip() for start, end in zip(starts, ends, strict=True)]


def _named(totals: Totals, ones: torch.Tensor) -> str:
    return ", ".join(name for name, one in zip(totals.names, ones.tolist(), strict=True) if one) or NOTHING


def _entities(words: Sequence[str], tags: Sequence[str]) -> str:
    return "; ".join(f"{kind} {' '.join(words[first : last + 1])}" for kind, first, last in entities(tags)) or NOTHING
