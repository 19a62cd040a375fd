"""The table of metrics over generated texts: what a model wrote against what would have been right.

Shares are between 0 and 1; BLEU and chrF between 0 and 100, as the tools that everybody compares by give them.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from azft.training.abc_notation import parses_as_abc
from azft.training.svg_pictures import draws_something, parses_as_svg

Predictions = Sequence[str]
References = Sequence[Sequence[str]]
"""Of each prediction, the texts any of which is right; at least one."""

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def squad_words(text: str) -> list[str]:
    """The words that count in an answer: lower case, without punctuation and articles.

    As `normalize_answer` of SQuAD's evaluation script (Rajpurkar et al. 2016, evaluate-v1.1.py; v2.0's is the same).
    """
    return _ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split()


def answer_f1(prediction: str, answer: str) -> float:
    """Harmonic mean of precision and recall over words; SQuAD's `compute_f1`.

    Where either has no word, it is 1 if both have none, as in SQuAD 2.0 (Rajpurkar et al. 2018).
    """
    said, right = squad_words(prediction), squad_words(answer)
    if not said or not right:
        return float(said == right)
    common = sum((Counter(said) & Counter(right)).values())
    return 2 * common / (len(said) + len(right))


def exact_match(predictions: Predictions, references: References) -> float:
    """Share of predictions that have the words of one of their references."""
    return _mean_of_best(lambda said, right: float(squad_words(said) == squad_words(right)), predictions, references)


def f1(predictions: Predictions, references: References) -> float:
    """Mean over predictions of the best `answer_f1` with one of the references."""
    return _mean_of_best(answer_f1, predictions, references)


def bleu(predictions: Predictions, references: References) -> float:
    """BLEU of the whole (Papineni et al. 2002), by sacrebleu with its default tokenizer, 13a."""
    from sacrebleu.metrics.bleu import BLEU

    return float(BLEU().corpus_score(list(predictions), _streams(references)).score)


def chrf(predictions: Predictions, references: References) -> float:
    """chrF2 of the whole (Popović 2015): F-score of character n-grams up to six, by sacrebleu."""
    from sacrebleu.metrics.chrf import CHRF

    return float(CHRF().corpus_score(list(predictions), _streams(references)).score)


def rouge(name: str) -> Callable[[Predictions, References], float]:
    """Mean of the best F-measure of a ROUGE (Lin 2004), by rouge-score with stemming: `rouge1`, `rouge2`, `rougeL`.

    Its words are runs of a-z and 0-9 after lower-casing: for other alphabets it says nothing.
    """

    def measure(predictions: Predictions, references: References) -> float:
        from rouge_score.rouge_scorer import RougeScorer

        scorer = RougeScorer([name], use_stemmer=True)
        return _mean_of_best(
            lambda said, right: float(scorer.score(right, said)[name].fmeasure), predictions, references
        )

    return measure


def _mean_of_best(score: Callable[[str, str], float], predictions: Predictions, references: References) -> float:
    best = [max(score(said, right) for right in rights) for said, rights in zip(predictions, references, strict=True)]
    return sum(best) / len(best)


def _streams(references: References) -> Any:
    """As sacrebleu takes them: all first references, all second ones, ..., None where there is no such one."""
    most = max(len(rights) for rights in references)
    return [[rights[n] if n < len(rights) else None for rights in references] for n in range(most)]


def share(passes: Callable[[str], bool]) -> Callable[[Predictions, References], float]:
    """The share of predictions that pass, whatever the references are."""
    return lambda predictions, _references: sum(map(passes, predictions)) / len(predictions)


TEXT_METRICS: dict[str, Callable[[Predictions, References], float]] = {
    "exact_match": exact_match,
    "f1": f1,
    "bleu": bleu,
    "chrf": chrf,
    "rouge1": rouge("rouge1"),
    "rouge2": rouge("rouge2"),
    "rougeL": rouge("rougeL"),
    "abc_parses": share(parses_as_abc),
    "svg_parses": share(parses_as_svg),
    "svg_draws": share(draws_something),
}
