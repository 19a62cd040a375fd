"""Rows at an endpoint of vLLM: what it is sent, and what its answers say."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from azft.azureml import inference
from azft.azureml.deployment import deploy
from azft.azureml.errors import ServiceError
from azft.azureml.inference import EndpointChat, open_endpoint
from azft.azureml.resources import Resource
from azft.azureml.vllm_rows import vllm_rows
from azft.errors import AzftError, UsageError
from azft.files import write_json
from tests.helpers.azure_runs import SIZE, Azure, emulated

SERVER = """
import json, sys
for line in sys.stdin:
    request = json.loads(line)
    if "prompt" in request:
        told = {"content": f" and {request['max_tokens']} {request['temperature']}"}
    elif "row" in request:
        told = {"told": {"label": "good", "score": 0.75, "scores": {"bad": 0.25, "good": 0.75}}}
    else:
        told = {"content": "asked\\n" + request["messages"][-1]["content"]}
    print(json.dumps(told), flush=True)
"""
CLASSIFIER = {"model_type": "bert", "architectures": ["BertForSequenceClassification"]}


@pytest.fixture
def azure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Azure]:
    with emulated(tmp_path, monkeypatch, server_command=(sys.executable, "-c", SERVER)) as found:
        yield found


def endpoint(azure: Azure, task: str, config: dict[str, Any] | None = None, prompt: str | None = None) -> EndpointChat:
    run = azure.local(task=task, data={"prompt": prompt})
    if config is not None:
        write_json(run.folder / "outputs" / "packaged" / "config.json", config)
    return open_endpoint(azure.connection, deploy(azure.connection, run, instance_type=SIZE).name)


def test_a_classifier_tells_its_label_and_how_likely_it_is(azure: Azure) -> None:
    judge = endpoint(azure, "text-classification", CLASSIFIER)
    assert judge.url.endswith("/classify")
    assert judge.reads == ("text", "text_pair")
    answer = judge.ask({"text": "So good."})
    assert (answer.text, answer.told) == ("good (0.750)", {"label": "good", "score": 0.75})
    assert "".join(judge.reply([{"role": "user", "content": "So good."}])) == "good (0.750)"
    with pytest.raises(UsageError, match="one text a row"):
        judge.ask({"text": "a", "text_pair": "b"})


def test_what_continues_plain_text_goes_on_with_the_text_as_it_stands(azure: Azure) -> None:
    writer = endpoint(azure, "text-generation")
    assert writer.url.endswith("/v1/completions")
    assert writer.ask({"prompt": "Once"}, max_new_tokens=3).told == {"text": " and 3 0.0"}
    assert "".join(writer.reply([{"role": "user", "content": "Once"}], max_new_tokens=3)) == " and 3 0.0"


def test_a_model_that_was_tuned_by_a_prompt_is_asked_by_it(azure: Azure) -> None:
    """Asked with the bare text, it would not be asked as it was trained to be."""
    translator = endpoint(azure, "translation")
    asked = "asked\nTranslate the following text.\n\nBrot"
    assert translator.ask({"source": "Brot"}).told == {"text": asked}
    pieces = list(translator.reply([{"role": "user", "content": "Brot"}]))
    assert "".join(pieces) == asked
    assert len(pieces) == asked.count("\n") + 1, "it streams"


def test_several_columns_stand_in_the_recipes_own_prompt(azure: Azure) -> None:
    own = "{question}\nBy this text: {context}"
    knows = endpoint(azure, "question-answering", prompt=own)
    assert knows.endpoint.tags["azft.prompt"] == '"{question}\\nBy this text: {context}"'
    assert knows.ask({"question": "Who?", "context": "Jon."}).text == "asked\nWho?\nBy this text: Jon."
    assert knows.ask({"question": "Who?"}).text == "asked\nWho?", "as on this machine"


@pytest.mark.parametrize(
    ("task", "prompt"),
    [("chat-completion", None), ("preference-tuning", None), ("translation", "x" * 250 + "{source}")],
)
def test_what_no_row_is_known_of_is_asked_in_conversation(azure: Azure, task: str, prompt: str | None) -> None:
    talker = endpoint(azure, task, prompt=prompt)
    assert talker.reads == ()
    assert "azft.prompt" not in talker.endpoint.tags
    assert "".join(talker.reply([{"role": "user", "content": "hi"}])) == "asked\nhi"


def test_somebody_elses_tag_is_no_prompt(azure: Azure) -> None:
    tags = {"azft.task": "translation", "azft.prompt": "no JSON"}
    assert inference._rows(Resource("online", ("e",), tags=tags), None) is None


def test_what_is_sent_names_the_model_and_cuts_long_texts() -> None:
    judge, writer = vllm_rows("text-classification", "mail"), vllm_rows("text-generation", None)
    assert judge is not None
    assert writer is not None
    settings: dict[str, Any] = {"max_new_tokens": 9, "temperature": 0.5}
    assert judge.body({"text": "a"}, **settings) == {"model": "mail", "input": "a", "truncate_prompt_tokens": -1}
    assert writer.body({"prompt": "a"}, **settings) == {"prompt": "a", "max_tokens": 9, "temperature": 0.5}


def test_a_model_that_may_tell_several_labels_is_not_taken_for_one_that_tells_one() -> None:
    judge = vllm_rows("text-classification", "mail")
    assert judge is not None
    with pytest.raises(ServiceError, match="several labels"):
        judge.answer({"data": [{"label": "a", "probs": [0.9, 0.8]}]}, {})


@pytest.mark.parametrize("answer", [{}, [], None, {"data": []}, {"data": [{}]}, {"choices": [{}]}, "x"])
@pytest.mark.parametrize("task", ["text-classification", "text-generation", "translation"])
def test_what_is_no_answer_is_said(task: str, answer: Any) -> None:
    rows = vllm_rows(task, None)
    assert rows is not None
    with pytest.raises(ServiceError, match="nothing about the row"):
        rows.answer(answer, {})


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}]}, "does not answer at"),
        ("v1/completions", {"prompt": "x"}, "does not answer at"),
        ("classify", {"input": 3}, "needs an input"),
    ],
)
def test_the_emulator_refuses_what_vllm_refuses_of_a_classifier(
    azure: Azure, path: str, body: dict[str, Any], words: str
) -> None:
    judge = endpoint(azure, "text-classification", CLASSIFIER)
    with pytest.raises(AzftError) as caught:
        judge._ask(f"{judge.url.removesuffix('/classify')}/{path}", body)
    assert words in f"{caught.value.message} {caught.value.fix}"


@pytest.mark.parametrize(
    ("body", "words"), [({"prompt": ["a"]}, "needs a prompt"), ({"prompt": "a", "stream": True}, "not streamed")]
)
def test_the_emulators_completions_are_one_text_in_one_piece(azure: Azure, body: dict[str, Any], words: str) -> None:
    writer = endpoint(azure, "text-generation")
    with pytest.raises(AzftError) as caught:
        writer._ask(writer.url, body)
    assert words in f"{caught.value.message} {caught.value.fix}"
