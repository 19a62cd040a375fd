"""A tuned model is asked by `azft chat` exactly as its rows asked it in training."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers.processors import TemplateProcessing

from azft.chat import _asking
from azft.data.renderers import renderer_for
from azft.data.tokenizer import ModelTokenizer, load_tokenizer
from azft.errors import UsageError
from azft.tasks import TASKS
from azft.training.generate import ChatModel
from tests.helpers.tokens import tokenizer_folder


def tokenizer_of(folder: Path, kind: str) -> ModelTokenizer:
    tokenizer_folder(folder, "phi-4-mini" if kind == "chat" else "mistral-v1")
    if kind != "chat":
        (folder / "chat_template.jinja").unlink()
    tokenizer = load_tokenizer(folder)
    ends = kind == "encoder-decoder"
    if kind != "chat":
        around = "$A </s>" if ends else "<s> $A"
        ids = [(token, tokenizer.backend.token_to_id(token)) for token in ("<s>", "</s>")]
        tokenizer.backend.post_processor = TemplateProcessing(single=around, special_tokens=ids)
        tokenizer.backend.save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(json.dumps({"is_encoder_decoder": ends}))
    return load_tokenizer(folder)


ROWS = {
    "question-answering": ({"question": "How are you today?", "answers": [["fine", None]]}, "How are you today?"),
    "translation": ({"source": "How are you?", "target": "Wie geht es dir?"}, "How are you?"),
    "summarization": ({"document": "The quick brown fox.", "summary": "A fox."}, "The quick brown fox."),
}


@pytest.mark.parametrize("kind", ["chat", "plain", "encoder-decoder"])
@pytest.mark.parametrize("task", ROWS)
def test_what_is_typed_takes_the_place_of_the_column(tmp_path: Path, kind: str, task: str) -> None:
    tokenizer = tokenizer_of(tmp_path / "model", kind)
    row, typed = ROWS[task]
    rendered = renderer_for(task, tokenizer).render(row)
    asking = _asking({"task": task, "data": {"prompt": None}})
    earlier = [{"role": "user", "content": "before"}, {"role": "assistant", "content": "answer"}]
    asked = ChatModel(None, tokenizer, **asking).asked([*earlier, {"role": "user", "content": typed}])
    assert asked == rendered.token_ids[: rendered.loss_spans[0][0]]


@pytest.mark.parametrize("kind", ["chat", "plain"])
def test_a_model_of_plain_text_goes_on_with_what_is_typed(tmp_path: Path, kind: str) -> None:
    tokenizer = tokenizer_of(tmp_path / "model", kind)
    rendered = renderer_for("text-generation", tokenizer).render({"prompt": "The quick", "completion": " brown fox"})
    model = ChatModel(None, tokenizer, **_asking({"task": "text-generation", "data": {}}))
    asked = model.asked([{"role": "user", "content": "The quick"}])
    assert asked == rendered.token_ids[: rendered.loss_spans[0][0]]


def test_a_chat_is_asked_whole(tmp_path: Path) -> None:
    tokenizer = tokenizer_of(tmp_path / "model", "chat")
    turns = [{"role": role, "content": role} for role in ("user", "assistant", "user")]
    model = ChatModel(None, tokenizer, **_asking({"task": "chat-completion", "data": {"prompt": None}}))
    expected = tokenizer.chat_template().render(turns, add_generation_prompt=True)
    assert tokenizer.decode(model.asked(turns)) == expected


def test_the_recipes_own_prompt_is_the_one_that_asks() -> None:
    asking = _asking({"task": "translation", "data": {"prompt": "Into German: {source}"}})
    assert asking == {
        "prompt": "Into German: {source}",
        "column": "source",
        "plain": False,
        "reads": ("source",),
    }
    assert TASKS["translation"].prompt != asking["prompt"]


def test_a_run_of_another_machine_whose_recipe_is_not_here_is_asked_like_a_folder() -> None:
    assert _asking({}) == {}
    assert _asking({"output": {"model_name": "bakery"}}) == {}


@pytest.mark.parametrize("kind", ["chat", "plain", "encoder-decoder"])
def test_a_row_of_several_columns_is_asked_whole(tmp_path: Path, kind: str) -> None:
    tokenizer = tokenizer_of(tmp_path / "model", kind)
    row = {"question": "Who bakes?", "context": "Jon bakes.", "answers": [["Jon", None]]}
    rendered = renderer_for("question-answering", tokenizer).render(row)
    model = ChatModel(None, tokenizer, **_asking({"task": "question-answering", "data": {"prompt": None}}))
    asked = model.asked_row({"question": "Who bakes?", "context": "Jon bakes."})
    assert asked == rendered.token_ids[: rendered.loss_spans[0][0]]
    with pytest.raises(UsageError, match="not asked with answers"):
        model.ask(row)


def test_what_each_task_is_asked_with_is_there_and_is_not_what_it_learns() -> None:
    for task in TASKS.values():
        columns = {column.name: column for column in task.columns}
        assert set(task.reads) <= columns.keys() - {task.target}
        assert bool(task.reads) == (task.rendering in {"text", "prompt", "class", "tag"})
        assert all(columns[name].kind in {"text", "words"} for name in task.reads)
