"""A mirror of the metrics in MLflow, where it is installed and MLFLOW_TRACKING_URI is set, as in an Azure ML job.

The run's own metrics.jsonl comes first. The mirror works in a thread of its own, from a short queue, and gives up after
repeated failures: a tracking server that is slow or gone never slows or stops a training. Without the variable, mlflow
is not even imported (importing it and its first use cost seconds).
"""

from __future__ import annotations

import importlib.util
import os
import queue
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Self

_QUEUE = 1000
_GIVE_UP_AFTER = 5
_CLOSE_SECONDS = 10.0


class Mirror:
    """Sends numbers to MLflow in the background; `log` never blocks and never raises."""

    def __init__(self) -> None:
        # mlflow's own patience is minutes per call; here a lost point is better than a late one.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        self._queue: queue.Queue[tuple[dict[str, float], int, int] | None] = queue.Queue(_QUEUE)
        self._thread = threading.Thread(target=self._work, name="mlflow-mirror", daemon=True)
        self._thread.start()

    @classmethod
    def from_environment(cls) -> Self | None:
        """A mirror when mlflow is installed and configured, else None."""
        if not os.environ.get("MLFLOW_TRACKING_URI") or importlib.util.find_spec("mlflow") is None:
            return None
        return cls()

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Queue the numbers of a step; dropped when the server is far behind."""
        with suppress(queue.Full):
            self._queue.put_nowait((dict(values), step, int(time.time() * 1000)))

    def close(self) -> None:
        """Wait up to ten seconds for what is queued, then let it go."""
        try:
            self._queue.put_nowait(None)
        except queue.Full:
            return
        self._thread.join(_CLOSE_SECONDS)

    def _work(self) -> None:
        failures = 0
        try:
            from mlflow import MlflowClient
            from mlflow.entities import Metric

            client = MlflowClient()
            given = os.environ.get("MLFLOW_RUN_ID")
            run_id = given or _start_run()
        except Exception as error:
            _warn(error)
            failures = _GIVE_UP_AFTER
        while (item := self._queue.get()) is not None:
            if failures >= _GIVE_UP_AFTER:
                continue
            values, step, milliseconds = item
            try:
                client.log_batch(run_id, [Metric(key, value, milliseconds, step) for key, value in values.items()])
                failures = 0
            except Exception as error:
                failures += 1
                if failures == _GIVE_UP_AFTER:
                    _warn(error)
        if failures < _GIVE_UP_AFTER and not given:  # else whoever started the run ends it, as Azure ML does
            with suppress(Exception):
                client.set_terminated(run_id)


def _start_run() -> str:
    import mlflow

    run = mlflow.active_run() or mlflow.start_run()
    return str(run.info.run_id)


def _warn(error: Exception) -> None:
    sys.stderr.write(
        f"warning: metrics are not mirrored to MLflow any more ({type(error).__name__}); training goes on\n"
    )
