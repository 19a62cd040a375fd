"""Figures of classification and named entities: accuracy, F1, and precision and recall of whole entities.

Written here, because scikit-learn and seqeval (which brings it) are 100 MB for these few sums. They give the same
numbers: scikit-learn's `f1_score` with `zero_division=0`, seqeval's in its default mode, which is conlleval's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Entity = tuple[str, int, int]
"""Kind, first and last word."""


def classification_figures(right: Sequence[int], said: Sequence[int]) -> dict[str, float]:
    """Accuracy, and F1 averaged over the classes that are right or said anywhere."""
    truth, answers = np.asarray(right), np.asarray(said)
    classes = np.union1d(truth, answers)
    scores = [_f1(*_counts(truth == one, answers == one)) for one in classes]
    return {"accuracy": float((truth == answers).mean()), "f1_macro": float(np.mean(scores))}


def multi_label_figures(right: NDArray[Any], said: NDArray[Any]) -> dict[str, float]:
    """Of (documents, classes) ones and zeros: F1 over all, F1 averaged over classes, and all-right rows."""
    truth, answers = right.astype(bool), said.astype(bool)
    by_class = [_f1(*_counts(truth[:, one], answers[:, one])) for one in range(truth.shape[1])]
    return {
        "f1_micro": _f1(*_counts(truth, answers)),
        "f1_macro": float(np.mean(by_class)),
        "subset_accuracy": float((truth == answers).all(1).mean()),
    }


def entity_figures(right: Sequence[Sequence[str]], said: Sequence[Sequence[str]]) -> dict[str, float]:
    """Precision, recall and F1 over the entities of all documents; one is right if kind, begin and end are."""
    pairs = [(set(entities(theirs)), set(entities(mine))) for theirs, mine in zip(right, said, strict=True)]
    hits = sum(len(theirs & mine) for theirs, mine in pairs)
    there, found = sum(len(theirs) for theirs, _ in pairs), sum(len(mine) for _, mine in pairs)
    return {
        "precision": hits / found if found else 0.0,
        "recall": hits / there if there else 0.0,
        "f1": _f1(hits, found - hits, there - hits),
    }


def entities(tags: Sequence[str]) -> list[Entity]:
    """The entities of a row of tags in IOB, IOB2 or IOBES; a tag without such a prefix is an entity of one word.

    An entity goes on where the kind stays, after B or I, with I or E; so an I that follows nothing begins one, as in
    conlleval (Tjong Kim Sang and Buchholz 2000).
    """
    found: list[Entity] = []
    before, kind_before = "O", ""
    for number, tag in enumerate(tags):
        prefix, kind = _parts(tag)
        if prefix in "IE" and before in "BI" and kind == kind_before:
            found[-1] = (kind, found[-1][1], number)
        elif prefix != "O":
            found.append((kind, number, number))
        before, kind_before = prefix, kind
    return found


def _parts(tag: str) -> tuple[str, str]:
    prefix, dash, kind = tag.partition("-")
    if prefix in ("B", "I", "E", "S", "O") and (dash or not kind):
        return prefix, kind
    return "S", tag


def _counts(right: NDArray[np.bool_], said: NDArray[np.bool_]) -> tuple[int, int, int]:
    """Hits, false alarms, misses."""
    return int((right & said).sum()), int((~right & said).sum()), int((right & ~said).sum())


def _f1(hits: int, false_alarms: int, misses: int) -> float:
    total = 2 * hits + false_alarms + misses
    return 2 * hits / total if total else 0.0
