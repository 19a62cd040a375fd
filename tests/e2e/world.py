"""A user's folder and a cloud of their own: `azft emulator` in a process of its own, and `azft` as a person calls it.

Nothing here calls azft in this process. The emulator is asked over HTTPS, as the owner of the account would ask Azure.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import requests

from tests.helpers.terminal import COMMAND, Result, environment

ACCOUNT = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/azft"
WORKSPACE = f"{ACCOUNT}/providers/Microsoft.MachineLearningServices/workspaces/azft-rehearsal"
API = "api-version=2024-01-01-preview"
OVER = ("Completed", "Failed", "Canceled")
GPU = "Standard_NC24ads_A100_v4"

RECIPE = """\
name: bakery
task: chat-completion
model: Phi-4-mini-instruct
data: {train: train.jsonl, validation: validation.jsonl, test: test.jsonl}
technique: {name: lora, rank: 4, alpha: 8}
training: {epochs: 1, max_steps: 3, micro_batch_size: 4, global_batch_size: 4, max_length: 256, precision: fp32}
evaluation: {samples: 1, max_new_tokens: 4}
modes:
  maas: {region: eastus2}
  maap: {compute: gpu-cluster, vm_size: Standard_NC24ads_A100_v4}
"""

SYSTEM = ("--set", "modes.maap.pipeline=system")
FINETUNING = ("--set", "modes.maap.pipeline=finetuning")


class Cloud:
    """What plays Azure."""

    path = WORKSPACE
    """Of the workspace's resources."""

    def __init__(self, folder: Path, *wanted: Path | str, **settings: Any) -> None:
        """Start it in `folder`, with what the recipes or plans `wanted` would find in Azure."""
        folder.mkdir(parents=True, exist_ok=True)
        self.store = folder / "azure" / "blobs"
        self.cache = folder / "cache"
        command = [*COMMAND, "emulator", "--root", str(folder / "azure")]
        for what in wanted:
            command += ["--for", str(what)]
        with (folder / "emulator.log").open("wb") as log:
            self.process = subprocess.Popen(
                command,
                cwd=folder,
                env=environment(AZFT_CACHE=str(self.cache)),
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        assert self.process.stdout is not None
        self.env: dict[str, str] = {"AZFT_CACHE": str(self.cache)}
        while "SSL_CERT_FILE" not in self.env:
            line = self.process.stdout.readline()
            assert line, (folder / "emulator.log").read_text()
            name, _, value = shlex.split(line)[1].partition("=")
            self.env[name] = value
        self.url = self.env["AZFT_AZURE_ENDPOINT"]
        self.session = requests.Session()
        self.session.trust_env = False  # a bundle that the environment names would win over this one
        self.session.verify = self.env["SSL_CERT_FILE"]
        if settings:
            self.settings(**settings)

    def stop(self) -> None:
        """End it, as Ctrl-C does."""
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()

    def tell(self, method: str, path: str, body: Any = None) -> Any:
        """One of the emulator's own routes."""
        reply = self.session.request(method, f"{self.url}/_emulator/{path}", json=body, timeout=30)
        reply.raise_for_status()
        return reply.json() if reply.content else None

    def settings(self, **values: Any) -> None:
        """Change how it is."""
        self.tell("PUT", "settings", values)

    def faults(self, *faults: dict[str, Any]) -> None:
        """What shall go wrong; replaces what was set before."""
        self.tell("PUT", "faults", {"faults": list(faults)})

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.tell("PUT", "clock", {"advance": seconds})

    def requests(self) -> list[str]:
        """Every request so far, as `PUT /path`; the tests' own are not among them."""
        log = self.tell("GET", "requests")["requests"]
        return [f"{r['method']} {r['path']}" for r in log if not r["path"].startswith("/_emulator/")]

    def during(self, action: Callable[[], Any]) -> list[str]:
        """The requests of an action."""
        before = len(self.requests())
        action()
        return self.requests()[before:]

    def ask(self, method: str, url: str, body: Any = None) -> Any:
        """A request to Azure's own routes, as the owner of the account."""
        token = self.session.get(
            self.env["IDENTITY_ENDPOINT"],
            params={"api-version": "2019-08-01", "resource": "https://management.azure.com"},
            headers={"X-IDENTITY-HEADER": self.env["IDENTITY_HEADER"]},
            timeout=30,
        ).json()["access_token"]
        reply = self.session.request(method, url, json=body, headers={"Authorization": f"Bearer {token}"}, timeout=30)
        reply.raise_for_status()
        return reply.json() if reply.content else None

    def list(self, kind: str) -> list[dict[str, Any]]:
        """The workspace's resources of a kind, as ARM lists them."""
        url: str | None = f"{self.url}{WORKSPACE}/{kind}?{API}"
        found: list[dict[str, Any]] = []
        while url:
            page = self.ask("GET", url)
            found += page["value"]
            url = page.get("nextLink")
        return found

    def job_by_hand(self, name: str, properties: dict[str, Any]) -> None:
        """A job that somebody made without azft, and canceled."""
        url = f"{self.url}{WORKSPACE}/jobs/{name}"
        self.ask("PUT", f"{url}?{API}", {"properties": properties})
        self.ask("POST", f"{url}/cancel?{API}")

    def jobs(self) -> dict[str, str]:
        """The jobs and their states."""
        return {job["name"]: job["properties"]["status"] for job in self.list("jobs")}

    def bills(self) -> list[str]:
        """Everything that is there and could bill, whoever made it; `gpu-cluster` was there before."""
        kinds = ("serverlessEndpoints", "onlineEndpoints", "computes", "marketplaceSubscriptions")
        there = [f"{kind}/{item['name']}" for kind in kinds for item in self.list(kind)]
        running = [f"jobs/{name}" for name, state in self.jobs().items() if state not in OVER]
        return [*(name for name in there if name != "computes/gpu-cluster"), *running]


class Going:
    """A command that goes on; what it has said so far can be read meanwhile."""

    def __init__(self, args: Sequence[str], folder: Path, env: dict[str, str]) -> None:
        self.args = args
        self._out, self._err = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115 - open as long as it goes on
        self.process = subprocess.Popen(
            [*COMMAND, *args],
            cwd=folder,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=self._out,
            stderr=self._err,
            start_new_session=True,
        )

    @property
    def out(self) -> str:
        """What it wrote to standard output."""
        return _read(self._out)

    @property
    def err(self) -> str:
        """What it wrote to standard error."""
        return _read(self._err)

    def interrupt(self) -> None:
        """Ctrl-C."""
        self.process.send_signal(signal.SIGINT)

    def end(self, code: int | None = 0, seconds: float = 300) -> Result:
        """Wait for its end, which must be with `code`."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        result = Result(self.process.returncode, self.out, self.err)
        self._out.close()
        self._err.close()
        said = f"azft {shlex.join(self.args)} ended with {result.code}\n{result.out}\n{result.err}"
        assert code in (result.code, None), said
        assert "Traceback" not in result.err, said
        return result


def _read(file: IO[bytes]) -> str:
    # The child shares the file's position, which must not move under it.
    return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0).decode("utf-8", "replace")


@dataclass
class Person:
    """Somebody with a folder, at a shell."""

    folder: Path
    cloud: Cloud | None
    env: dict[str, str | None] = field(default_factory=dict)

    @property
    def variables(self) -> dict[str, str | None]:
        """What is set in this shell. Of Python's own variables a person has none."""
        return {"PYTHONUNBUFFERED": None, **(self.cloud.env if self.cloud else {}), **self.env}

    def azft(self, *args: str, code: int | None = 0, **env: str | None) -> Result:
        """Run a command, which must end with `code`."""
        return Going(args, self.folder, environment(**{**self.variables, **env})).end(code)

    def json(self, *args: str, code: int = 0) -> Any:
        """A command's data."""
        return json.loads(self.azft(*args, "-o", "json", code=code).out)

    def start(self, *args: str) -> Going:
        """A command that goes on meanwhile."""
        return Going(args, self.folder, environment(**self.variables))

    def another(self, folder: Path) -> Person:
        """The same account, somewhere else."""
        folder.mkdir(parents=True, exist_ok=True)
        return Person(folder, self.cloud, dict(self.env))

    def write(self, name: str, text: str) -> Path:
        """A file in the folder."""
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return path


def shop(folder: Path, cloud: Cloud | None = None, recipe: str = RECIPE, rows: int = 12) -> Person:
    """A folder with a recipe and data."""
    folder.mkdir(parents=True, exist_ok=True)
    person = Person(folder, cloud)
    for name, count, first in (("train", rows, 0), ("validation", 2, 100), ("test", 2, 200)):
        lines = []
        for number in range(first, first + count):
            question, answer = f"Do you have loaf number {number}?", f"Yes, loaf {number} is on the shelf."
            turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
            lines.append(json.dumps({"messages": turns}))
        person.write(f"{name}.jsonl", "\n".join(lines) + "\n")
    person.write("recipe.yaml", recipe)
    return person


def name_of(result: Result) -> str:
    """The run that `azft submit` speaks of."""
    match = re.search(r"^run\s+(\S+)$", result.out, re.MULTILINE)
    assert match, result.out + result.err
    return match[1]


def wait_for(what: str, look: Callable[[], Any], seconds: float = 180) -> Any:
    """Look until there is something."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.1)
    raise AssertionError(f"{what} did not happen within {seconds:g} s")
