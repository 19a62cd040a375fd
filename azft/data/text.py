"""What can be wrong inside a text: mojibake, lost characters, control characters.

Only reports; text is never changed, because a model may be meant to learn just that.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from azft.data.rules import Problem

# The characters that Windows-1252 has where Latin-1 has C1 controls. Closing quotes, dashes and the ellipsis are left
# out: in "CAFÉ” they follow an accented capital in good text.
_CP1252 = "€‚ƒ„†‡ˆ‰Š‹ŒŽ‘“•˜™š›œžŸ"
_CONTINUATION = f"[\u0080-\u00ba\u00bc-\u00bf{_CP1252}]"
_MOJIBAKE = re.compile(
    f"(?:[ÃÂ]{_CONTINUATION})+"  # é -> Ã©, £ -> Â£
    f"|â(?:€|‚¬)[^\x00-\x7f]?"  # ’ -> â€™, € -> â‚¬
    f"|ðŸ[^\x00-\x7f]{{0,2}}"  # emoji
    f"|ï»¿"  # a byte order mark in the middle
    f"|(?:[ÐÑ]{_CONTINUATION}){{2,}}"  # Cyrillic
)
CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_LOST = "\ufffd"


def text_problems(text: str, where: str) -> Iterator[Problem]:
    """Problems of one text; `where` names it in the message, with a capital: `Message 2 (user)`."""
    if control := CONTROL.search(text):
        yield Problem("control-character", {"where": where, "character": _name(control.group())})
    if text.isascii():
        return
    if _LOST in text:
        yield Problem("replacement-character", {"where": where})
    if match := _MOJIBAKE.search(text):
        sample = match.group()
        yield Problem("mojibake", {"where": where, "sample": sample, "guess": _repaired(sample)})


def _name(character: str) -> str:
    known = {
        "\x00": "NUL",
        "\x08": "backspace: an unescaped \\b?",
        "\x0c": "form feed: an unescaped \\f?",
        "\x1b": "ESC",
    }
    code = f"U+{ord(character):04X}"
    return f"{code} ({known[character]})" if character in known else code


def _repaired(sample: str) -> str:
    """The text as it was before it was decoded as Windows-1252; `?` when that can't be told."""
    raw = bytearray()
    for character in sample:
        try:
            raw += character.encode("cp1252")
        except UnicodeEncodeError:
            if ord(character) > 0xFF:
                return "?"
            raw.append(ord(character))
    text = raw.decode("utf-8", "replace")
    return "?" if not text or _LOST in text else text
