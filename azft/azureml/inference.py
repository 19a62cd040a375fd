"""Talking to an endpoint: chat completions (serverless, vLLM), and chats and rows with Azure's own MLflow server.

The key is asked for at each call, kept in no file and in no text, and gone when the answer is.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from azft.asking import Answer, checked_row, require_conversation, row_of
from azft.azureml.errors import ServiceError, ServiceUnavailableError, read
from azft.azureml.patience import call
from azft.azureml.resources import SUCCEEDED, Resource, Resources
from azft.azureml.scoring import Scoring, read_scoring, score_text, short
from azft.azureml.vllm_rows import CHAT, VllmRows, vllm_rows
from azft.errors import AzftError, NotFoundError, UsageError
from azft.redact import redact
from azft.tags import KIND_TAG, MODEL_TAG, PROMPT_TAG, TAG, TASK_TAG

if TYPE_CHECKING:
    from azft.azureml.connection import Connection

Message = dict[str, str]
Shape = Literal["chat", "score"]

_CHAT = f"/{CHAT}"
_CONNECT = 20
_READ = 300
"""Seconds to wait for the next piece of an answer."""
_SCOPE = "https://ml.azure.com/.default"


@dataclass(frozen=True)
class EndpointChat:
    """An endpoint to talk to. `shape` is how it wants to be asked."""

    connection: Connection
    endpoint: Resource
    url: str
    shape: Shape
    model: str | None
    """What the server calls the model, where it wants to be told."""
    note: str = ""
    scoring: Scoring | VllmRows | None = None
    """How its server takes a row; None where it is asked in conversation."""

    @property
    def reads(self) -> tuple[str, ...]:
        """The columns of a row with which it is asked; () where it is asked in conversation."""
        return () if self.scoring is None else self.scoring.reads

    @property
    def name(self) -> str:
        """The endpoint's name."""
        return self.endpoint.name

    def reply(
        self, messages: Sequence[Message], *, max_new_tokens: int = 256, temperature: float = 0.0
    ) -> Iterator[str]:
        """Pieces of the answer to a conversation: as they are made where the endpoint streams, else in one.

        An endpoint that is asked with rows gets what was said last as one. Raises `AzftError`: it is no conversation,
        or the endpoint refuses, has a fault, or its answer was cut off.
        """
        return self._answer(require_conversation(messages, max_new_tokens=max_new_tokens), max_new_tokens, temperature)

    def _answer(self, messages: list[dict[str, Any]], max_new_tokens: int, temperature: float) -> Iterator[str]:
        if self.scoring is not None:
            row = row_of(messages[-1]["content"], self.reads)
            if not self.url.endswith(_CHAT):
                yield self.ask(row, max_new_tokens=max_new_tokens, temperature=temperature).text
                return
            yield from self._streamed(self._body(row, max_new_tokens, temperature)[0])
            return
        body: dict[str, Any]
        if self.shape == "score":
            parameters: dict[str, Any] = {"max_new_tokens": max_new_tokens, "do_sample": temperature > 0}
            if temperature > 0:
                parameters["temperature"] = temperature
            body = {"input_data": {"input_string": messages, "parameters": parameters}, "params": {}}
            yield score_text(self._score(body))
            return
        body = {"messages": messages, "max_tokens": max_new_tokens, "temperature": temperature}
        if self.model is not None:
            body["model"] = self.model
        yield from self._streamed(body)

    def ask(self, row: Mapping[str, Any], *, max_new_tokens: int = 256, temperature: float = 0.0) -> Answer:
        """The answer to a row of the task that the model was tuned for; how it is written matters where it is written.

        Raises `UsageError` for a row that it can't be asked, and otherwise as `reply`.
        """
        if self.scoring is None:
            raise UsageError(
                f"The endpoint {self.name} is asked in conversation, not with a row.", fix="Say it: --prompt TEXT"
            )
        body, given = self._body(row, max_new_tokens, temperature)
        return self.scoring.answer(self._score(body), given)

    def _body(self, row: Mapping[str, Any], tokens: int, temperature: float) -> tuple[dict[str, Any], dict[str, Any]]:
        """What is sent for a row, and the row once it is checked."""
        assert self.scoring is not None
        given = checked_row(row, self.reads)
        return self.scoring.body(given, max_new_tokens=tokens, temperature=temperature), given

    def _streamed(self, body: Mapping[str, Any]) -> Iterator[str]:
        """The answer to a chat completion: in pieces, or in one from an endpoint that doesn't stream."""
        try:
            yield from self._complete({**body, "stream": True})
        except _NoStreamError:
            yield from self._complete(body)

    def _score(self, body: Mapping[str, Any]) -> Any:
        with closing(self._ask(self.url, body)) as response:
            return self._whole(response)

    def _complete(self, body: Mapping[str, Any]) -> Iterator[str]:
        with closing(self._ask(self.url, body)) as response:
            if "text/event-stream" not in str(response.headers.get("Content-Type") or ""):
                yield completion_text(self._whole(response))
                return
            finished = False
            for event in _events(self._pieces(response)):
                if event == "[DONE]":
                    finished = True
                    break
                piece, ended = chunk_text(event)
                finished = finished or ended
                if piece:
                    yield piece
            if not finished:
                raise ServiceUnavailableError(f"The answer of {self.name} was cut off.", fix="Ask again.")

    def _ask(self, url: str, body: Mapping[str, Any]) -> Any:
        """Send it, and hand over the answer with its body still to come."""
        from azure.core import PipelineClient
        from azure.core.pipeline.policies import UserAgentPolicy
        from azure.core.rest import HttpRequest

        # Before the endpoint is asked: what the workspace answers about its key is no answer of the endpoint's.
        headers = {"Accept": "application/json, text/event-stream", **self._headers()}

        def send() -> Any:
            request = HttpRequest("POST", url, json=body, headers=headers)
            # No policy of the SDK's that logs or tries again: the key is in the headers.
            client = PipelineClient(base_url=url, policies=[UserAgentPolicy(base_user_agent="azft")])
            response = client.send_request(request, stream=True, connection_timeout=_CONNECT, read_timeout=_READ)
            if response.status_code >= 400:
                response.read()
                if body.get("stream") and response.status_code in {400, 422} and "stream" in response.text():
                    raise _NoStreamError
                response.raise_for_status()
            return response

        try:
            return call(f"Asking the endpoint {self.name}", send)
        except ServiceError as error:
            raise self._explained(error) from None

    def _headers(self) -> dict[str, str]:
        """What lets us in. Asked for anew with each question."""
        resources = Resources(self.connection)
        kind, name = self.endpoint.kind, self.endpoint.name
        if kind == "serverless":
            wanted = (self.endpoint.properties.get("inferenceEndpoint") or {}).get("headers") or {}
            key = str(resources.act(kind, name, action="listKeys").get("primaryKey") or "")
            return {**{str(header): str(value) for header, value in wanted.items()}, "Authorization": key}
        mode = str(self.endpoint.properties.get("authMode") or "Key").lower()
        if mode == "key":
            token = str(resources.act(kind, name, action="listKeys").get("primaryKey") or "")
        elif mode == "amltoken":
            token = str(resources.act(kind, name, action="token").get("accessToken") or "")
        else:
            token = str(self.connection.credential.get_token(_SCOPE).token)
        return {"Authorization": f"Bearer {token}"}

    def _explained(self, error: ServiceError) -> AzftError:
        """What an endpoint's own refusals mean: they are another service's than the workspace's."""
        status = error.answer.status if error.answer is not None else None
        beneath = error.answer.sentence if error.answer is not None else error.fix
        if status in {401, 403}:
            return ServiceError(
                f"The endpoint {self.name} does not accept its own key.",
                fix=f"Its keys may just have been changed: ask again in a minute.\n{beneath}",
                answer=error.answer,
            )
        if status == 404:
            return ServiceError(
                f"The endpoint {self.name} is there, but does not answer at {urlsplit(self.url).path}.",
                fix=f"It may serve another kind of model. {beneath}",
                answer=error.answer,
            )
        if status == 424:
            return ServiceError(
                f"The model behind {self.name} failed on this {'row' if self.scoring else 'conversation'}.",
                fix=f"Its log is in Azure ML's studio, at the endpoint's deployment.\n{beneath}",
                answer=error.answer,
            )
        return error

    def _whole(self, response: Any) -> Any:
        try:
            response.read()
            return json.loads(response.text())
        except ValueError:
            words = redact(response.text()[:200].strip())
            raise ServiceError(f"The endpoint {self.name} answers something that is no JSON: {words}") from None
        except Exception as error:
            raise self._cut(error) from None

    def _pieces(self, response: Any) -> Iterator[bytes]:
        try:
            yield from response.iter_bytes()
        except Exception as error:
            raise self._cut(error) from None

    def _cut(self, error: Exception) -> Exception:
        """A connection that broke in the middle of an answer; anything else is passed on."""
        if isinstance(error, AzftError) or read(error) is None:
            return error
        return ServiceUnavailableError(f"The answer of {self.name} was cut off.", fix="Ask again.")


