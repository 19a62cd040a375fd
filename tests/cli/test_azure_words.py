from __future__ import annotations

from typing import Any

import pytest

from azft.cli.azure_words import words
from azft.cli.progress import Plain


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (
            {"event": "workspace", "name": "w", "resource_group": "g", "subscription": "s", "found_by": "flags"},
            "to the workspace w (resource group g, subscription s), found by flags",
        ),
        ({"event": "uploaded", "kind": "data", "name": "d", "bytes": 2048}, "uploaded data d (2.0 KiB)"),
        ({"event": "registering", "job": "j"}, "registering the job's steps"),
        ({"event": "submitting", "job": "j"}, "submitting j"),
        ({"event": "submitted", "job": "j", "studio_url": "https://s"}, "in Azure as j: https://s"),
        ({"event": "submitted", "job": "j", "studio_url": None}, "in Azure as j"),
        ({"event": "compute", "name": "gpu", "vm_size": "NC24"}, "making the cluster gpu of NC24"),
        (
            {"event": "marketplace", "model": "m"},
            "subscribing to m in the marketplace, which accepts the offer's terms",
        ),
        (
            {"event": "waiting", "what": "Reading", "status": 429, "asked": True, "seconds": 17.0, "at_most": False},
            "Reading: Azure asks to wait (429); waiting 17 s",
        ),
        (
            {"event": "waiting", "what": "Making", "status": None, "asked": False, "seconds": 15.5, "at_most": True},
            "Making: no clear answer from Azure; waiting up to 16 s",
        ),
        ({"event": "unreachable", "message": "No answer."}, "No answer. The run goes on; still looking."),
        ({"event": "reachable"}, "Azure answers again."),
        (
            {"event": "model-unchecked", "message": "It may not be read."},
            "It may not be read. Whether the registry has the model, the job will find out.",
        ),
        ({"event": "upload-reused", "kind": "data"}, None),
        ({"event": "step-started", "step": "prepare"}, None),
    ],
)
def test_each_event_has_its_line_or_none(event: dict[str, Any], said: str | None) -> None:
    assert words(event) == said


def test_the_plain_watcher_says_them(capsys: pytest.CaptureFixture[str]) -> None:
    watcher = Plain(follow=False)
    watcher({"event": "submitting", "job": "toy-1"})
    watcher({"event": "reachable"})
    assert capsys.readouterr().err == "submitting toy-1\nAzure answers again.\n"
