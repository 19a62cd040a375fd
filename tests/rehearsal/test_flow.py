"""The whole way, rehearsed: by the command line with real training, and its edges with the parts replaced."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

import azft
from azft import api
from azft.cli import rehearse as cli
from azft.cli.render import Output
from azft.errors import AzftError, FindingsError, JobFailedError, UsageError
from azft.rehearsal import flow, session
from azft.runs import RunStore

GUARD = """
import socket
connect = socket.socket.connect
def guarded(self, address):
    if isinstance(address, tuple) and address[0] not in ("127.0.0.1", "::1", "localhost"):
        raise OSError(f"a rehearsal tried to reach {address[0]}")
    return connect(self, address)
socket.socket.connect = guarded
"""
"""A process without a network, but for this machine."""
RUN = "from azft.cli.main import main; main()"
CLUSTER = "modes.maap.compute=gpu-cluster"
SHORT = ("training.epochs=1", "evaluation.samples=1")
SERVICES = {
    "serverless-finetuning": ("maas", ()),
    "pipeline": ("maap", (CLUSTER, "training.max_steps=3")),
    "system-pipeline": ("maap", (CLUSTER, "modes.maap.pipeline=system", "modes.maap.vm_size=Standard_NC24ads_A100_v4")),
    "finetuning-job": ("maap", (CLUSTER, "modes.maap.pipeline=finetuning")),
}
"""What each service's recipe says."""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def recipe(here: Path) -> Path:
    made = azft.init(here / "bakery")
    train = made.folder / "train.jsonl"
    train.write_bytes(b"".join(train.read_bytes().splitlines(keepends=True)[:40]))
    return made.recipe


def command(here: Path, recipe: Path, service: str, *options: str) -> subprocess.CompletedProcess[str]:
    mode, overrides = SERVICES[service]
    (here / "guard").mkdir()
    (here / "guard" / "sitecustomize.py").write_text(GUARD)
    given = [f"--set={override}" for override in (*SHORT, *overrides)]
    return subprocess.run(
        [sys.executable, "-c", RUN, "submit", str(recipe), "--mode", mode, "--rehearse", *given, *options],
        capture_output=True,
        text=True,
        check=False,
        cwd=here,
        env={**os.environ, "PYTHONPATH": str(here / "guard"), "AZURE_CLIENT_SECRET": "do-not-show-me"},
    )


@pytest.mark.parametrize(
    ("service", "options"),
    [
        pytest.param(
            "serverless-finetuning", (), marks=pytest.mark.slow
        ),  # the notebook goes that way in the fast tests
        pytest.param("pipeline", (), marks=pytest.mark.slow),
        pytest.param("system-pipeline", ("--create-compute",), marks=pytest.mark.slow),
        pytest.param("finetuning-job", (), marks=pytest.mark.slow),
    ],
)
def test_the_command_goes_the_whole_way_and_leaves_nothing(
    here: Path, recipe: Path, service: str, options: tuple[str, ...]
) -> None:
    done = command(here, recipe, service, "-o", "json", *options)
    assert done.returncode == 0, done.stderr[-3000:]
    events = [json.loads(line) for line in done.stdout.splitlines()]
    parts = [(event["part"], event["state"]) for event in events if event["event"] == "rehearsal"]
    assert parts == [(part, state) for part in flow.PARTS for state in ("started", "done")]
    report = events[-1]
    assert (report["event"], report["service"]) == ("result", service)
    assert report["question"].startswith(("Hi", "Hey", "Good", "Do", "What", "11"))
    said = {part["name"]: part["said"] for part in report["parts"]}
    assert "Completed" in said["submit"]
    assert "loss" in said["submit"]
    ended = 2 if options else 1  # the endpoint, and the cluster where azft made it
    assert said["down"].startswith(f"{ended} thing")
    kept = RunStore(here / ".azft" / "rehearsal").list()
    assert [run.name for run in kept] == [report["run"]]
    assert not (here / ".azft" / "runs").exists()
    assert "do-not-show-me" not in done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("service", "model", "kind"), [("system-pipeline", None, "mlflow"), ("pipeline", "Phi-4-mini-instruct", "vllm")]
)
def test_a_classifier_goes_the_whole_way_too(here: Path, service: str, model: str | None, kind: str) -> None:
    made = azft.init(here / "mail", task="text-classification", model=model)
    done = command(here, made.recipe, service, "-o", "json")
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(done.stdout.splitlines()[-1])
    rows = [json.loads(line) for line in (made.folder / "test.jsonl").read_text().splitlines()]
    assert report["question"] == rows[0]["text"]
    assert report["answer"].split()[0] in {row["label"] for row in rows}
    said = {part["name"]: part["said"] for part in report["parts"]}
    assert said["deploy"].startswith(kind)
    assert ("--instance-type" in said["deploy"]) == (model is None), (
        "no registry recommends a machine for a hub's model"
    )
    assert said["down"].startswith("1 thing")


