"""What only a real socket shows: TLS, cut connections, restarts, many clients at once."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest
import requests

from azft.emulator import Emulator, EmulatorBusyError, Settings, identity
from azft.emulator.settings import ACCOUNT, CONTAINER
from azft.emulator.storage_access import sas_url

WORKSPACE = (
    "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/azft/providers"
    "/Microsoft.MachineLearningServices/workspaces/azft-rehearsal"
)
BODY = {"properties": {"dataUri": "azureml://datastores/workspaceblobstore/paths/x", "dataType": "uri_file"}}


def token(emu: Emulator) -> dict[str, str]:
    return {"Authorization": f"Bearer {identity.issue(emu.secret, 'https://management.azure.com', 60)[0]}"}


def test_the_certificate_is_trusted_by_who_is_told_and_by_nobody_else(
    listening: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = listening.environment()
    assert requests.get(f"{listening.url}/_emulator/health", timeout=10).json()["status"] == "ready"
    context = ssl.create_default_context(cafile=variables["SSL_CERT_FILE"])
    by_name = listening.url.replace("127.0.0.1", "localhost")
    with urllib.request.urlopen(f"{by_name}/_emulator/health", context=context, timeout=10) as found:
        assert found.status == 200
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    with pytest.raises(requests.exceptions.SSLError):
        requests.get(f"{listening.url}/_emulator/health", timeout=10)


def test_a_cut_connection_is_cut_and_the_next_one_works(listening: Emulator) -> None:
    session = requests.Session()
    session.headers.update(token(listening))
    for fault, applied in (("connection-reset", 404), ("answer-lost", 200)):
        listening.faults.add(fault, method="PUT")
        url = f"{listening.url}{WORKSPACE}/data/{fault}/versions/1"
        with pytest.raises(requests.ConnectionError):
            session.put(url, json=BODY, timeout=10)
        assert session.get(url, timeout=10).status_code == applied


def test_a_slow_answer_holds_nobody_else_up(listening: Emulator) -> None:
    listening.faults.add("slow", path="/data$", params={"seconds": 20})
    with pytest.raises(requests.ReadTimeout):
        requests.get(f"{listening.url}{WORKSPACE}/data", headers=token(listening), timeout=(5, 0.2))
    begin = time.monotonic()
    assert requests.get(f"{listening.url}{WORKSPACE}", headers=token(listening), timeout=10).status_code == 200
    assert time.monotonic() - begin < 5


def test_many_clients_at_once(listening: Emulator) -> None:
    failures: list[object] = []

    def work(number: int) -> None:
        session = requests.Session()
        session.headers.update(token(listening))
        for step in range(10):
            url = f"{listening.url}{WORKSPACE}/data/d{number}/versions/{step}"
            if session.put(url, json=BODY, timeout=20).status_code != 201:
                failures.append(url)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    found = requests.get(f"{listening.url}{WORKSPACE}/data", headers=token(listening), timeout=10).json()["value"]
    assert len(found) == 8


def test_everything_is_there_after_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Emulator(tmp_path) as first:
        before = first.environment()
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", before["REQUESTS_CA_BUNDLE"])
        headers, url = token(first), f"{first.url}{WORKSPACE}/data/d/versions/1"
        made = requests.put(url, json=BODY, headers=headers, timeout=10).json()
        blob = sas_url(first, "a/b", permissions="rcw")
        requests.put(blob, data=b"kept", headers={"x-ms-blob-type": "BlockBlob", "x-ms-meta-a": "b"}, timeout=10)
        first.faults.add("throttled", path="/computes")
        first.clock.advance(1000)
        moment = first.clock.now()
    with pytest.raises(requests.ConnectionError):
        requests.get(url, headers=headers, timeout=10)
    with Emulator(tmp_path) as second:
        assert second.environment() == before  # same port, same secrets: a client's environment stays good
        assert requests.get(url, headers=headers, timeout=10).json() == made
        found = requests.get(blob, timeout=10)
        assert (found.content, found.headers["x-ms-meta-a"]) == (b"kept", "b")
        assert second.blob_path(ACCOUNT, CONTAINER, "a/b").read_bytes() == b"kept"
        assert [fault["name"] for fault in second.faults.list()] == ["throttled"]
        assert second.clock.now() >= moment


def test_a_state_has_one_emulator_and_a_port_too(tmp_path: Path) -> None:
    with Emulator(tmp_path / "a") as first:
        with pytest.raises(EmulatorBusyError, match="keeps its state"):
            Emulator(tmp_path / "a")
        port = int(first.url.rsplit(":", 1)[1])
        second = Emulator(tmp_path / "b", port=port)
        with pytest.raises(EmulatorBusyError, match=str(port)):
            second.start()
        second.stop()
    with Emulator(tmp_path / "a"):
        pass  # released


def test_stopping_does_not_wait_for_clients_that_keep_their_connection(listening: Emulator, tmp_path: Path) -> None:
    emulator = Emulator(tmp_path)
    emulator.start()
    session = requests.Session()
    session.verify = emulator.environment()["SSL_CERT_FILE"]
    session.trust_env = False
    assert session.get(f"{emulator.url}/_emulator/health", timeout=10).status_code == 200
    begin = time.monotonic()
    emulator.stop()
    assert time.monotonic() - begin < 1.5


def test_the_admin_routes_set_and_show(listening: Emulator, tmp_path: Path) -> None:
    base = f"{listening.url}/_emulator"
    session = requests.Session()
    found = session.put(f"{base}/clock", json={"manual": True, "advance": 10}, timeout=10).json()
    assert found["manual"]
    assert listening.clock.now() == found["now"]
    faults = [{"name": "throttled", "method": "PUT", "times": 2, "params": {"retry_after": 3}}]
    assert session.put(f"{base}/faults", json={"faults": faults}, timeout=10).json()["faults"][0]["times"] == 2
    assert session.put(f"{base}/faults", json={"faults": [{"name": "nope"}]}, timeout=10).status_code == 400
    assert session.put(f"{base}/faults", json={"faults": [{"naem": "slow"}]}, timeout=10).status_code == 400
    assert [fault["name"] for fault in session.get(f"{base}/faults", timeout=10).json()["faults"]] == ["throttled"]
    assert session.delete(f"{base}/faults", timeout=10).status_code == 204
    changed = session.put(f"{base}/settings", json={"queue_seconds": 5, "regions": ["eastus"]}, timeout=10).json()
    assert (changed["queue_seconds"], listening.settings.regions) == (5, ("eastus",))
    assert session.put(f"{base}/settings", json={"nope": 5}, timeout=10).status_code == 400
    (tmp_path / "config.json").write_text("{}")
    model = {"name": "tiny", "version": "1", "folder": str(tmp_path), "tags": {"a": "b"}, "type": "custom_model"}
    made = session.post(f"{base}/registries/azureml/models", json=model, timeout=10).json()
    assert made["id"] == "azureml://registries/azureml/models/tiny/versions/1"
    component = {"name": "c", "version": "1", "spec": {"type": "command", "command": "echo"}}
    assert session.post(f"{base}/registries/azureml/components", json=component, timeout=10).status_code == 201
    assert session.post(f"{base}/registries/azureml/models", json={"name": "x"}, timeout=10).status_code == 400
    session.get(f"{listening.url}{WORKSPACE}?secret=1", headers=token(listening), timeout=10)
    entries = session.get(f"{base}/requests", timeout=10).json()["requests"]
    assert [(entry["method"], entry["path"], entry["status"]) for entry in entries] == [("GET", WORKSPACE, 200)]
    assert "secret" not in json.dumps(entries)
    assert session.delete(f"{base}/requests", timeout=10).status_code == 204
    assert listening.log.list() == []


def test_the_fixture_leads_clients_to_an_emulator(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(
        "import pytest\n"
        "from azft.emulator import Settings\n"
        'pytest_plugins = ["azft.emulator.pytest_plugin"]\n'
        "@pytest.fixture\n"
        "def azure_emulator_settings(): return Settings(workspace='mine')\n"
    )
    (tmp_path / "test_it.py").write_text(
        "import os, requests\n"
        "def test_it(azure_emulator):\n"
        "    assert os.environ['AZUREML_WORKSPACE_NAME'] == 'mine'\n"
        "    url = os.environ['AZFT_AZURE_ENDPOINT'] + '/_emulator/health'\n"
        "    assert requests.get(url, timeout=10).json()['url'] == azure_emulator.url\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


def test_a_settings_object_is_json() -> None:
    assert Settings().changed(json.loads(json.dumps(Settings().to_dict()))) == Settings()
