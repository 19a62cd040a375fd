"""What endpoints answer: chat completions as OpenAI's API has them, and the scoring of Azure's own MLflow server."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from azft.emulator import online_deployments, provisioning, scoring, serverless_endpoints, vllm_pooling
from azft.emulator.endpoint_keys import require_key
from azft.emulator.http import ApiError, Request, Response, Route
from azft.emulator.online_documents import find_endpoint
from azft.emulator.serving import ModelServers
from azft.emulator.state import Document

if TYPE_CHECKING:
    from azft.emulator.app import Emulator

_CHAT = ("v1/chat/completions", "chat/completions")


def serverless(emu: Emulator, request: Request) -> Response:
    """Anything below a serverless endpoint's address."""
    endpoint = serverless_endpoints.find(emu, request.params["endpoint"])
    if request.params["path"] == "health":
        return Response(200, {"status": "ok"})
    require_key(endpoint, request)
    _require_ready(emu, endpoint)
    if request.method != "POST" or request.params["path"] not in _CHAT:
        raise ApiError(404, "NotFound", f"There is nothing at /{request.params['path']}.")
    model = serverless_endpoints.model_folder(emu, endpoint)
    return _chat(emu, request, model, endpoint["model"].split("/models/")[-1].split("/")[0])


def online(emu: Emulator, request: Request) -> Response:
    """Anything below an online endpoint's address."""
    endpoint = find_endpoint(emu, request.params["endpoint"])
    require_key(endpoint, request)
    _require_ready(emu, endpoint)
    deployment = online_deployments.chosen(emu, endpoint, request.headers.get("azureml-model-deployment"))
    model = online_deployments.model_folder(emu, deployment)
    path = request.params["path"]
    name = deployment["model"].split("/models/")[-1].split("/")[0]
    if online_deployments.own_image(deployment):
        if path == "health":
            return Response(200, b"")
        if path == "v1/models":
            return Response(200, {"object": "list", "data": [{"id": name, "object": "model"}]})
        if request.method == "POST" and path == "classify" and vllm_pooling.classifies(model):
            return vllm_pooling.classify(emu, model, name, request.json())
        if request.method == "POST" and path == "v1/completions" and not vllm_pooling.classifies(model):
            return _completion(emu, request, model, name)
        if request.method == "POST" and path in _CHAT and not vllm_pooling.classifies(model):
            return _chat(emu, request, model, name)
    elif request.method == "POST" and path == "score":
        return _score(emu, request, model)
    raise ApiError(404, "NotFound", f"There is nothing at /{path}.")


def _require_ready(emu: Emulator, endpoint: Document) -> None:
    state = provisioning.state_of(emu, endpoint)
    if state not in {"Succeeded", "Updating"}:
        raise ApiError(503, "ServiceUnavailable", f"The endpoint {endpoint['name']} is {state}.")


def _chat(emu: Emulator, request: Request, model: Path, name: str) -> Response:
    body = request.json()
    messages = _messages(body.get("messages"))
    text = _ask(emu, model, messages, body.get("max_tokens") or body.get("max_completion_tokens"), body)
    base = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(emu.clock.now()), "model": name}
    if not body.get("stream"):
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        return Response(
            200, {**base, "object": "chat.completion", "choices": [choice], "usage": _usage(messages, text)}
        )
    pieces = [
        {"role": "assistant", "content": ""},
        *({"content": piece} for piece in text.splitlines(keepends=True)),
        {},
    ]
    events = []
    for number, delta in enumerate(pieces):
        last = number == len(pieces) - 1
        choice = {"index": 0, "delta": delta, "finish_reason": "stop" if last else None}
        events.append(json.dumps({**base, "object": "chat.completion.chunk", "choices": [choice]}))
    stream = "".join(f"data: {event}\n\n" for event in [*events, "[DONE]"])
    return Response(200, stream.encode(), {"Content-Type": "text/event-stream"})


def _completion(emu: Emulator, request: Request, model: Path, name: str) -> Response:
    """What follows a text, as it stands. Not streamed."""
    body = request.json()
    prompt = body.get("prompt")
    if not isinstance(prompt, str):
        raise ApiError(400, "BadRequest", "The request needs a prompt, a text.")
    if body.get("stream"):
        raise ApiError(501, "NotEmulated", "Completions are not streamed here.")
    text = _text_of(emu, model, {"prompt": prompt}, body.get("max_tokens"), body)
    base = {"id": f"cmpl-{uuid.uuid4().hex}", "object": "text_completion", "created": int(emu.clock.now())}
    choice = {"index": 0, "text": text, "finish_reason": "stop"}
    usage = _usage([{"content": prompt}], text)
    return Response(200, {**base, "model": name, "choices": [choice], "usage": usage})


def _score(emu: Emulator, request: Request, model: Path) -> Response:
    body = request.json()
    served = scoring.served_model(model)
    if served is not None:
        return Response(200, scoring.score(emu, model, served, body))
    given = body.get("input_data")
    if not isinstance(given, dict) or "input_string" not in given:
        raise ApiError(400, "BadRequest", "The request needs input_data.input_string.")
    conversation = given["input_string"]
    if conversation and isinstance(conversation[0], list):
        conversation = conversation[0]
    parameters = given.get("parameters") or {}
    if not parameters.get("do_sample"):
        parameters = {**parameters, "temperature": 0}
    text = _ask(emu, model, _messages(conversation), parameters.get("max_new_tokens"), parameters)
    return Response(200, {"output": text})


def _ask(emu: Emulator, model: Path, messages: list[dict[str, Any]], most: Any, settings: dict[str, Any]) -> str:
    return _text_of(emu, model, {"messages": messages}, most, settings)


def _text_of(emu: Emulator, model: Path, asked: dict[str, Any], most: Any, settings: dict[str, Any]) -> str:
    try:
        question = {
            **asked,
            "max_tokens": int(most or 256),
            "temperature": float(settings.get("temperature") or 0),
        }
    except (TypeError, ValueError) as error:
        raise ApiError(400, "BadRequest", f"A parameter is no number: {error}") from None
    return str(emu.part(ModelServers).ask(model, question).get("content") or "")


def _messages(given: Any) -> list[dict[str, Any]]:
    if not isinstance(given, list) or not given or not all(isinstance(turn, dict) and "role" in turn for turn in given):
        raise ApiError(400, "BadRequest", "The messages must be a list of {role, content}.")
    return given


def _usage(messages: list[dict[str, Any]], text: str) -> dict[str, int]:
    """Counts of words: the server does not tell tokens."""
    asked = sum(len(str(turn.get("content") or "").split()) for turn in messages)
    return {"prompt_tokens": asked, "completion_tokens": len(text.split()), "total_tokens": asked + len(text.split())}


ROUTES = tuple(
    Route(method, f"/{kind}/{{endpoint}}/{{path:path}}", handler, auth="none")
    for kind, handler in (("serverless", serverless), ("online", online))
    for method in ("GET", "POST")
)
