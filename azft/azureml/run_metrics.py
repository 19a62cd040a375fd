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
_LOSSES = frozenset({"loss", *(theirs for theirs, ours in NAMES.items() if ours == "loss")})
_SKIPPED = ("system/",)
_PAGE = 1000


def service_metrics(
    connection: Connection, runs: Iterable[str], *, after: int = -1, ended: bool = False
) -> list[dict[str, Any]]:
    """The lines of the steps behind `after`, of the first of these runs that logs a loss.

    The newest step is held back as long as the training goes on (`ended`), because more of it may still come: so a line
    never changes once it was given.
    """
    for run in dict.fromkeys(runs):
        newest = _newest(connection, run)
        if newest.keys() & _LOSSES:
            last = max(newest.values())
            if last <= after or (last - 1 <= after and not ended):
                return []
            lines = _lines(connection, run, newest)
            return [line for line in lines if after < line["step"] and (ended or line["step"] < last)]
    return []


def _newest(connection: Connection, run: str) -> dict[str, int]:
    """The newest step of each metric; empty for a run that MLflow doesn't know (yet)."""
    try:
        answer = _get(connection, "runs/get", {"run_id": run})
    except ServiceError as error:
        if error.answer is None or error.answer.unclear:
            raise
        return {}
    latest = ((answer.get("run") or {}).get("data") or {}).get("metrics") or []
    return {str(m["key"]): int(m.get("step") or 0) for m in latest if not str(m["key"]).startswith(_SKIPPED)}


def _lines(connection: Connection, run: str, keys: Iterable[str]) -> list[dict[str, Any]]:
    by_step: dict[int, dict[str, Any]] = {}
    for key in keys:
        for point in _points(connection, run, key):
            line = by_step.setdefault(int(point.get("step") or 0), {})
            line.setdefault("time", int(point.get("timestamp") or 0) / 1000)
            line[NAMES.get(key, key)] = point.get("value")
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

    base = urlsplit(str(connection.details.ml_flow_tracking_uri))
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
