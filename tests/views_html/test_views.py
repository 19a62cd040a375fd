"""What a notebook shows of azft's objects: well-formed, self-contained, and never somebody else's markup."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import orjson
import pytest

import azft
from azft.data.check import DataReport, FileSummary
from azft.data.preview import PreviewReport, PreviewRow, Segment
from azft.errors import FindingsError
from azft.findings import Finding, Severity
from azft.machine import Extra
from azft.plan import Plan, Target
from azft.runs import Run, RunState, RunStore
from azft.views_html.parts import Html, element, facts, table, text

HOSTILE = "</td></mark><script>alert(1)</script><img src=x onerror=alert(2)>\"'&amp;\x1b[31m\u202e\ud800$x$"
VOID = {"br"}
ALLOWED = {
    "br", "caption", "code", "details", "div", "li", "mark", "p", "span", "style", "summary", "table", "tbody", "td",
    "th", "thead", "tr", "ul",
}  # fmt: skip


class Page(HTMLParser):
    """Reads a page, holds on to what is in it, and fails on a tag that isn't closed in its turn."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data


def read(thing: Any) -> Page:
    """The page of an object, after what holds for every page was looked at."""
    html = thing._repr_html_()
    html.encode("utf-8")  # a lone half of a pair could not be sent to a browser
    page = Page(html)
    assert page.tags <= ALLOWED
    assert not [name for name, _ in page.attributes if name.startswith("on") or name in {"src", "href", "style"}]
    assert not re.search(r"url\(|@import|https?:", html)
    assert "\x1b" not in html
    assert "\u202e" not in html
    assert ("class", "azft tex2jax_ignore mathjax_ignore") in page.attributes  # or $x$ would be set as a formula
    return page


def finding(message: str = HOSTILE) -> Finding:
    return Finding("data-empty-content", Severity.ERROR, message, HOSTILE, HOSTILE, 3)


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return azft.plan(azft.init(tmp_path / "bakery").recipe)


@pytest.fixture
def run(plan: Plan, tmp_path: Path) -> Run:
    return RunStore(tmp_path / ".azft").create("bakery-1", plan=plan.model_dump(mode="json"), recipe=plan.recipe)


def test_a_finding_shows_its_text_and_never_its_markup() -> None:
    page = read(finding())
    assert "<script>alert(1)</script>" in page.text
    assert r"\x1b[31m" in page.text
    assert r"\u202e" in page.text
    assert "1 error" in page.text


def test_a_recipe_shows_what_it_says_and_not_its_defaults(tmp_path: Path) -> None:
    scaffold = azft.init(tmp_path / "<b>bakery")
    said = HOSTILE.replace("\ud800", "").replace('"', "").replace("'", "").replace("\x1b", "").replace("$x$", "")
    overrides = ["training.epochs=7", f"description='{said}'"]
    page = read(azft.load_recipe(scaffold.recipe, overrides=overrides))
    assert "epochs=7" in page.text
    assert "<b>bakery" in page.text
    assert "<script>alert(1)</script>" in page.text
    assert "weight_decay" not in page.text


def test_the_machine_shows_what_is_missing() -> None:
    machine = azft.doctor()
    without = Extra("train", "training", {}, ("torch <b>",))
    page = read(replace(machine, extras=(*machine.extras, without), findings=(finding(),)))
    assert "Python" in page.text
    assert "missing torch <b>" in page.text
    assert "1 error" in page.text


def test_the_check_shows_files_and_findings_errors_first() -> None:
    warning = Finding("data-duplicate", Severity.WARNING, "Twice.", file="train.jsonl", line=9)
    files = (FileSummary("train", Path(f"/data/{'<b>x'}.jsonl"), 1204, 3 << 20, "", {}),)
    page = read(DataReport((warning, finding("Empty.")), files))
    assert "1,204" in page.text
    assert "3.0 MiB" in page.text
    assert "<b>x.jsonl" in page.text
    assert page.text.index("Empty.") < page.text.index("Twice.")


def test_the_preview_marks_what_is_learned() -> None:
    row = PreviewRow(2, (Segment(f"given {HOSTILE}", in_loss=False), Segment("learned", in_loss=True)), 9, 4)
    report = PreviewReport("train.jsonl", (row, PreviewRow(3, (), 0, 0, finding())), 512, ())
    page = read(report)
    assert "<mark>learned</mark>" in report._repr_html_()
    assert "9 tokens, 4 in the loss" in page.text
    assert "2 rows: 9 tokens, 4 of them (44%) in the loss." in page.text
    assert page.text.count("<script>") == 4  # in the row, and in the finding's place, message and fix


