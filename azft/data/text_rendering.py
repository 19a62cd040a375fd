"""Texts without a chat's markup: a whole text, or a prompt with its completion; the end of text is learned too."""

from __future__ import annotations

from azft.data.documents import Spare
from azft.data.rendering import RenderedText, Renderer, Row, Span
from azft.data.template_probe import RefusalError, control_texts
from azft.data.tokenizer import ModelTokenizer


class TextRenderer(Renderer):
    """Rows with `text`, learned from its first word to its last, or with `prompt` and `completion`.

    The completion follows the prompt as it stands, without a space of ours: what the model is asked when it is served
    is what it was trained on. So it is the prompt's beginning that goes when a row is too long. Raises `RefusalError`
    for a tokenizer without an end-of-text token.
    """

    def __init__(self, tokenizer: ModelTokenizer) -> None:
        stop, stop_id = end_of_text(tokenizer)
        super().__init__(tokenizer, stop=stop, stop_id=stop_id, control_texts=control_texts(tokenizer, stop))
        self.opening = opening_text(tokenizer)

    def text(self, row: Row) -> RenderedText:
        prompt, learned = ("", row["text"]) if "text" in row else (row["prompt"], row["completion"])
        self.refuse_control_tokens([prompt, learned], "The row")
        before = self.opening + prompt
        text = before + learned + self.stop
        self.refuse_what_is_no_text(text)
        span = Span(len(before), len(before) + len(learned), len(text))
        spare = None if "text" in row else Spare(len(self.opening), len(before), from_start=True)
        return RenderedText(text, (span,), spare=spare)


def end_of_text(tokenizer: ModelTokenizer) -> tuple[str, int]:
    """The token after which nothing follows, and its id. Raises `RefusalError` where there is none."""
    stop = tokenizer.variables.get("eos_token")
    stop_id = tokenizer.backend.token_to_id(stop) if stop else None
    if stop is None or stop_id is None:
        raise RefusalError(
            "tokenizer-no-end",
            f"The tokenizer in {tokenizer.folder} has no end-of-text token: the model would never learn to stop.",
            fix="Set eos_token in its tokenizer_config.json.",
        )
    return stop, stop_id


def opening_text(tokenizer: ModelTokenizer) -> str:
    """What the tokenizer puts before every text (Llama: its beginning-of-text token), as text; "" for most."""
    backend = tokenizer.backend
    plain = backend.encode("a", add_special_tokens=False).ids
    full = backend.encode("a", add_special_tokens=True).ids
    length = next((n for n in range(len(full)) if full[n : n + len(plain)] == plain), 0)
    opening = "".join(str(backend.id_to_token(number)) for number in full[:length])
    return opening if backend.encode(opening, add_special_tokens=False).ids == full[:length] else ""
