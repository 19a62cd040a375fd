"""Command templates become the command line that Azure ML would make, and paths never break the shell."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from azft.execution.graph import GraphError
from azft.execution.placeholders import render

NASTY = Path('/tmp/it\'s a "folder" with $HOME `id` \\ and ünïcode & more; x')


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("run ${{inputs.n}} ${{ inputs.text }}", "run 3 plain"),
        ("run $[[--x ${{inputs.unset}}]] end", "run  end"),
        ("run $[[--n ${{inputs.n}}]] end", "run --n 3 end"),
        ("run $[[--n ${{inputs.n}} --x ${{inputs.unset}}]]", "run"),
        ("run $[[--always]]", "run --always"),
        ("a $[[--n\n ${{inputs.n}}]]", "a --n\n 3"),
        ("cat ${{inputs.path}} > ${{outputs.out}}", "cat /data/x.jsonl > /out"),
        ("cat ${{inputs.path.path}}", "cat /data/x.jsonl"),
    ],
)
def test_templates(template: str, expected: str) -> None:
    inputs = {"n": 3, "text": "plain", "unset": None, "path": Path("/data/x.jsonl")}
    assert render(template, inputs, {"out": Path("/out")}) == expected


def test_a_value_that_looks_like_a_placeholder_is_not_expanded_again() -> None:
    assert render("run ${{inputs.a}} ${{inputs.b}}", {"a": "${{inputs.b}}", "b": 1}, {}) == "run ${{inputs.b}} 1"


@pytest.mark.parametrize("template", ["x ${{inputs.unset}}", "x ${{inputs.nowhere}}", "x ${{outputs.nowhere}}"])
def test_a_name_without_a_value_is_an_error(template: str) -> None:
    with pytest.raises(GraphError, match=r"unset|nowhere"):
        render(template, {"unset": None}, {})


@pytest.mark.parametrize("quoted", ["{}", "'{}'", '"{}"', "'x'{}", "x\"y\"'z'{}"])
def test_a_path_reaches_the_program_whole_whatever_is_in_it(quoted: str) -> None:
    template = "printf %s " + quoted.format("${{inputs.path}}")
    command = render(template, {"path": NASTY}, {})
    said = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True).stdout
    assert said.endswith(str(NASTY))
