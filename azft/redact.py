"""Blotting secrets out of text that is shown or stored: keys, tokens, SAS signatures, authorization headers.

It errs on the side of blotting out too much. It is the last defence, not the first: code never puts a secret into text.
"""

from __future__ import annotations

import re

MASK = "[redacted]"

_SECRET_NAME = r"(?:[\w-]*(?:api[_-]?key|account[_-]?key|shared[_-]?access[_-]?key|secret|password|passwd|token|credential|sas)[\w-]*)"
_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    # Authorization: Bearer abc / Basic abc
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{6,}"), rf"\1 {MASK}"),
    # A SAS url's signature, and other signed query values.
    (re.compile(r"(?i)([?&](?:sig|signature|code|access_token|token|key)=)[^&\s'\"]+"), rf"\1{MASK}"),
    # A JSON web token, wherever it stands.
    (re.compile(r"\beyJ[\w-]{5,}\.[\w-]{5,}\.[\w-]*"), MASK),
    # Hub, OpenAI and GitHub tokens by their prefixes.
    (re.compile(r"\b(?:hf_|sk-|ghp_|gho_|github_pat_)[\w-]{10,}"), MASK),
    # user:password@host
    (re.compile(r"(://[^/\s:@]+:)[^/\s@]+@"), rf"\1{MASK}@"),
    # name=value and "name": "value", where the name says that the value is a secret.
    (
        re.compile(rf"(?i)(['\"]?\b{_SECRET_NAME}\b['\"]?\s*[:=]\s*['\"]?)(?!\[redacted\])[^\s'\",;&}}\]]{{4,}}"),
        rf"\1{MASK}",
    ),
)


def redact(text: str) -> str:
    """The same text with everything that looks like a secret replaced by `[redacted]`."""
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text
