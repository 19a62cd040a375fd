"""A finding: the one form in which every check of azft reports what it saw.

Checks return findings, all of them at once, and never print or raise. Rendering is the command line's business.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable


class Severity(StrEnum):
    """How much a finding matters. Only `ERROR` stops a submission."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


_ORDER = {Severity.ERROR: 0, Severity.WARNING: 1, Severity.INFO: 2}


@dataclass(frozen=True, slots=True)
class Finding:
    """What was seen (`message`), where (`file`, 1-based `line`), and what to do (`fix`).

    `code` is stable and kebab-case, grouped by a prefix: `data-empty-content`, `recipe-unknown-key`.
    """

    code: str
    severity: Severity
    message: str
    fix: str = ""
    file: str | None = None
    line: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """The JSON form, fixed for whoever reads it: code, severity, file, line, message, fix."""
        return {
            "code": self.code,
            "severity": str(self.severity),
            "file": self.file,
            "line": self.line,
            "message": self.message,
            "fix": self.fix,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Finding:
        """Read `to_dict`'s form back."""
        return cls(**{**data, "severity": Severity(data["severity"])})

    @property
    def where(self) -> str:
        """`file:line`, as editors and terminals link it; empty when the finding has no place."""
        if self.file is None:
            return ""
        return self.file if self.line is None else f"{self.file}:{self.line}"

    def _repr_html_(self) -> str:
        from azft.views_html.findings import show

        return show(self)

    def __str__(self) -> str:
        place = f"{self.where}: " if self.file else ""
        hint = f" {self.fix}" if self.fix else ""
        return f"{place}{self.severity}: {self.message}{hint} [{self.code}]"


def has_errors(findings: Iterable[Finding]) -> bool:
    """Whether any finding stops a submission."""
    return any(finding.severity is Severity.ERROR for finding in findings)


def by_severity(findings: Iterable[Finding]) -> list[Finding]:
    """Errors first, then by place; the order in which a person should read them."""
    return sorted(findings, key=lambda f: (_ORDER[f.severity], f.file or "", f.line or 0, f.code))
