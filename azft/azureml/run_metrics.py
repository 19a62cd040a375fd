"""The metrics of jobs that the service trains itself, from the workspace's MLflow, in the form of metrics.jsonl.

One line a step: {"step", "loss", "learning_rate", ...}, under azft's names where the service's trainer has others.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from azft.azureml.errors import ServiceError
from azft.azureml.patience import call

if TYPE_CHECKING:
    from azft.azureml.connection import Connection

NAMES = {
    "train_loss": "loss",
    "training_loss": "loss",
    "lr": "learning_rate",
    "validation_loss": "eval_loss",
    "valid_loss": "eval_loss",
    "val_loss": "eval_loss",
}
_SKIPPED = ("system/",)
_PAGE = 1000


def service_metrics(connection: Connection, runs: Iterable[str]) -> list[dict[str, Any]]:
    """The metrics of the first of these runs that has a loss; else of the first that has any."""
    found: list[dict[str, Any]] = []
    for run in dict.fromkeys(runs):
        lines = _lines(connection, run)
        if any("loss" in line for line in lines):
            return lines
        found = found or lines
    return found


def _lines(connection: Connection, run: str) -> list[dict[str, Any]]:
    try:
        answer = _get(connection, "runs/get", {"run_id": run})
    except ServiceError as error:
        if error.answer is None or error.answer.unclear:
            raise
        return []  # no such run in MLflow (yet)
    latest = ((answer.get("run") or {}).get("data") or {}).get("metrics") or []
    by_step: dict[int, dict[str, Any]] = {}
    for entry in latest:
        key = str(entry.get("key") or "")
        if not key or key.startswith(_SKIPPED):
            continue
        for point in _points(connection, run, key):
            line = by_step.setdefault(int(point.get("step") or 0), {})
            line[NAMES.get(key, key)] = point.get("value")
            line.setdefault("time", int(point.get("timestamp") or 0) / 1000)
    return [{"step": step, **by_step[step]} for step in sorted(by_step)]


def _points(connection: Connection, run: str, key: str) -> list[dict[str, Any]]:
    points: list[dict[str, Any]] = []
    page = ""
    while True:
        query = {"run_id": run, "metric_key": key, "max_results": str(_PAGE), **({"page_token": page} if page else {})}
        answer = _get(connection, "metrics/get-history", query)
        points += answer.get("metrics") or []
        following = str(answer.get("next_page_token") or "")
        if not following or following == page:
            return points
        page = following


def _get(connection: Connection, method: str, query: dict[str, str]) -> dict[str, Any]:
    from azure.core.rest import HttpRequest

    base = urlsplit(str(connection.details.mlflow_tracking_uri))
    url = f"https://{base.netloc}{base.path}/api/2.0/mlflow/{method}"

    def send() -> dict[str, Any]:
        response = connection.client._service_client_01_2024_preview_arm.send_request(
            HttpRequest("GET", url, params=query, headers={"Accept": "application/json"})
        )
        response.raise_for_status()
        found = response.json()
        assert isinstance(found, dict)
        return found

    return call("Reading the job's metrics", send)
