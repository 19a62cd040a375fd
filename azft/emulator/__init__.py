"""Azure on loopback: enough of Azure Machine Learning for a rehearsal and for tests, on this machine and for free.

It is not Azure and does not claim to be: docs/emulator.md says what it covers and what not. It knows HTTP and how to
run a graph of commands (`azft.execution`), and nothing else of azft; azft knows it only as an address.
"""

from __future__ import annotations

from azft.emulator.app import Emulator, EmulatorBusyError
from azft.emulator.clock import Clock
from azft.emulator.faults import Fault
from azft.emulator.http import ApiError, Request, Response, Route
from azft.emulator.settings import Settings

__all__ = ["ApiError", "Clock", "Emulator", "EmulatorBusyError", "Fault", "Request", "Response", "Route", "Settings"]
