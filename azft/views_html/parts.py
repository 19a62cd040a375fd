"""The pieces that the views are made of: escaped text, tables, facts and badges, and the few styles they need.

Markup is of type `Html`; every other string is text and gets escaped where it is put in, so that forgetting is safe.
Colours: text keeps the page's own; only badges and marks have a colour, each with a contrast that holds on any page.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping, Sequence

_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters
    "\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff"  # change the direction of text, or have no width
    "\ud800-\udfff]"  # halves of a pair, which no message to a browser can carry
)
_STYLE = """
.azft{line-height:1.45;max-width:72em;overflow-x:auto}
.azft table{border-collapse:collapse;margin:.4em 0 .8em;border:0;table-layout:auto}
.azft caption{caption-side:top;text-align:left;font-weight:600;padding:.2em 0;color:inherit}
.azft th,.azft td{text-align:left;vertical-align:top;padding:.2em 1em .2em 0;border:0;
border-bottom:1px solid rgba(128,128,128,.3);background:none;white-space:pre-wrap;overflow-wrap:anywhere;max-width:60em}
.azft tbody tr,.azft tbody tr:hover{background:none}
.azft th{font-weight:600;white-space:nowrap}
.azft td.azft-number,.azft th.azft-number{text-align:right;font-variant-numeric:tabular-nums}
.azft .azft-badge{display:inline-block;padding:0 .55em;border-radius:.7em;font-size:.9em;font-weight:600;
white-space:nowrap}
.azft .azft-error{background:#b3261e;color:#fff}
.azft .azft-warning{background:#ffd166;color:#332200}
.azft .azft-info{background:#0b57a4;color:#fff}
.azft .azft-good{background:#146c2e;color:#fff}
.azft .azft-title{font-size:1.1em;font-weight:600;margin:.2em 0}
.azft .azft-text{white-space:pre-wrap;overflow-wrap:anywhere;padding:.5em .7em;margin:.2em 0 .9em;
border-left:3px solid rgba(128,128,128,.5);font-family:ui-monospace,Menlo,Consolas,monospace;font-size:.92em}
.azft mark{background:rgba(46,160,67,.28);color:inherit;text-decoration:underline;
text-decoration-color:rgba(46,160,67,.9);text-underline-offset:.2em}
.azft details{margin:.4em 0}
.azft summary{cursor:pointer}
.azft .azft-dim{opacity:.75}
.azft .azft-word{white-space:nowrap}
.azft ul{margin:.3em 0 .8em;padding-left:1.4em}
""".strip().replace("\n", "")


class Html(str):
    """Markup: goes into a page as it is."""

    __slots__ = ()


def text(value: object, *, limit: int = 20_000) -> Html:
    """A value as text: escaped, what can't be seen made visible, and cut after `limit` characters with a note."""
    if isinstance(value, Html):
        return value
    whole = "–" if value is None else str(value)
    cut = f" … ({len(whole) - limit:,} characters more)" if len(whole) > limit else ""
    seen = _UNSEEN.sub(lambda match: _code(ord(match.group())), whole[:limit] + cut)
    return Html(html.escape(seen, quote=True))


def element(tag: str, content: object, *, name: str = "", **attributes: str) -> Html:
    """`<tag class="name" ...>content</tag>`; content and attributes are escaped unless they are `Html`."""
    given = {"class": name, **{key.rstrip("_"): value for key, value in attributes.items()}}
    written = "".join(f' {key}="{text(value)}"' for key, value in given.items() if value)
    return Html(f"<{tag}{written}>{text(content)}</{tag}>")


def join(parts: Iterable[object], between: str = "") -> Html:
    """Pieces one after the other, each escaped unless it is `Html`."""
    return Html(text(between).join(text(part) for part in parts))


def table(
    caption: str, columns: Sequence[str], rows: Iterable[Sequence[object]], *, numbers: Iterable[str] = ()
) -> Html:
    """A table with a caption, column headers and, in the first column, row headers. `numbers` are set flush right."""
    right = {columns.index(column) for column in numbers}

    def cells(tags: Sequence[str], values: Sequence[object], scope: str) -> Html:
        return join(
            element(tag, value, name="azft-number" if index in right else "", scope=scope if tag == "th" else "")
            for index, (tag, value) in enumerate(zip(tags, values, strict=True))
        )

    header, row = ["th"] * len(columns), ["th", *["td"] * (len(columns) - 1)]
    head = element("tr", cells(header, columns, "col"))
    body = join(element("tr", cells(row, values, "row")) for values in rows)
    return element("table", join([element("caption", caption), element("thead", head), element("tbody", body)]))


def facts(pairs: Iterable[tuple[str, object]]) -> Html:
    """Names and values, a row each."""
    rows = (element("tr", join([element("th", name, scope="row"), element("td", value)])) for name, value in pairs)
    return element("table", element("tbody", join(rows)))


def line(section: Mapping[str, object]) -> str:
    """A section of a recipe in one line."""
    return "  ".join(f"{key}={_value(value)}" for key, value in section.items() if value is not None)


def badge(word: str, kind: str) -> Html:
    """A word in a coloured pill; `kind` is error, warning, info or good. The word says it too, not the colour alone."""
    return element("span", word, name=f"azft-badge azft-{kind}")


def code(value: object) -> Html:
    """Something to type or to look up."""
    return element("code", value)


def bullets(items: Iterable[object]) -> Html:
    """A list."""
    return element("ul", join(element("li", item) for item in items))


def details(summary: str, content: Html) -> Html:
    """Content that a click opens; works without a script."""
    return element("details", join([element("summary", summary), content]))


def page(label: str, *parts: Html) -> Html:
    """A whole view. `label` names it for a screen reader; MathJax is told to take nothing in it for a formula."""
    style = Html(f"<style>{_STYLE}</style>")
    return element(
        "div",
        join([style, *parts]),
        name="azft tex2jax_ignore mathjax_ignore",
        role="region",
        **{"aria-label": label},
    )


def _value(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _code(point: int) -> str:
    return f"\\x{point:02x}" if point < 0x100 else f"\\u{point:04x}"
