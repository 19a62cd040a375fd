"""What registering, deploying and ending say while they go on: a line on standard error for each thing that happens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from azft.cli.render import Output, note

OnEvent = Callable[[dict[str, Any]], None]

_WORDS = {
    "compute": "cluster",
    "deployment": "deployment",
    "job": "job",
    "marketplace": "marketplace subscription",
    "online": "online endpoint",
    "serverless": "serverless endpoint",
}


def tell_progress(output: Output) -> OnEvent:
    """A receiver of events that writes them for a person, and is silent for a program."""
    return _tell if output.is_table else lambda _: None


def say(event: dict[str, Any]) -> str | None:
    """The line of an event; None for one that a person need not see."""
    from azft.words import duration

    kind, name = event.get("event"), event.get("name")
    what = f"{_WORDS.get(str(event.get('kind')), event.get('kind'))} {name}"
    if kind == "uploading-model":
        return f"uploading the model in {event['path']}"
    if kind == "model":
        return f"model {event['model']}: {'registered' if event['created'] else 'registered already'}"
    if kind == "marketplace":
        return f"subscribing to {event['model']} in Azure's marketplace: this accepts the offer's terms"
    if kind == "state":
        seconds = float(event["seconds"])
        return f"{what}: {event['state']}" + (f" after {duration(seconds)}" if seconds >= 1 else "")
    if kind == "environment":
        return f"environment {name}: registered; Azure builds its image for the first deployment, which takes a while"
    if kind == "finding":
        return f"{event['message']} {event['fix']}".strip()
    if kind == "ending":
        return f"{what}: asked to end"
    if kind == "ended":
        return f"{what}: ended"
    if kind == "not-ended":
        return f"{what}: NOT ended. {event['why']}"
    return None


def _tell(event: dict[str, Any]) -> None:
    line = say(event)
    if line is not None:
        note(line)
