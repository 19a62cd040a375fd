"""Every request of deploy and down, with every fault, and with the client killed there: one endpoint, then none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from azft.azureml.connection import Access
from azft.azureml.deployment import deploy
from azft.azureml.resources import Resources
from azft.azureml.teardown import end_all, look
from tests.helpers.azure_runs import SIZE, Azure, emulated

FAULTS = (
    "throttled", "server-error", "connection-reset", "answer-lost", "token-expired", "not-visible-yet", "slow",
)  # fmt: skip
SERVICES = ("serverless-finetuning", "pipeline", "system-pipeline")


class Killed(BaseException):
    """The client is gone, without a word."""


def endpoints(azure: Azure) -> int:
    return len(azure.resources.all("serverless")) + len(azure.resources.all("online"))


def up(azure: Azure, run: Any) -> None:
    deploy(azure.connection, run, instance_type=None if run.plan["mode"] == "maas" else SIZE, root=azure.root)


def down(azure: Azure) -> list[str]:
    return [outcome.why for outcome in end_all(Access(), look(Access()).items) if not outcome.ended]


def clean(azure: Azure) -> None:
    azure.emu.faults.set([])
    azure.emu.clock.advance(1000)


@pytest.mark.slow
@pytest.mark.parametrize("service", SERVICES)
def test_every_fault_at_every_request(service: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    number, last, bad = 0, 1, []
    while number < last:
        for fault in FAULTS:
            folder = tmp_path / f"{number}-{fault}"
            folder.mkdir()
            with emulated(folder, monkeypatch, provision_seconds=30.0) as azure:
                mode = "maas" if service == "serverless-finetuning" else "maap"
                run = azure.completed(service, mode=mode)
                before = len(azure.emu.log.list())
                strike = {"after": number, "params": {"seconds": 200} if fault == "slow" else {}}
                try:
                    azure.emu.faults.add(fault, **strike)
                    up(azure, run)
                    last = max(last, len(azure.emu.log.list()) - before)
                    clean(azure)
                    assert endpoints(azure) == 1
                    azure.emu.faults.add(fault, **strike)
                    assert down(azure) == []
                    clean(azure)
                    assert endpoints(azure) == 0
                except Exception as error:
                    bad.append(f"request {number}, {fault}: {type(error).__name__}: {error}")
        number += 1
    assert bad == []
    assert number > 10, "the sweep has seen the flow"


@pytest.mark.slow
@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("applied", [False, True])
def test_a_client_that_is_killed_anywhere_leaves_one_endpoint_and_down_finds_it(
    service: str, applied: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = Resources._send
    mode = "maas" if service == "serverless-finetuning" else "maap"
    number, done = 0, False
    while not done:
        folder = tmp_path / str(number)
        folder.mkdir()
        with emulated(folder, monkeypatch, provision_seconds=30.0) as azure:
            run = azure.completed(service, mode=mode)
            left = number

            def dying(self: Resources, *given: Any, **more: Any) -> Any:
                nonlocal left
                left -= 1
                if left < 0 and not applied:
                    raise Killed
                answer = send(self, *given, **more)
                if left < 0:
                    raise Killed
                return answer

            monkeypatch.setattr(Resources, "_send", dying)
            try:
                up(azure, run)
                done = True
            except Killed:
                pass
            finally:
                monkeypatch.setattr(Resources, "_send", send)
            assert endpoints(azure) <= 1
            up(azure, run)
            assert endpoints(azure) == 1, f"after a kill at request {number}"
            assert down(azure) == []
            assert endpoints(azure) == 0
        number += 1
    assert number > 5
