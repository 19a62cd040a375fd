"""A workspace without a socket, and runs in it: requests go to the emulator, whose jobs pass by the clock alone."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from azft import api
from azft.azureml import patience
from azft.azureml.connection import Connection, connect, forget_connections
from azft.azureml.remote_runs import describe
from azft.azureml.resources import Resources
from azft.emulator import Emulator, Settings
from azft.emulator.job_outputs import place_of, record_output
from azft.emulator.registry import seed_model
from azft.plan import Plan
from azft.recipe_file import load_recipe
from azft.runs import Run, RunState, RunStore
from azft.tags import TAG

MODEL = "Phi-4-mini-instruct"
MODEL_ID = f"azureml://registries/azureml/models/{MODEL}/labels/latest"
SIZE = "Standard_NC24ads_A100_v4"
TAGS = {
    "finetune_compute_allow_list": f"['{SIZE}', 'Standard_ND96asr_v4']",
    "model_specific_defaults": "{'apply_lora': 'true', 'precision': 16}",
}
PROPERTIES = {"inference-recommended-sku": f"Standard_NC6s_v3, {SIZE}, Standard_NC48ads_A100_v4"}
_ANSWERS = """
import json, sys
for line in sys.stdin:
    request = json.loads(line)
    said = list(request["row"].values())[-1] if "row" in request else request["messages"][-1]["content"]
    told = {"told": {"answer": said}} if "row" in request else {"content": "you said: " + said}
    print(json.dumps({"error": "it failed"} if said == "fail" else told), flush=True)
"""
SERVER = (sys.executable, "-c", _ANSWERS)
"""A model's server that says what it was told, of a row the last text; `fail` makes it fail."""
OUTPUTS = {
    "pipeline": ("packaged", "uri_folder"),
    "system-pipeline": ("mlflow_model_folder", "mlflow_model"),
    "serverless-finetuning": ("registered_model", "mlflow_model"),
    "finetuning-job": ("registered_model", "mlflow_model"),
}


@dataclass(frozen=True)
class Azure:
    """An emulated workspace in a folder of the test's own; `root` is its `.azft`."""

    emu: Emulator
    connection: Connection
    folder: Path

    @property
    def root(self) -> Path:
        return self.folder / ".azft"

    @property
    def resources(self) -> Resources:
        return Resources(self.connection)

    def plan(self, mode: str, *overrides: str) -> Plan:
        recipe = self.folder / "demo" / "recipe.yaml"
        if not recipe.exists():
            api.init(recipe.parent, name="linden")
        return api.plan(load_recipe(recipe, overrides=(f"model={MODEL}", *overrides)), mode)

    def running(self, service: str, name: str = "linden-0123abcd", *, mode: str = "maap", **target: Any) -> Run:
        """A run whose job was just sent, as the modes leave it."""
        output, kind = OUTPUTS[service]
        plan = _plan(name, mode, {"service": service, "model_id": MODEL_ID, "marketplace": False, **target})
        tags = {TAG: plan["hash"], "azft.run": name, "azft.version": "1"}
        properties: dict[str, Any] = {"tags": tags, "properties": tags, "experimentName": "linden"}
        if output == "registered_model":
            given = {"uri": "azureml:data:1", "jobInputType": "uri_file"}
            details = {"taskType": "ChatCompletion", "model": {"uri": MODEL_ID}, "trainingData": given}
            properties |= {"jobType": "FineTuning", "fineTuningDetails": details}
            properties["outputs"] = {output: {"assetName": "linden", "jobOutputType": kind}}
        else:
            properties |= {"jobType": "Pipeline", "jobs": {"step": {"type": "command", "componentId": "x"}}}
            properties["outputs"] = {output: {"jobOutputType": kind}}
        if "compute" in target:
            properties["computeId"] = f"{self.connection.workspace.id}/computes/{target['compute']}"
        self.resources.put("job", name, body={"properties": properties})
        azure = {**describe(self.connection.workspace, name, name, service), "submitted": True}
        run = RunStore(self.root).create(name, plan=plan, recipe=plan["recipe"], azure=azure)
        run.set_state(RunState.RUNNING)
        return run

    def completed(
        self, service: str, name: str = "linden-0123abcd", described: dict[str, Any] | None = None, **target: Any
    ) -> Run:
        """A run that is done, with a small model among its outputs; `described` is its MLmodel."""
        run = self.running(service, name, **target)
        output, kind = OUTPUTS[service]
        place = place_of(self.emu, None, f"{name}/{output}")
        write_model(place.path)
        if described is not None:
            (place.path / "MLmodel").write_text(json.dumps(described), encoding="utf-8")  # JSON is YAML
        if output != "registered_model":
            record_output(self.emu, name, output, place, kind)
        self.emu.clock.advance(3600)
        run.set_state(RunState.COMPLETED)
        return run

    def local(self, name: str = "linden-0123abcd", **recipe: Any) -> Run:
        """A completed run of this machine."""
        plan = _plan(name, "local", None)
        plan["recipe"] |= recipe
        run = RunStore(self.root).create(name, plan=plan, recipe=plan["recipe"])
        write_model(run.folder / "outputs" / "packaged")
        run.set_state(RunState.COMPLETED)
        return run

    def requests(self, method: str, part: str) -> int:
        """How many requests of this method had this in their path."""
        return sum(entry["method"] == method and part in entry["path"] for entry in self.emu.log.list())


@contextmanager
def emulated(folder: Path, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> Iterator[Azure]:
    """The workspace, the environment that leads to it, and a clock that waits for nothing."""
    emu = Emulator(folder / "azure", settings=Settings(**{"executor": "none", "server_command": SERVER, **settings}))
    emu.clock.manual = True
    for name, value in emu.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AZFT_HOME", str(folder / ".azft"))
    monkeypatch.chdir(folder)
    write_model(folder / "base")
    seed_model(emu, "azureml", MODEL, "7", folder / "base", tags=TAGS, properties=PROPERTIES, kind="mlflow_model")
    forget_connections()
    time_is = patience.Clock(sleep=lambda seconds: _void(emu.clock.advance(seconds)), now=emu.clock.now)
    try:
        with emu.in_process(), patience.using(time_is):
            yield Azure(emu, connect(), folder)
    finally:
        forget_connections()
        emu.stop()


def write_model(folder: Path) -> None:
    """Files that look like a merged model's; nothing loads them."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text('{"architectures": ["Phi3ForCausalLM"]}', encoding="utf-8")
    (folder / "model.safetensors").write_bytes(b"weights" * 100)
    (folder / "MLmodel").write_text("flavors: {}\n", encoding="utf-8")


def _plan(name: str, mode: str, target: dict[str, Any] | None) -> dict[str, Any]:
    recipe_name, _, tail = name.partition("-")
    recipe = {
        "model": MODEL,
        "description": "",
        "technique": {"name": "lora"},
        "output": {"model_name": None, "merge": True},
    }
    return {
        "name": recipe_name,
        "mode": mode,
        "hash": tail.partition("-")[0] * 8,
        "created": "2026-11-24T00:00:00+00:00",
        "recipe": recipe,
        "model": {"kind": "registry", "description": MODEL_ID},
        **({} if target is None else {"target": target}),
    }


def _void(_: object) -> None:
    """For a callback that must return nothing."""
