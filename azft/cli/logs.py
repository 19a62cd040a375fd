"""`azft logs`: what a run's steps wrote."""

from __future__ import annotations

import sys
from typing import Any

import click

from azft.cli import options
from azft.cli.render import Output, clean, note
from azft.errors import ExitCode, InterruptedRunError

EPILOG = """\b
Example:
  $ azft logs --latest --step finetune --tail 2
  step 83/84  loss 1.213  9,118 tokens/s
  step 84/84  loss 1.207  9,120 tokens/s

\b
With --follow it goes on until the run ends; the exit code is then 7 when the
run failed. Ctrl-C ends the watching, not the run. While Azure does not answer
it waits: no line is lost or shown twice. A step that was reused wrote
nothing; a line on standard error says which run has its log.
"""


@click.command(epilog=EPILOG)
@options.azure
@options.run
@click.option("--step", help="Only this step's log: prepare, finetune, evaluate, package.")
@click.option("--tail", type=click.IntRange(min=0), metavar="N", help="Only the last N lines of each log.")
@click.option("--follow", "-f", is_flag=True, help="Go on showing new lines until the run ends.")
@options.output
def command(run: Any, access: Any, step: str | None, tail: int | None, follow: bool, output: Output) -> int:
    """Show what a run's steps wrote.

    RUN is a run's name, or the start of it. Lines of several steps carry the step's name.
    """
    try:
        return _show(run, access, step, tail, follow, output)
    except KeyboardInterrupt:
        if not follow:
            raise
        fix = f"Watch again: azft logs {run.name} --follow\nEnd it: azft cancel {run.name}"
        raise InterruptedRunError(f"Stopped watching; run {run.name} is as it was.", fix=fix) from None


def _show(run: Any, access: Any, step: str | None, tail: int | None, follow: bool, output: Output) -> int:
    from azft import api
    from azft.api.running import no_log_of
    from azft.cli import results

    results.refresh(run, access)
    steps, reused = run.log_steps(), api.reused_steps(run, step)
    if step is not None and step not in steps and not follow and not reused:
        raise no_log_of(run, step)
    offsets: dict[str, int] = {}
    lines: list[dict[str, str]] = []
    if not follow:  # else it is told when it happens
        for event in reused:
            note(_reused(event, run.name))
    for name in steps if step is None else [step]:
        found, offsets[name] = run.log(name)
        lines += [{"step": name, "line": line} for line in (found[len(found) - tail :] if tail is not None else found)]
    many = step is None
    if output.is_table and output.query is None:
        for line in lines:
            _write(line, many)
    elif not follow:
        output.show(lines)
        return ExitCode.DONE
    else:
        for line in lines:
            output.stream({"event": "log", **line})
    return _follow(run, access, step, offsets, many, output) if follow else ExitCode.DONE


def _follow(run: Any, access: Any, step: str | None, offsets: dict[str, int], many: bool, output: Output) -> int:
    from azft import api
    from azft.cli.azure_words import words

    def on_lines(line: dict[str, str]) -> None:
        if output.is_table and output.query is None:
            _write(line, many)
            sys.stdout.flush()
        else:
            output.stream({"event": "log", **line})

    def on_event(event: dict[str, Any]) -> None:
        if text := _reused(event, run.name) if event["event"] == "step-reused" else words(event):
            note(text)

    sys.stdout.flush()  # what is known already is shown at once, also in a pipe
    state = api.follow_logs(run, on_lines, step=step, offsets=offsets, on_event=on_event, access=access)
    return ExitCode.DONE if state == "Completed" else ExitCode.JOB_FAILED


def _reused(event: dict[str, Any], run: str) -> str:
    """Why a step has no log here, and where it has one."""
    step, source = event["step"], event.get("source")
    if not source or source == run:
        return f"{step}: reused from an earlier run; nothing it depends on has changed, so it wrote nothing here."
    return f"{step}: reused from {source}; it wrote nothing here. Its log: azft logs {source} --step {step}"


def _write(line: dict[str, str], many: bool) -> None:
    text = clean(line["line"])
    sys.stdout.write(f"{line['step']} | {text}\n" if many else f"{text}\n")
