"""Why a job failed, for a person: what, why, what to do, the request id, and the service's own words beneath.

Three sources, the most telling first: what azft's own step said in its log, causes that the service names (a table),
and causes that logs of any training show (`azft.execution.causes`). What none of them knows is passed on in the
service's words; nothing is made up.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from azft.azureml.errors import read_body
from azft.execution.causes import Cause, likely_cause
from azft.redact import redact

_TAIL = 12
"""Lines of the failed step's log that are shown."""
_LONGEST = 600
_ERROR = re.compile(r"(?:\[rank\d+\]:\s*)?(?:\w+\.)*\w*(?:Error|Exception|Interrupt)\b(?:: |$)(?!Execution failed)")
_STATUS = re.compile(r"(?:status code|exit code|ExitCode\W+|exited with code)\D{0,3}(-?\d+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Failure:
    """What happened in one line, and what to do, with the service's words beneath."""

    message: str
    fix: str


def _row(pattern: str, what: str, fix: str) -> tuple[re.Pattern[str], Cause]:
    return re.compile(pattern, re.IGNORECASE), Cause(what, fix)


_SERVICE: tuple[tuple[re.Pattern[str], Cause], ...] = (
    _row(
        r"ImageBuild|image build (?:failed|error)|failed to build (?:the )?image",
        "Azure could not build the environment's image.",
        "The build's log is in the studio, at the failed step: a package that can't be installed, or a base image that "
        "can't be pulled. azft's environments/ is what is built.",
    ),
    _row(
        r"VMFamily|cores? quota|NotEnoughCores|exceed\w* (?:the )?approved",
        "The quota of the VM family is used up.",
        "Ask for more quota in the Azure portal, or wait until other jobs have ended; then: {go_on}\n"
        "Or take another VM size, and submit the recipe again.",
    ),
    _row(
        r"quota",
        "A quota is used up.",
        "Ask for more in the Azure portal, or wait until other jobs have ended; then: {go_on}",
    ),
    _row(
        r"preempt|evict|low.?priority node|node was (?:lost|reclaimed)",
        "The node was taken away (low priority) and the job was not started again.",
        "Go on with: {go_on}\nWith modes.maap.tier: dedicated no node is taken away.",
    ),
    _row(
        r"OutOfMemory|OOMKilled|status code 137|exit code 137|CUDA out of memory|killed by the system",
        "The memory was not enough.",
        "Lower training.max_length or training.micro_batch_size, set training.gradient_checkpointing: true, or take a "
        "larger VM size; then submit again.",
    ),
    _row(
        r"(?:model|fine.?tun\w*|deployment).{0,80}not (?:supported|available|offered).{0,60}(?:region|location)"
        r"|(?:Supported|Available)In(?:Region|Location)|RegionNotSupported",
        "The workspace's region does not offer this model for this.",
        "azft plan --check-remote names those that the registry lists; use a workspace in one, or --mode maap.",
    ),
    _row(
        r"marketplace",
        "The model's provider asks for a marketplace subscription, and there is none.",
        "Your subscription must allow marketplace purchases; azft subscribes at `submit`.",
    ),
    _row(
        r"AuthorizationFailed|does not have (?:authorization|permission)|AuthorizationPermissionMismatch"
        r"|identity .{0,60}(?:lacks|not authori[sz]ed)",
        "The job's identity lacks a role.",
        "Give the workspace's (or cluster's) managed identity `Storage Blob Data Contributor` on the storage account.",
    ),
    _row(
        r"name resolution|could not resolve host|EAI_AGAIN|getaddrinfo|network is unreachable"
        r"|Failed to establish a new",
        "The node could not reach an address: name resolution or network isolation.",
        "In a workspace with a managed network, allow the address as an outbound rule.",
    ),
    _row(
        r"DataValidation|validation of (?:the )?(?:training |input )?data|invalid (?:training|validation) (?:data|file)"
        r"|not valid jsonl",
        "The service refuses the data.",
        "azft check recipe.yaml finds bad rows with their lines.",
    ),
    _row(
        r"DataAccessError|StreamAccess|could not (?:access|read) (?:the )?(?:data|input)|BlobNotFound",
        "The job could not read its input.",
        "See that nobody deleted azft/ in the workspace's blob store, and that the identity may read it; submit again.",
    ),
    _row(
        r"ComputeNotFound|compute target.{0,60}not found|ClusterNotFound",
        "The compute is not there.",
        "Name one that is (modes.maap.compute), or let azft make it: --create-compute.",
    ),
    _row(
        r"unusable|node (?:failed to start|startup)|AllocationFailed|capacity",
        "Azure had no machine of this size to give.",
        "Try later: {go_on}\nOr take another VM size or region, and submit the recipe again.",
    ),
    _row(r"JobTimeout|timed out|exceeded its limit of \d+ seconds", "The job ran into its time limit.", "Raise it."),
)


def explain(
    run: str,
    error: Mapping[str, Any] | None,
    *,
    step: str | None = None,
    lines: Sequence[str] = (),
    go_on: str | None = None,
) -> Failure:
    """What to tell of a failed job. `go_on` is the command that tries once more, by default `azft resume`.

    `error` is run history's error document of the failed step (or of the job), `lines` the last lines of the log.
    """
    code, words = read_body(dict(error or {}))
    words = redact(" ".join(words.split()))
    said = f"{code}: {words}"
    cause = _own(lines) or _by_service(said) or likely_cause(_status(words), lines)
    where = f"Step `{step}`" if step else "The job"
    what = cause.what if cause else _last_error(lines) or _first_sentence(words) or "Azure gives no reason."
    parts = [cause.fix.replace("{go_on}", go_on or f"azft resume {run}")] if cause and cause.fix else []
    if step:
        parts.append(f"The whole log: azft logs {run} --step {step}")
    if lines:
        parts.append("Its last lines:" + "".join(f"\n  | {redact(line)}" for line in lines[-_TAIL:]))
    if words:
        request = request_id(error)
        about = ", ".join(part for part in (code, f"request {request}" if request else "") if part)
        shown = words if len(words) <= _LONGEST else f"{words[:_LONGEST]}..."
        parts.append(f"Azure's words{f' ({about})' if about else ''}: {shown}")
    return Failure(f"{where} failed: {what[:1].upper()}{what[1:]}", "\n".join(parts))


def request_id(error: Mapping[str, Any] | None) -> str:
    """The id to quote to Azure's support; empty when there is none."""
    correlation = (error or {}).get("correlation")
    if not isinstance(correlation, Mapping):
        return ""
    return str(correlation.get("request") or correlation.get("RequestId") or correlation.get("operation") or "")


def _own(lines: Sequence[str]) -> Cause | None:
    """The cause when azft's own code raised the last error: its words are the most exact."""
    cause = likely_cause(1, lines)
    return cause if cause and any(cause.what in line and "azft." in line for line in lines) else None


def _by_service(said: str) -> Cause | None:
    return next((cause for pattern, cause in _SERVICE if pattern.search(said)), None)


def _status(words: str) -> int:
    match = _STATUS.search(words)
    return int(match.group(1)) if match else 1


def _last_error(lines: Sequence[str]) -> str:
    """The last exception of a traceback in the log, which says more than that a process exited."""
    found = [line.strip() for line in lines if _ERROR.match(line)]
    return _first_sentence(redact(found[-1])) if found else ""


def _first_sentence(words: str) -> str:
    head = re.split(r"(?<=[.!?])\s", words, maxsplit=1)[0]
    return head if len(head) <= 240 else f"{head[:237]}..."
