"""What the identity may do in the workspace, by ARM's own account: asked before a job needs it.

ARM lists the caller's permissions on a resource as patterns of actions; what matters to a plan is matched against them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from azft.plan import Target

_PROVIDER = "Microsoft.MachineLearningServices/workspaces"
_COMMON = {
    f"{_PROVIDER}/jobs/write": "submit jobs",
    f"{_PROVIDER}/jobs/cancel/action": "cancel jobs",
    f"{_PROVIDER}/data/versions/write": "register data",
}
_BY_SERVICE: dict[str, dict[str, str]] = {
    "pipeline": {
        f"{_PROVIDER}/codes/versions/write": "register code",
        f"{_PROVIDER}/components/versions/write": "register components",
        f"{_PROVIDER}/environments/versions/write": "register environments",
    },
    "system-pipeline": {f"{_PROVIDER}/components/versions/write": "register components"},
    "finetuning-job": {},
    "serverless-finetuning": {f"{_PROVIDER}/serverlessEndpoints/write": "make serverless endpoints, for `azft deploy`"},
}


def needed(target: Target) -> Mapping[str, str]:
    """The actions that a plan needs, each with what it is needed for."""
    found = {**_COMMON, **_BY_SERVICE[target.service]}
    if target.marketplace:
        found[f"{_PROVIDER}/marketplaceSubscriptions/write"] = "subscribe to a model of the marketplace"
    return found


def lacking(target: Target, permissions: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """(action, what it is for) of each that no permission grants."""
    granted = list(permissions)
    for action, purpose in needed(target).items():
        if not any(_grants(permission, action) for permission in granted):
            yield action, purpose


def _grants(permission: Mapping[str, Any], action: str) -> bool:
    allowed = any(_fits(pattern, action) for pattern in permission.get("actions") or ())
    return allowed and not any(_fits(pattern, action) for pattern in permission.get("notActions") or ())


def _fits(pattern: str, action: str) -> bool:
    """ARM's patterns: `*` stands for any text, and case does not matter."""
    expression = ".*".join(re.escape(part) for part in str(pattern).split("*"))
    return re.fullmatch(expression, action, re.IGNORECASE) is not None
