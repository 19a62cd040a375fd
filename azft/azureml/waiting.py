"""Waiting until what was asked for is there, or gone: by looking, with a word to the caller whenever it changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from azft.azureml.errors import Answer, LimitError, ServiceError, SignInError, find_refusal, read_body
from azft.azureml.patience import clock
from azft.azureml.resources import FAILED, SUCCEEDED, Accepted, Resource, Resources
from azft.errors import AzftError, ExitCode
from azft.redact import redact

LIMIT = 3600.0
"""Seconds that a deployment may take: Azure's own limit is below it."""
_UNSEEN = 120.0
"""Seconds after which what was accepted must be visible."""
_LONGEST = 15.0


class FailedResourceError(AzftError):
    """Azure took the request, and then could not make the thing. `resource` is what is there now."""

    def __init__(self, message: str, *, fix: str = "", resource: Resource, words: str) -> None:
        super().__init__(message, fix=fix)
        self.resource = resource
        self.words = words


def wait_for(
    resources: Resources, accepted: Accepted, *, tell: Callable[[dict[str, Any]], None], limit: float = LIMIT
) -> Resource:
    """The resource once it has succeeded. Raises `FailedResourceError` with the service's words when it has failed.

    Tells `{"event": "state", "kind", "name", "state", "seconds"}` whenever the state changes.
    """
    time_is = clock()
    began = time_is.now()
    resource, state = accepted.resource, ""
    pauses = _pauses()
    while True:
        if resource.state != state:
            state = resource.state
            seconds = round(time_is.now() - began, 1)
            tell({"event": "state", "kind": resource.kind, "name": resource.name, "state": state, "seconds": seconds})
        if state.lower() == SUCCEEDED:
            return resource
        if state.lower() in FAILED:
            words = _why(resources, accepted, resource)
            raise FailedResourceError(f"The {resource.words} {state.lower()}: {words}", resource=resource, words=words)
        if time_is.now() - began > limit:
            raise AzftError(
                f"The {resource.words} is still {state} after {limit / 60:.0f} minutes; Azure goes on with it.",
                fix="Do the same again to wait on, or end it: azft down.",
            )
        time_is.sleep(next(pauses))
        found = resources.get(resource.kind, *resource.names)
        if found is not None:
            resource = found
        elif time_is.now() - began > _UNSEEN:
            raise AzftError(
                f"Azure took the {resource.words}, but it is not there.", fix="Somebody may have deleted it: try again."
            )


class NotEnded(NamedTuple):
    """Why something is still there, or may be, and the exit code of that."""

    why: str
    exit_code: ExitCode = ExitCode.FAILURE


def wait_until_ended(
    resources: Resources, ending: Sequence[tuple[Resource, Callable[[Resource | None], bool]]], *, limit: float
) -> dict[tuple[str, ...], NotEnded]:
    """Look at each resource until its test says that it has ended; `key` -> why not, of those that have not by `limit`.

    A look that fails counts as "not yet": the next one may tell. One that the service forbids is the last.
    """
    time_is = clock()
    began = time_is.now()
    waiting = {key(resource): (resource, has_ended) for resource, has_ended in ending}
    last: dict[tuple[str, ...], NotEnded] = {}
    forbidden: dict[tuple[str, ...], NotEnded] = {}
    pauses = _pauses()
    while True:
        for name, (resource, has_ended) in list(waiting.items()):
            try:
                found = resources.get(resource.kind, *resource.names)
            except SignInError as error:
                forbidden[name] = _unseen(error)
                del waiting[name]
            except AzftError as error:
                last[name] = _unseen(error)
            else:
                if has_ended(found):
                    del waiting[name]
                else:
                    state = found.state if found is not None else "gone"
                    last[name] = NotEnded(
                        f"It was asked to end, and is still there after {limit / 60:.0f} min: {state}."
                    )
        if not waiting or time_is.now() - began > limit:
            return forbidden | {name: last[name] for name in waiting}
        time_is.sleep(next(pauses))


def _unseen(error: AzftError) -> NotEnded:
    return NotEnded(
        f"It was asked to end, but whether it did can't be seen: {error.message} {error.fix}", error.exit_code
    )


def key(resource: Resource) -> tuple[str, ...]:
    """What tells one resource from another."""
    return (resource.kind, *resource.names)


def explain(error: FailedResourceError, what: str, fix: str) -> AzftError:
    """The error for a person, with the exit code of a quota when it was one."""
    refusal = find_refusal(Answer(status=400, words=error.words))
    message = f"{what} failed: {error.words}"
    if refusal is None:
        return AzftError(message, fix=fix)
    kind = refusal.kind if issubclass(refusal.kind, LimitError) else ServiceError
    return kind(f"{what} failed: {refusal.what}.", fix=f"{refusal.fix}\n{fix}\nAzure's words: {error.words}")


def _why(resources: Resources, accepted: Accepted, resource: Resource) -> str:
    """The service's words: of the long operation, else of the resource itself."""
    for document in (resources.outcome(accepted.operation), dict(resource.properties)):
        code, words = read_body(document) if document.get("error") else ("", "")
        if code or words:
            return redact(f"{code}: {words}" if code and words else code or words)
    errors = resource.properties.get("provisioningErrors") or []
    told = [" ".join(filter(None, read_body(entry))) for entry in errors if isinstance(entry, dict)]
    return redact("; ".join(filter(None, told))) or "Azure gives no reason."


def _pauses() -> Iterator[float]:
    pause = 0.5
    while True:
        yield pause
        pause = min(pause * 1.5, _LONGEST)
