"""Learns from a chat template, once, how it opens and ends an assistant turn, and refuses one that can't be trained on.

A small conversation is rendered whose contents are markers that no template knows; what stands around them is the
template's own text. Two faults are refused here that otherwise show only after the training: a prompt at serving time
that differs from what was trained, and a turn without a stop token, from which a model never learns to stop.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from azft.data.chat_template import ChatTemplateError, Message
from azft.data.tokenizer import ModelTokenizer
from azft.errors import AzftError
from azft.findings import Finding, Severity

MARKER = re.compile("\uf8f0([0-9]+)\uf8f1")
"""Private-use characters around a message's number."""
_LEFT, _RIGHT = "\n\u2003", "\u2003\n"
"""White space put around each marker, to see what a template trims: nothing, new lines, or all (an em space is
trimmed by `trim` and `strip()`, not by `strip('\\n')`)."""


class RefusalError(AzftError):
    """A template or row whose loss mask can't be told for certain. `code` is a finding's code."""

    def __init__(self, code: str, message: str, *, fix: str = "") -> None:
        super().__init__(message, fix=fix)
        self.code = code

    def finding(self, file: str | None = None, line: int | None = None) -> Finding:
        """The refusal as an error that stands at a row."""
        return Finding(self.code, Severity.ERROR, self.message, self.fix, file, line)


@dataclass(frozen=True)
class TemplateProbe:
    """What a template writes around an assistant turn that follows a user's."""

    opening: str
    """Everything between the user's content and the assistant's."""
    lead_in: str
    """The end of `opening` that the generation prompt leaves out, so that the model must write it (Mistral: a
    space)."""
    closing: str
    """What follows the content, up to and including the stop token."""
    stop: str
    stop_id: int
    control_texts: tuple[str, ...]
    """What the tokenizer would read in data as a marker of the template, longest first."""
    findings: tuple[Finding, ...]


def control_pattern(texts: Iterable[str]) -> re.Pattern[str]:
    """Matches any of the texts, the longest that fits; nothing where there are none."""
    ordered = sorted(texts, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, ordered)) or "(?!)")


def marker(index: int) -> str:
    """Content that stands in for message `index`."""
    return f"{_LEFT}\uf8f0{index}\uf8f1{_RIGHT}"


def settle(before: str, content: str, after: str) -> tuple[str, str, str]:
    """Template text before and after a marker without the marker's white space, and `content` trimmed as it was."""
    if before.endswith(_LEFT):
        before = before[: -len(_LEFT)]
    elif before.endswith(_LEFT[1:]):
        before, content = before[:-1], content.lstrip("\n")
    else:
        content = content.lstrip()
    if after.startswith(_RIGHT):
        after = after[len(_RIGHT) :]
    elif after.startswith(_RIGHT[0]):
        after, content = after[1:], content.rstrip("\n")
    else:
        content = content.rstrip()
    return before, content, after


def probe_template(tokenizer: ModelTokenizer) -> TemplateProbe:
    """Probe the tokenizer's template. Raises `RefusalError` with the reason when it can't be masked safely."""
    turns: list[Message] = [{"role": "user", "content": marker(0)}, {"role": "assistant", "content": marker(1)}]
    template = tokenizer.chat_template()
    try:
        text = template.render(turns)
        prompt = template.render(turns[:1], add_generation_prompt=True)
        bare = template.render(turns[:1])
    except ChatTemplateError as error:
        raise RefusalError(
            "template-refuses-conversation", f"A user's and an assistant's turn can't be rendered: {error.message}"
        ) from None
    parts = MARKER.split(text)
    if parts[1::2] != ["0", "1"] or MARKER.split(prompt)[1::2] != ["0"]:
        raise RefusalError(
            "template-changes-content",
            "The chat template drops, repeats, reorders or rewrites what is said, so no loss mask can be trusted.",
            fix="Use another chat template (chat_template.jinja in the model folder).",
        )
    opening, _, ending = settle(settle("", "", parts[2])[2], "", parts[4])
    prompt_end = settle("", "", MARKER.split(prompt)[2])[2]
    lead_in = _lead_in(tokenizer, opening, prompt_end, ignores_prompt=prompt == bare)
    closing, stop = _closing(tokenizer, ending)
    stop_id = tokenizer.special_ids[stop]
    texts = control_texts(tokenizer, opening + closing)
    return TemplateProbe(
        opening=opening,
        lead_in=lead_in,
        closing=closing,
        stop=stop,
        stop_id=stop_id,
        control_texts=texts,
        findings=tuple(_findings(tokenizer, stop, stop_id)),
    )


