"""Azure's own server for models that are asked with rows: what it takes by `MLmodel`, refuses and answers."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from azft.emulator import Emulator
from azft.emulator.http import ApiError
from azft.emulator.scoring import score, served_model

SERVER = """
import json, sys
for line in sys.stdin:
    request = json.loads(line)
    texts = list(request["row"].values())
    told = json.loads(sys.argv[1])
    if "text" in told:
        told = {"text": f" {told['text']} {request['max_tokens']} {request['temperature']}"}
    print(json.dumps({"error": "too hard"} if texts == ["hard"] else {"told": told, "asked": texts}), flush=True)
"""
NAMED = [{"name": "input_string", "type": "string"}]
PAIR = [{"name": "question", "type": "string"}, {"name": "context", "type": "string"}]
PLAIN = [{"type": "string"}]


def model(folder: Path, task: str, flavor: str = "hftransformersv2", inputs: Any = None) -> Path:
    """A folder with an MLmodel alone."""
    key = "task" if flavor == "transformers" else "task_type"
    described: dict[str, Any] = {"flavors": {flavor: {key: task}}}
    if inputs is not None:
        described["signature"] = {"inputs": json.dumps(inputs)}
    folder.mkdir(exist_ok=True)
    (folder / "MLmodel").write_text(json.dumps(described))  # JSON is YAML
    return folder


def asked(emu: Emulator, folder: Path, told: dict[str, Any], input_data: Any, **more: Any) -> list[Any]:
    """What a model that tells this answers to a request."""
    (folder / "server.py").write_text(SERVER)
    command = [sys.executable, str(folder / "server.py"), json.dumps(told)]
    emu.settings = emu.settings.changed({"server_command": command})
    served = served_model(folder)
    assert served is not None
    return score(emu, folder, served, {"input_data": input_data, **more})


def table(columns: list[str], *rows: list[Any]) -> dict[str, Any]:
    return {"columns": columns, "index": list(range(len(rows))), "data": list(rows)}


LABEL = {"label": "joy", "score": 0.75}
TAGS = {"tags": ["O", "B-LOC"]}
TEXT = {"text": "bread"}


@pytest.mark.parametrize(
    ("task", "inputs", "told", "given", "answer"),
    [
        ("text-classification", NAMED, LABEL, table(["input_string"], ["So good."]), [{"0": "joy"}]),
        ("text-classification", NAMED, LABEL, table(["input_string"], ["a"], ["b"]), [{"0": "joy"}] * 2),
        ("text-classification", None, LABEL, {"input_string": ["So good."]}, [{"0": "joy"}]),
        ("text-classification", None, {"labels": [LABEL]}, {"inputs": {"text": ["x"]}}, [{"0": "['joy']"}]),
        ("token-classification", NAMED, TAGS, table(["input_string"], ["In Rome"]), [{"0": "['O', 'B-LOC']"}]),
        ("question-answering", PAIR, {"answer": "Rome"}, table(["question", "context"], ["Where?", "In Rome."]),
         [{"0": "Rome"}]),
        ("translation", NAMED, TEXT, table(["input_string"], ["Brot"]), [{"0": " bread 64 0.0"}]),
        ("summarization", None, TEXT, {"input_string": ["x"], "parameters": {"max_new_tokens": 7}},
         [{"0": " bread 7 0.0"}]),
        ("text-generation", None, TEXT,
         {"input_string": ["Once"], "parameters": {"return_full_text": False, "temperature": 2, "do_sample": True}},
         [{"0": " bread 64 2.0"}]),
        ("text-generation", None, TEXT, {"input_string": ["Once"]}, [{"0": "Once bread 64 0.0"}]),
    ],
)  # fmt: skip
def test_azures_own_flavor_takes_tables_and_lists_and_answers_a_column_without_a_name(
    core: Emulator, tmp_path: Path, task: str, inputs: Any, told: dict[str, Any], given: Any, answer: list[Any]
) -> None:
    assert asked(core, model(tmp_path / "model", task, inputs=inputs), told, given) == answer


@pytest.mark.parametrize(
    ("task", "inputs", "told", "given", "params", "answer"),
    [
        ("text-classification", PLAIN, LABEL, ["So good."], {}, [LABEL]),
        ("token-classification", PLAIN, TAGS, ["In Rome"], {}, ["B-LOC"]),
        ("question-answering", PAIR, {"answer": "Rome"}, {"question": "Where?", "context": "In Rome."}, {}, ["Rome"]),
        ("translation", PLAIN, TEXT, ["Brot", "Milch"], {}, [" bread 64 0.0"] * 2),
        ("text-generation", PLAIN, TEXT, ["Once"], {"max_new_tokens": 3, "return_full_text": False}, [" bread 3 0.0"]),
    ],
)
def test_mlflows_own_flavor_takes_texts_and_answers_texts_or_labels_with_scores(
    core: Emulator, tmp_path: Path, task: str, inputs: Any, told: dict[str, Any], given: Any, params: Any, answer: Any
) -> None:
    folder = model(tmp_path / "model", task, "transformers", inputs)
    assert asked(core, folder, told, given, params=params) == answer


@pytest.mark.parametrize(
    ("flavor", "inputs", "given", "words"),
    [
        ("hftransformersv2", NAMED, {"input_string": ["x"]}, "unexpected key"),
        ("hftransformersv2", NAMED, table(["text"], ["x"]), "missing inputs"),
        ("hftransformersv2", NAMED, table(["input_string"]), "no row"),
        ("hftransformersv2", NAMED, table(["input_string"], [3]), "needs the texts"),
        ("hftransformersv2", NAMED, ["x"], "must be a table"),
        ("hftransformersv2", NAMED, None, "must be a table"),
        ("hftransformersv2", None, ["x"], "does not support List"),
        ("hftransformersv2", None, {"input_string": "x"}, "must be a list"),
        ("hftransformersv2", None, {"input_string": ["x"], "parameters": {"max_new_tokens": "many"}}, "no number"),
        ("transformers", PLAIN, table(["input_string"], ["x"]), "Expected: <class 'list'>"),
        ("transformers", PLAIN, [], "no row"),
    ],
)
def test_what_the_server_cant_read_is_refused(
    core: Emulator, tmp_path: Path, flavor: str, inputs: Any, given: Any, words: str
) -> None:
    with pytest.raises(ApiError, match=words) as caught:
        asked(core, model(tmp_path / "model", "text-classification", flavor, inputs), LABEL, given)
    assert caught.value.status == 400


def test_columns_of_two_lengths_are_refused(core: Emulator, tmp_path: Path) -> None:
    folder = model(tmp_path / "model", "question-answering")
    with pytest.raises(ApiError, match="same length"):
        asked(core, folder, {"answer": ""}, {"question": ["a"], "context": ["b", "c"]})


def test_a_model_that_fails_says_so(core: Emulator, tmp_path: Path) -> None:
    folder = model(tmp_path / "model", "text-classification")
    with pytest.raises(ApiError, match="too hard") as caught:
        asked(core, folder, LABEL, {"input_string": ["hard"]})
    assert caught.value.status == 424


def test_mlflows_own_flavor_fails_on_a_text_without_an_entity(core: Emulator, tmp_path: Path) -> None:
    folder = model(tmp_path / "model", "token-classification", "transformers", PLAIN)
    with pytest.raises(ApiError, match="out of range"):
        asked(core, folder, {"tags": ["O", "O"]}, ["So good."])


@pytest.mark.parametrize("task", ["chat-completion", "fill-mask", ""])
def test_other_models_are_asked_in_conversation(tmp_path: Path, task: str) -> None:
    assert served_model(model(tmp_path / "model", task)) is None
    (tmp_path / "model" / "MLmodel").write_text("flavors: {sklearn: {}}\n")
    assert served_model(tmp_path / "model") is None
    (tmp_path / "model" / "MLmodel").unlink()
    assert served_model(tmp_path / "model") is None
