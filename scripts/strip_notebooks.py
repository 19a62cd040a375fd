"""Take the outputs out of notebooks: they are made by running, go stale, and may hold what should not be published.

`python scripts/strip_notebooks.py notebooks/*.ipynb` strips, and its exit status is 1 when a file was changed, as
pre-commit wants it; with `--check` nothing is changed.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

_KEPT = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
_CELL_METADATA = {"tags"}


def stripped(notebook: dict[str, Any]) -> dict[str, Any]:
    """The notebook without what running and editing leave behind."""
    cells = []
    for cell in notebook["cells"]:
        kept = {**cell, "metadata": {key: cell["metadata"][key] for key in cell["metadata"] if key in _CELL_METADATA}}
        kept.pop("attachments", None)
        if cell["cell_type"] == "code":
            kept.update(execution_count=None, outputs=[])
        cells.append(kept)
    metadata = {**_KEPT, "language_info": {"name": "python"}}
    return {**notebook, "cells": cells, "metadata": metadata}


def main() -> int:
    """Strip, or with --check only look."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebooks", nargs="+", type=Path)
    parser.add_argument("--check", action="store_true")
    given = parser.parse_args()
    changed = 0
    for path in given.notebooks:
        before = path.read_text(encoding="utf-8")
        after = json.dumps(stripped(json.loads(before)), indent=1, ensure_ascii=False, sort_keys=True) + "\n"
        if before == after:
            continue
        changed = 1
        if not given.check:
            path.write_text(after, encoding="utf-8")
        print(f"{path}: {'has outputs; strip it with: make format' if given.check else 'outputs stripped'}")
    return changed


if __name__ == "__main__":
    raise SystemExit(main())
