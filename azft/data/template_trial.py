"""Trying the chat template on rows of chats: one row of each shape, and every row that could be a case of its own.

Rendering a row costs 150 microseconds, thirty times its check. What a template that was probed makes of a row is
decided by the row's shape: the roles in their order, the keys, and the white space at the ends of texts. So a JSON line
of a shape that was rendered without refusal is passed over, unless its bytes hold what may mean something to a template
or hide from this look: a special token, a `<` (thinking, markup), or an escape other than the plain ones. Rows that
don't come as JSON lines are all rendered.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

RowRenderer = Callable[[dict[str, Any]], object]
"""Renders one normalised row with the model's chat template; raises `AzftError` for a row that it refuses."""

_MOST_SHAPES = 20_000
"""Shapes remembered; a few hundred bytes each."""
_KEYS = re.compile(rb'"([^"\\]*)"\s*:')
_ROLES = re.compile(rb'"role"\s*:\s*"([^"\\]*)"')
_STARTS_BLANK = re.compile(rb'"content"\s*:\s*"(?:[ ]|\\[nrtf])')
_ENDS_BLANK = re.compile(rb'"(?:(?<= ")|(?<=\\[nrtf]"))\s*[,}]')
_BLANKS = re.compile(rb'"content"\s*:\s*"((?:[ ]|\\[nrtf])*)|((?:[ ]|\\[nrtf])+)"\s*[,}]')
# White space beyond ASCII that str.strip() takes away, as UTF-8, next to a quote.
_WIDE = rb"(?:\xc2[\x85\xa0]|\xe1\x9a\x80|\xe2\x80[\x80-\x8a\xa8\xa9\xaf]|\xe2\x81\x9f|\xe3\x80\x80)"
_WIDE_AT_AN_END = re.compile(rb'"' + _WIDE + rb"|" + _WIDE + rb'"')


class TemplateTrial:
    """Renders rows for the sake of the refusals; `special_tokens` are those that the tokenizer would read in data.

    `by_shape` is off for renderers whose refusals depend on more than a row's shape: then every row is rendered.
    """

    def __init__(self, render: RowRenderer, special_tokens: Iterable[str], *, by_shape: bool = True) -> None:
        self.render = render
        self.by_shape = by_shape
        self._markers = [token.encode() for token in special_tokens if "<" not in token]
        self._shapes: set[tuple[object, ...]] = set()

    def shape_of(self, line: bytes) -> tuple[object, ...] | None:
        """What decides how a JSON line renders; None when it must be rendered whatever was seen before."""
        if (
            not self.by_shape
            or b"<" in line
            or b"\\u" in line
            or b"\\/" in line
            or any(marker in line for marker in self._markers)
        ):
            return None
        if not line.isascii() and _WIDE_AT_AN_END.search(line):
            return None
        roles = tuple(_ROLES.findall(line))
        # A good row of nothing but roles and texts has this many quotes, and whatever else it has adds some (but for a
        # null, which takes the place of a text): then its keys are looked at.
        quotes = line.count(b'"') - line.count(b'\\"')
        plain = quotes == 2 + 8 * len(roles) and b"null" not in line
        keys = None if plain else frozenset(_KEYS.findall(line))
        blank = _STARTS_BLANK.search(line) or _ENDS_BLANK.search(line)
        return roles, keys, tuple(_BLANKS.findall(line)) if blank else None

    def is_known(self, shape: tuple[object, ...] | None) -> bool:
        """Whether a row of this shape was rendered without refusal."""
        return shape is not None and shape in self._shapes

    def remember(self, shape: tuple[object, ...] | None) -> None:
        """Note that a row of this shape was rendered without refusal."""
        if shape is not None and len(self._shapes) < _MOST_SHAPES:
            self._shapes.add(shape)