class _NoStreamError(Exception):
    """The endpoint doesn't know the word `stream`."""


def open_endpoint(connection: Connection, name: str) -> EndpointChat:
    """The endpoint of this name, ready to be talked to. Raises `NotFoundError` with what there is."""
    if not name.strip():
        raise UsageError("Which endpoint? Its name is empty.", fix="What azft made in Azure: azft down --dry-run")
    resources = Resources(connection)
    endpoint = resources.get("serverless", name) or resources.get("online", name)
    if endpoint is None:
        ours = [found.name for kind in ("serverless", "online") for found in resources.all(kind) if TAG in found.tags]
        there = f"azft's there: {', '.join(ours)}" if ours else "Make one with: azft deploy RUN"
        raise NotFoundError(f"There is no endpoint {name} in the workspace {connection.workspace.name}.", fix=there)
    if endpoint.state.lower() != SUCCEEDED:
        raise AzftError(
            f"The {endpoint.words} is not ready ({endpoint.state}).",
            fix=f"Wait for it with azft deploy, or end it: azft down {name}",
        )
    url, shape = _address(endpoint)
    if not url:
        raise AzftError(f"The {endpoint.words} has no address yet.", fix="Try again in a minute.")
    if urlsplit(url).scheme != "https":
        raise AzftError(f"The {endpoint.words} is not at an https address; azft sends no key there.")
    model, _, version = endpoint.tags.get(MODEL_TAG, "").rpartition(":")
    if shape == "chat":
        rows = _rows(endpoint, model or None) if endpoint.kind == "online" else None
        address = url if rows is None else f"{url.removesuffix(_CHAT)}/{rows.path}"
        return EndpointChat(connection, endpoint, address, shape, model or None, scoring=rows)
    if not model:
        return EndpointChat(connection, endpoint, url, shape, None)
    try:
        scoring, note = read_scoring(connection, model, version), ""
    except AzftError as error:  # reading may not be allowed where asking is
        scoring, note = None, f"{error.message} So it is asked in conversation, as a chat model."
    return EndpointChat(connection, endpoint, url, shape, None, note, scoring)


