"""What Azure's own server is sent for a row, and what is made of its answers: every task, flavor and signature."""

from __future__ import annotations

import json
from typing import Any

import pytest

from azft.azureml.errors import ServiceError
from azft.azureml.scoring import Scoring, score_text, scoring_of
from azft.catalog.system_pipelines import system_pipelines
from azft.errors import UsageError

SAYS: dict[str, Any] = {"max_new_tokens": 9, "temperature": 0.0}
NAMED = ("input_string",)
PAIR = ("question", "context")
TEXTS = {
    "text-classification": ({"text": "So good."}, "So good."),
    "token-classification": ({"tokens": ["In", "Rome"]}, "In Rome"),
    "summarization": ({"document": "A long day."}, "A long day."),
    "translation": ({"source": "Brot"}, "Brot"),
    "text-generation": ({"prompt": "Once"}, "Once"),
}
WHERE = {"question": "Where?", "context": "In Rome."}


def mlmodel(
    task: str, flavor: str = "hftransformersv2", inputs: list[dict[str, str]] | None = None, params: Any = None
) -> dict[str, Any]:
    """An MLmodel as fine-tuning writes it."""
    signature = {} if inputs is None else {"inputs": json.dumps(inputs), "outputs": '[{"type": "string"}]'}
    if params is not None:
        signature["params"] = json.dumps(params)
    key = "task" if flavor == "transformers" else "task_type"
    flavors = {flavor: {key: task}, "python_function": {"loader_module": "x"}}
    return {"flavors": flavors, **({"signature": signature} if signature else {})}


@pytest.mark.parametrize("task", TEXTS)
def test_a_server_that_reads_a_table_gets_one(task: str) -> None:
    """As the notebooks of azureml-examples ask a model that they tuned, by the name that its signature has."""
    row, text = TEXTS[task]
    scoring = scoring_of(mlmodel(task, inputs=[{"name": "input_string", "type": "string"}]))
    assert scoring is not None
    table = {"columns": ["input_string"], "index": [0], "data": [[text]]}
    assert scoring.body(row, **SAYS) == {"input_data": table, "params": {}}


def test_a_question_and_its_context_are_two_columns_in_the_signatures_order() -> None:
    for names in (["question", "context"], ["context", "question"]):
        scoring = scoring_of(mlmodel("question-answering", inputs=[{"name": name, "type": "string"} for name in names]))
        assert scoring is not None
        table = {"columns": names, "index": [0], "data": [[WHERE[name] for name in names]]}
        assert scoring.body(WHERE, **SAYS) == {"input_data": table, "params": {}}


@pytest.mark.parametrize("task", TEXTS)
def test_without_a_signature_the_package_gets_named_lists_and_settings_where_something_is_written(task: str) -> None:
    row, text = TEXTS[task]
    scoring = scoring_of(mlmodel(task))
    assert scoring is not None
    given = scoring.body(row, max_new_tokens=9, temperature=0.5)["input_data"]
    assert given["input_string"] == [text]
    writes = task in {"summarization", "translation", "text-generation"}
    settings = {"max_new_tokens": 9, "do_sample": True, "temperature": 0.5}
    only_new = {"return_full_text": False} if task == "text-generation" else {}
    assert given.get("parameters") == ({**settings, **only_new} if writes else None)


@pytest.mark.parametrize("task", TEXTS)
def test_mlflows_own_flavor_gets_a_list_of_texts_as_the_model_cards_show(task: str) -> None:
    row, text = TEXTS[task]
    known = [{"name": name, "type": "x"} for name in ("max_new_tokens", "do_sample", "return_full_text")]
    params = known if task == "text-generation" else None
    scoring = scoring_of(mlmodel(task, "transformers", [{"type": "string"}], params))
    assert scoring is not None
    expected = {"max_new_tokens": 9, "do_sample": False, "return_full_text": False} if params else {}
    assert scoring.body(row, **SAYS) == {"input_data": [text], "params": expected}


def test_mlflows_own_flavor_gets_question_and_context_by_name() -> None:
    inputs = [{"name": name, "type": "string"} for name in PAIR]
    scoring = scoring_of(mlmodel("question-answering", "transformers", inputs))
    assert scoring is not None
    assert scoring.body(WHERE, **SAYS) == {"input_data": WHERE, "params": {}}


