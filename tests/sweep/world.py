"""A small world for thousands of lives: an emulator without a socket, a clock that only waiting moves, and clients.

A client is what one process of azft is: a connection, a sign-in and a folder of records. Whatever is kept between two
processes lies in the folder and in the emulator; a new client knows nothing else. A world can be copied as it stands
(two folders), so that a flow is prepared once and then lived through a thousand times.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from azft.azureml.connection import Access, Connection
from azft.azureml.credentials import make_credential
from azft.azureml.patience import Clock, using
from azft.azureml.workspace import Workspace
from azft.emulator import Emulator, Request, Response, Settings, provisioning
from azft.emulator.identity import issue
from azft.modes.azure import AzureMode
from azft.modes.maap import MaapMode
from azft.modes.maas import MaasMode
from azft.plan import Plan
from azft.recipe_file import load_recipe
from azft.runs import Run, RunStore
from tests.helpers.toy import PACKAGE
from tests.sweep.lazy import make_lazily

REGISTRY_MODELS = (("azureml", "Phi-4-mini-instruct"), ("azureml-mistral", "Ministral-3B"))
GPU = "Standard_NC24ads_A100_v4"
RECIPES = {
    "maas": ("maas", "Phi-4-mini-instruct", ""),
    "market": ("maas", "Ministral-3B", ""),
    "azft": ("maap", "Phi-4-mini-instruct", f"  maap: {{instance_types: [{GPU}]}}"),
    "cluster": ("maap", "Phi-4-mini-instruct", f"  maap: {{compute: gpus, vm_size: {GPU}}}"),
    "system": ("maap", "Phi-4-mini-instruct", f"  maap: {{pipeline: system, instance_types: [{GPU}]}}"),
    "finetuning": ("maap", "Phi-4-mini-instruct", f"  maap: {{pipeline: finetuning, instance_types: [{GPU}]}}"),
}
"""Name -> mode, model, and the line of the recipe that says the rest."""
SERVER = """
import json, sys
for line in sys.stdin:
    print(json.dumps({"content": "You said: " + json.loads(line)["messages"][-1]["content"]}), flush=True)
"""
"""The model's server of this world: it starts in a few milliseconds."""


def settings(folder: Path) -> Settings:
    """Jobs pass through their states by the clock; endpoints take a while to come and to go."""
    return Settings(
        executor="none",
        queue_seconds=30,
        prepare_seconds=60,
        run_seconds=600,
        provision_seconds=20,
        server_command=(sys.executable, "-S", "-E", str(folder / "server.py")),
    )