def _rows(endpoint: Resource, model: str | None) -> VllmRows | None:
    """How the endpoint's vLLM takes rows, by its tags; None where they don't say, or it is asked in conversation."""
    own = endpoint.tags.get(PROMPT_TAG)
    try:
        prompt = None if own is None else str(json.loads(own))
    except ValueError:  # somebody's, not azft's
        return None
    return vllm_rows(endpoint.tags.get(TASK_TAG, ""), model, prompt)


def completion_text(answer: Any) -> str:
    """The text of a whole chat completion."""
    try:
        return str(answer["choices"][0]["message"]["content"] or "")
    except (KeyError, IndexError, TypeError):
        raise ServiceError(f"The endpoint's answer is no chat completion: {short(answer)}") from None


def chunk_text(event: str) -> tuple[str, bool]:
    """The text of a piece of a streamed chat completion, and whether it is the last."""
    try:
        chunk = json.loads(event)
    except ValueError:
        raise ServiceError(f"The endpoint streams something that is no JSON: {short(event)}") from None
    if not isinstance(chunk, dict) or chunk.get("error"):
        raise ServiceError(f"The endpoint stopped with an error: {short(chunk)}")
    choices = chunk.get("choices") or []
    if not choices:  # usage figures come in a chunk of their own
        return "", False
    delta = choices[0].get("delta") or {}
    return str(delta.get("content") or ""), choices[0].get("finish_reason") is not None


def _address(endpoint: Resource) -> tuple[str, Shape]:
    """Where to ask, and how."""
    if endpoint.kind == "serverless":
        base = str((endpoint.properties.get("inferenceEndpoint") or {}).get("uri") or "")
        return (_below(base) if base else ""), "chat"
    uri = str(endpoint.properties.get("scoringUri") or "")
    kind = endpoint.tags.get(KIND_TAG)
    if kind == "mlflow" or (kind is None and urlsplit(uri).path.rstrip("/").endswith("/score")):
        return uri, "score"
    return (_below(uri.rstrip("/").removesuffix("/score")) if uri else ""), "chat"


def _below(base: str) -> str:
    """The chat completions below a server's address, however much of the path it has already."""
    trimmed = base.rstrip("/").removesuffix("/chat/completions")
    return f"{trimmed}/chat/completions" if trimmed.endswith("/v1") else f"{trimmed}/v1/chat/completions"


def _events(pieces: Iterator[bytes]) -> Iterator[str]:
    """The data of server-sent events, put together from pieces that end anywhere."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    buffer, data = "", list[str]()
    for piece in pieces:
        buffer += decoder.decode(piece)
        *lines, buffer = buffer.split("\n")
        for raw in lines:
            line = raw.removesuffix("\r")
            if line.startswith("data:"):
                data.append(line[5:].removeprefix(" "))
            elif not line and data:
                yield "\n".join(data)
                data.clear()
    if data:
        yield "\n".join(data)
