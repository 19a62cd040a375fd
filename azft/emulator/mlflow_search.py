"""MLflow's search language for runs, as far as clients use it: comparisons joined by `and`."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import Any

_COMPARISON = re.compile(
    r"(?:(?P<kind>attributes?|attr|run|tags?|params?|parameters?|metrics?)\.)?(?P<name>`[^`]+`|\"[^\"]+\"|[\w.-]+)\s*"
    r"(?P<operator><=|>=|!=|=|<|>|\bilike\b|\blike\b)\s*(?P<value>'[^']*'|\"[^\"]*\"|[-+.\w]+)",
    re.IGNORECASE,
)
_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_ATTRIBUTES = {"run_name": "run_name", "run name": "run_name", "created": "start_time"}

Run = dict[str, Any]


def select(runs: list[Run], text: str) -> list[Run]:
    """The runs (in MLflow's JSON form) that a filter fits. Raises ValueError for one that is not understood."""
    tests = [_test(part) for part in re.split(r"\s+and\s+", text.strip(), flags=re.IGNORECASE)] if text.strip() else []
    return [run for run in runs if all(test(run) for test in tests)]


def _test(text: str) -> Callable[[Run], bool]:
    match = _COMPARISON.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"The filter {text!r} is not understood.")
    kind = (match["kind"] or "attribute").lower()
    name = match["name"].strip('`"')
    wanted = match["value"].strip("'\"")
    sign = match["operator"].lower()

    def test(run: Run) -> bool:
        found = _value(run, kind, name)
        if found is None:
            return sign == "!="
        if sign in {"like", "ilike"}:
            pattern = re.escape(wanted).replace("%", ".*").replace("_", ".")
            return re.fullmatch(pattern, str(found), re.IGNORECASE if sign == "ilike" else 0) is not None
        if isinstance(found, int | float):
            return _OPERATORS[sign](float(found), float(wanted))
        return _OPERATORS[sign](str(found), wanted)

    return test


def _value(run: Run, kind: str, name: str) -> Any:
    if kind in {"attribute", "attributes", "attr", "run"}:
        return run["info"].get(_ATTRIBUTES.get(name, name))
    group = {"t": "tags", "p": "params", "m": "metrics"}[kind[0]]
    return next((entry["value"] for entry in run["data"][group] if entry["key"] == name), None)