@pytest.mark.parametrize(
    ("task", "answer", "text", "told"),
    [
        ("text-classification", [{"0": "joy"}], "joy", {"label": "joy"}),
        ("text-classification", ["joy"], "joy", {"label": "joy"}),
        ("text-classification", [{"label": "joy", "score": 0.75}], "joy (0.750)", {"label": "joy", "score": 0.75}),
        ("text-classification", [[{"label": "joy", "score": 0.2}, {"label": "fear", "score": 0.8}]],
         "fear (0.800)", {"label": "fear", "score": 0.8}),
        ("text-classification", [{"0": {"label": "joy", "score": 0.9}, "1": {"label": "fear", "score": 0.1}}],
         "joy (0.900)", {"label": "joy", "score": 0.9}),
        ("text-classification", [{"0": "['joy', 'love']"}], "joy, love",
         {"labels": [{"label": "joy"}, {"label": "love"}]}),
        ("text-classification", [{"0": "[]"}], "(none)", {"labels": []}),
        ("text-classification", [{"0": "[draft]"}], "[draft]", {"label": "[draft]"}),
        ("token-classification", [{"0": "['O', 'B-LOC']"}], "In    O\nRome  B-LOC",
         {"tokens": ["In", "Rome"], "tags": ["O", "B-LOC"]}),
        ("token-classification", ["B-LOC"], "B-LOC", {"tags": ["B-LOC"]}),
        ("token-classification", ["O,B-LOC"], "In    O\nRome  B-LOC",
         {"tokens": ["In", "Rome"], "tags": ["O", "B-LOC"]}),
        ("token-classification", [["O", "B-LOC"]], "In    O\nRome  B-LOC",
         {"tokens": ["In", "Rome"], "tags": ["O", "B-LOC"]}),
        ("token-classification", [[{"entity": "B-LOC", "word": "rome"}]], "B-LOC", {"tags": ["B-LOC"]}),
        ("question-answering", [{"0": "in Rome"}], "in Rome", {"answer": "in Rome"}),
        ("question-answering", ["in Rome"], "in Rome", {"answer": "in Rome"}),
        ("question-answering", [{"answer": "in Rome", "score": 0.4}], "in Rome", {"answer": "in Rome"}),
        ("question-answering", [""], "(none)", {"answer": ""}),
        ("summarization", [{"0": "A day."}], "A day.", {"text": "A day."}),
        ("summarization", [{"summary_text": "A day."}], "A day.", {"text": "A day."}),
        ("translation", ["bread"], "bread", {"text": "bread"}),
        ("text-generation", [{"0": " upon"}], " upon", {"text": " upon"}),
        ("text-generation", [[{"generated_text": " upon"}]], " upon", {"text": " upon"}),
    ],
)  # fmt: skip
def test_answers_are_read_in_every_form_that_they_have(task: str, answer: Any, text: str, told: dict[str, Any]) -> None:
    read = Scoring(task, "transformers", None).answer(answer, {"tokens": ["In", "Rome"]})
    assert (read.text, read.told) == (text, told)


@pytest.mark.parametrize("task", ["text-classification", "token-classification", "question-answering", "translation"])
@pytest.mark.parametrize("answer", [[], {}, None, [None], [{}], 3])
def test_what_is_no_answer_is_said(task: str, answer: Any) -> None:
    with pytest.raises(ServiceError, match="answer has no"):
        Scoring(task, "transformers", None).answer(answer, {"tokens": ["In"]})


@pytest.mark.parametrize("text", ["[" * 10_000 + "]", "[__import__('os')]", "[1", "['a']['b']"])
def test_a_text_that_only_looks_like_a_list_stays_a_text(text: str) -> None:
    assert Scoring("text-classification", "transformers", None).answer([text], {}).text == text


def test_rows_that_the_server_cant_take_are_refused_before_it_is_asked() -> None:
    with pytest.raises(UsageError, match="one text a row"):
        Scoring("text-classification", "transformers", None).body({"text": "a", "text_pair": "b"}, **SAYS)
    with pytest.raises(UsageError, match="there is none"):
        Scoring("question-answering", "transformers", None).body({"question": "Where?"}, **SAYS)


def test_every_pipeline_of_the_registry_is_asked_in_its_own_way() -> None:
    for task in system_pipelines():
        scoring = scoring_of(mlmodel(task))
        assert (scoring is None) == (task == "chat-completion")
        assert scoring is None or scoring.reads


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("translation_en_to_ro", "translation"),
        ("ner", "token-classification"),
        ("multiclass", "text-classification"),
        ("multilabel", "text-classification"),
        ("fill-mask", None),
        ("chat-completion", None),
        ("", None),
    ],
)
def test_other_names_of_a_task_are_known_and_others_are_asked_in_conversation(theirs: str, ours: str | None) -> None:
    scoring = scoring_of(mlmodel(theirs))
    assert (None if scoring is None else scoring.task) == ours


def test_a_model_of_another_flavor_is_asked_in_conversation() -> None:
    assert scoring_of({"flavors": {"sklearn": {}}}) is None
    assert scoring_of({}) is None


@pytest.mark.parametrize(
    "answer",
    [
        {"output": "hi"},
        ["hi"],
        {"output": ["hi"]},
        [{"generated_text": "hi"}],
        {"0": "hi"},
        {"output": [{"role": "user", "content": "yo"}, {"role": "assistant", "content": "hi"}]},
        "hi",
    ],
)
def test_every_form_of_a_score_has_its_text(answer: Any) -> None:
    assert score_text(answer) == "hi"


def test_scores_without_text_say_so() -> None:
    for answer in ({}, [], None, 3):
        with pytest.raises(ServiceError, match="no text"):
            score_text(answer)
