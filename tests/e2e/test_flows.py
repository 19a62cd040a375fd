"""From a recipe to an answer and back: the whole way, for each of the four kinds of job, as a person goes it."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tests.e2e.world import FINETUNING, SYSTEM, Person, name_of

PIPELINES = ("system",)


@dataclass(frozen=True)
class Kind:
    """One of the four, and what is to be seen of it."""

    name: str
    mode: str
    options: tuple[str, ...]
    service: str
    model: str
    """The output that becomes the model."""
    holds: str
    """A file of it."""
    model_type: str
    endpoint: str
    steps: tuple[str, ...] = ("finetune",)


MAAS = Kind(
    "maas", "maas", (), "Azure's serverless fine-tuning", "registered_model", "MLmodel", "mlflow_model", "serverless"
)
OWN = Kind(
    "azft", "maap", (), "azft's pipeline", "packaged", "model.safetensors", "custom_model", "vllm",
    steps=("prepare", "finetune", "evaluate", "package"),
)  # fmt: skip
REGISTRYS = Kind(
    "system", "maap", SYSTEM, "the registry's pipeline", "trained_model", "MLmodel", "mlflow_model", "mlflow"
)
JOB = Kind(
    "finetuning", "maap", FINETUNING, "a fine-tuning job", "registered_model", "MLmodel", "mlflow_model", "mlflow"
)


@pytest.mark.parametrize(
    # The fast tier goes the way of maas by its rehearsal and its notebook.
    "kind", [OWN, *(pytest.param(kind, marks=pytest.mark.slow) for kind in (MAAS, REGISTRYS, JOB))],
    ids=lambda kind: kind.name,
)  # fmt: skip
def test_from_a_recipe_to_an_answer_and_back(person: Person, kind: Kind) -> None:
    cloud = person.cloud
    assert cloud is not None
    how = ("recipe.yaml", "--mode", kind.mode, *kind.options)

    # Before anything is sent.
    person.azft("check")
    asked = cloud.during(lambda: person.azft("plan", *how, "--out", "plan.json"))
    assert asked == []
    shown = person.azft("plan", *how)
    assert kind.service in shown.out
    assert "What is billed" in shown.out

    # Sent once, watched to the end.
    sent = person.azft("submit", "plan.json", "--no-wait")
    run = name_of(sent)
    assert f"azft logs {run} --follow" in sent.err
    log = person.azft("logs", run, "--follow")
    assert "step 3/3  loss" in log.out
    status = person.json("status", run)
    assert (status["state"], status["mode"], status["training"]["step"]) == ("Completed", kind.mode, 3)
    steps = {event["step"] for event in _events(person, run) if event["event"] == "step-finished"}
    assert steps == set(kind.steps)
    assert cloud.jobs()[run] == "Completed"

    # The same plan again, and the same recipe again, are that run: nothing is uploaded or started.
    for again in (("plan.json",), how):
        requests = cloud.during(lambda again=again: _same(person, run, *again))  # type: ignore[misc]
        assert not [entry for entry in requests if entry.startswith(("PUT", "DELETE", "PATCH"))], requests

    # What came out.
    outputs = {row["name"] for row in person.json("outputs", run)}
    assert kind.model in outputs
    person.azft("outputs", run, kind.model, "--download", "here")
    assert list((person.folder / "here" / kind.model).rglob(kind.holds))

    # Registered, served, asked.
    model = person.json("register", run)
    assert model["type"] == kind.model_type
    assert person.json("register", run)["version"] == model["version"]
    deployed = person.json("deploy", run)
    assert (deployed["kind"], deployed["state"]) == (kind.endpoint, "Succeeded")
    assert any(deployed["name"] in entry for entry in cloud.bills())
    answer = person.json("chat", "--endpoint", deployed["name"], "--prompt", "Do you have loaf 7?", "--max-tokens", "8")
    assert isinstance(answer["answer"], str)

    # Nothing is left that bills.
    listed = person.azft("down", "--dry-run")
    assert deployed["name"] in listed.out
    assert "billed by the hour" in listed.out
    assert any(deployed["name"] in entry for entry in cloud.bills())
    person.azft("down", run, "--yes")
    assert not [entry for entry in cloud.bills() if run in entry]
    assert deployed["name"] not in person.azft("down", "--dry-run").out


def _same(person: Person, run: str, *what: str) -> None:
    assert name_of(person.azft("submit", *what)) == run


def _events(person: Person, run: str) -> list[dict[str, str]]:
    import json

    lines = (person.folder / ".azft" / "runs" / run / "events.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]
