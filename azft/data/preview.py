"""`azft preview`: rows as the model will see them, what is in the loss told apart. The command renders it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from azft.data.column_names import resolve_columns
from azft.data.labels import told_of
from azft.data.readers import iter_valid_rows
from azft.data.renderers import Rendering, renderer_for
from azft.data.rendering import Rendered, Renderer
from azft.data.template_probe import RefusalError
from azft.data.tokenizer import ModelTokenizer, context_length
from azft.findings import Finding
from azft.recipe_file import RecipeFile


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of text that is wholly inside the loss or wholly outside."""

    text: str
    in_loss: bool


@dataclass(frozen=True, slots=True)
class PreviewRow:
    """One row. `problem` is set, and the rest empty, where the model's template or tokenizer refuses it."""

    line: int
    segments: tuple[Segment, ...]
    tokens: int
    loss_tokens: int
    problem: Finding | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "line": self.line,
            "segments": [{"text": segment.text, "in_loss": segment.in_loss} for segment in self.segments],
            "tokens": self.tokens,
            "loss_tokens": self.loss_tokens,
            "problem": self.problem.to_dict() if self.problem else None,
        }


@dataclass(frozen=True, slots=True)
class PreviewReport:
    """The first rows of the training file. `max_length` is what longer rows are held against."""

    file: str
    rows: tuple[PreviewRow, ...]
    max_length: int
    findings: tuple[Finding, ...]
    """What is to be known about how rows are rendered."""

    @property
    def tokens(self) -> int:
        """Tokens of the rows shown."""
        return sum(row.tokens for row in self.rows)

    @property
    def loss_tokens(self) -> int:
        """Those of them that are in the loss."""
        return sum(row.loss_tokens for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "file": self.file,
            "rows": [row.to_dict() for row in self.rows],
            "tokens": self.tokens,
            "loss_tokens": self.loss_tokens,
            "max_length": self.max_length,
            "findings": [finding.to_dict() for finding in self.findings],
        }

    def _repr_html_(self) -> str:
        from azft.views_html.data import show_preview

        return show_preview(self)


def preview(recipe_file: RecipeFile, tokenizer: ModelTokenizer, rows: int = 3) -> PreviewReport:
    """Render the first `rows` training rows.

    Raises `FindingsError` for a row that is broken (`azft check` finds them all), and `RefusalError` when the model's
    chat template can't be trained on.
    """
    recipe = recipe_file.recipe
    path = recipe_file.resolve(recipe.data.train)
    limit = min(recipe.training.max_length, context_length(tokenizer.folder) or recipe.training.max_length)
    columns, guesses = resolve_columns(recipe.task, recipe.data.columns, path)
    told = told_of(recipe.task, columns, path, recipe.data.labels)
    rendering = Rendering(recipe.data.prompt, told.labels, limit, told.several, recipe.data.resolution)
    renderer = renderer_for(recipe.task, tokenizer, rendering)
    shown = tuple(
        _preview_row(renderer, row.line, row.data, str(recipe.data.train))
        for row in islice(iter_valid_rows(path, recipe.task, columns), rows)
    )
    return PreviewReport(str(recipe.data.train), shown, limit, (*guesses, *renderer.findings))


def _preview_row(renderer: Renderer, line: int, data: dict[str, Any], file: str) -> PreviewRow:
    try:
        rendered = renderer.render(data)
    except RefusalError as refusal:
        return PreviewRow(line, (), 0, 0, refusal.finding(file, line))
    return PreviewRow(line, tuple(_segments(rendered)), len(rendered.token_ids), int(rendered.loss_mask.sum()))


def _segments(rendered: Rendered) -> Iterator[Segment]:
    position = 0
    for span in rendered.spans:
        yield Segment(rendered.text[position : span.start], in_loss=False)
        yield Segment(rendered.text[span.start : span.end], in_loss=True)
        position = span.end
    if position < len(rendered.text):
        yield Segment(rendered.text[position:], in_loss=False)
