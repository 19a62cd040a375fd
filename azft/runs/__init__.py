"""The record of a run under `.azft/runs/<name>/`: its state, events, metrics, logs and outputs, and watching them.

Files only, each with a documented format, so that any process, on any day, reads what another one wrote.
"""

from __future__ import annotations

from azft.runs.record import Run, RunState, Status
from azft.runs.store import RunStore

__all__ = ["Run", "RunState", "RunStore", "Status"]
