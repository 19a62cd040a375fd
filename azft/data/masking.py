"""From a row of chat to token ids and their loss mask: each assistant turn with its stop token, and nothing else.

Where a turn lies is never guessed. The conversation is rendered as it is and with a marker in place of each answer; the
first must equal the second with the answers put back, else the row is refused with the reason. Turns that hold more
than text (tool calls) are found by rendering the conversation up to them, which must be a prefix of the whole.

Not covered: packing, lengths, and what makes a row good (`azft.data.check`).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from azft.data.chat_template import ChatTemplateError, Message
from azft.data.conversation import conversation, strings_of
from azft.data.template_probe import MARKER, RefusalError, marker, probe_template, settle
from azft.data.tokenizer import ChatTokenizer

_PLAIN_KEYS = {"role", "content", "name"}


@dataclass(frozen=True, slots=True)
class Turn:
    """An assistant turn in the loss: characters [start, end) of the rendered text, its stop token the last of them."""

    start: int
    stop: int
    """Where the stop token begins."""
    end: int


@dataclass(frozen=True, slots=True)
class RenderedText:
    """A conversation as text, and its turns that are in the loss."""

    text: str
    turns: tuple[Turn, ...]


@dataclass(frozen=True, slots=True)
class Rendered:
    """A conversation as tokens."""

    text: str
    turns: tuple[Turn, ...]
    token_ids: list[int]
    loss_spans: tuple[tuple[int, int], ...]
    """[first, last + 1) token of each turn in the loss."""
    straddling: int
    """Tokens that hold both template text and the beginning of a turn; they are outside the loss."""

    @property
    def loss_mask(self) -> NDArray[np.bool_]:
        """True where a token is in the loss; (tokens,)."""
        mask = np.zeros(len(self.token_ids), dtype=np.bool_)
        for first, end in self.loss_spans:
            mask[first:end] = True
        return mask


Result = Rendered | RefusalError
Item = TypeVar("Item")


class ChatRenderer:
    """Renders rows of the chat task with one model's tokenizer and template.

    Rows are mappings with the task's own columns: `messages`, and `tools` where there are any. Raises `RefusalError`
    when the template can't be masked safely.
    """

    def __init__(self, tokenizer: ChatTokenizer) -> None:
        self.tokenizer = tokenizer
        self.probe = probe_template(tokenizer)

    def render(self, row: Message) -> Rendered:
        """One row as tokens. Raises `RefusalError` for a row whose mask can't be told for certain."""
        rendered = self.text(row)
        return self._tokens(rendered, self.tokenizer.backend.encode(rendered.text, add_special_tokens=False))

    def render_batches(
        self, batches: Iterable[list[Item]], row_of: Callable[[Item], Message]
    ) -> Iterator[tuple[list[Item], list[Result]]]:
        """Batches of items with the tokens of each one's row, or the refusal in its place.

        A batch is encoded (on all cores, unless TOKENIZERS_PARALLELISM is off) while the next one is read and rendered.
        """
        with ThreadPoolExecutor(max_workers=1) as encoder:
            before: tuple[list[Item], list[RenderedText | RefusalError], Future[list[Any]]] | None = None
            for items in batches:
                texts = [self._text_or_refusal(row_of(item)) for item in items]
                encodings = encoder.submit(self._encode, [one.text for one in texts if isinstance(one, RenderedText)])
                if before is not None:
                    yield before[0], self._results(before[1], before[2].result())
                before = items, texts, encodings
            if before is not None:
                yield before[0], self._results(before[1], before[2].result())

    def _encode(self, texts: list[str]) -> list[Any]:
        return list(self.tokenizer.backend.encode_batch(texts, add_special_tokens=False))

    def _results(self, texts: list[RenderedText | RefusalError], encodings: list[Any]) -> list[Result]:
        following = iter(encodings)
        return [
            one if isinstance(one, RefusalError) else self._tokens_or_refusal(one, next(following)) for one in texts
        ]

    def count_tokens(self, rows: Sequence[Message]) -> list[int]:
        """Tokens of each row, as `azft.data.check` wants to know them. Raises the first row's `RefusalError`."""
        texts = [self.text(row).text for row in rows]
        return [len(encoding) for encoding in self.tokenizer.backend.encode_batch_fast(texts, add_special_tokens=False)]

    def text(self, row: Message) -> RenderedText:
        """One row as text, with the turns that are in the loss. Raises `RefusalError`."""
        messages, tools = conversation(row)
        weights = [message.get("weight", 1) for message in row["messages"]]
        learned = [i for i, message in enumerate(messages) if message["role"] == "assistant" and weights[i] != 0]
        for index, message in enumerate(messages):
            self._refuse_control_tokens(message, f"Message {index + 1} ({message.get('role')})")
        self._refuse_control_tokens(tools, "The list of tools")
        try:
            text = self.tokenizer.template.render(messages, tools=tools)
            if not _is_unicode(text):
                raise RefusalError("data-not-unicode", "The row holds half a surrogate pair, which is no text.")
            turns = self._turns(messages, learned, tools, text)
        except ChatTemplateError as error:
            raise RefusalError("template-refuses-conversation", error.message) from None
        _refuse_dropped_messages(messages, text)
        return RenderedText(text, tuple(turns[index] for index in learned))

    def _text_or_refusal(self, row: Message) -> RenderedText | RefusalError:
        try:
            return self.text(row)
        except RefusalError as refusal:
            return refusal

    def _tokens_or_refusal(self, rendered: RenderedText, encoding: Any) -> Result:
        try:
            return self._tokens(rendered, encoding)
        except RefusalError as refusal:
            return refusal

    def _refuse_control_tokens(self, value: Any, where: str) -> None:
        for text in strings_of(value):
            if found := self.probe.control_tokens.search(text):
                raise RefusalError(
                    "data-special-token",
                    f"{where} contains {found.group()}, which the model's tokenizer reads as a marker and not as text.",
                    fix="Take it out of the data, or write it differently (a space inside is enough).",
                )

    def _turns(self, messages: list[Message], learned: list[int], tools: Any, text: str) -> dict[int, Turn]:
        """The turns of the messages whose indices are in `learned`."""
        plain = [index for index in learned if _is_plain(messages, index)]
        turns = self._plain_turns(messages, plain, tools, text) if plain else {}
        for index in learned:
            if index not in turns:
                turns[index] = self._turn_after_prefix(messages, index, tools, text)
        return turns

    def _plain_turns(self, messages: list[Message], plain: list[int], tools: Any, text: str) -> dict[int, Turn]:
        """Turns of nothing but text that follow a user's, all at once."""
        probe = self.probe
        masked = list(messages)
        for index in plain:
            masked[index] = {**masked[index], "content": marker(index)}
        parts = MARKER.split(self.tokenizer.template.render(masked, tools=tools))
        if [int(number) for number in parts[1::2]] != plain:
            raise _altered("drops, repeats or reorders answers of this conversation")
        written: list[str] = []
        position = 0
        turns = {}
        before = parts[0]
        for index, following in zip(plain, parts[2::2], strict=True):
            before, content, after = settle(before, messages[index]["content"], following)
            if not before.endswith(probe.opening):
                raise _altered(f"opens message {index + 1} (assistant) otherwise than the generation prompt")
            if not after.startswith(probe.closing):
                raise RefusalError(
                    "template-no-stop", f"Message {index + 1} (assistant) is not followed by {probe.stop}."
                )
            position += len(before)
            start, stop = position - len(probe.lead_in), position + len(content) + len(probe.closing) - len(probe.stop)
            turns[index] = Turn(start, stop, stop + len(probe.stop))
            written += before, content
            position += len(content)
            before = after
        written.append(before)
        if "".join(written) != text:
            raise _altered("changes what was said in this conversation (past thinking left out, perhaps)")
        return turns

    def _turn_after_prefix(self, messages: list[Message], index: int, tools: Any, text: str) -> Turn:
        """Any other turn: what follows the prompt for it, up to the stop token, if all renderings agree on that."""
        template, stop_token = self.tokenizer.template, self.probe.stop
        prompt = template.render(messages[:index], tools=tools, add_generation_prompt=True) if index else ""
        stop = text.find(stop_token, len(prompt))
        end = stop + len(stop_token)
        so_far = template.render(messages[: index + 1], tools=tools)
        if not index or not text.startswith(prompt) or stop < 0 or not so_far.startswith(text[:end]):
            raise _altered(f"writes message {index + 1} (assistant) otherwise than it would be generated")
        return Turn(len(prompt), stop, end)

    def _tokens(self, rendered: RenderedText, encoding: Any) -> Rendered:
        """Map character positions to tokens: a token is in the loss if it lies inside a turn, or is its stop token."""
        ids, offsets = encoding.ids, encoding.offsets
        spans, straddling = [], 0
        for turn in rendered.turns:
            first = bisect_left(offsets, (turn.start, -1))
            # Some tokenizers let a marker swallow the white space around it, so the stop token is known by its id: its
            # offsets may reach over the end of the turn (Phi-3) or begin before it.
            last = bisect_right(offsets, (turn.stop, len(rendered.text))) - 1
            if ids[last] != self.probe.stop_id or offsets[last][1] < turn.end:
                raise RefusalError(
                    "template-no-stop",
                    f"{self.probe.stop} after an answer is not read as one token by the tokenizer.",
                )
            if 0 < first <= last and offsets[first - 1][1] > turn.start:
                straddling += 1
            spans.append((min(first, last), last + 1))
        return Rendered(rendered.text, rendered.turns, ids, tuple(spans), straddling)


def _is_plain(messages: list[Message], index: int) -> bool:
    message = messages[index]
    follows_user = index > 0 and messages[index - 1]["role"] == "user"
    return follows_user and message.keys() <= _PLAIN_KEYS and isinstance(message.get("content"), str)


def _altered(what: str) -> RefusalError:
    return RefusalError(
        "template-changes-content",
        f"The chat template {what}: the model would be trained on something else than it is asked for when served.",
        fix="Give all answers but the last `weight: 0`, or use another chat template.",
    )


def _refuse_dropped_messages(messages: list[Message], text: str) -> None:
    for index, message in enumerate(messages):
        content = message.get("content")
        if message["role"] in {"system", "user"} and isinstance(content, str) and content.strip() not in text:
            raise RefusalError(
                "template-drops-message",
                f"The chat template leaves out message {index + 1} ({message['role']}): the model would never see it.",
                fix="Take the message out of the data, or use another chat template.",
            )


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
