"""Questions with answers in a context: windows, and where in each the answer is."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from azft.data.documents import Counts
from azft.data.renderers import Rendering, renderer_for
from azft.data.scan import scan_file
from azft.data.span_rendering import SpanRenderer, place_of
from azft.data.template_probe import RefusalError
from azft.data.template_trial import TemplateTrial
from azft.data.tokenizer import ModelTokenizer
from tests.data.test_label_rows import encoder, pieces

__all__ = ["encoder"]  # a fixture

CONTEXT = "The quick brown fox jumps over the lazy dog. In Paris, of course, 12 apples are left, and 5 were eaten."


def answered(text: str, start: int | None = None) -> dict[str, Any]:
    answers: Any = {"text": [text]} if start is None else {"text": [text], "answer_start": [start]}
    return {"question": "How many apples?", "context": CONTEXT, "answers": answers}


def renderer_of(tokenizer: ModelTokenizer, length: int) -> SpanRenderer:
    renderer = renderer_for("question-answering", tokenizer, Rendering(max_length=length))
    assert isinstance(renderer, SpanRenderer)
    return renderer


@pytest.mark.parametrize("length", [30, 40, 200])
@pytest.mark.parametrize("answer", ["12 apples", "The", "eaten.", "lazy dog. In Paris", "ours"])
def test_the_targets_of_every_window_are_the_answer_or_nothing(
    encoder: ModelTokenizer, length: int, answer: str
) -> None:
    windows = pieces(renderer_of(encoder, length), answered(answer), length)
    assert (len(windows) == 1) == (length == 200)
    hits = 0
    for window in windows:
        assert len(window.token_ids) <= length
        assert window.loss_mask.nonzero()[0].tolist() == [0]
        first, last = window.targets[0].tolist()
        there = encoder.decode(window.token_ids.tolist())
        assert there.startswith("[CLS]How many apples?[SEP]")
        if (first, last) == (0, 0):
            continue
        hits += 1
        text = encoder.decode(window.token_ids[first : last + 1].tolist())
        assert answer in text
        assert len(text.strip()) <= len(answer) + 8  # the tokens' own edges: `ours` is within `course`
        offsets = window.source.offsets
        begin, end = offsets[first - window.second][0], offsets[last - window.second][1]
        assert answer in CONTEXT[begin:end]
    assert hits >= 1


def test_windows_overlap_and_leave_nothing_out(encoder: ModelTokenizer) -> None:
    windows = pieces(renderer_of(encoder, 40), answered("Paris"), 40)
    reach = [[o for o in window.source.offsets if tuple(o) != (0, 0)] for window in windows]
    assert reach[0][0][0] == 0
    assert reach[-1][-1][1] == len(CONTEXT)
    for one, two in itertools.pairwise(reach):
        assert one[0][0] < two[0][0] <= one[-1][0]  # they share tokens
    assert [window.source.row for window in windows] == [0] * len(windows)
    assert [window.source.text for window in windows] == [CONTEXT] + [""] * (len(windows) - 1)
    assert all(window.references == ("Paris",) for window in windows)


def test_answers_are_taken_from_where_they_really_are() -> None:
    assert place_of([["a", 2]], "xxaa") == (2, 3)
    assert place_of([["ab", 7]], "ab ab ab") == (6, 8)  # the nearest place
    assert place_of([["ab", None]], "x ab ab") == (2, 4)
    assert place_of([], "x") == (-1, -1)
    with pytest.raises(RefusalError, match="does not stand in the context"):
        place_of([["zz", 0]], "xxaa")


def test_a_question_without_an_answer_points_at_the_first_token(encoder: ModelTokenizer) -> None:
    row = {"question": "Why?", "context": CONTEXT, "answers": {"text": [], "answer_start": []}}
    (window,) = pieces(renderer_of(encoder, 200), row, 200)
    assert window.targets.tolist() == [[0, 0]]
    assert window.references == ("",)


def test_rows_that_can_t_be_marked_are_refused_or_left_out(encoder: ModelTokenizer) -> None:
    renderer = renderer_of(encoder, 40)
    with pytest.raises(RefusalError, match="no context"):
        pieces(renderer, {"question": "Why?", "answers": "so"}, 40)
    counts = Counts()
    row = {"question": "Why? " * 20, "context": CONTEXT, "answers": [["Paris", None]]}
    assert list(renderer.documents(renderer.render(row), 40, "drop", counts)) == []
    assert (counts.rows, counts.dropped_long) == (1, 1)


def test_a_long_context_is_no_long_row(encoder: ModelTokenizer) -> None:
    row = {"question": "How many?", "context": CONTEXT, "answers": [["12", None]]}
    renderer = renderer_of(encoder, 40)
    assert renderer.count_tokens([row]) == [40]
    assert renderer.render(row).longest == 40
    assert len(renderer.render(row).token_ids) > 40


def test_the_check_looks_for_every_answer(encoder: ModelTokenizer, tmp_path: Path) -> None:
    """The renderer refuses a row for what it says, not for its shape."""
    renderer = renderer_of(encoder, 200)
    rows = [answered("Paris"), answered("Rome"), answered("apples")]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    trial = TemplateTrial(renderer.text, renderer.control_texts, by_shape=renderer.refuses_by_shape)
    scan = scan_file(path, "question-answering", {}, trial=trial)
    ((line, values),) = scan.tally.samples["not-renderable"]
    assert line == 2
    assert "does not stand in the context" in values["reason"]
