"""Rows with labels and tags: what is wrong with them, alone and as a whole, and how they become tokens with targets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from azft.data.check import check_data, check_files
from azft.data.column_names import guess_columns
from azft.data.documents import Counts
from azft.data.encoded import Encoded
from azft.data.labels import Told, told_of
from azft.data.renderers import Rendering, renderer_for
from azft.data.rows import RowChecker
from azft.data.scan import scan_file
from azft.data.template_probe import RefusalError
from azft.data.tokenizer import ModelTokenizer, load_tokenizer
from azft.data.workers import Piece, scan_in_processes
from azft.parameters import PrepareParameters
from azft.recipe import Recipe
from azft.recipe_file import RecipeFile
from azft.training.stand_in import SpecialTokens, StandInSpec, make
from tests.helpers.tokens import CORPUS

BERT = {"bos": "[CLS]", "eos": "[SEP]", "pad": "[PAD]", "stop": "[SEP]"}
CLASS, TAGS = "text-classification", "token-classification"


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def reader(folder: Path, architecture: str = "BertForMaskedLM") -> ModelTokenizer:
    rows = write(folder / "corpus.jsonl", *({"text": text} for text in CORPUS))
    spec = StandInSpec(
        architecture=architecture,
        chat_template=None,
        special_tokens=SpecialTokens.model_validate(BERT),
        data=rows,
        data_sha256="",
        hidden_size=8,
        heads=2,
        layers=1,
        context_length=64,
    )
    make(spec, folder / architecture)
    return load_tokenizer(folder / architecture)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> ModelTokenizer:
    return reader(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> ModelTokenizer:
    return reader(tmp_path_factory.mktemp("llama"), "LlamaForCausalLM")


def codes(task: str, row: dict[str, Any]) -> set[str]:
    return {problem.code for problem in RowChecker(task, {}).check(row, text_cells=False)[0]}


@pytest.mark.parametrize(
    ("task", "row", "code"),
    [
        (CLASS, {"text": "a", "label": 1.0}, "wrong-type"),
        (CLASS, {"text": "a", "label": ["x"]}, "wrong-type"),
        (CLASS, {"text": "a", "label": " "}, "empty-text"),
        (CLASS, {"text": "a"}, "missing-column"),
        (CLASS, {"text": "a", "labels": "x"}, "wrong-type"),
        (CLASS, {"text": "a", "labels": ["x", "x"]}, "label-twice"),
        (TAGS, {"tokens": "a b", "tags": ["O", "O"]}, "wrong-type"),
        (TAGS, {"tokens": ["a", 1], "tags": ["O", "O"]}, "wrong-type"),
        (TAGS, {"tokens": ["a", " "], "tags": ["O", "O"]}, "empty-word"),
        (TAGS, {"tokens": [], "tags": []}, "empty-text"),
        (TAGS, {"tokens": ["a", "b"], "tags": ["O"]}, "tags-length"),
        (TAGS, {"tokens": ["a", "b"], "tags": ["O", 0.5]}, "wrong-type"),
        (TAGS, {"tokens": ["a", "b"], "tags": ["O", "I-PER"]}, "tag-order"),
        (TAGS, {"tokens": ["a", "b"], "tags": ["B-LOC", "I-PER"]}, "tag-order"),
    ],
)
def test_each_fault_of_a_row_has_its_code(task: str, row: dict[str, Any], code: str) -> None:
    assert codes(task, row) == {code}


@pytest.mark.parametrize(
    ("task", "row"),
    [
        (CLASS, {"text": "a", "label": "x"}),
        (CLASS, {"text": "a", "text_pair": "b", "label": 0}),
        (CLASS, {"text": "a", "label": True}),
        (CLASS, {"text": "a", "labels": []}),
        (TAGS, {"tokens": ["a", "b", "c"], "tags": ["B-PER", "I-PER", "I-PER"]}),
        (TAGS, {"tokens": ["a", "b"], "tags": [0, 3]}),
    ],
)
def test_good_rows_have_no_fault(task: str, row: dict[str, Any]) -> None:
    assert codes(task, row) == set()


def found(tmp_path: Path, task: str, labels: tuple[str, ...] = (), **files: list[Any]) -> dict[str, str]:
    """Code to message, for files of rows."""
    paths = {role: write(tmp_path / f"{role}.jsonl", *rows) for role, rows in files.items()}
    report = check_files(task, {}, paths, near=False, labels=labels)
    return {f.code.removeprefix("data-"): f.message for f in report.findings}


def labelled(*labels: Any) -> list[dict[str, Any]]:
    return [{"text": f"text {number}", "label": label} for number, label in enumerate(labels)]


def test_faults_of_the_labels_as_a_whole(tmp_path: Path) -> None:
    assert "one-label" in found(tmp_path, CLASS, train=labelled(*["a"] * 12))
    assert "label-imbalance" in found(tmp_path, CLASS, train=labelled(*["a"] * 20, "b"))
    assert "label-imbalance" not in found(tmp_path, CLASS, train=labelled(*["a"] * 12, "b", "b"))
    assert "labels-alike" in found(tmp_path, CLASS, train=labelled(*["a", "A "] * 6))
    assert "many-labels" in found(tmp_path, CLASS, train=labelled(*range(60)))
    only_here = found(tmp_path, CLASS, train=labelled(*"ab" * 6), validation=labelled("a", "c", "c"))
    assert "`c` is in no training row, but in 2 rows here" in only_here["label-not-trained"]
    words = {"tokens": ["a"], "tags": ["O"]}
    assert "no-entity" in found(tmp_path, TAGS, train=[words] * 12)


def test_labels_that_the_recipe_names_are_the_only_ones(tmp_path: Path) -> None:
    rows = labelled(*["good", "bad"] * 6, "goood")
    (message,) = (v for k, v in found(tmp_path, CLASS, ("bad", "good"), train=rows).items() if k == "unknown-label")
    assert "`goood`" in message
    assert found(tmp_path, CLASS, ("bad", "good"), train=labelled(*[0, 1] * 6)).keys() == {"lengths-unchecked"}
    assert "unknown-label" in found(tmp_path, CLASS, ("bad", "good"), train=labelled(*[1, 2] * 6))
    assert "label-unused" in found(tmp_path, CLASS, ("bad", "good", "so-so"), train=labelled(*[0, 1] * 6))
    both = found(tmp_path, CLASS, ("a", "b"), train=labelled(*"aa" * 6, "a"), test=labelled("b"))
    assert "label-not-trained" not in both  # it has a place; that nothing teaches it is said about the training rows
    assert "label-unused" in both


@pytest.mark.slow
def test_labels_are_counted_alike_in_one_process_and_in_several(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", *labelled(*"abbacc" * 10))
    whole = scan_file(path, CLASS, {})
    half = path.stat().st_size // 2
    pieces = [Piece(str(path), CLASS, {}, *ends, False, False) for ends in ((0, half), (half, None))]
    first, second = scan_in_processes(pieces, 2)
    first.labels.merge(second.labels, first.line_count)
    assert first.labels.seen == whole.labels.seen == {"a": (20, 1), "b": (20, 2), "c": (20, 5)}


def test_an_answer_that_differs_is_a_conflict_whichever_form_labels_have(tmp_path: Path) -> None:
    twice = [{"text": "same", "labels": ["a"]}, {"text": "same", "labels": ["b"]}, {"text": "other", "labels": []}]
    assert "conflicting-answers" in found(tmp_path, CLASS, train=twice)


def test_labels_are_found_in_the_order_of_their_names_or_numbers(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    assert told_of(CLASS, {}, write(path, *labelled(10, 9, 2))) == Told(("2", "9", "10"))
    assert told_of(CLASS, {}, write(path, *labelled("b", "a"))) == Told(("a", "b"))
    several = write(path, {"text": "a", "labels": ["y", "x"]}, {"text": "b", "labels": []})
    assert told_of(CLASS, {}, several) == Told(("x", "y"), several=True)
    assert told_of(CLASS, {}, several, ["y", "x", "z"]) == Told(("y", "x", "z"), several=True)
    assert told_of("chat-completion", {}, write(path, {})) == Told()


@pytest.mark.parametrize(
    ("task", "given", "columns"),
    [
        (CLASS, ["sentence", "label"], {"text": "sentence"}),
        (CLASS, ["review", "sentiment"], {"text": "review", "label": "sentiment"}),
        (CLASS, ["premise", "hypothesis", "label"], {"text": "premise", "text_pair": "hypothesis"}),
        (CLASS, ["text", "categories"], {"labels": "categories"}),
        (CLASS, ["text", "label", "topic"], {}),
        (TAGS, ["tokens", "ner_tags"], {"tags": "ner_tags"}),
        (TAGS, ["tokens", "ner_tags", "pos_tags"], {}),  # either could be meant
    ],
)
def test_usual_names_are_taken_for_the_tasks_columns(task: str, given: list[str], columns: dict[str, str]) -> None:
    assert guess_columns(task, {}, given) == columns


def pieces(renderer: Any, row: dict[str, Any], length: int, long_rows: str = "drop") -> list[Any]:
    normal = RowChecker(
        {"class": CLASS, "classes": CLASS, "tag": TAGS}.get(renderer.objective, "question-answering"), {}
    )
    problems, data = normal.check(row)
    assert data is not None, problems
    return list(renderer.documents(renderer.render(data), length, long_rows, Counts()))


def test_an_encoder_is_read_at_its_first_token_a_decoder_at_its_last(
    encoder: ModelTokenizer, decoder: ModelTokenizer
) -> None:
    row = {"text": "How are you?", "label": "b"}
    for tokenizer, place in ((encoder, 0), (decoder, -1)):
        renderer = renderer_for(CLASS, tokenizer, Rendering(labels=("a", "b")))
        (piece,) = pieces(renderer, row, 64)
        assert piece.token_ids.tolist() == tokenizer.backend.encode(row["text"]).ids
        assert piece.loss_mask.sum() == 1
        assert piece.loss_mask[place]
        assert piece.targets.tolist() == [[1]]
        assert (renderer.objective, renderer.labels, piece.second) == ("class", ("a", "b"), None)


def test_two_texts_are_encoded_as_a_pair(encoder: ModelTokenizer) -> None:
    renderer = renderer_for(CLASS, encoder, Rendering(labels=("a", "b")))
    (piece,) = pieces(renderer, {"text": "How are you?", "text_pair": "I am fine.", "label": "a"}, 64)
    second = encoder.decode(piece.token_ids[piece.second :].tolist())
    assert encoder.decode(piece.token_ids.tolist()).count("[SEP]") == 2
    assert second.replace(" ", "") == "Iamfine.[SEP]"


def test_several_labels_are_ones_and_zeros(encoder: ModelTokenizer) -> None:
    renderer = renderer_for(CLASS, encoder, Rendering(labels=("a", "b", "c"), several=True))
    assert (renderer.objective, renderer.target_width) == ("classes", 3)
    assert pieces(renderer, {"text": "x", "labels": ["c", "a"]}, 64)[0].targets.tolist() == [[1, 0, 1]]
    assert pieces(renderer, {"text": "x", "labels": []}, 64)[0].targets.tolist() == [[0, 0, 0]]
    assert pieces(renderer, {"text": "x", "label": "b"}, 64)[0].targets.tolist() == [[0, 1, 0]]
    with pytest.raises(RefusalError, match="has 2 labels"):
        single = renderer_for(CLASS, encoder, Rendering(labels=("a", "b")))
        pieces(single, {"text": "x", "labels": ["a", "b"]}, 64)


def test_a_label_without_a_number_is_refused(encoder: ModelTokenizer) -> None:
    renderer = renderer_for(CLASS, encoder, Rendering(labels=("a", "b")))
    with pytest.raises(RefusalError, match="none of the 2"):
        pieces(renderer, {"text": "x", "label": "z"}, 64)
    assert pieces(renderer, {"text": "x", "label": 1}, 64)[0].targets.tolist() == [[1]]  # the number of a name


def test_long_texts_keep_their_special_tokens(encoder: ModelTokenizer) -> None:
    renderer = renderer_for(CLASS, encoder, Rendering(labels=("a", "b")))
    row = {"text": CORPUS[0], "label": "b"}
    whole = encoder.backend.encode(CORPUS[0]).ids
    assert pieces(renderer, row, 16) == []
    (cut,) = pieces(renderer, row, 16, "truncate")
    assert cut.token_ids.tolist() == [*whole[:15], whole[-1]]
    parts = pieces(renderer, row, 16, "split")
    inside = [token for part in parts for token in part.token_ids[1:-1].tolist()]
    assert inside == whole[1:-1]
    for part in parts:
        assert (part.token_ids[0], part.token_ids[-1]) == (whole[0], whole[-1])
        assert part.targets.tolist() == [[1]]


def test_pairs_are_shortened_as_transformers_does_it(encoder: ModelTokenizer) -> None:
    for first, second, length in ((30, 5, 20), (5, 30, 20), (30, 20, 21), (12, 13, 8)):
        texts = " ".join("fox" * first), " ".join("dog" * second)
        encoding = encoder.backend.encode(*texts)
        mine = Encoded.of(encoding).shortened(length).ids.tolist()
        encoder.backend.enable_truncation(length, strategy="longest_first")
        try:
            theirs = encoder.backend.encode(*texts).ids
        finally:
            encoder.backend.no_truncation()
        assert len(mine) == len(theirs) == length
        assert mine == theirs


def test_a_words_tag_is_told_at_its_first_token(encoder: ModelTokenizer, decoder: ModelTokenizer) -> None:
    row = {"tokens": ["Zoë", "Quixotic-Smith", "was", "in", "Paris", "."], "tags": [1, 2, 0, 0, 3, 0]}
    for tokenizer in (encoder, decoder):
        renderer = renderer_for(TAGS, tokenizer, Rendering(labels=("O", "B-PER", "I-PER", "B-LOC")))
        (piece,) = pieces(renderer, row, 64)
        starts = piece.loss_mask.nonzero()[0].tolist()
        ends = [*starts[1:], len(piece.token_ids) - (tokenizer is encoder)]
        words = [tokenizer.decode(piece.token_ids[a:b].tolist()).strip() for a, b in zip(starts, ends, strict=True)]
        assert words == row["tokens"]
        assert piece.targets[:, 0].tolist() == row["tags"]
        assert (ends[1] - starts[1]) > 1


def test_each_word_is_told_once_when_a_long_row_is_split(encoder: ModelTokenizer) -> None:
    words = CORPUS[1].split()
    tags = [number % 3 for number in range(len(words))]
    renderer = renderer_for(TAGS, encoder, Rendering(labels=("O", "B-A", "B-B")))
    row = {"tokens": words, "tags": tags}
    assert pieces(renderer, row, 20) == []
    parts = pieces(renderer, row, 20, "split")
    assert len(parts) > 1
    assert [tag for part in parts for tag in part.targets[:, 0].tolist()] == tags
    first = pieces(renderer, row, 20, "truncate")
    assert len(first) == 1
    np.testing.assert_array_equal(first[0].token_ids, parts[0].token_ids)
    np.testing.assert_array_equal(first[0].targets, parts[0].targets)


def test_an_encoder_decoder_classifies_nothing(encoder: ModelTokenizer) -> None:
    from dataclasses import replace

    with pytest.raises(RefusalError, match="can't do text-classification"):
        renderer_for(CLASS, replace(encoder, model_kind="encoder-decoder"), Rendering(labels=("a", "b")))


def test_a_long_text_is_read_as_far_as_it_fits_unless_the_recipe_says_otherwise(tmp_path: Path) -> None:
    """Left out, as where answers are written, a classification would lose most of its rows."""

    def said(task: str, **data: Any) -> tuple[str, str]:
        row = {"text": "word " * 30, "label": "a", "tokens": ["a"] * 30, "tags": ["O"] * 30}
        file = write(tmp_path / "train.jsonl", row)
        values = {"name": "x", "task": task, "model": "m", "data": {"train": str(file), **data}}
        recipe = Recipe.model_validate(values | {"training": {"max_length": 16}})
        read = RecipeFile(recipe, tmp_path / "recipe.yaml", {})
        report = check_data(read, near_duplicates=False, lengths=lambda rows: [99] * len(rows))
        (long,) = (f.message for f in report.findings if f.code == "data-long-row")
        return PrepareParameters.of(recipe).long_rows, long.partition("of training.max_length: ")[2]

    cut, pieces = "it is cut off at the end", "it is cut into pieces"
    assert said(CLASS) == ("truncate", f"{cut} ({CLASS}'s default).")
    assert said(TAGS) == ("split", f"{pieces} ({TAGS}'s default).")
    assert said(CLASS, long_rows="drop") == ("drop", "it is left out.")
