"""Metrics over generated texts give the published figures for known pairs."""

from __future__ import annotations

import pytest

from azft.tasks import TASKS
from azft.training.text_metrics import TEXT_METRICS, answer_f1, squad_words


def test_an_answer_is_compared_as_squad_does() -> None:
    assert squad_words("  The Eiffel-Tower, in a\tnight!") == ["eiffeltower", "in", "night"]
    assert answer_f1("the cat sat", "a cat") == pytest.approx(2 / 3)
    assert answer_f1("to be or not to be", "be be be") == pytest.approx(2 * 2 / 9)
    assert (answer_f1("", ""), answer_f1("the", ""), answer_f1("yes", "")) == (1, 1, 0)


def test_the_best_of_several_answers_counts() -> None:
    said = ["Paris, France", "in 1889", "blue"]
    right = [["Lyon", "Paris France"], ["1889"], ["red", "green"]]
    assert TEXT_METRICS["exact_match"](said, right) == pytest.approx(1 / 3)
    assert TEXT_METRICS["f1"](said, right) == pytest.approx((1 + 2 / 3 + 0) / 3)


def test_translations_are_measured_over_the_whole() -> None:
    right = [["The cat is sitting on the mat."], ["There is a dog in the garden."]]
    perfect = [one[0] for one in right]
    assert TEXT_METRICS["bleu"](perfect, right) == pytest.approx(100)
    assert TEXT_METRICS["chrf"](perfect, right) == pytest.approx(100)
    # One bigram short: precisions 6/7, 4/5 .. of one sentence alone would be an average and not this.
    worse = ["The cat is sitting on a mat.", perfect[1]]
    matches = (15 / 16, 12 / 14, 9 / 12, 7 / 10)
    assert TEXT_METRICS["bleu"](worse, right) == pytest.approx(
        100 * (matches[0] * matches[1] * matches[2] * matches[3]) ** 0.25
    )
    assert 50 < TEXT_METRICS["chrf"](worse, right) < 100


def test_a_prediction_may_have_more_references_than_another() -> None:
    right = [["good morning everyone here"], ["see you later then", "goodbye to all of you"]]
    assert TEXT_METRICS["bleu"]([right[0][0], right[1][1]], right) == pytest.approx(100)


def test_summaries_are_measured_with_stemming() -> None:
    assert TEXT_METRICS["rouge1"](["cats running"], [["a cat runs"]]) == pytest.approx(2 * 1 * (2 / 3) / (1 + 2 / 3))
    assert TEXT_METRICS["rouge2"](["the old house"], [["an old house"]]) == pytest.approx(1 / 2)
    assert TEXT_METRICS["rougeL"](["one three two"], [["one two three"]]) == pytest.approx(2 / 3)


def test_tunes_and_pictures_need_no_reference() -> None:
    tunes, pictures = ["X:1\nT:t\nK:G\nGAB|", "la la"], ["<svg/>", '<svg><circle r="9"/></svg>', "<svg>", "O"]
    assert TEXT_METRICS["abc_parses"](tunes, [["x"]] * 2) == 0.5
    assert TEXT_METRICS["svg_parses"](pictures, [["x"]] * 4) == 0.5
    assert TEXT_METRICS["svg_draws"](pictures, [["x"]] * 4) == 0.25


def test_metrics_of_tasks_are_known_here_or_come_with_the_objective() -> None:
    named = {metric for task in TASKS.values() for metric in task.metrics}
    assert TEXT_METRICS.keys() <= named
