"""Figures of classification and entities: equal to what scikit-learn and seqeval give."""

from __future__ import annotations

import numpy as np
import pytest

from azft.training.label_metrics import classification_figures, entities, entity_figures, multi_label_figures


def test_the_figures_of_seqevals_readme() -> None:
    """Its example: half of the entities, precision, recall and F1 0.50."""
    right = [["O", "O", "O", "B-MISC", "I-MISC", "I-MISC", "O"], ["B-PER", "I-PER", "O"]]
    said = [["O", "O", "B-MISC", "I-MISC", "I-MISC", "I-MISC", "O"], ["B-PER", "I-PER", "O"]]
    assert entity_figures(right, said) == {"precision": 0.5, "recall": 0.5, "f1": 0.5}


@pytest.mark.parametrize(
    ("tags", "found"),
    [  # as seqeval's get_entities gives them
        (["B-PER", "I-PER", "O", "B-LOC"], [("PER", 0, 1), ("LOC", 3, 3)]),
        (["I-PER", "I-PER"], [("PER", 0, 1)]),
        (["B-PER", "B-PER"], [("PER", 0, 0), ("PER", 1, 1)]),
        (["B-PER", "I-LOC", "I-LOC"], [("PER", 0, 0), ("LOC", 1, 2)]),
        (["B-PER", "I-PER", "E-PER", "S-PER", "I-PER"], [("PER", 0, 2), ("PER", 3, 3), ("PER", 4, 4)]),
        (["E-PER", "E-PER"], [("PER", 0, 0), ("PER", 1, 1)]),
        (["B", "I", "O"], [("", 0, 1)]),
        (["O", "O"], []),
        (["B-X-Y", "I-X-Y"], [("X-Y", 0, 1)]),
        (["NOUN", "O", "ADJ", "PRE-X"], [("NOUN", 0, 0), ("ADJ", 2, 2), ("PRE-X", 3, 3)]),
    ],
)
def test_entities_begin_and_end_as_in_conlleval(tags: list[str], found: list[tuple[str, int, int]]) -> None:
    assert entities(tags) == found


def test_an_entity_never_reaches_into_the_next_row() -> None:
    assert entity_figures([["B-A"], ["I-A"]], [["B-A"], ["O"]]) == {"precision": 1.0, "recall": 0.5, "f1": 2 / 3}
    assert entity_figures([["O"]], [["O"]]) == {"precision": 0.0, "recall": 0.0, "f1": 0.0}


def test_the_mean_f1_is_over_classes_that_occur_as_in_scikit_learn() -> None:
    """`f1_score([0, 1, 2, 0, 1, 2], [0, 2, 1, 0, 0, 1], average="macro")` of its documentation: 0.26."""
    figures = classification_figures([0, 1, 2, 0, 1, 2], [0, 2, 1, 0, 0, 1])
    assert figures == {"accuracy": pytest.approx(1 / 3), "f1_macro": pytest.approx(0.8 / 3)}
    assert classification_figures([0, 0, 3], [0, 0, 3]) == {"accuracy": 1.0, "f1_macro": 1.0}


def test_several_labels_are_counted_over_all_and_by_class() -> None:
    """`f1_score` of its documentation's multilabel example: macro 0.67, micro by the sums."""
    right, said = np.array([[0, 0, 0], [1, 1, 1], [0, 1, 1]]), np.array([[0, 0, 0], [1, 1, 1], [1, 1, 0]])
    figures = multi_label_figures(right, said)
    assert figures["f1_micro"] == pytest.approx(2 * 4 / (2 * 4 + 1 + 1))
    assert figures["f1_macro"] == pytest.approx((2 / 3 + 1 + 2 / 3) / 3)
    assert figures["subset_accuracy"] == pytest.approx(2 / 3)
    nothing = np.zeros((2, 3), dtype=int)
    assert multi_label_figures(nothing, nothing) == {"f1_micro": 0.0, "f1_macro": 0.0, "subset_accuracy": 1.0}
