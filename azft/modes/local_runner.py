"""The process behind `submit --no-wait`: carries out one run, apart from any terminal.

    python -m azft.modes.local_runner <run folder> [--force]

Exit status as the command line's. When another process has the run already it ends at once, with 0.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from azft.errors import AzftError
from azft.modes.base import ignore, read_plan
from azft.modes.local_work import carry_out
from azft.redact import redact
from azft.runs import Run, RunState, RunStore


def main(arguments: list[str] | None = None) -> int:
    """Carry out the run whose folder is given."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--force", action="store_true")
    args = parser.parse_args(arguments)

    run = Run(args.run.resolve())
    with run.hold() as held:
        if not held or run.recorded_status().state is RunState.COMPLETED:
            return 0
        try:
            carry_out(run, read_plan(run), RunStore(run.folder.parent.parent), force=args.force, on_event=ignore)
        except AzftError as error:
            sys.stderr.write(redact(f"{error}\n"))
            return int(error.exit_code)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
