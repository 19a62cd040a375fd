"""Errors of runs, in the form in which run history tells them, and in the service's words."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from azft.emulator.app import Emulator

Error = dict[str, Any]


def run_error(
    emu: Emulator,
    message: str,
    *,
    code: str = "UserError",
    inner: Sequence[str] = (),
    component: str = "CommonRuntime",
    reference: str | None = None,
    details: Sequence[Error] = (),
) -> Error:
    """A run's error. `inner` are nested inner codes, the outermost first."""
    nested: Error | None = None
    for part in reversed(inner):
        nested = {"code": part, "innerError": nested}
    return {
        "error": {
            "code": code,
            "severity": None,
            "message": message,
            "messageFormat": "{Message}",
            "messageParameters": {"Message": message},
            "referenceCode": reference,
            "detailsUri": None,
            "target": None,
            "details": list(details),
            "innerError": nested,
            "additionalInfo": None,
        },
        "correlation": {"operation": uuid.uuid4().hex, "request": uuid.uuid4().hex[:16]},
        "environment": emu.settings.location,
        "location": emu.settings.location,
        "time": emu.clock.timestamp(),
        "componentName": component,
    }


def command_failed(emu: Emulator, status: int, lines: Sequence[str]) -> Error:
    """A user's command that ended with a status other than 0."""
    if status == 137:
        message = (
            "Execution failed. User process '/bin/bash' exited with status code 137. The process was killed by the "
            "system (out of memory, most likely). Please check log file 'user_logs/std_log.txt' for more details."
        )
        return run_error(emu, message, inner=("ContainerOutOfMemory",))
    last = "\n".join(lines)
    message = (
        f"Execution failed. User process '/bin/bash' exited with status code {status}. Please check log file "
        f"'user_logs/std_log.txt' for error details. Error: {last}"
    )
    return run_error(emu, message, inner=("BadArgument", "UserScriptFailed"))


def steps_failed(emu: Emulator, names: Sequence[str]) -> Error:
    """A pipeline with steps that failed."""
    nodes = ", ".join(f"/{name}" for name in names)
    message = (
        f"Pipeline has failed child jobs. Failed nodes: {nodes}. For more details and logs, please go to the job "
        "detail page and check the child jobs."
    )
    return run_error(
        emu, message, inner=("PipelineHasStepJobFailed",), component="pipelines", reference="PipelineHasStepJobFailed"
    )


def image_build_failed(emu: Emulator, environment: str) -> Error:
    """An environment that can't be built."""
    message = (
        f"Image build failed for environment {environment}. For more details, check log file "
        "'azureml-logs/20_image_build_log.txt'. ERROR: failed to solve: process \"/bin/sh -c pip install -r "
        'requirements.txt" did not complete successfully: exit code: 1'
    )
    return run_error(emu, message, inner=("ImageBuildFailure",), component="environmentmanagement")


def quota_exhausted(emu: Emulator, family: str) -> Error:
    """No cores left in a VM family."""
    message = (
        f"Operation could not be completed as it results in exceeding approved {family} Cores quota. Additional "
        f"details - Deployment Model: Resource Manager, Location: {emu.settings.location}, Current Limit: 0, "
        "Current Usage: 0. Submit a request for Quota increase in the Azure portal."
    )
    return run_error(emu, message, inner=("QuotaExceeded", "VMFamilyQuotaExceeded"), component="computeclusters")


def graph_invalid(emu: Emulator, problems: Sequence[str], *, what: str = "Pipeline") -> Error:
    """A pipeline, or another kind of job, that can't run as it stands."""
    message = f"{what} validation failed: " + " ".join(problems)
    return run_error(emu, message, inner=("BadArgument", "InvalidGraph"), component="pipelines")
