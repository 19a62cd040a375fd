"""Carrying out a pipeline or command job from the bytes that came over the wire: steps in order, each a run of its own.

Outputs are folders of the blob store, and steps write straight into them, as into a mount on a node: so what a
preempted attempt left is there for the next one. What was finished when the emulator was stopped is not done again.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from azft.emulator import job_errors, run_documents
from azft.emulator.job_control import JobControl, JobStopped
from azft.emulator.job_outputs import OutputPlace, place_of, record_output
from azft.emulator.resolving import StoredAssets
from azft.emulator.state import Document
from azft.emulator.step_machines import family, machines
from azft.emulator.step_process import Command, Preempted, run_command, write_log
from azft.emulator.step_reuse import Fingerprints, find_reusable, remember
from azft.emulator.wire_graph import WirePipeline, read_wire, read_wire_command
from azft.emulator.wire_node import Assets, Json, StepFacts
from azft.execution.graph import GraphError, Literal, LocalPath, Step, StepOutput, Value, ordered
from azft.execution.inputs import check_graph
from azft.execution.placeholders import render
from azft.execution.ranks import available_cores, command_line
from azft.execution.reuse import Manifest

if TYPE_CHECKING:
    from azft.emulator.app import Emulator

_NODE = "job-node"
_SHOWN_LINES = 20


class StepFailed(Exception):  # noqa: N818 - a step's end, told to the pipeline around it
    """A step's run ended as Failed; its record says why."""


@dataclass(frozen=True)
class _Done:
    run: str
    outputs: Mapping[str, Path]
    manifest: Manifest


def execute_pipeline(emu: Emulator, job: Document, control: JobControl) -> None:
    """Carry out a job until its run has ended.

    Raises `JobStopped` when it was asked to end; the steps that were running are then Canceled, or stay as they are
    when the emulator stops.
    """
    _execute(emu, job, control, read_wire, _Pipeline)


def execute_command(emu: Emulator, job: Document, control: JobControl) -> None:
    """The same for a command job: a graph of one step, whose run is the job's own."""
    _execute(emu, job, control, read_wire_command, _Standalone)


def _execute(
    emu: Emulator,
    job: Document,
    control: JobControl,
    read: Callable[[Json, Assets], WirePipeline],
    kind: type[_Pipeline],
) -> None:
    name = str(job["name"])
    assets = StoredAssets(emu)
    try:
        pipeline = read(job["properties"], assets)
        problems = [finding.message for finding in check_graph(pipeline.graph)]
    except GraphError as error:
        problems = [error.message]
    if problems:
        told = job_errors.graph_invalid(emu, problems, what=kind.what)
        run_documents.set_status(emu, name, "Failed", error=told)
        return
    kind(emu, name, pipeline, assets, control).run()


