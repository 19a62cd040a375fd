"""Runs in Azure from the command line, over the emulator: real processes, toy steps, and what each prints."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from azft.modes.maap import MaapMode
from azft.runs import Run, RunStore
from tests.helpers.azure_shop import MACHINES, MODEL, Azure, azure_listening, eventually, make_shop, plan_in
from tests.helpers.terminal import COMMAND, ROOT, Result, azft, environment
from tests.helpers.toy import Toy

SITE = """
import importlib
from tests.helpers.toy import use_toy_components
use_toy_components({bundled!r})
importlib.import_module("azft.data_check").check_for_plan = lambda *_: ()
"""
SUBMIT = ("submit", "--mode", "maap", "--set", MODEL, "--set", MACHINES)


class Counter:
    """A shop with a terminal."""

    def __init__(self, shop: Toy, azure: Azure) -> None:
        self.shop = shop
        self.azure = azure
        (shop.folder / "site" / "sitecustomize.py").write_text(SITE.format(bundled=str(shop.folder / "bundled")))

    @property
    def env(self) -> dict[str, str]:
        path = os.pathsep.join([str(self.shop.folder / "site"), str(ROOT)])
        return {"PYTHONPATH": path, **self.azure.emu.environment()}

    def azft(self, *args: str, **env: str) -> Result:
        return azft(*args, cwd=self.shop.folder, **{**self.env, **env})

    def start(self, *args: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*COMMAND, *args],
            cwd=self.shop.folder,
            env=environment(**self.env),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    @property
    def run(self) -> Run:
        (only,) = RunStore(self.shop.root).list()
        return only


@pytest.fixture
def counter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter]:
    shop = make_shop(tmp_path / "shop", monkeypatch)
    with azure_listening(tmp_path / "azure", monkeypatch) as azure:
        plan_in(shop, MaapMode(shop.root), azure)  # the registry's model is there
        yield Counter(shop, azure)
        for step in ("prepare", "finetune", "evaluate", "package"):
            shop.release(step)


def test_from_submit_to_the_files_here(counter: Counter) -> None:
    submitted = counter.azft(*SUBMIT)
    assert submitted.code == 0, submitted.err
    name = counter.run.name
    for said in ("uploaded data azft-data-", f"submitting {name}", f"in Azure as {name}", "finetune: done"):
        assert said in submitted.err
    found = "to the workspace azft-rehearsal (resource group azft, subscription 00000000-0000-0000-0000-000000000000)"
    assert submitted.err.index(f"{found}, found by the environment") < submitted.err.index("uploaded")
    assert "Completed" in submitted.out
    assert "azft-rehearsal" in submitted.out
    assert f"azft deploy {name}" in submitted.err

    assert counter.azft(*SUBMIT).code == 0
    assert len(counter.shop.starts()) == 4

    status = counter.azft("status", name, "-o", "json")
    found = json.loads(status.out)
    assert (found["state"], found["mode"], found["azure"]["job"]) == ("Completed", "maap", name)
    assert counter.azft("logs", name, "--step", "finetune").out == "finetune starts\nfrom step 0\n"
    remote = json.loads(counter.azft("runs", "--remote", "-o", "json").out)
    assert [(run["name"], run["state"]) for run in remote] == [(name, "Completed")]
    assert f"{name}" in counter.azft("runs").out

    listed = counter.azft("outputs", name)
    assert re.search(r"packaged +1 +\d+ B +azureml/", listed.out), listed.out
    fetched = counter.azft("outputs", name, "packaged", "--download", "here")
    assert fetched.code == 0, fetched.err
    assert (counter.shop.folder / "here" / "packaged" / "result.txt").read_text().startswith("package(")
    missing = counter.azft("outputs", name, "nothing", "--download", "here")
    assert missing.code == 3
    assert "There are: " in missing.err


@pytest.mark.slow
def test_another_machine_finds_the_run_and_follows_it(counter: Counter, tmp_path: Path) -> None:
    counter.shop.hold("finetune")
    assert counter.azft(*SUBMIT, "--no-wait").code == 0
    name = counter.run.name
    eventually(lambda: "finetune" in counter.shop.starts())
    elsewhere = {"AZFT_HOME": str(tmp_path / "elsewhere")}
    status = counter.azft("status", name, "-o", "json", **elsewhere)
    assert json.loads(status.out)["state"] == "Running", status.err
    counter.shop.release("finetune")
    logs = counter.azft("logs", name, "--follow", "--step", "finetune", **elsewhere)
    assert (logs.code, logs.out) == (0, "finetune starts\nfrom step 0\n")
    unknown = counter.azft("status", "nothing-00000000", **elsewhere)
    assert unknown.code == 3


def test_a_failed_job_ends_with_seven_and_says_why_and_resumes(counter: Counter) -> None:
    counter.shop.fail("finetune", 3)
    failed = counter.azft(*SUBMIT)
    assert failed.code == 7
    assert "Error: Step `finetune` failed" in failed.err
    assert "Azure's words (UserError" in failed.err
    name = counter.run.name
    assert counter.azft("logs", name, "--follow").code == 7
    counter.shop.release("finetune")
    resumed = counter.azft("resume", name)
    assert resumed.code == 0, resumed.err
    assert f"in Azure as {name}-r1" in resumed.err


def test_ctrl_c_stops_the_watching_and_not_the_job(counter: Counter) -> None:
    counter.shop.hold("finetune")
    process = counter.start(*SUBMIT)
    eventually(lambda: "finetune" in counter.shop.starts())
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    name = counter.run.name
    assert f"run {name} goes on in Azure" in err.decode()
    canceled = counter.azft("cancel", name)
    assert canceled.code == 0, canceled.err
    eventually(lambda: json.loads(counter.azft("status", name, "-o", "json").out)["state"] == "Canceled")
    again = counter.azft("cancel", name)
    assert "is not running (Canceled)" in again.out


@pytest.mark.slow
def test_killed_while_submitting_the_next_submit_goes_on(counter: Counter) -> None:
    counter.azure.fault("slow", method="PUT", path="/components/", times=1, params={"seconds": 5})
    process = counter.start(*SUBMIT, "--no-wait")
    eventually(lambda: counter.azure.sent("PUT", "/environments/"))
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert counter.azure.jobs() == []
    assert not counter.run.azure["submitted"]
    assert counter.azft(*SUBMIT).code == 0
    assert counter.azure.jobs() == [counter.run.name]


def test_a_status_outage_shows_what_was_known_and_its_time(counter: Counter) -> None:
    counter.shop.hold("finetune")
    assert counter.azft(*SUBMIT, "--no-wait").code == 0
    name = counter.run.name
    eventually(lambda: "finetune" in counter.shop.starts())
    assert counter.azft("status", name).code == 0
    counter.azure.fault("server-error", path="/jobs/", times=-1, params={"status": 503})
    shown = counter.azft("status", name, AZFT_AZURE_PATIENCE="1")
    assert shown.code == 0
    assert "Running" in shown.out
    assert "What follows was known at 20" in shown.err
    refused = counter.azft("cancel", name, AZFT_AZURE_PATIENCE="1")
    assert refused.code == 1
    assert "Do the same again in a while" in refused.err
    counter.azure.emu.faults.clear()


@pytest.mark.parametrize(
    ("environment_", "code", "words"),
    [
        ({"AZUREML_WORKSPACE_NAME": ""}, 2, "No workspace: workspace not known"),
        ({"AZURE_RESOURCE_GROUP": "nowhere"}, 3, "resource group is not there"),
        ({"AZFT_AUTH": "env"}, 4, "--auth env"),
        ({"IDENTITY_HEADER": "wrong", "AZFT_AUTH": "managed-identity"}, 4, "managed identity"),
        ({"AZFT_AZURE_ENDPOINT": "http://127.0.0.1:1"}, 2, "access tokens are sent there"),
    ],
    ids=["no-workspace", "wrong-group", "no-principal", "refused-identity", "no-tls"],
)
def test_what_is_missing_is_said_with_its_exit_code(
    counter: Counter, environment_: dict[str, Any], code: int, words: str
) -> None:
    result = counter.azft(*SUBMIT, **environment_)
    assert result.code == code, result.err
    assert words in result.err
    assert "Traceback" not in result.err
    assert RunStore(counter.shop.root).list() == []


@pytest.mark.slow
def test_no_secret_is_written_anywhere(counter: Counter) -> None:
    assert counter.azft(*SUBMIT).code == 0
    started = time.monotonic()
    texts = [p.read_text(errors="replace") for p in counter.shop.root.rglob("*") if p.is_file()]
    joined = "\n".join(texts)
    for secret in (counter.azure.emu.identity_header, counter.azure.emu.secret, "sig=", "eyJ", "Bearer"):
        assert secret not in joined
    assert time.monotonic() - started < 30
