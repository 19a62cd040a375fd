"""What is sent to make an endpoint: the SDK's entities, filled in, as the JSON of their REST objects. No network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from azft.files import sha256_tree
from azft.payloads.wire import wire
from azft.pipeline import quiet_sdk
from azft.staging import bundled

DEPLOYMENT = "azft"
"""The name of the one deployment behind an endpoint."""
MOUNT = "/models"
PORT = 8000
_SLOW_START = 600
"""Seconds before a container's life is first asked about: it loads gigabytes."""


def serverless_endpoint(*, model_asset: str, location: str, tags: Mapping[str, str]) -> dict[str, Any]:
    """A serverless endpoint. `model_asset` names the workspace's model with its version."""
    with quiet_sdk():
        from azure.ai.ml.entities import ServerlessEndpoint

        endpoint = ServerlessEndpoint(name="endpoint", model_id=model_asset, tags=dict(tags))
        endpoint.location = location
        return wire(endpoint._to_rest_object())


def online_endpoint(
    name: str, *, location: str, tags: Mapping[str, str], traffic: Mapping[str, int] | None = None
) -> dict[str, Any]:
    """A managed online endpoint that takes keys."""
    with quiet_sdk():
        from azure.ai.ml.entities import ManagedOnlineEndpoint

        endpoint = ManagedOnlineEndpoint(name=name, auth_mode="key", tags=dict(tags), traffic=dict(traffic or {}))
        return wire(endpoint._to_rest_online_endpoint(location))


def mlflow_deployment(
    endpoint: str, *, location: str, model: str, instance_type: str, instances: int, tags: Mapping[str, str]
) -> dict[str, Any]:
    """A deployment without code: Azure's own server loads the MLflow model."""
    return _deployment(endpoint, location, model, instance_type, instances, tags, timeout_ms=90_000)


def vllm_deployment(
    endpoint: str,
    *,
    location: str,
    model: str,
    environment: str,
    model_name: str,
    gpus: int,
    instance_type: str,
    instances: int,
    tags: Mapping[str, str],
) -> dict[str, Any]:
    """A deployment of azft's vLLM image on a mounted model folder."""
    return _deployment(
        endpoint,
        location,
        model,
        instance_type,
        instances,
        tags,
        timeout_ms=180_000,
        environment=environment,
        model_mount_path=MOUNT,
        environment_variables={
            "AZFT_MODEL_ROOT": MOUNT,
            "AZFT_MODEL_NAME": model_name,
            "AZFT_GPUS": str(max(1, gpus)),
        },
    )


def serve_folder() -> Path:
    """The build folder of the vLLM image."""
    return bundled("environments") / "serve"


def serve_environment_name() -> str:
    """The name of the vLLM image's environment, made from the contents of its build folder."""
    return f"azft-serve-{sha256_tree(serve_folder())[:32]}"


def serve_environment(context: str) -> dict[str, Any]:
    """The environment of the vLLM image. `context` is where its build folder lies in the workspace's blob store."""
    with quiet_sdk():
        from azure.ai.ml.entities import BuildContext, Environment

        environment = Environment(
            name=serve_environment_name(),
            version="1",
            description="vLLM on a merged model, made by azft.",
            build=BuildContext(path=context, dockerfile_path="Dockerfile"),
            inference_config={
                "liveness_route": {"port": PORT, "path": "/health"},
                "readiness_route": {"port": PORT, "path": "/health"},
                "scoring_route": {"port": PORT, "path": "/"},
            },
        )
        return wire(environment._to_rest_object())


def _deployment(
    endpoint: str,
    location: str,
    model: str,
    instance_type: str,
    instances: int,
    tags: Mapping[str, str],
    *,
    timeout_ms: int,
    **more: Any,
) -> dict[str, Any]:
    with quiet_sdk():
        from azure.ai.ml.entities import ManagedOnlineDeployment, OnlineRequestSettings, ProbeSettings

        deployment = ManagedOnlineDeployment(
            name=DEPLOYMENT,
            endpoint_name=endpoint,
            model=model,
            instance_type=instance_type,
            instance_count=instances,
            liveness_probe=ProbeSettings(initial_delay=_SLOW_START, period=10, timeout=5, failure_threshold=30),
            readiness_probe=ProbeSettings(initial_delay=10, period=10, timeout=5, failure_threshold=180),
            request_settings=OnlineRequestSettings(request_timeout_ms=timeout_ms),
            tags=dict(tags),
            **more,
        )
        return wire(deployment._to_rest_object(location=location))