@dataclass
class Template:
    """What all worlds have in common: the user's folder, and the plans, which are made once."""

    folder: Path
    plans: dict[str, Plan] = field(default_factory=dict)

    @classmethod
    def make(cls, folder: Path) -> Template:
        """Lay out a shop with a recipe for each kind of job, and plan them."""
        folder.mkdir(parents=True)
        rows = [
            {
                "messages": [
                    {"role": "user", "content": f"Question {n}"},
                    {"role": "assistant", "content": f"Answer {n}"},
                ]
            }
            for n in range(40)
        ]
        for name, part in (("train", rows), ("validation", rows[:8])):
            (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
        (folder / "server.py").write_text(SERVER)
        made = cls(folder)
        for name, (mode, model, line) in RECIPES.items():
            recipe = folder / f"{name}.yaml"
            recipe.write_text(
                f"name: {name}\ntask: chat-completion\nmodel: {model}\n"
                "data: {train: train.jsonl, validation: validation.jsonl}\n"
                "technique: {name: lora}\ntraining: {epochs: 1, max_length: 512}\nmodes:\n"
                f"{line or '  maas: {region: eastus2}'}\n"
            )
            made.plans[name] = mode_of(mode)(folder / ".azft").plan(load_recipe(recipe, environment={}))
            assert not made.plans[name].has_errors, made.plans[name].findings
        return made


def mode_of(name: str) -> type[AzureMode]:
    """The class of a mode."""
    return {"maas": MaasMode, "maap": MaapMode}[name]


class World:
    """An emulator, the records of one user's folder, and the time that both live in."""

    def __init__(self, template: Template, folder: Path) -> None:
        self.template = template
        self.folder = folder
        self.home = folder / "home"
        self.emu = Emulator(folder / "azure", settings=settings(template.folder))
        self.emu.clock.manual = True
        self.count = 0
        self.requests: list[Request] = []
        self.created: list[str] = []
        """The path of each PUT that made something new."""
        self.on_request: Callable[[int, Request], None] = lambda _number, _request: None
        self.after_request: Callable[[int, Request], None] = lambda _number, _request: None
        self.on_sleep: Callable[[], None] = lambda: None
        self._handle = self.emu.handle
        self.emu.handle = self._counted  # type: ignore[method-assign]

    @property
    def clock(self) -> Clock:
        """Waiting moves the emulator's time, and takes none."""
        return Clock(sleep=self.sleep, now=self.emu.clock.now)

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.emu.clock.advance(seconds)
        self.on_sleep()

    def _counted(self, request: Request) -> Response:
        if request.path.startswith("/_emulator/"):
            return self._handle(request)
        number, self.count = self.count, self.count + 1
        self.requests.append(request)
        self.on_request(number, request)
        before = self._things() if request.method == "PUT" else frozenset()
        try:
            return self._handle(request)
        finally:
            if request.method == "PUT":
                self.created += sorted(self._things() - before)
            self.after_request(number, request)

    def there(self, kind: str) -> list[str]:
        """The keys of what is there of a kind, or on its way."""
        return [str(document["name"]) for document in provisioning.every(self.emu, kind)]

    def _things(self) -> frozenset[str]:
        """Everything of which there may be only one."""
        kinds = ("job", "serverless-endpoint", "online-endpoint", "online-deployment", "marketplace-subscription")
        return frozenset(f"{kind} {key}" for kind in kinds for key, _ in self.emu.state.list(kind))

    def seed(self) -> None:
        """The registry's models and the chat pipeline."""
        from azft.catalog.system_pipelines import system_pipelines
        from azft.rehearsal.seeds import seed_pipeline

        model = self.folder / "model"
        model.mkdir()
        (model / "MLmodel").write_text("flavors: {}\n")
        for registry, name in REGISTRY_MODELS:
            body = {"name": name, "version": "1", "folder": str(model), "type": "mlflow_model", "tags": {}}
            body["properties"] = {"inference-recommended-sku": GPU}
            self.tell("POST", f"/_emulator/registries/{registry}/models", body)
        seed_pipeline(self.emu, "azureml", system_pipelines()["chat-completion"])

    def tell(self, method: str, path: str, body: Any = None) -> Any:
        """Ask the emulator for something, past the clients and their count."""
        token, _ = issue(self.emu.secret, "https://management.azure.com", 3600)
        headers = [("Authorization", f"Bearer {token}"), ("Content-Type", "application/json")]
        sent = b"" if body is None else json.dumps(body).encode()
        reply = self._handle(Request.of(method, self.emu.url + path, headers, sent))
        assert reply.status < 300, (method, path, reply)
        return reply.body

    def client(self, home: Path | None = None) -> Client:
        """A new process."""
        return Client(self, home or self.home)

    def jobs(self, plan: Plan | None = None) -> list[str]:
        """The names of the jobs that are there, of a plan."""
        return [
            key
            for key, document in self.emu.state.list("job")
            if plan is None or document["properties"]["properties"].get("azft.plan") == plan.hash
        ]

    def close(self) -> None:
        """End the emulator; the folders stay."""
        self.emu.stop()

    def copy_to(self, folder: Path) -> None:
        """This world's two folders, for other worlds to begin with. It is closed before."""
        self.close()
        folder.mkdir(parents=True)
        for part in ("azure", "home"):
            if (self.folder / part).is_dir():
                shutil.copytree(self.folder / part, folder / part)


class OwnAccess(Access):
    """A connection of one's own, where azft's would be the whole process's."""

    def connect(self, workspace: Workspace | None = None) -> Connection:
        """See `Access.connect`."""
        known: dict[str, Connection] = self.__dict__.setdefault("_own", {})
        place = workspace or self.find()
        if place.id not in known:
            known[place.id] = Connection(place, make_credential(self.auth), os.environ["AZFT_AZURE_ENDPOINT"])
        return known[place.id]


@dataclass
class Client:
    """One process of azft."""

    world: World
    home: Path

    def __post_init__(self) -> None:
        settings = self.world.emu.settings
        self.access = OwnAccess(settings.subscription, settings.resource_group, settings.workspace, "managed-identity")
        self.plans = self.world.template.plans
        self.store = RunStore(self.home)

    @property
    def connection(self) -> Connection:
        """Its connection to the workspace."""
        return self.access.connect()

    def mode(self, plan: Plan | str, **access: Any) -> AzureMode:
        """The mode of a plan."""
        given = OwnAccess(**{**vars_of(self.access), **access}) if access else self.access
        return mode_of(plan if isinstance(plan, str) else plan.mode)(self.home, given)

    def submit(self, name: str, *, create_compute: bool = False, **options: Any) -> Run:
        """Submit a plan, without waiting for its end."""
        plan = self.plans[name]
        mode = self.mode(plan, create_compute=True) if create_compute else self.mode(plan)
        return mode.submit(plan, wait=False, **options)

    def run(self, name: str) -> Run:
        """The record of a plan's run."""
        return self.store.get(self.plans[name].run_name)

    def refresh(self, name: str) -> Run:
        """Bring a run's record up to date."""
        run = self.run(name)
        self.mode(self.plans[name]).refresh(run)
        return run


def vars_of(access: Access) -> dict[str, Any]:
    """The fields of an access."""
    return {
        "subscription": access.subscription,
        "resource_group": access.resource_group,
        "workspace": access.workspace,
        "auth": access.auth,
        "create_compute": access.create_compute,
    }


def void(_: object) -> None:
    """Forget a value."""


_numbers = itertools.count()


@contextmanager
def living(world: World) -> Iterator[World]:
    """Let this process's requests go to the world, and its waiting move the world's time."""
    before = {name: os.environ.get(name) for name in world.emu.environment()}
    os.environ.update(world.emu.environment())
    sleep = time.sleep
    time.sleep = world.sleep
    try:
        with world.emu.in_process(), using(world.clock):
            yield world
    finally:
        time.sleep = sleep
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def light(monkeypatch: pytest.MonkeyPatch) -> None:
    """What makes a life cheap and always the same: nothing is flushed to the disk, the steps' code never changes."""
    import requests
    from azure.ai.ml.entities._validation import schema

    from azft import pipeline, staging
    from azft.modes import azure
    from azft.runs.environment import describe_environment

    monkeypatch.setattr(os, "fsync", void)
    # A quarter of the time of a request in process went into looking for a proxy.
    monkeypatch.setattr(requests.sessions, "get_environ_proxies", lambda *_args, **_options: {})
    monkeypatch.setattr(staging, "package_zip", lambda: PACKAGE)
    # The SDK checks the same job against its schema seven times a submit; the other tests see that it is valid.
    monkeypatch.setattr(schema.SchemaValidatableMixin, "_validate", _valid)
    monkeypatch.setattr(pipeline, "require_valid", void)
    here = describe_environment(Path(__file__).parent)
    monkeypatch.setattr(azure, "describe_environment", lambda _folder: here)
    make_lazily(monkeypatch)


def _valid(entity: Any, raise_error: bool = False) -> Any:
    return type(entity)._create_empty_validation_result()