def test_a_preview_of_an_endless_row_stays_light() -> None:
    row = PreviewRow(1, (Segment("x" * 5_000_000, in_loss=False), Segment("y" * 5_000_000, in_loss=True)), 9, 4)
    html = PreviewReport("train.jsonl", (row,), 512, ())._repr_html_()
    assert len(html) < 40_000
    assert "characters more" in html


def test_a_plan_says_what_runs_and_shouts_that_it_is_a_stand_in(plan: Plan) -> None:
    page = read(plan)
    assert plan.run_name in page.text
    assert "stand-in" in page.text
    assert "nothing is billed" in page.text
    assert "learning_rate=" in page.text
    assert plan.trainable is not None
    assert f"lora, rank 16: {plan.trainable.words} of the stand-in" in page.text
    unknown = plan.model_copy(update={"trainable": None})
    assert "lora, rank 16: how many weights, the log says when training starts" in read(unknown).text


def test_a_plan_for_azure_says_where_what_is_sent_and_what_is_billed(plan: Plan) -> None:
    target = Target(
        service="finetuning-job",
        model_id="azureml://registries/azureml/models/Phi-4-mini-instruct/labels/latest",
        compute=HOSTILE,
        hyperparameters={"num_train_epochs": "3", HOSTILE: HOSTILE},
        uploads=({"kind": "data", "name": "azft-data-1", "bytes": 2048, "sha256": "", "there": None},),  # type: ignore[arg-type]
        bills=(HOSTILE,),
    )
    page = read(plan.model_copy(update={"mode": "maap", "target": target}))
    for said in ("labels/latest", "num_train_epochs", "2.0 KiB", "What is billed", "alert(1)"):
        assert said in page.text


def test_a_run_shows_its_state_its_steps_and_what_came_of_it(run: Run) -> None:
    run.set_state(RunState.FAILED, step="finetune", message=HOSTILE.replace("\ud800", ""), fix="Do this.")
    run.add_event({"event": "step-finished", "step": "prepare", "seconds": 2.0})
    run.add_event({"event": "step-started", "step": "finetune"})
    metrics = run.folder / "outputs" / "metrics" / "metrics.jsonl"
    metrics.parent.mkdir(parents=True)
    metrics.write_bytes(orjson.dumps({"step": 4, "total_steps": 9, "loss": 1.5}) + b"\n")
    evaluation = run.folder / "outputs" / "evaluation"
    evaluation.mkdir()
    (evaluation / "evaluation.json").write_bytes(
        orjson.dumps({"rows": 24, "base": {"loss": 7.25}, "tuned": {"loss": 1.0}})
    )
    (evaluation / "samples.jsonl").write_bytes(
        orjson.dumps({"prompt": "<p>", "base": "??", "tuned": HOSTILE.replace("\ud800", ""), "reference": "yes"})
        + b"\n"
    )
    page = read(run)
    for said in ("Failed", "Do this.", "prepare", "done", "running", "waiting", "step 4 of 9, loss 1.500", "7.250"):
        assert said in page.text
    assert "On 24 held-out rows" in page.text


@pytest.mark.parametrize(
    ("link", "followed"), [("https://ml.azure.com/runs/x?a=1&b=2", True), ("javascript:alert(1)", False)]
)
def test_a_run_elsewhere_links_to_its_studio_page_and_to_nothing_else(run: Run, link: str, followed: bool) -> None:
    (run.folder / "azure.json").write_bytes(orjson.dumps({"studio_url": link}))
    page = Page(run._repr_html_())
    assert ("a" in page.tags) is followed
    assert (("href", link) in page.attributes) is followed


def test_tables_have_captions_and_headers_for_whoever_cannot_see_them() -> None:
    html = table("Files", ("name", "size"), [("a", 1)], numbers=("size",))
    assert "<caption>Files</caption>" in html
    assert '<th scope="col">name</th>' in html
    assert '<th scope="row">a</th>' in html
    assert '<td class="azft-number">1</td>' in html
    assert '<th scope="row">k</th>' in facts([("k", "v")])


def test_only_what_is_html_goes_in_as_it_is() -> None:
    assert element("p", Html("<br>")) == "<p><br></p>"
    assert element("p", "<br>", title='"<') == '<p title="&quot;&lt;">&lt;br&gt;</p>'
    assert text("a\ufeffb\x00") == r"a\ufeffb\x00"


def test_an_error_in_a_notebook_is_its_message_and_not_a_traceback() -> None:
    lines = FindingsError("Two things are wrong.", [finding("First.")], fix="Mend them.")._render_traceback_()
    assert lines[0] == "FindingsError: Two things are wrong.\nMend them."
    assert "First." in lines[1]