def test_a_person_reads_what_it_is_how_far_it_is_and_what_it_showed_and_did_not(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = azft.plan(recipe, mode="maas")
    report = flow.Report(
        run="bakery-1",
        mode="maas",
        service="serverless-finetuning",
        endpoint="bakery-1-ab",
        question="Open?",
        answer="\x1b[31mYes",
        requests=9,
        home=".azft/rehearsal",
        parts=(),
        shown=("it runs",),
    )

    def rehearse(_: Any, *, create_compute: bool, on_event: Any) -> flow.Report:
        part = {"event": "rehearsal", "part": "submit", "number": 3, "of": 7}
        on_event({**part, "state": "started"})
        on_event({"event": "step-started", "step": "finetune"})
        on_event({**part, "state": "done", "said": "Completed", "seconds": 65.0})
        return report

    monkeypatch.setattr(flow, "rehearse", rehearse)
    assert cli.rehearse(plan, Output(), follow=False, create_compute=False) == 0
    out, err = capsys.readouterr()
    for said in ("This is a rehearsal on this machine", "nothing is billed", "3/7  Submit", "finetune: started"):
        assert said in err
    assert "Completed  (1 min 05 s)" in err
    for said in ("What this showed", "it runs", "What it can't show", "how good the tuned model is", "of a stand-in"):
        assert said in out
    assert "\x1b" not in out


@pytest.mark.parametrize("option", ["--dry-run", "--again", "--no-wait"])
def test_options_that_make_no_sense_with_it_are_refused(here: Path, recipe: Path, option: str) -> None:
    done = command(here, recipe, "serverless-finetuning", option)
    assert done.returncode == 2
    assert "--rehearse goes by itself" in done.stderr


def test_a_run_on_this_machine_has_nothing_to_rehearse(recipe: Path) -> None:
    with pytest.raises(UsageError, match="nothing to rehearse"):
        flow.rehearse(recipe, "local")


def test_a_plan_with_errors_is_refused_before_anything_starts(
    here: Path, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "bakery" / "train.jsonl").write_text('{"messages": []}\n')
    monkeypatch.setattr(session.Rehearsal, "start", lambda _: pytest.fail("it started"))
    with pytest.raises(FindingsError):
        flow.rehearse(recipe, "maas")


def test_a_part_that_fails_ends_it_with_its_own_error_and_gives_everything_back(
    recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failed(*_: Any, **__: Any) -> None:
        raise JobFailedError("Step `finetune` failed: out of memory.", fix="Take less.")

    monkeypatch.setattr(api, "submit", failed)
    before, events = dict(os.environ), []
    with pytest.raises(JobFailedError, match="out of memory"):
        flow.rehearse(recipe, "maas", on_event=events.append)
    assert dict(os.environ) == before
    parts = [(event["part"], event["state"]) for event in events if event["event"] == "rehearsal"]
    assert parts[-1] == ("submit", "started")


def test_something_that_is_left_is_a_failure(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = azft.plan(recipe, mode="maas")
    run = SimpleNamespace(name="bakery-1", state="Completed", progress=lambda: SimpleNamespace(steps={}, losses={}))
    endpoint = SimpleNamespace(
        kind="serverless", name="bakery-1", instance_type=None, instance_count=1, billing="by the hour", hourly=""
    )
    model = SimpleNamespace(reference="bakery:1", type="mlflow_model", registered_by="azft")
    chat = SimpleNamespace(reply=lambda *_, **__: iter(["Yes."]))
    left = SimpleNamespace(items=[SimpleNamespace(words="serverless endpoint bakery-1")])
    replaced = {
        "submit": run,
        "register": model,
        "deploy": endpoint,
        "open_endpoint": chat,
        "down": [],
        "inventory": left,
    }
    for name, value in replaced.items():
        monkeypatch.setattr(api, name, lambda *_, _value=value, **__: _value)
    with pytest.raises(AzftError, match="still there: serverless endpoint bakery-1"):
        flow.rehearse(plan)


PHI, CLUSTER_OF = "Phi-4-mini-instruct", {"compute": "gpu-cluster"}
CHAT = {"talk": [{"role": "user", "content": "Open?"}, {"role": "assistant", "content": "Yes."}]}
SQUAD_ROW = {"question": "Who?", "context": "Jon bakes.", "answers": {"text": ["Jon"], "answer_start": [0]}}


@pytest.mark.parametrize(
    ("pipeline", "task", "columns", "row", "asked"),
    [
        ("azft", "chat-completion", {"messages": "talk"}, CHAT, "Open?"),
        ("azft", "preference-tuning", {}, {"prompt": [{"role": "user", "content": "Open?"}], "chosen": "Yes.",
         "rejected": "No."}, "Open?"),
        ("azft", "translation", {}, {"source": "Brot", "target": "bread"}, {"source": "Brot"}),
        ("azft", "question-answering", {}, {"question": "Who?", "context": "Jon bakes.", "answers": "Jon"},
         {"question": "Who?", "context": "Jon bakes."}),
        ("azft", "text-classification", {}, {"text": "Open?", "label": "hours"}, {"text": "Open?"}),
        ("azft", "text-generation", {}, {"text": "It opens at six."}, {"prompt": "It opens"}),
        ("system", "chat-completion", {}, {"messages": CHAT["talk"]}, "Open?"),
        ("system", "translation", {"source": "de", "target": "en"}, {"de": "Brot", "en": "bread"}, {"source": "Brot"}),
        ("system", "summarization", {}, {"document": "A day.", "summary": "Day"}, {"document": "A day."}),
        ("system", "question-answering", {}, SQUAD_ROW, {"question": "Who?", "context": "Jon bakes."}),
        ("system", "text-generation", {}, {"prompt": "We", "completion": " bake"}, {"prompt": "We"}),
        ("system", "text-generation", {}, {"text": "It opens at six."}, {"prompt": "It opens"}),
        ("finetuning", "text-generation", {}, {"text": "Six."}, {"prompt": "Six."}),
        ("finetuning", "text-classification", {}, {"text": "Open?", "label": "hours"}, {"text": "Open?"}),
        ("system", "token-classification", {}, {"tokens": ["In", "Rome"], "tags": ["O", "B"]},
         {"tokens": ["In", "Rome"]}),
    ],
)  # fmt: skip
def test_each_task_asks_its_served_model_what_its_rows_asked(
    pipeline: str, task: str, columns: dict[str, str], row: dict[str, Any], asked: Any, here: Path
) -> None:
    question = flow.first_question(planned(here, pipeline, task, columns, row))
    assert (question.messages[-1]["content"] if isinstance(asked, str) else question.row) == asked
    texts = [asked] if isinstance(asked, str) else asked.values()
    assert question.shown == "\n".join(" ".join(text) if isinstance(text, list) else text for text in texts)


def planned(here: Path, pipeline: str, task: str, columns: dict[str, str], row: dict[str, Any]) -> azft.Plan:
    """A plan whose rows are all the same."""
    (here / "rows.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for _ in range(12)))
    text = {
        "name": "asks", "task": task, "model": PHI, "modes": {"maap": {**CLUSTER_OF, "pipeline": pipeline}},
        "data": {"train": "rows.jsonl", "columns": columns}, "technique": {"name": "lora"},
    }  # fmt: skip
    (here / "asks.yaml").write_bytes(orjson.dumps(text))
    return azft.plan(here / "asks.yaml", mode="maap")


def test_two_texts_are_not_asked_of_azures_own_server_and_it_is_said(here: Path) -> None:
    row = {"text": "a", "text_pair": "b", "label": "same"}
    plan = planned(here, "system", "text-classification", {}, row)
    assert "one text a row" in flow._why_not_asked(plan, SimpleNamespace())  # type: ignore[arg-type]
    one = planned(here, "system", "text-classification", {}, {"text": "a", "label": "same"})
    assert flow._why_not_asked(one, SimpleNamespace()) == ""  # type: ignore[arg-type]


def test_the_question_is_a_held_out_rows_up_to_its_last_answer(here: Path, recipe: Path) -> None:
    row = {
        "messages": [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": "Open?"},
            {"role": "assistant", "content": "Yes."},
            {"role": "user", "content": "Until when?"},
            {"role": "assistant", "content": "Six."},
        ]
    }
    (here / "bakery" / "validation.jsonl").write_bytes(orjson.dumps(row) + b"\n")
    question = flow.first_question(azft.plan(recipe, mode="maas"))
    assert [message["content"] for message in question.messages] == ["Be kind.", "Open?", "Yes.", "Until when?"]
