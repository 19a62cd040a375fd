"""Blotting secrets out of text that is shown, logged or stored: keys, tokens, SAS signatures, authorization headers.

Knows what secrets look like, and the values of this process's own secret-looking environment variables. It is the last
defence, not the first: code never puts a secret into text. Numbers such as `tokens_per_second: 512` are left alone.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

MASK = "[redacted]"

_SECRET_VARIABLE = re.compile(
    r"(?i)(?:^|_)(?:\w*key|token|secret|password|passwd|pwd|sas|credentials?|connection_string)(?:$|_)"
)
_SHORTEST_SECRET = 8
"""Shorter values of environment variables are left alone: replacing every `1` or `true` would ruin a log."""

_NAME = (
    r"[\w-]*(?:api|account|access|subscription|primary|secondary|private|secret|storage)[_-]?key"
    r"|[\w-]*(?:secret|password|passwd|credential)s?"
    r"|(?:[\w-]*[_-])?(?:token|sas)"
    r"|[\w-]*connection[_-]?string"
)
_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    # Authorization: Bearer abc / Basic abc
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{6,}"), rf"\1 {MASK}"),
    # A SAS url's signature, and other signed query values.
    (re.compile(r"(?i)([?&;](?:sig|signature|code|access_token|token|key)=)[^&;\s'\"]+"), rf"\1{MASK}"),
    # A JSON web token, and a storage account's key, wherever they stand.
    (re.compile(r"\beyJ[\w-]{5,}\.[\w-]{5,}\.[\w-]*"), MASK),
    (re.compile(r"(?<![A-Za-z0-9+/])[A-Za-z0-9+/]{86}==(?![A-Za-z0-9+/=])"), MASK),
    # Hub, OpenAI and GitHub tokens by their prefixes.
    (re.compile(r"\b(?:hf_|sk-|gh[opusr]_|github_pat_)[\w-]{10,}"), MASK),
    # user:password@host
    (re.compile(r"(://[^/\s:@]+:)[^/\s@]+@"), rf"\1{MASK}@"),
    # name=value, name: value and "name": "value", where the name says that the value is a secret.
    (
        re.compile(rf"(?i)(['\"]?\b(?:{_NAME})\b['\"]?\s*[:=]\s*['\"]?)(?!\[redacted\]|<)[^\s'\",;&}}\]]{{4,}}"),
        rf"\1{MASK}",
    ),
)


def _is_path(value: str) -> bool:
    """Whether a value names a file: GOOGLE_KEY=/etc/key.json is no secret, and logs speak of paths."""
    return value.startswith(("/", "~", "."))


class Redactor:
    """Redacts text; made once from an environment, because looking through it for every line would cost."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        environment = os.environ if environment is None else environment
        values = {
            value
            for name in environment
            if _SECRET_VARIABLE.search(name)
            and len(value := environment.get(name, "")) >= _SHORTEST_SECRET
            and not _is_path(value)
        }
        # Longest first, so that a secret that contains another goes whole.
        self._known = sorted(values, key=len, reverse=True)

    def __call__(self, text: str) -> str:
        """The text with everything that looks like a secret replaced by `[redacted]`."""
        for value in self._known:
            text = text.replace(value, MASK)
        for pattern, replacement in _PATTERNS:
            text = pattern.sub(replacement, text)
        return text


def redact(text: str) -> str:
    """The same text with everything that looks like a secret replaced by `[redacted]`."""
    return Redactor()(text)
