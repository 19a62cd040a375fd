"""Rows for encoder-decoders: what the encoder reads, what the decoder learns, and what happens to long ones."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tokenizers.processors import TemplateProcessing

from azft.data.documents import Counts
from azft.data.prepare import prepare
from azft.data.renderers import renderer_for
from azft.data.source_target import SourceTargetRenderer
from azft.data.template_probe import RefusalError
from azft.data.tokenizer import ModelTokenizer, load_tokenizer
from azft.errors import FindingsError
from azft.parameters import PrepareParameters
from azft.recipe import Recipe
from azft.tasks import TASKS
from tests.helpers.tokens import tokenizer_folder

ROW = {"source": "How are you today?", "target": "I am fine, thank you."}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model like T5: config.json says encoder-decoder, the tokenizer ends each text with </s>."""
    folder = tokenizer_folder(tmp_path / "model", "mistral-v1")
    (folder / "chat_template.jinja").unlink()
    (folder / "config.json").write_text(json.dumps({"model_type": "t5", "is_encoder_decoder": True}))
    tokenizer = load_tokenizer(folder).backend
    end = tokenizer.token_to_id("</s>")
    tokenizer.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", end)])
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture
def tokenizer(folder: Path) -> ModelTokenizer:
    return load_tokenizer(folder)


@pytest.fixture
def renderer(tokenizer: ModelTokenizer) -> SourceTargetRenderer:
    renderer = renderer_for("translation", tokenizer)
    assert isinstance(renderer, SourceTargetRenderer)
    return renderer


def test_both_texts_end_and_only_the_target_is_learned(
    renderer: SourceTargetRenderer, tokenizer: ModelTokenizer
) -> None:
    rendered = renderer.render(ROW)
    source = "Translate the following text.\n\nHow are you today?"
    assert rendered.text == f"{source}</s>I am fine, thank you.</s>"
    border = rendered.loss_spans[0][0]
    assert tokenizer.decode(rendered.token_ids[:border]) == source + "</s>"
    assert tokenizer.decode(rendered.token_ids[border:]) == "I am fine, thank you.</s>"
    assert rendered.loss_spans == ((border, len(rendered.token_ids)),)
    assert [rendered.text[span.start : span.end] for span in rendered.spans] == ["I am fine, thank you.</s>"]
    assert rendered.references == ("I am fine, thank you.",)
    assert renderer.count_tokens([ROW]) == [len(rendered.token_ids)]


def test_a_target_ends_even_if_the_tokenizer_puts_nothing_behind_a_text(tokenizer: ModelTokenizer) -> None:
    tokenizer.backend.post_processor = TemplateProcessing(single="$A", special_tokens=[])
    rendered = SourceTargetRenderer(tokenizer, TASKS["translation"], "{source}").render(ROW)
    assert tokenizer.decode(rendered.token_ids) == "How are you today?I am fine, thank you.</s>"


def test_of_a_long_row_the_source_is_cut_and_the_target_stays(
    renderer: SourceTargetRenderer, tokenizer: ModelTokenizer
) -> None:
    rendered = renderer.render(ROW)
    whole, learned = len(rendered.token_ids), int(rendered.loss_mask.sum())
    limit, counts = whole - 5, Counts()
    [piece] = renderer.documents(rendered, limit, "truncate", counts)
    kept = limit - learned
    assert len(piece.token_ids) == limit
    assert piece.token_ids[: kept - 1].tolist() == rendered.token_ids[: kept - 1]
    assert tokenizer.decode(piece.token_ids[kept - 1 :].tolist()) == "</s>I am fine, thank you.</s>"
    assert piece.loss_mask.tolist() == [False] * kept + [True] * learned
    assert (counts.rows, counts.long_rows, counts.documents) == (1, 1, 1)
    counts = Counts()
    assert list(renderer.documents(rendered, learned + 1, "truncate", counts)) == []  # no room for a source
    assert (counts.rows, counts.long_rows, counts.dropped_long) == (1, 1, 1)
    assert list(renderer.documents(rendered, limit, "drop", Counts())) == []
    [piece] = renderer.documents(rendered, whole, "drop", Counts())
    assert piece.token_ids.tolist() == rendered.token_ids


def test_splitting_is_refused_before_anything_is_written(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text("".join(json.dumps({**ROW, "n": n}) + "\n" for n in range(12)))
    recipe = {"name": "x", "task": "translation", "model": "t5", "data": {"train": "t", "long_rows": "split"}}
    parameters = PrepareParameters.of(Recipe.model_validate(recipe))
    with pytest.raises(FindingsError) as caught:
        prepare(parameters, model=folder, train=tmp_path / "train.jsonl", output=tmp_path / "out")
    assert "data-not-splittable" in [finding.code for finding in caught.value.findings]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("kind", "task"), [("encoder", "translation"), ("encoder-decoder", "chat-completion")])
def test_a_model_that_cannot_do_a_task_is_refused(kind: str, task: str, tokenizer: ModelTokenizer) -> None:
    with pytest.raises(RefusalError, match=f"is an {kind}, which can't do {task}"):
        renderer_for(task, replace(tokenizer, model_kind=kind))


def test_markers_in_rows_are_refused(renderer: SourceTargetRenderer) -> None:
    with pytest.raises(RefusalError, match="</s>"):
        renderer.render({**ROW, "source": "a </s> b"})
