"""What holds whatever happens: nothing twice, nothing half, nothing lost, and every failure told to a person."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection
from typing import Any

from azft.azureml.storage import SHA256
from azft.emulator.settings import ACCOUNT, CONTAINER
from azft.errors import AzftError, ExitCode
from azft.runs import RunState, RunStore
from tests.sweep.world import World

_OVER = {"Failed", "Canceled"}
"""Jobs after which another one may be asked for."""
ASSETS = ("data", "models", "codes", "environments")


def check(world: World, whole: dict[str, dict[str, str]]) -> None:
    """What holds at every moment. `whole` is `assets` of a world in which nothing went wrong."""
    nothing_twice(world)
    nothing_half(world, whole)
    records_are_true(world)


def nothing_twice(world: World) -> None:
    """A job, an endpoint, a deployment, a subscription: each was made once at most, and there is one of each."""
    twice = [thing for thing, count in Counter(world.created).items() if count > 1]
    assert not twice, f"made twice: {twice}"
    for plan in world.template.plans.values():
        names = world.jobs(plan)
        going = {f"job {job}" for job in names if (world.emu.state.get("run", job) or {}).get("status") not in _OVER}
        started = [name for name in world.created if name in going]
        assert len(started) <= 1, f"one plan, and these jobs were started: {started}"
    for kind in ("serverless-endpoint", "online-endpoint", "online-deployment", "marketplace-subscription"):
        there = world.there(kind)
        assert len(there) <= 1, f"{kind}: {there}"


def nothing_half(world: World, whole: dict[str, dict[str, str]]) -> None:
    """Whatever says what it contains contains that, and an asset that is there has all of its files."""
    for name, document in world.emu.state.list("blob"):
        marks = document.get("metadata") or {}
        wanted = marks.get(SHA256)
        if wanted:
            content = (world.emu.state.root / "blobs" / name).read_bytes()
            assert hashlib.sha256(content).hexdigest() == wanted, f"{name} is not what it says"
    for asset, files in assets(world).items():
        if asset in whole:
            assert files == whole[asset], f"{asset} is not whole"


def assets(world: World) -> dict[str, dict[str, str]]:
    """Asset -> each of its files -> a hash of its contents."""
    found = {}
    for kind in ASSETS:
        for key, document in world.emu.state.list(f"asset/{kind}", "workspace/"):
            place = _place(document["properties"])
            if place is None:
                continue
            path = world.emu.blob_path(ACCOUNT, CONTAINER, place)
            files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
            found[f"{kind} {key}"] = {
                file.relative_to(path.parent).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
                for file in files
            }
    return found


def _place(properties: dict[str, Any]) -> str | None:
    """Where below the container an asset's files are; None for what has no files of its own."""
    build = properties.get("build") or {}
    uri = (
        properties.get("dataUri") or properties.get("modelUri") or properties.get("codeUri") or build.get("contextUri")
    )
    for start in ("/paths/", f"/{CONTAINER}/"):
        if uri and start in uri:
            return str(uri).partition(start)[2]
    return None


def records_are_true(world: World) -> None:
    """A run's record never says what isn't so: a job that was submitted is there, a failure is one."""
    for run in RunStore(world.home).list():
        if not run.remote:
            continue
        record, status = run.azure, run.status()
        there = world.emu.state.get("job", record["job"])
        if record["submitted"]:
            assert there is not None, f"{run.name} says that its job was submitted"
            assert status.state is not RunState.INTERRUPTED, "nobody deleted the job, and it needs no process here"
        if status.state is RunState.FAILED and record["submitted"]:
            found = world.emu.state.get("run", record["job"])
            assert found is not None
            assert found["status"] == "Failed", f"{run.name} is said to have failed: {status.message}"


def is_told(error: BaseException, codes: Collection[ExitCode] = tuple(ExitCode)) -> AzftError:
    """A failure is azft's own, in one line, with an exit code (one of `codes`) and something to do."""
    assert isinstance(error, AzftError), f"a raw {type(error).__name__}: {error}"
    assert error.exit_code != ExitCode.DONE
    assert error.exit_code in codes, f"exit code {error.exit_code!r}: {error}"
    assert error.message.strip(), "no message"
    assert "\n" not in error.message, f"a headline of several lines: {error.message!r}"
    assert error.fix.strip(), f"nothing to do: {error.message}"
    return error
