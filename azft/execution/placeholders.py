"""Turning a component's command template into the command line that runs.

`${{inputs.x}}` and `${{outputs.x}}` become values and paths; a block `$[[ ... ]]` disappears when an input in it is not
given. Literals are pasted as Azure ML pastes them. Paths, which on a node never hold a special character, are quoted
when this machine's do: a home folder with a space in its name must not break a run.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from azft.execution.graph import GraphError, Literal

_PLACEHOLDER = re.compile(r"\$\{\{\s*(inputs|outputs)\.([A-Za-z_]\w*)(?:\.path)?\s*\}\}")
_BLOCK = re.compile(r"\$\[\[(.*?)\]\]", re.DOTALL)
_SAFE = re.compile(r"[\w@%+=:,./-]+", re.ASCII)


def render(template: str, inputs: Mapping[str, Literal | Path | None], outputs: Mapping[str, Path]) -> str:
    """The command line. Raises `GraphError` for a name that is unknown, or not given outside an optional block."""

    def keep_or_drop(block: re.Match[str]) -> str:
        body = block.group(1)
        names = [match.group(2) for match in _PLACEHOLDER.finditer(body) if match.group(1) == "inputs"]
        return "" if any(inputs.get(name) is None for name in names) else body

    command = _BLOCK.sub(keep_or_drop, template)
    pieces: list[str] = []
    end = 0
    for match in _PLACEHOLDER.finditer(command):
        pieces.append(command[end : match.start()])
        kind, name = match.groups()
        values: Mapping[str, Literal | Path | None] = inputs if kind == "inputs" else outputs
        value = values.get(name)
        if value is None:
            problem = "is not given" if name in values else "is not declared"
            raise GraphError(f"The command uses `{kind}.{name}`, which {problem}.", fix="Put it into a $[[ ]] block.")
        # Quotes are counted in the template alone: what was pasted before can't have opened one.
        pieces.append(_quoted(value, _open_quote(command[: match.start()])) if isinstance(value, Path) else str(value))
        end = match.end()
    return "".join([*pieces, command[end:]]).strip()


def _open_quote(text: str) -> str:
    """The quote that is open at the end of a piece of shell text: `'`, `"` or nothing."""
    quote, skip = "", False
    for character in text:
        if skip:
            skip = False
        elif character == "\\" and quote != "'":
            skip = True
        elif quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
    return quote


def _quoted(path: Path, quote: str) -> str:
    text = str(path)
    if _SAFE.fullmatch(text):
        return text
    if quote == '"':
        return re.sub(r'([$`"\\])', r"\\\1", text)
    inner = text.replace("'", "'\"'\"'")
    return inner if quote == "'" else f"'{inner}'"
