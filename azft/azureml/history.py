"""Run history: what the workspace remembers of a job and of its steps. Read only.

A pipeline's steps are child runs whose ids Azure chooses; they are known by their display name, which is the step's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from azft.azureml.errors import MissingResourceError, ServiceUnavailableError, read
from azft.azureml.patience import call
from azft.azureml.storage import Piece, read_blob

if TYPE_CHECKING:
    from azft.azureml.connection import Connection

ENDED = frozenset({"Completed", "Failed", "Canceled"})
_LOG = re.compile(r"user_logs/std_log(?:\D*?_?(\d+))?(?:_ps)?\.txt")
_OLD_LOG = re.compile(r"azureml-logs/70_driver_log(?:_(\d+))?\.txt")


@dataclass(frozen=True)
class HistoryRun:
    """One run: the job's own, or a step's."""

    id: str
    name: str
    """The display name: the step's."""
    status: str
    started: datetime | None = None
    ended: datetime | None = None
    error: Mapping[str, Any] | None = None
    reused: bool = False
    source: str | None = None
    """The job that carried out a step that is reused."""
    logs: Mapping[str, str] = field(default_factory=dict)
    """Log file -> an address with a signature; never shown, never kept."""

    @property
    def begun(self) -> bool:
        """Whether it ever ran, so that it has something to tell; also one that waits for another node."""
        return self.started is not None or self.status not in {"NotStarted", "Queued"}

    @property
    def seconds(self) -> float | None:
        """How long it ran."""
        if self.started is None or self.ended is None:
            return None
        return max(0.0, (self.ended - self.started).total_seconds())

    def log_of_rank(self) -> dict[int, str]:
        """Rank -> address of what it printed; a step of one process has rank 0 only."""
        found: dict[int, str] = {}
        for pattern in (_LOG, _OLD_LOG):
            for name in sorted(self.logs):
                if match := pattern.fullmatch(name):
                    found.setdefault(int(match.group(1) or 0), self.logs[name])
            if found:
                break
        return found


class History:
    """Run history of one workspace."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def children(self, run_id: str) -> list[HistoryRun]:
        """The runs of a job's steps; none as long as run history doesn't know the job."""
        scope = self.connection.workspace
        try:
            found = call(
                "Reading the job's steps",
                lambda: [
                    run.as_dict()
                    for run in self._runs().get_child(scope.subscription, scope.resource_group, scope.name, run_id)
                ],
            )
        except MissingResourceError:  # run history is a moment behind the control plane
            return []
        return [_run(document) for document in found]

    def details(self, run_id: str) -> HistoryRun:
        """One run with its error and logs."""
        scope = self.connection.workspace
        try:
            found = call(
                "Reading a step's details",
                lambda: (
                    self._runs().get_details(scope.subscription, scope.resource_group, scope.name, run_id).as_dict()
                ),
            )
        except MissingResourceError:
            return HistoryRun(run_id, run_id, "NotStarted")
        return _run(found)

    def read_log(self, url: str, offset: int) -> Piece | None:
        """Bytes of a log from an offset on; None as long as there is no such file."""
        from azure.storage.blob import BlobClient

        def fetch() -> Piece | None:
            client = BlobClient.from_blob_url(url, retry_total=0, connection_timeout=20, read_timeout=60)
            try:
                return read_blob(client, offset)
            except Exception as error:
                answer = read(error)
                if answer is not None and answer.status == 404:
                    return None
                raise

        return call("Reading a log", fetch)

    def _address(self, pipeline: Any) -> str:
        """Where run history is. The SDK would read the workspace once more for it, and load mlflow."""
        from azure.ai.ml._utils.utils import create_requests_pipeline_with_retry, download_text_from_url

        listed = download_text_from_url(
            self.connection.details.discovery_url, create_requests_pipeline_with_retry(requests_pipeline=pipeline)
        )
        return str(json.loads(listed)["api"])

    def _runs(self) -> Any:
        jobs = self.connection.client.jobs
        try:
            if not jobs._api_base_url:
                jobs._api_base_url = self._address(jobs._requests_pipeline)
            return jobs._runs_operations._operation
        except (KeyError, ValueError):
            # The SDK takes whatever the discovery answers, an error too, for the list of the workspace's addresses.
            raise ServiceUnavailableError(
                "Finding the workspace's run history failed: Azure's discovery service gives no address.",
                fix="Do the same again in a while: nothing is started twice.",
            ) from None


def _run(document: Mapping[str, Any]) -> HistoryRun:
    properties = document.get("properties") or {}
    run_id = str(document.get("runId") or "")
    return HistoryRun(
        id=run_id,
        name=str(document.get("displayName") or run_id),
        status=str(document.get("status") or "Unknown"),
        started=_time(document.get("startTimeUtc")),
        ended=_time(document.get("endTimeUtc")),
        error=document.get("error") or None,
        reused=str(properties.get("azureml.isreused") or "").lower() == "true",
        source=str(properties.get("azureml.reusedpipelinerunid") or "") or None,
        logs=document.get("logFiles") or {},
    )


def _time(value: Any) -> datetime | None:
    if isinstance(value, datetime):
        return value
    try:
        return datetime.fromisoformat(str(value)) if value else None
    except ValueError:
        return None