class _Pipeline:
    what = "Pipeline"

    def __init__(
        self, emu: Emulator, name: str, pipeline: WirePipeline, assets: StoredAssets, control: JobControl
    ) -> None:
        self.emu = emu
        self.assets = assets
        self.name = name
        self.pipeline = pipeline
        self.graph = pipeline.graph
        self.control = control
        self.root = run_documents.find(emu, name) or {}
        self.fingerprints = Fingerprints()
        self.done: dict[str, _Done] = {}
        self.named = {(source.step, source.output): output for output, source in self.graph.outputs.items()}

    def run(self) -> None:
        failed: list[str] = []
        for step in ordered(self.graph):
            self.control.check()
            if any(source.step not in self.done for source in self.graph.upstream(step)):
                continue  # what it reads was never written
            try:
                self.done[step.name] = self.run_step(step, self.pipeline.steps[step.name])
            except StepFailed:
                failed.append(step.name)
                self.tell("Execution of experiment failed, update experiment status and cancel running nodes.")
                if not self.pipeline.continue_on_step_failure:
                    break
        for output, source in self.graph.outputs.items():
            if source.step in self.done:
                kind = self.pipeline.steps[source.step].output_types[source.output]
                place = self.place(self.graph.steps[source.step], source.output, self.done[source.step].run)
                record_output(self.emu, self.name, output, place, kind)
        if failed:
            run_documents.set_status(self.emu, self.name, "Failed", error=job_errors.steps_failed(self.emu, failed))
        else:
            run_documents.set_status(self.emu, self.name, "Completed")

    # One step

    def run_step(self, step: Step, facts: StepFacts) -> _Done:
        run = self.run_of(step, facts)
        run_id = str(run["id"])
        places = {output: self.place(step, output, run_id) for output in step.outputs}
        outputs = {output: place.path for output, place in places.items()}
        if run["status"] == "Completed":
            return _Done(run_id, outputs, Manifest.of(outputs))
        if run["status"] in run_documents.TERMINAL:
            raise StepFailed
        self.tell(f"Submitting 1 runs, first five are: {step.name}:{run_id}")
        literals, paths = self.resolve(step)
        contents = {name: self.content(step, name, path) for name, path in paths.items()}
        key = self.fingerprints.step(step, literals, contents)
        reusable = facts.deterministic and not self.pipeline.force_rerun and run["attempt"] == 0
        earlier = find_reusable(self.emu, key, outputs) if reusable else None
        if earlier is not None:
            marks = {
                "azureml.isreused": "true",
                "azureml.reusedrunid": earlier.run,
                "azureml.reusedpipelinerunid": earlier.job,
            }
            run_documents.change(self.emu, run_id, properties=marks)
        else:
            try:
                command = render(step.command, {**literals, **paths}, outputs)
            except GraphError as error:
                self.fail(run_id, job_errors.graph_invalid(self.emu, [error.message], what=self.what))
            self.work(step, facts, run, command, outputs)
        manifest = Manifest.of(outputs)
        for output, place in places.items():
            record_output(self.emu, run_id, output, place, facts.output_types[output])
        run_documents.set_status(self.emu, run_id, "Completed")
        self.tell(f"Completing processing run id {run_id}.")
        if facts.deterministic and earlier is None:
            remember(self.emu, key, job=self.name, run=run_id, outputs=outputs, manifest=manifest)
        return _Done(run_id, outputs, manifest)

    def run_of(self, step: Step, facts: StepFacts) -> Document:
        """The step's run: the one that an earlier life of the emulator began, or a new one."""
        key = f"{self.name}/{step.name}"
        if (known := self.emu.state.get(_NODE, key)) and (run := run_documents.find(self.emu, known["run"])):
            return run
        with self.emu.state.transaction():
            run = run_documents.create(
                self.emu,
                str(uuid.uuid4()),
                kind="azureml.StepRun",
                experiment=str(self.root["experiment"]),
                display_name=facts.display_name,
                status="NotStarted",
                parent=self.name,
                node=step.name,
                compute=facts.compute,
                properties={
                    "azureml.pipelinerunid": self.name,
                    "azureml.pipelineComponent": "masterescloud",
                    "azureml.moduleName": facts.component.split("/")[-3] if "/" in facts.component else facts.component,
                    "azureml.nodeName": step.name,
                    "azureml.runsource": "azureml.StepRun",
                },
            )
            self.emu.state.put(_NODE, key, {"run": run["id"]})
        return run

    def place(self, step: Step, output: str, run_id: str) -> OutputPlace:
        """Where an output goes: where the job says, else under the job's name, else under the step's run."""
        given = self.pipeline.steps[step.name].destinations.get(output)
        named = self.named.get((step.name, output))
        where = f"{self.name}/{named}" if named else f"{run_id}/{output}"
        return place_of(self.emu, given, where)

    def resolve(self, step: Step) -> tuple[dict[str, Literal | None], dict[str, Path]]:
        literals: dict[str, Literal | None] = {}
        paths: dict[str, Path] = {}
        for name in step.inputs:
            bound = self.graph.bound(step, name)
            if isinstance(bound, LocalPath):
                paths[name] = bound.path
            elif isinstance(bound, StepOutput):
                paths[name] = self.done[bound.step].outputs[bound.output]
            else:
                literals[name] = bound.value if isinstance(bound, Value) else None
        return literals, paths

    def content(self, step: Step, name: str, path: Path) -> str:
        bound = self.graph.bound(step, name)
        if isinstance(bound, StepOutput):
            return self.done[bound.step].manifest.content(bound.output)
        return self.fingerprints.path(path)

    def work(self, step: Step, facts: StepFacts, run: Document, command: str, outputs: Mapping[str, Path]) -> None:
        """Queue, prepare and run a step, again after each preemption. Raises `StepFailed` and `JobStopped`."""
        run_id = str(run["id"])
        while True:
            try:
                self.attempt(step, facts, run_id, command, outputs)
                return
            except Preempted:
                write_log(self.emu, run_id, "The node was preempted; the job is queued again.")
                # Straight to the document: a run that ended can't come here.
                run_documents.set_status(self.emu, run_id, "Queued")
            except JobStopped as stop:
                if stop.canceled:
                    run_documents.set_status(self.emu, run_id, "Canceled")
                raise

    def attempt(self, step: Step, facts: StepFacts, run_id: str, command: str, outputs: Mapping[str, Path]) -> None:
        emu, settings = self.emu, self.emu.settings
        run = run_documents.find(emu, run_id) or {}
        run = run_documents.change(emu, run_id, status="Queued", attempt=int(run["attempt"]) + 1)
        self.control.wait_until(emu.clock.now() + (settings.queue_seconds if run["attempt"] > 1 else 0))
        where = {"job": self.name, "step": step.name}
        if emu.faults.take("quota-exhausted", **where):
            self.fail(run_id, job_errors.quota_exhausted(emu, family(emu, facts)))
        run_documents.set_status(emu, run_id, "Preparing")
        self.control.wait_until(emu.clock.now() + settings.prepare_seconds)
        if emu.faults.take("image-build-failed", **where):
            self.fail(run_id, job_errors.image_build_failed(emu, facts.environment))
        if problem := self.assets.environment_problem(facts.environment):
            inner, component = ("ImageBuildFailure",), "environmentmanagement"
            self.fail(run_id, job_errors.run_error(emu, problem, inner=inner, component=component))
        for output, path in outputs.items():
            (path.parent if facts.output_types[output] == "uri_file" else path).mkdir(parents=True, exist_ok=True)
        run_documents.set_status(emu, run_id, "Running")
        folder = self.working_folder(step, run_id)
        ranks = min(step.processes, available_cores())
        if ranks < step.processes:
            note = (
                f"emulator: {step.processes} ranks were asked for; {ranks} run, because this machine has {ranks} cores"
            )
            write_log(emu, run_id, note)
        asked = Command(
            arguments=command_line(command, processes=ranks),
            folder=folder,
            variables=step.variables,
            processes=ranks,
            outputs=tuple(outputs.values()),
        )
        with machines(emu, facts, run_id):
            status, lines = run_command(emu, run, asked, self.control)
        if status != 0:
            self.fail(run_id, job_errors.command_failed(emu, status, lines[-_SHOWN_LINES:]))
        shutil.rmtree(folder, ignore_errors=True)

    def working_folder(self, step: Step, run_id: str) -> Path:
        """A fresh copy of the step's code; what an earlier attempt did to its copy is gone with its node."""
        folder = self.emu.state.root / "nodes" / run_id / "wd"
        shutil.rmtree(folder, ignore_errors=True)
        if step.code is None:
            folder.mkdir(parents=True)
        else:
            shutil.copytree(step.code, folder)
        return folder

    def tell(self, line: str) -> None:
        """A line in the pipeline's own log."""
        stamped = f"[{self.emu.clock.timestamp()}] {line}"
        write_log(self.emu, self.name, stamped, name=run_documents.PIPELINE_LOG)

    def fail(self, run_id: str, error: job_errors.Error) -> NoReturn:
        write_log(self.emu, run_id, f"Error: {error['error']['message']}")
        run_documents.set_status(self.emu, run_id, "Failed", error=error)
        raise StepFailed


class _Standalone(_Pipeline):
    """A command job. Its run has no children and no log beside the command's."""

    what = "Job"

    def run_of(self, step: Step, facts: StepFacts) -> Document:  # noqa: ARG002
        return run_documents.find(self.emu, self.name) or self.root

    def tell(self, line: str) -> None:
        """Nobody is told of steps: there is one."""
