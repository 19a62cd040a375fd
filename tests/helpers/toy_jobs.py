"""Small pipelines and fine-tuning jobs for the emulator, made and sent by azure-ai-ml as it comes."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from azft.emulator import Emulator
from tests.helpers.azure_sdk import ml_client

TERMINAL = {"Completed", "Failed", "Canceled"}

MAIN = """
import json, os, pathlib, signal, sys, time
values = dict(zip(sys.argv[1::2], sys.argv[2::2]))
out = pathlib.Path(values["--out"])
control = pathlib.Path(values["--control"])
count = int(values.get("--count", "0"))
with (control / "starts.txt").open("a") as file:
    file.write(pathlib.Path.cwd().name + " " + str(os.getpid()) + chr(10))
print("rank", os.environ.get("RANK", "0"), "of", os.environ.get("WORLD_SIZE", "1"), flush=True)
mark = out / "mark.txt"
done = int(mark.read_text()) if mark.exists() else 0
print("from", done, flush=True)
for step in range(done + 1, count + 1):
    mark.write_text(str(step))
    print(f"step {step}/{count}  loss 1.0", flush=True)
    with (out / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": step, "loss": 1 / step}) + chr(10))
    while (control / "hold").exists():
        time.sleep(0.02)
    if (control / "slow").exists():
        time.sleep(0.1)
if (control / "fail").exists():
    print("Traceback: it was told to fail", flush=True)
    sys.exit(3)
text = "".join(file.read_text() for file in ([pathlib.Path(values["--data"])]))
(out / "result.txt").write_text(text.upper() + os.environ.get("WORD", ""))
(control / "environment.json").write_text(json.dumps(dict(os.environ)))
"""

COMPONENT = """
name: toy
version: "1"
type: command
inputs:
  data: {type: uri_file}
  control: {type: string}
  count: {type: integer, default: 2, min: 0, max: 1000}
  note: {type: string, optional: true}
outputs: {out: {type: uri_folder, mode: rw_mount}}
code: ./code
environment: {image: "example/image:1"}
command: >-
  python main.py --data ${{inputs.data}} --control ${{inputs.control}} --count ${{inputs.count}}
  $[[--note ${{inputs.note}}]] --out ${{outputs.out}}
"""

SECOND = """
name: toy_second
version: "1"
type: command
inputs: {first: {type: uri_folder}, control: {type: string}}
outputs: {out: {type: uri_folder}}
code: ./code
environment: {image: "example/image:1"}
command: >-
  python main.py --data ${{inputs.first}}/result.txt --control ${{inputs.control}} --out ${{outputs.out}}
"""


class ToyJobs:
    """A folder with two components, an emulator, and a client that submits to it."""

    def __init__(self, folder: Path, emu: Emulator) -> None:
        self.folder = folder
        self.emu = emu
        self.client: Any = ml_client(emu)
        self.control = folder / "control"
        self.control.mkdir(parents=True, exist_ok=True)
        (folder / "code").mkdir(exist_ok=True)
        (folder / "code" / "main.py").write_text(MAIN)
        (folder / "first.yaml").write_text(COMPONENT)
        (folder / "second.yaml").write_text(SECOND)
        (folder / "data.txt").write_text("hello ")

    def job(self, name: str, *, destination: str | None = None, ranks: int = 1, **inputs: Any) -> Any:
        """A pipeline of two steps, `first` and `second`; `destination` is where the first one's output goes."""
        from azure.ai.ml import Input, Output, PyTorchDistribution, load_component
        from azure.ai.ml.entities import PipelineJob, PipelineJobSettings

        first = load_component(self.folder / "first.yaml")(
            data="${{parent.inputs.data}}", control=str(self.control), **inputs
        )
        first.environment_variables = {"WORD": "!"}
        if ranks > 1:
            first.distribution = PyTorchDistribution(process_count_per_instance=ranks)
        first.outputs.out = "${{parent.outputs.first}}"
        second = load_component(self.folder / "second.yaml")(
            first="${{parent.jobs.first.outputs.out}}", control=str(self.control)
        )
        second.outputs.out = "${{parent.outputs.second}}"
        first.name, second.name = "first", "second"
        return PipelineJob(
            name=name,
            display_name="toy",
            experiment_name="toys",
            inputs={"data": Input(type="uri_file", path=str(self.folder / "data.txt"))},
            outputs={
                "first": Output(type="uri_folder", mode="rw_mount", path=destination),
                "second": Output(type="uri_folder"),
            },
            jobs={"first": first, "second": second},
            tags={"azft.plan": "abc"},
            properties={"azft.plan": "abc"},
            settings=PipelineJobSettings(default_compute="serverless"),
        )

    def submit(self, name: str, **options: Any) -> Any:
        """Submit such a job."""
        return self.client.jobs.create_or_update(self.job(name, **options))

    def status(self, name: str) -> str:
        """Its status as the SDK tells it."""
        return str(self.client.jobs.get(name).status.value)

    def ended(self, name: str) -> str:
        """Wait for its end; the status."""
        self.until(lambda: self.status(name) in TERMINAL)
        return self.status(name)

    def until(self, condition: Callable[[], Any], seconds: float = 30) -> None:
        """Poll until the condition holds."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "it took too long"
            time.sleep(0.02)

    def children(self, name: str) -> dict[str, Any]:
        """The runs of its steps, by display name."""
        return {child.display_name: child for child in self.client.jobs.list(parent_job_name=name)}

    def details(self, run: str) -> Any:
        """A run's details, as the SDK reads them."""
        return self.client.jobs._runs_operations.get_run_details(run)

    def starts(self) -> int:
        """How many processes the steps were."""
        file = self.control / "starts.txt"
        return len(file.read_text().splitlines()) if file.exists() else 0
