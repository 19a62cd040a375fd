"""What a run that ended says of its own result: a model that came out worse than it went in is not passed over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from azft.cli import results
from azft.cli.render import write
from azft.files import append_line, write_json
from azft.run_summary import summarize
from azft.runs import Run, RunState, RunStore

PLAN = {
    "mode": "local",
    "hash": "1",
    "created": "2026-11-20T08:00:00+00:00",
    "model": {"kind": "folder", "description": "a model"},
    "steps": [],
}


def run_with(folder: Path, evaluation: Any = None, eval_losses: Any = (), recipe: Any = None) -> Run:
    """A completed run with this evaluation and these losses of the validation rows."""
    run = RunStore(folder / ".azft").create("toy-1", plan=PLAN, recipe=recipe or {"training": {}})
    run.set_state(RunState.COMPLETED)
    for name in ("metrics", "evaluation"):
        (run.folder / "outputs" / name).mkdir(parents=True)
    for step, loss in enumerate(eval_losses, 1):
        append_line(run.folder / "outputs" / "metrics" / "metrics.jsonl", {"step": step, "eval_loss": loss})
    if evaluation is not None:
        losses = {which: {"loss": loss} for which, loss in zip(("base", "tuned"), evaluation, strict=True)}
        write_json(run.folder / "outputs" / "evaluation" / "evaluation.json", {"rows": 9, **losses})
    return run


@pytest.mark.parametrize(
    ("evaluation", "eval_losses", "code"),
    [
        ((2.1, 1.4), (), None),
        ((2.1, 2.15), (), None),  # about where it was
        ((2.1, 10.9), (), "result-worse"),
        ((2.1, float("nan")), (), "result-not-finite"),
        ((0.0, 0.004), (), None),  # right before and after
        ((2.1, 1.4), (1.2, 1.4), None),  # base and tuned model say more than the curve
        (None, (2.1, 10.9), "result-worse"),  # Azure's own training compares no models
        (None, (2.1, 1.4, 1.6), None),
        (None, (2.1, "NaN"), "result-not-finite"),
        (None, (10.9,), None),  # nothing to compare it with
        (None, (), None),
    ],
)
def test_a_held_out_loss_that_ended_above_where_it_began_is_a_warning(
    evaluation: Any, eval_losses: Any, code: str | None, tmp_path: Path
) -> None:
    found = run_with(tmp_path, evaluation, eval_losses).findings()
    assert [(finding.code, finding.severity) for finding in found] == ([(code, "warning")] if code else [])


def test_it_says_by_how_much_and_names_the_rate_that_the_recipe_gave(tmp_path: Path) -> None:
    (finding,) = run_with(tmp_path, (2.1, 10.9), recipe={"training": {"learning_rate": 0.5}}).findings()
    assert "from 2.100 to 10.900" in finding.message
    assert "training.learning_rate (0.5)" in finding.fix


def test_the_best_of_a_run_that_stopped_early_is_not_its_last_loss(tmp_path: Path) -> None:
    recipe = {"training": {"early_stopping_patience": 1}}
    assert run_with(tmp_path, eval_losses=(1.0, 2.0), recipe=recipe).findings() == ()


def test_a_run_that_is_under_way_is_not_judged(tmp_path: Path) -> None:
    run = run_with(tmp_path, eval_losses=(2.1, 10.9))
    run.set_state(RunState.QUEUED)
    assert run.findings() == ()


def test_whoever_looks_at_the_run_sees_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_with(tmp_path, (2.1, 10.9))
    summary = summarize(run)
    assert orjson.loads(orjson.dumps(summary.to_dict()))["findings"][0]["code"] == "result-worse"
    write(results.view(summary))
    assert "1 warning" in (shown := capsys.readouterr().out)
    assert "from 2.100 to 10.900" in shown
    assert "from 2.100 to 10.900" in run._repr_html_()