def _lead_in(tokenizer: ModelTokenizer, opening: str, prompt_end: str, *, ignores_prompt: bool) -> str:
    """The end of the opening that the generation prompt leaves to the model; markers never belong to it."""
    lead_in = opening[len(prompt_end) :]
    has_markup = lead_in.strip() and (ignores_prompt or any(token in lead_in for token in tokenizer.special_ids))
    if not opening.startswith(prompt_end) or has_markup:
        raise RefusalError(
            "template-generation-prompt",
            f"The chat template's generation prompt ends with {_short(prompt_end)}, but an assistant's turn is opened "
            f"with {_short(opening)}: the model would be asked for something else than it was trained on.",
            fix="Correct the template's `add_generation_prompt` part, or use another chat template.",
        )
    return lead_in


def _closing(tokenizer: ModelTokenizer, ending: str) -> tuple[str, str]:
    """The text up to and including the stop token, and the stop token; white space may stand between."""
    start = len(ending) - len(ending.lstrip())
    stops = [token for token in tokenizer.special_ids if ending.startswith(token, start)]
    if not stops:
        raise RefusalError(
            "template-no-stop",
            f"No special token ends an assistant's turn: its content is followed by {_short(ending)}. "
            "The model would never learn to stop.",
            fix="Let the template write the eos token (or the model's end-of-turn token) right after the content, and "
            "see that the tokenizer knows it as a special token.",
        )
    stop = max(stops, key=len)
    return ending[: start + len(stop)], stop


def control_texts(tokenizer: ModelTokenizer, markup: str = "") -> tuple[str, ...]:
    """Texts that are never data: special tokens, and plain added ones that `markup` has (ChatML's, in some models)."""
    added = [token.content for token in tokenizer.backend.get_added_tokens_decoder().values()]
    texts = {*tokenizer.special_ids, *(text for text in added if text in markup)}
    return tuple(sorted((text for text in texts if text.strip()), key=len, reverse=True))


def _findings(tokenizer: ModelTokenizer, stop: str, stop_id: int) -> Iterator[Finding]:
    """What a template that can be trained on still brings along."""
    template = tokenizer.chat_template()
    now = template.now
    if tokenizer.stop_ids and stop_id not in tokenizer.stop_ids:
        yield Finding(
            "template-stop-is-not-eos",
            Severity.WARNING,
            f"The chat template ends a turn with {stop}, but the model's configuration doesn't stop there: servers may "
            "let it talk on.",
            f"Add {stop_id} to eos_token_id in generation_config.json.",
        )
    if template.depends_on_the_date and now is not None:
        yield Finding(
            "template-writes-date",
            Severity.INFO,
            f"The chat template writes today's date; the training data always gets {now:%d %b %Y}, so that the same "
            "data gives the same tokens on any day.",
        )
    if not _prompt_tokens_lead(tokenizer):
        yield Finding(
            "template-prompt-tokens",
            Severity.WARNING,
            "The tokenizer cuts the end of the generation prompt otherwise when an answer follows it, so the model is "
            "asked with slightly other tokens than it is trained on.",
            "End the template's generation prompt with a special token or a single new line.",
        )
    if _moves_the_system_turn(tokenizer):
        yield Finding(
            "template-moves-system",
            Severity.INFO,
            "The chat template puts the system prompt into the last user turn: in conversations of several turns the "
            "earlier answers are learned without it.",
        )


def _prompt_tokens_lead(tokenizer: ModelTokenizer) -> bool:
    """Whether the tokens of a prompt are the first tokens of the prompt with its answer."""
    turns = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hello"}]
    template = tokenizer.chat_template()
    prompt = tokenizer.encode(template.render(turns[:1], add_generation_prompt=True))
    return tokenizer.encode(template.render(turns))[: len(prompt)] == prompt


def _moves_the_system_turn(tokenizer: ModelTokenizer) -> bool:
    roles = ("system", "user", "assistant", "user", "assistant")
    turns = [{"role": role, "content": marker(index)} for index, role in enumerate(roles)]
    try:
        template = tokenizer.chat_template()
        prompt = template.render(turns[:2], add_generation_prompt=True)
        return not template.render(turns).startswith(prompt)
    except ChatTemplateError:
        return False  # no system turns: rows that have one are refused with the template's own words


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:57]}...")
