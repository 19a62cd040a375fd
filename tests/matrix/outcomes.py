"""What becomes of each cell: why it is refused, or that it works; and the page of the docs that says so.

`refused.json` holds the reasons, cell by cell. `test_matrix.py` runs every cell and fails where it is otherwise.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from azft.tasks import TASKS
from azft.techniques import TECHNIQUES
from tests.matrix.cells import MODELS, cells

REFUSED: dict[str, str] = json.loads((Path(__file__).parent / "refused.json").read_text(encoding="utf-8"))

_CLASS = re.compile(r"\b\w+For\w+\b")
_HEAD = """\
# What works with what

Every task under every technique, on each kind of model that can do the task. Each cell is run by `make test` on a tiny
model: the gradient of a batch equals that of its rows one by one, through the model's own forward and loss (float64,
to one part in a million; `qlora` in fp32, to one in a thousand); two steps are trained, what was trained is written,
loaded back and compared. It is evaluated before and after, and packaged, merged where that is possible: for one task
of each kind by `make test`, for all by `make test-slow`. There every cell but `qlora`'s also goes from training to the
package on a second device, which the CPU plays: nothing that a GPU needs stays on the CPU. A number says why a cell is
refused, before anything moves.
"""


def page() -> str:
    """The page, as Markdown."""
    reasons: dict[str, int] = {}
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for cell in cells():
        refused = _CLASS.sub("the model", REFUSED.get(str(cell), ""))
        mark = "✓" if not refused else f"[{reasons.setdefault(refused, len(reasons) + 1)}]"
        rows.setdefault((cell.task, cell.kind), {})[cell.technique] = mark
    lines = [_HEAD, f"| task | model | {' | '.join(TECHNIQUES)} |", f"| --- | --- |{' :-: |' * len(TECHNIQUES)}"]
    lines += [f"| {task} | {kind} | {' | '.join(marks.values())} |" for (task, kind), marks in rows.items()]
    if reasons:
        lines += ["", "Refused, because:", "", *(f"{number}. {reason}" for reason, number in reasons.items())]
    lines += ["", "The models: " + "; ".join(f"{kind}: {name}" for kind, name in MODELS.items()) + ".", ""]
    lines += ["Tasks:", "", *(f"- `{task.name}`: {task.title}." for task in TASKS.values()), ""]
    return "\n".join(lines)
