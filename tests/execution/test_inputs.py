"""What the SDK lets through and Azure ML refuses after minutes of queue is found before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from azft.execution.graph import Graph, GraphInput, Input, LocalPath, Output, Step, StepOutput, Value, ordered
from azft.execution.inputs import check_graph, problem_with


@pytest.mark.parametrize(
    ("spec", "good", "bad"),
    [
        (
            Input("integer", minimum=0, maximum=9),
            [0, 9, "3", 2.0],
            [-1, 10, 1.5, "1.5", "x", True, "nan", float("inf")],
        ),
        (Input("number", minimum=0), [0, 1e-5, "2e-4", 7], [-1e-9, "x", "nan", "inf", False, "1" * 400]),
        (Input("boolean"), [True, "false", "True"], [1, "yes", ""]),
        (Input("string"), ["plain", "a b; c", ""], ["it's", "a\\b", "two\nlines", "\0"]),
        (Input("string", enum=("a", "b")), ["a"], ["c", "A"]),
        (Input("uri_file"), [], ["text"]),
        (Input("nonsense"), [], ["text"]),
    ],
)
def test_types_ranges_and_enums(spec: Input, good: list[object], bad: list[object]) -> None:
    assert [value for value in good if problem_with(spec, value)] == []  # type: ignore[arg-type]
    assert [value for value in bad if not problem_with(spec, value)] == []  # type: ignore[arg-type]


def test_every_fault_of_a_graph_is_found_at_once(tmp_path: Path) -> None:
    step = Step(
        "one",
        "x",
        inputs={
            "required": Input("integer"),
            "negative": Input("integer", minimum=0),
            "gone": Input("uri_file"),
            "nowhere": Input("uri_folder"),
            "unbound": Input("string"),
            "path_for_text": Input("string"),
            "fine": Input("uri_file"),
            "optional": Input("string", optional=True),
            "defaulted": Input("integer", default=4),
        },
        bindings={
            "negative": Value(-1),
            "gone": LocalPath(tmp_path / "gone"),
            "nowhere": StepOutput("two", "out"),
            "unbound": GraphInput("missing"),
            "path_for_text": LocalPath(tmp_path),
            "fine": GraphInput("data"),
            "optional": GraphInput("missing"),
            "unknown": Value(1),
        },
    )
    (tmp_path / "data").touch()
    graph = Graph({"one": step}, {"data": LocalPath(tmp_path / "data")}, {"final": StepOutput("one", "nothing")})
    codes = sorted(finding.code for finding in check_graph(graph))
    assert codes == sorted(
        [
            "graph-missing-input",
            "graph-bad-input",
            "graph-no-such-path",
            "graph-unknown-output",
            "graph-unbound-input",
            "graph-bad-input",
            "graph-unknown-input",
            "graph-unknown-output",
        ]
    )


def _chain(*edges: tuple[str, str]) -> Graph:
    names = sorted({name for edge in edges for name in edge}, reverse=True)
    return Graph(
        {
            name: Step(
                name,
                "x",
                inputs={f"from_{a}": Input("uri_folder") for a, b in edges if b == name},
                outputs={"out": Output()},
                bindings={f"from_{a}": StepOutput(a, "out") for a, b in edges if b == name},
            )
            for name in names
        }
    )


def test_steps_come_after_what_they_read() -> None:
    graph = _chain(("a", "b"), ("b", "c"), ("a", "d"), ("d", "c"))
    order = [step.name for step in ordered(graph)]
    assert order[0] == "a"
    assert order[-1] == "c"


def test_a_cycle_is_named() -> None:
    findings = check_graph(_chain(("a", "b"), ("b", "a"), ("x", "y")))
    assert [finding.code for finding in findings] == ["graph-cycle"]
    assert "a, b" in findings[0].message
