"""The check's report and the preview of rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from azft.views_html.findings import findings
from azft.views_html.parts import Html, element, join, page, table, text
from azft.words import plural, size

if TYPE_CHECKING:
    from azft.data.check import DataReport
    from azft.data.preview import PreviewReport, PreviewRow

_ROW_LIMIT = 20_000
"""Characters of a row that are shown: a page must stay light, whatever the data."""


def show_report(report: DataReport) -> str:
    """What the check read, and what it found."""
    rows = [(file.role, file.path.name, f"{file.rows:,}", size(file.bytes)) for file in report.files]
    files = table("Checked", ("data", "file", "rows", "size"), rows, numbers=("rows", "size"))
    return page("Data check", files, findings(report.findings))


def show_preview(report: PreviewReport) -> str:
    """Rows as the model sees them, what it learns from marked."""
    share = f" ({report.loss_tokens / report.tokens:.0%})" if report.tokens else ""
    total = f"{plural(len(report.rows), 'row')}: {plural(report.tokens, 'token')}, "
    total += f"{report.loss_tokens:,} of them{share} in the loss."
    legend = join([element("mark", "Marked"), " is what the model learns to write; the rest it is given."])
    return page(
        "Preview of the training rows",
        element("p", legend),
        *(_row(report, row) for row in report.rows),
        findings(report.findings) if report.findings else Html(),
        element("p", total),
    )


def _row(report: PreviewReport, row: PreviewRow) -> Html:
    title = element("div", f"{report.file}, line {row.line}", name="azft-title")
    if row.problem is not None:
        return join([title, findings([row.problem])])
    long = f"; more than max_length ({report.max_length:,})" if row.tokens > report.max_length else ""
    counts = element("div", f"{plural(row.tokens, 'token')}, {row.loss_tokens:,} in the loss{long}", name="azft-dim")
    return join([title, counts, element("div", _segments(row), name="azft-text")])


def _segments(row: PreviewRow) -> Html:
    parts, left = [], _ROW_LIMIT
    for segment in row.segments:
        shown = text(segment.text, limit=left)
        parts.append(element("mark", shown) if segment.in_loss else shown)
        left -= len(segment.text)
        if left <= 0:
            break
    return join(parts)
