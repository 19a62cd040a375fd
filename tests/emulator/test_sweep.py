"""Every fault at every request of azure-ai-ml: the emulator never fails itself, and never keeps a half.

Folders are left out: azure-ai-ml 1.35.2 waits for ever for a folder of which one blob could not be written.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from azure.ai.ml import load_component
from azure.ai.ml.entities import AmlCompute, Data
from azure.core.exceptions import AzureError

from azft.emulator import Emulator, Settings, assets, compute, references
from azft.emulator.faults import REQUEST_FAULTS
from tests.helpers import azure_sdk

COMPONENT = """
name: step
version: "1"
type: command
environment: {image: "example/image:1"}
command: echo hello
"""
STRIKING = [name for name in REQUEST_FAULTS if name not in {"storage-keys-disabled", "not-visible-yet", "slow"}]
FEWEST = {"token-expired": 5}
"""Requests that a fault must at least have struck; storage is reached by SAS, without a token that could expire."""


@pytest.fixture
def work(tmp_path: Path) -> Callable[[Any], None]:
    (tmp_path / "component.yaml").write_text(COMPONENT)
    (tmp_path / "train.jsonl").write_text("{}\n")

    def do(client: Any) -> None:
        rows = Data(name="rows", version="1", path=str(tmp_path / "train.jsonl"), type="uri_file")
        client.data.create_or_update(rows)
        client.components.create_or_update(load_component(tmp_path / "component.yaml"))
        client.compute.begin_create_or_update(AmlCompute(name="gpu", size="Standard_NC24ads_A100_v4")).result()

    return do


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """azure-storage-blob tries again after twenty seconds; not here."""
    from azure.core.pipeline.transport import HttpTransport

    monkeypatch.setattr(HttpTransport, "sleep", lambda *_: None)


@pytest.mark.parametrize("fault", STRIKING)
def test_a_fault_at_any_request_leaves_what_a_second_try_completes(
    fault: str, work: Callable[[Any], None], impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    struck = 0
    for number in range(100):
        emulator = Emulator(settings=Settings(executor="none"))
        with emulator.in_process(), monkeypatch.context() as patch:
            azure_sdk.lead(emulator, patch)
            emulator.faults.add(fault, after=number, params={"retry_after": 0})
            with contextlib.suppress(AzureError):
                work(azure_sdk.ml_client(emulator))
            waits = emulator.faults.list()[0]["times"] > 0
            emulator.faults.clear()
            if not waits:
                struck += 1
                work(azure_sdk.ml_client(emulator))
            assert references.folder(emulator, "azureml:rows:1", "data").read_text() == "{}\n"
            assert assets.names(emulator, assets.WORKSPACE_SCOPE, "components") == ["step"]
            assert [key for key, _ in emulator.state.list(compute.KIND)] == ["gpu"]
        emulator.stop()
        assert emulator.crashes == []
        if waits:  # every request has had its turn
            break
    assert struck >= FEWEST.get(fault, 9)
