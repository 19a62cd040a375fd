"""Talking to endpoints: each kind in its own shape, the key asked for at each call and kept nowhere."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from azft.azureml import inference
from azft.azureml.deployment import deploy
from azft.azureml.errors import ServiceError, ServiceUnavailableError
from azft.azureml.inference import EndpointChat, chunk_text, completion_text, open_endpoint
from azft.azureml.resources import Resource
from azft.emulator.faults import ALWAYS
from azft.errors import AzftError, ExitCode, NotFoundError, UsageError
from azft.payloads.wire import wire
from tests.helpers.azure_runs import MODEL, SIZE, Azure, emulated

SAID = [{"role": "user", "content": "hello"}]


@pytest.fixture
def azure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Azure]:
    with emulated(tmp_path, monkeypatch) as found:
        yield found


def chat(azure: Azure, service: str) -> EndpointChat:
    size = None if service == "serverless-finetuning" else SIZE
    run = azure.completed(service, mode="maas" if size is None else "maap")
    return open_endpoint(azure.connection, deploy(azure.connection, run, instance_type=size).name)


@pytest.mark.parametrize(
    ("service", "shape", "path"),
    [
        ("serverless-finetuning", "chat", "/v1/chat/completions"),
        ("pipeline", "chat", "/v1/chat/completions"),
        ("system-pipeline", "score", "/score"),
    ],
)
def test_each_kind_of_endpoint_answers_in_its_shape(azure: Azure, service: str, shape: str, path: str) -> None:
    endpoint = chat(azure, service)
    assert endpoint.shape == shape
    assert endpoint.url.endswith(path)
    assert "".join(endpoint.reply(SAID)) == "you said: hello"
    assert "".join(endpoint.reply(SAID, temperature=0.7, max_new_tokens=3)) == "you said: hello"


def test_what_is_no_conversation_reaches_no_endpoint(azure: Azure) -> None:
    endpoint = chat(azure, "pipeline")
    with pytest.raises(UsageError, match="a list of messages"):
        endpoint.reply([])


def test_an_answer_streams_where_the_endpoint_streams(azure: Azure) -> None:
    pieces = list(chat(azure, "pipeline").reply([{"role": "user", "content": "one\ntwo\nthree — ü"}]))
    assert pieces == ["you said: one\n", "two\n", "three — ü"]


def test_the_key_is_asked_for_at_each_call_and_kept_nowhere(azure: Azure, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    endpoint = chat(azure, "pipeline")
    key = azure.resources.act("online", endpoint.name, action="listKeys")["primaryKey"]
    before = azure.requests("POST", "/listKeys")
    list(endpoint.reply(SAID))
    list(endpoint.reply(SAID))
    assert azure.requests("POST", "/listKeys") == before + 2
    azure.resources.act("online", endpoint.name, action="regenerateKeys", body={"keyType": "Primary"})
    assert "".join(endpoint.reply(SAID)) == "you said: hello"
    assert key not in repr(endpoint)
    assert key not in caplog.text
    texts = [file.read_text(errors="replace") for file in azure.root.rglob("*") if file.is_file()]
    assert not any(key in text for text in texts)


def test_a_workspace_that_does_not_hand_out_the_key_is_no_endpoint_that_refuses_it(azure: Azure) -> None:
    endpoint = chat(azure, "pipeline")
    azure.emu.faults.add("token-expired", path="/listKeys", times=ALWAYS)
    with pytest.raises(AzftError) as caught:
        list(endpoint.reply(SAID))
    assert caught.value.exit_code is ExitCode.SIGN_IN
    assert "own key" not in str(caught.value)


@pytest.mark.parametrize("fault", ["throttled", "server-error", "connection-reset", "token-expired"])
def test_a_fault_on_the_way_is_waited_out(azure: Azure, fault: str) -> None:
    endpoint = chat(azure, "serverless-finetuning")
    azure.emu.faults.add(fault, path="/chat/completions")
    azure.emu.faults.add(fault, path="/listKeys")
    assert "".join(endpoint.reply(SAID)) == "you said: hello"


def test_a_model_that_fails_is_told_from_an_endpoint_that_fails(azure: Azure) -> None:
    with pytest.raises(ServiceError, match="failed on this conversation") as caught:
        list(chat(azure, "pipeline").reply([{"role": "user", "content": "fail"}]))
    assert "it failed" in caught.value.fix


def test_an_unknown_name_says_what_there_is(azure: Azure) -> None:
    name = chat(azure, "serverless-finetuning").name
    with pytest.raises(NotFoundError, match="There is no endpoint other") as caught:
        open_endpoint(azure.connection, "other")
    assert name in caught.value.fix


@pytest.mark.parametrize("name", ["", " ", "linden/deployments/azft", "..", "a b", "a?b#c", "a%2fb"])
def test_what_is_no_name_reaches_no_address(azure: Azure, name: str) -> None:
    azure.emu.log.clear()
    with pytest.raises(UsageError, match=r"Which endpoint\?|is no name for a serverless endpoint"):
        open_endpoint(azure.connection, name)
    assert azure.emu.log.list() == []


def test_an_endpoint_that_is_not_ready_says_so(azure: Azure) -> None:
    azure.emu.settings = azure.emu.settings.changed({"provision_seconds": 600})
    from azure.ai.ml.entities import ServerlessEndpoint

    body = wire(
        ServerlessEndpoint(name="slow", model_id=f"azureml://registries/azureml/models/{MODEL}")._to_rest_object()
    )
    azure.resources.put("serverless", "slow", body=body)
    with pytest.raises(AzftError, match="is not ready"):
        open_endpoint(azure.connection, "slow")


def test_a_key_goes_to_https_only(azure: Azure, monkeypatch: pytest.MonkeyPatch) -> None:
    name = chat(azure, "pipeline").name
    monkeypatch.setattr(inference, "_address", lambda _: ("http://example.org/v1/chat/completions", "chat"))
    with pytest.raises(AzftError, match="not at an https address"):
        open_endpoint(azure.connection, name)


MARKS = {
    "flavors": {"hftransformersv2": {"task_type": "question-answering"}},
    "signature": {"inputs": json.dumps([{"name": name, "type": "string"} for name in ("question", "context")])},
}
"""The MLmodel of a model that marks answers."""
ROW = {"question": "Where?", "context": "In Rome."}


@pytest.mark.parametrize("service", ["system-pipeline", "finetuning-job"])
def test_a_model_of_another_task_is_asked_with_rows(azure: Azure, service: str) -> None:
    run = azure.completed(service, described=MARKS)
    endpoint = open_endpoint(azure.connection, deploy(azure.connection, run, instance_type=SIZE).name)
    assert (endpoint.shape, endpoint.reads, endpoint.note) == ("score", ("question", "context"), "")
    answer = endpoint.ask(ROW)
    assert (answer.text, answer.told) == ("In Rome.", {"answer": "In Rome."})
    with pytest.raises(UsageError, match="there is none"):
        list(endpoint.reply(SAID))
    with pytest.raises(UsageError, match="not asked with text"):
        endpoint.ask({"text": "x"})
    with pytest.raises(ServiceError, match="failed on this row"):
        endpoint.ask({"question": "Where?", "context": "fail"})


def test_what_is_said_last_is_the_row_of_a_model_that_reads_one_text(azure: Azure) -> None:
    described = {"flavors": {"transformers": {"task": "summarization"}}}
    run = azure.completed("system-pipeline", described=described)
    endpoint = open_endpoint(azure.connection, deploy(azure.connection, run, instance_type=SIZE).name)
    assert "".join(endpoint.reply([{"role": "user", "content": "before"}, *SAID])) == "hello"


@pytest.mark.parametrize("what", ["", "{", "- 1", "flavors: 3"])
def test_where_the_mlmodel_cant_be_read_it_is_said_and_asked_in_conversation(azure: Azure, what: str) -> None:
    run = azure.completed("system-pipeline", described=MARKS)
    name = deploy(azure.connection, run, instance_type=SIZE).name
    (described,) = [file for file in azure.emu.state.root.rglob("MLmodel") if "mlflow_model_folder" in str(file)]
    described.write_text(what) if what else described.unlink()
    endpoint = open_endpoint(azure.connection, name)
    assert "asked in conversation" in endpoint.note
    assert endpoint.reads == ()


def test_an_endpoint_that_is_asked_in_conversation_takes_no_row(azure: Azure) -> None:
    endpoint = chat(azure, "system-pipeline")
    assert endpoint.reads == ()
    with pytest.raises(UsageError, match="in conversation, not with a row"):
        endpoint.ask(ROW)


class Stream:
    """An answer that comes in pieces, and may break."""

    def __init__(self, *pieces: bytes, breaks: bool = False) -> None:
        self.headers = {"Content-Type": "text/event-stream"}
        self.pieces, self.breaks = pieces, breaks

    def iter_bytes(self) -> Iterator[bytes]:
        yield from self.pieces
        if self.breaks:
            raise ConnectionResetError("cut")

    def close(self) -> None:
        pass


def event(text: str, *, finish: str | None = None) -> bytes:
    return f"data: {json.dumps({'choices': [{'delta': {'content': text}, 'finish_reason': finish}]})}\n\n".encode()


def over(azure: Azure, monkeypatch: pytest.MonkeyPatch, stream: Any) -> EndpointChat:
    endpoint = EndpointChat(azure.connection, Resource("online", ("e",)), "https://e/v1/chat/completions", "chat", None)
    monkeypatch.setattr(EndpointChat, "_ask", lambda *_: stream)
    return endpoint


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_pieces_may_be_cut_anywhere(azure: Azure, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    whole = b": a comment\r\n\r\n" + event("Grüß") + event(" dich") + event("", finish="stop") + b"data: [DONE]\r\n\r\n"
    pieces = [whole[start : start + size] for start in range(0, len(whole), size)]
    assert "".join(over(azure, monkeypatch, Stream(*pieces)).reply(SAID)) == "Grüß dich"


@pytest.mark.parametrize("breaks", [True, False])
def test_an_answer_that_is_cut_off_is_not_taken_for_whole(
    azure: Azure, monkeypatch: pytest.MonkeyPatch, breaks: bool
) -> None:
    pieces = over(azure, monkeypatch, Stream(event("half an"), breaks=breaks)).reply(SAID)
    assert next(pieces) == "half an"
    with pytest.raises(ServiceUnavailableError, match="cut off"):
        next(pieces)


def test_an_endpoint_that_does_not_stream_is_asked_without(azure: Azure, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def ask(self: EndpointChat, url: str, body: dict[str, Any]) -> Any:
        asked.append(body.get("stream"))
        if body.get("stream"):
            raise inference._NoStreamError
        return Stream(event("all of it", finish="stop"))

    endpoint = over(azure, monkeypatch, None)
    monkeypatch.setattr(EndpointChat, "_ask", ask)
    assert list(endpoint.reply(SAID)) == ["all of it"]
    assert asked == [True, None]


def test_answers_that_are_none_say_so() -> None:
    with pytest.raises(ServiceError, match="no chat completion"):
        completion_text({"error": "x"})
    with pytest.raises(ServiceError, match="no JSON"):
        chunk_text("{")
    with pytest.raises(ServiceError, match="stopped with an error"):
        chunk_text('{"error": {"message": "too long"}}')
    assert chunk_text('{"choices": [], "usage": {}}') == ("", False)
