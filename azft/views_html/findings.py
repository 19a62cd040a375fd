"""Findings: one by itself, or a table of them, errors first."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from azft.views_html.parts import Html, badge, element, join, page, table, text
from azft.words import place, plural

if TYPE_CHECKING:
    from azft.findings import Finding

_ORDER = {"error": 0, "warning": 1, "info": 2}
_LONGEST_WORD = 44
_WORDS = {"error": "error", "warning": "warning", "info": "note"}


def show(finding: Finding) -> str:
    """A finding on a page of its own."""
    return page("Finding", findings([finding]))


def findings(found: Iterable[Finding]) -> Html:
    """A table of findings and a line that counts them; a line alone when there are none."""
    listed = sorted(found, key=lambda f: (_ORDER[f.severity], f.file or "", f.line or 0, f.code))
    if not listed:
        return element("p", badge("no findings", "good"))
    rows = [
        (badge(_WORDS[f.severity], str(f.severity)), _word(place(f.where)), _what(f), _word(f.code)) for f in listed
    ]
    return table(counted(listed), ("severity", "where", "what, and what to do", "code"), rows)


def counted(found: Iterable[Finding]) -> str:
    """`2 errors, 1 warning`."""
    severities = [str(finding.severity) for finding in found]
    counts = [(severities.count(severity), word) for severity, word in _WORDS.items()]
    return ", ".join(plural(count, word) for count, word in counts if count)


def _word(said: str) -> Html:
    """A place or a code, which are hard to read in pieces; a long one is broken all the same."""
    return element("code", said, name="azft-word" if len(said) <= _LONGEST_WORD else "") if said else Html()


def _what(finding: Finding) -> Html:
    if not finding.fix:
        return text(finding.message)
    return join([finding.message, Html("<br>"), element("span", f"→ {finding.fix}", name="azft-dim")])
