"""A real process to kill: started once with everything imported, it forks a client for each line that it reads.

A line is JSON: {"home", "shop", "plan", "environment"}. It answers with the client's process id, and, when that has
ended, with its exit code (negative for a signal) and what it said.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest


def live(order: dict[str, str]) -> int:
    """Be a client: submit, say how it went, and end."""
    from azft.azureml.connection import Access
    from azft.cli.errors import show_error
    from azft.errors import AzftError
    from azft.plan import Plan
    from tests.sweep.world import mode_of

    os.environ.update(order["environment"])
    plan = Plan.from_json(Path(order["plan"]).read_bytes())
    try:
        mode_of(plan.mode)(Path(order["home"]), Access(auth="managed-identity")).submit(plan, wait=False)
    except AzftError as error:
        show_error(error)
        return int(error.exit_code)
    return 0


def main() -> None:
    """Read orders until the end of the input."""
    import azure.ai.ml
    import azure.identity
    import azure.storage.blob  # noqa: F401

    from tests.sweep.world import light

    light(pytest.MonkeyPatch())
    print("ready", flush=True)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            try:
                status = live(json.loads(line))
            except BaseException as error:
                print(f"a raw {error!r}", file=sys.stderr, flush=True)
                status = 99
            os._exit(status)
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
