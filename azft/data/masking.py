"""From a row of chat to token ids and their loss mask: each assistant turn with its stop token, and nothing else.

Where a turn lies is never guessed. The conversation is rendered as it is and with a marker in place of each answer; the
first must equal the second with the answers put back, else the row is refused with the reason. Turns that hold more
than text (tool calls) are found by rendering the conversation up to them, which must be a prefix of the whole.

Not covered: packing, lengths, and what makes a row good (`azft.data.check`).
"""

from __future__ import annotations

from typing import Any

from azft.data.chat_template import ChatTemplateError, Message
from azft.data.conversation import conversation
from azft.data.documents import NOTHING_SPARE, Spare
from azft.data.rendering import RenderedText, Renderer, Row, Span
from azft.data.template_probe import MARKER, RefusalError, marker, probe_template, settle
from azft.data.tokenizer import ModelTokenizer

_PLAIN_KEYS = {"role", "content", "name"}


class ChatRenderer(Renderer):
    """Renders rows of the chat task with one model's tokenizer and template.

    Rows are mappings with the task's own columns: `messages`, and `tools` where there are any. Raises `RefusalError`
    when the template can't be masked safely.
    """

    def __init__(self, tokenizer: ModelTokenizer) -> None:
        self.probe = probe_template(tokenizer)
        super().__init__(
            tokenizer,
            stop=self.probe.stop,
            stop_id=self.probe.stop_id,
            control_texts=self.probe.control_texts,
            findings=self.probe.findings,
        )
        self.template = tokenizer.chat_template()

    def text(self, row: Row) -> RenderedText:
        """One row as text, with the turns that are in the loss. Raises `RefusalError`."""
        messages, tools = conversation(row)
        weights = [message.get("weight", 1) for message in row["messages"]]
        learned = [i for i, message in enumerate(messages) if message["role"] == "assistant" and weights[i] != 0]
        for index, message in enumerate(messages):
            self.refuse_control_tokens(message, f"Message {index + 1} ({message.get('role')})")
        self.refuse_control_tokens(tools, "The list of tools")
        try:
            text = self.template.render(messages, tools=tools)
            self.refuse_what_is_no_text(text)
            turns = self._turns(messages, learned, tools, text)
        except ChatTemplateError as error:
            raise RefusalError("template-refuses-conversation", error.message) from None
        _refuse_dropped_messages(messages, text)
        return RenderedText(text, tuple(turns[index] for index in learned))

    def spare(self, rendered: RenderedText, asked: str, within: Spare | None = None) -> Spare:
        """Where `within` (None: all) of the user's last turn, whose content is `asked`, stands in the rendered row.

        Empty where the last learned answer doesn't follow that turn as the template opens an answer to a user.
        """
        probe, content = self.probe, asked.strip()  # templates may trim it; a beginning of white space is never spare
        end = max(rendered.spans[-1].start + len(probe.lead_in) - len(probe.opening), 0)
        start = rendered.text.rfind(content, 0, end)
        if start < 0 or rendered.text[start + len(content) : end].strip():
            return NOTHING_SPARE
        within = (within or Spare(0, len(asked))).moved(start - asked.index(content))
        return Spare(min(max(within.start, start), end), min(within.end, end))

    def _turns(self, messages: list[Message], learned: list[int], tools: Any, text: str) -> dict[int, Span]:
        """The turns of the messages whose indices are in `learned`."""
        plain = [index for index in learned if _is_plain(messages, index)]
        turns = self._plain_turns(messages, plain, tools, text) if plain else {}
        for index in learned:
            if index not in turns:
                turns[index] = self._turn_after_prefix(messages, index, tools, text)
        return turns

    def _plain_turns(self, messages: list[Message], plain: list[int], tools: Any, text: str) -> dict[int, Span]:
        """Turns of nothing but text that follow a user's, all at once."""
        probe = self.probe
        masked = list(messages)
        for index in plain:
            masked[index] = {**masked[index], "content": marker(index)}
        parts = MARKER.split(self.template.render(masked, tools=tools))
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
            turns[index] = Span(start, stop, stop + len(probe.stop))
            written += before, content
            position += len(content)
            before = after
        written.append(before)
        if "".join(written) != text:
            raise _altered("changes what was said in this conversation (past thinking left out, perhaps)")
        return turns

    def _turn_after_prefix(self, messages: list[Message], index: int, tools: Any, text: str) -> Span:
        """Any other turn: what follows the prompt for it, up to the stop token, if all renderings agree on that."""
        template, stop_token = self.template, self.probe.stop
        prompt = template.render(messages[:index], tools=tools, add_generation_prompt=True) if index else ""
        stop = text.find(stop_token, len(prompt))
        end = stop + len(stop_token)
        so_far = template.render(messages[: index + 1], tools=tools)
        if not index or not text.startswith(prompt) or stop < 0 or not so_far.startswith(text[:end]):
            raise _altered(f"writes message {index + 1} (assistant) otherwise than it would be generated")
        return Span(len(prompt), stop, end)


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
