"""Classification, named entities and answers in a context through every step, up to what transformers makes of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson
import pytest
import torch

from azft.asking import row_of
from azft.data.dataset import open_dataset
from azft.data.model_folder import reading_class
from azft.data.prepare import prepare
from azft.errors import UsageError
from azft.parameters import EvaluateParameters, FinetuneParameters, PackageParameters, PrepareParameters
from azft.recipe import Recipe
from azft.training import adapters
from azft.training.devices import arithmetic
from azft.training.evaluate import evaluate, measure
from azft.training.finetune import finetune
from azft.training.generate import load_chat
from azft.training.label_metrics import entities
from azft.training.models import load_model
from azft.training.objectives import OBJECTIVES
from azft.training.package import package
from azft.training.snapshot import seed_everything
from azft.training.stand_in import SpecialTokens, StandInSpec, make

PEOPLE = ("Anna", "Berg", "Silva", "Tom")
PLACES = ("Paris", "London", "Rome")
FULL: dict[str, Any] = {"name": "full"}
LORA = {"name": "lora", "rank": 8, "alpha": 16}


def sentence(number: int) -> tuple[list[str], list[str]]:
    person, place = PEOPLE[number % 4], PLACES[number % 3]
    words = (f"{person} Keller lives in {place} .", f"In {place} we met {person} Keller .")[number % 2].split()
    tags = {person: "B-PER", "Keller": "I-PER", place: "B-LOC"}
    return words, [tags.get(word, "O") for word in words]


def row(task: str, number: int) -> dict[str, Any]:
    words, tags = sentence(number)
    if task == "token-classification":
        return {"tokens": words, "tags": tags}
    text, place = " ".join(words), PLACES[number % 3]
    if task == "question-answering":
        return {
            "question": "Which town?",
            "context": f"{text} It rained.",
            "answers": {"text": [place], "answer_start": [text.index(place)]},
        }
    if task == "several":
        return {"text": text, "labels": [place] if number % 2 else [place, "lives"]}
    return {"text": text, "text_pair": "It rained.", "label": place}


CASES = {
    "class": ("text-classification", "text-classification", LORA, "BertModel"),
    "class-by-a-decoder": ("text-classification", "text-classification", LORA, "LlamaForCausalLM"),
    "classes": ("text-classification", "several", FULL, "RobertaForMaskedLM"),
    "tag": ("token-classification", "token-classification", LORA, "BertForMaskedLM"),
    "span": ("question-answering", "question-answering", LORA, "BertForMaskedLM"),
}


def small(folder: Path, rows: Path, architecture: str) -> Path:
    """A stand-in, small enough for a test."""
    special = {"bos": "[CLS]", "eos": "[SEP]", "pad": "[PAD]", "stop": "[SEP]"}
    spec = StandInSpec(
        architecture=architecture,
        chat_template=None,
        special_tokens=SpecialTokens.model_validate(special),
        data=rows,
        data_sha256="",
        hidden_size=64,
        intermediate_size=96,
        heads=4,
        context_length=64,
    )
    make(spec, folder)
    return folder


@pytest.fixture(scope="module", params=CASES)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """The case, and a folder with what the four steps leave."""
    return request.param, four_steps(tmp_path_factory.mktemp(request.param), *CASES[request.param])


def four_steps(folder: Path, task: str, kind: str, technique: dict[str, Any], architecture: str) -> Path:
    """The folder, with what prepare, finetune, evaluate and package leave in it."""
    for split, numbers in (("train", range(20)), ("test", range(20, 26))):
        lines = "".join(json.dumps(row(kind, number)) + "\n" for number in numbers)
        (folder / f"{split}.jsonl").write_text(lines)
    base = small(folder / "base", folder / "train.jsonl", architecture)
    recipe = Recipe.model_validate(
        {
            "name": "reader",
            "task": task,
            "model": "tiny",
            "data": {"train": "train.jsonl", "test": "test.jsonl"},
            "technique": technique,
            "training": {
                "max_length": 40,
                "epochs": 10,
                "global_batch_size": 4,
                "learning_rate": 1e-3 if architecture == "LlamaForCausalLM" else 5e-3,
                "precision": "fp32",
                "packing": True,
            },
        }
    )
    output = folder / "dataset"
    files = {split: folder / f"{split}.jsonl" for split in ("train", "test")}
    prepare(PrepareParameters.of(recipe), model=base, output=output, progress=lambda _: None, **files)
    finetune(
        FinetuneParameters.of(recipe),
        model=base,
        dataset=output,
        trained=folder / "trained",
        checkpoints=folder / "checkpoints",
        metrics=folder / "metrics",
    )
    steps: dict[str, Any] = {"model": base, "trained": folder / "trained"}
    evaluate(EvaluateParameters.of(recipe), dataset=output, output=folder / "evaluation", **steps)
    package(PackageParameters.of(recipe), evaluation=folder / "evaluation", output=folder / "packaged", **steps)
    return folder


def samples_of(folder: Path) -> list[dict[str, str]]:
    return [orjson.loads(line) for line in (folder / "evaluation" / "samples.jsonl").read_bytes().splitlines()]


def test_it_learned_and_the_figures_say_so(made: tuple[str, Path]) -> None:
    case, folder = made
    found = orjson.loads((folder / "evaluation" / "evaluation.json").read_bytes())
    best = {"classes": "f1_micro", "tag": "f1", "span": "f1"}.get(case, "accuracy")
    assert found["tuned"]["loss"] < 0.6 * found["base"]["loss"]
    assert found["tuned"][best] > found["base"][best]
    assert found["tuned"][best] > 0.7
    assert found["rows"] == 6
    card = (folder / "packaged" / "README.md").read_text()
    assert f"| {best.replace('_', ' ')} |" in card
    assert f"pipeline_tag: {CASES[case][0]}" in card


def test_the_base_model_is_measured_with_the_head_that_training_began_with(made: tuple[str, Path]) -> None:
    _, folder = made
    rows = open_dataset(folder / "dataset", "test")
    seed_everything(42)
    begun = load_model(folder / "base", dtype=torch.float32, **OBJECTIVES[rows.objective].loading(rows.labels))
    found = orjson.loads((folder / "evaluation" / "evaluation.json").read_bytes())
    loss = measure(begun, rows, arithmetic("fp32", torch.device("cpu")))["loss"]
    assert found["base"]["loss"] == pytest.approx(loss, rel=1e-6)


def test_the_packaged_model_is_the_one_that_was_measured(made: tuple[str, Path]) -> None:
    _, folder = made
    rows = open_dataset(folder / "dataset", "test")
    numbers = arithmetic("fp32", torch.device("cpu"))
    packaged = load_model(folder / "packaged", **OBJECTIVES[rows.objective].loading(rows.labels))
    found = orjson.loads((folder / "evaluation" / "evaluation.json").read_bytes())
    assert measure(packaged, rows, numbers)["loss"] == pytest.approx(found["tuned"]["loss"], rel=1e-4)


def test_an_adapter_brings_its_head_along(made: tuple[str, Path]) -> None:
    case, folder = made
    if CASES[case][2] is FULL:
        pytest.skip("nothing but a whole model")
    rows = open_dataset(folder / "dataset", "test")
    seed_everything(1)  # another head than training's
    base = load_model(folder / "base", dtype=torch.float32, **OBJECTIVES[rows.objective].loading(rows.labels))
    tuned = adapters.attach(base, folder / "packaged" / "adapter")
    found = orjson.loads((folder / "evaluation" / "evaluation.json").read_bytes())
    loss = measure(tuned, rows, arithmetic("fp32", torch.device("cpu")))["loss"]
    assert loss == pytest.approx(found["tuned"]["loss"], rel=1e-5)


def test_plain_transformers_tells_what_the_samples_say(made: tuple[str, Path]) -> None:
    from transformers import AutoModelForQuestionAnswering, AutoTokenizer, pipeline

    case, folder = made
    packaged = str(folder / "packaged")
    samples = samples_of(folder)
    assert len(samples) == 3
    rows = [json.loads(line) for line in (folder / "test.jsonl").read_text().splitlines()]
    for sample, data in zip(samples, rows, strict=False):
        if case.startswith("class"):
            ask = pipeline("text-classification", packaged)
            pair = {"text": data["text"], "text_pair": data["text_pair"]} if "text_pair" in data else data["text"]
            scores = ask(pair, top_k=None)
            if case == "classes":
                told = {one["label"] for one in scores if one["score"] > 0.5}
                assert told == set(sample["tuned"].split(", ")) - {"(none)"}
                assert set(data["labels"]) == set(sample["reference"].split(", "))
            else:
                assert max(scores, key=lambda one: one["score"])["label"] == sample["tuned"]
                assert sample["reference"] == data["label"]
        elif case == "tag":
            words, text, place, tags = data["tokens"], " ".join(data["tokens"]), 0, []
            told = pipeline("token-classification", packaged)(text)
            for word in words:
                reaching = [one["entity"] for one in told if one["start"] <= place < one["end"]]
                tags.append(reaching[0] if reaching else "O")
                place += len(word) + 1
            shown = [f"{kind} {' '.join(words[first : last + 1])}" for kind, first, last in entities(tags)]
            assert "; ".join(shown) == sample["tuned"]
            assert sample["prompt"] == text
        else:
            tokenizer = AutoTokenizer.from_pretrained(packaged)
            model = AutoModelForQuestionAnswering.from_pretrained(packaged)
            ids = tokenizer(data["question"], data["context"], return_tensors="pt")
            with torch.no_grad():
                output = model(**ids)
            first, last = int(output.start_logits.argmax()), int(output.end_logits.argmax())
            assert tokenizer.decode(ids["input_ids"][0, first : last + 1]).strip() == sample["tuned"].strip()
            assert sample["reference"] == data["answers"]["text"][0]


def test_asked_a_row_it_tells_what_evaluation_saw(made: tuple[str, Path]) -> None:
    case, folder = made
    model = load_chat(folder / "packaged")
    rows = [json.loads(line) for line in (folder / "test.jsonl").read_text().splitlines()]
    for sample, data in zip(samples_of(folder), rows, strict=False):
        answer = model.ask({name: data[name] for name in model.reads if name in data})
        told = answer.told
        if case.startswith("class"):
            said = told.get("labels", [told])
            assert {one["label"] for one in said} == set(sample["tuned"].split(", ")) - {"(none)"}
            assert all(0 < one["score"] <= 1 for one in said)
        elif case == "tag":
            assert told["tokens"] == data["tokens"]
            words = data["tokens"]
            shown = [f"{kind} {' '.join(words[first : last + 1])}" for kind, first, last in entities(told["tags"])]
            assert "; ".join(shown) == sample["tuned"]
            assert answer.text.splitlines()[0].split() == [words[0], told["tags"][0]]
        else:
            assert told["answer"] == sample["tuned"]
            assert told["answer"] in data["context"]
    if case != "span":
        said_last = [{"role": "user", "content": "Anna lives in Rome ."}]
        assert "".join(model.reply(said_last)) == model.ask(row_of(said_last[0]["content"], model.reads)).text


def test_a_row_that_is_longer_than_the_model_reads_is_cut_or_read_in_windows(made: tuple[str, Path]) -> None:
    case, folder = made
    model = load_chat(folder / "packaged")
    long = " ".join(sentence(0)[0]) + " It rained." * 200
    if case == "span":
        told = model.ask({"question": "Which town?", "context": long}).told
        assert told["answer"] in long
        with pytest.raises(UsageError, match="Nothing of the row fits"):
            model.ask({"question": long, "context": "Rome."})
        with pytest.raises(UsageError, match="there is none"):
            model.ask({"question": "Which town?"})
    elif case == "tag":
        assert len(model.ask(row_of(long, model.reads)).told["tags"]) == len(long.split())
    else:
        assert model.ask(row_of(long, model.reads)).text


@pytest.mark.parametrize(
    ("row", "words"),
    [([], "an object"), ({}, "has no"), ({"txet": "x"}, "not asked with txet"), (None, "an object")],
)
def test_what_is_no_row_is_refused(made: tuple[str, Path], row: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        load_chat(made[1] / "packaged").ask(row)


def test_an_encoder_without_a_head_tells_nothing(made: tuple[str, Path]) -> None:
    case, folder = made
    if case == "class-by-a-decoder":
        pytest.skip("a decoder writes without one")
    with pytest.raises(UsageError, match="no head that would tell") as caught:
        load_chat(folder / "base")
    assert "AutoModel" in caught.value.fix


@pytest.mark.parametrize(
    ("task", "architecture"),
    [
        ("text-classification", "LlamaForCausalLM"),
        ("token-classification", "BertForMaskedLM"),
        ("question-answering", "BertForMaskedLM"),
    ],
)
def test_a_head_beside_virtual_tokens_is_found_by_plain_peft_with_the_names_of_its_labels(
    task: str, architecture: str, tmp_path: Path
) -> None:
    import transformers
    from peft import PeftModel

    folder = four_steps(tmp_path, task, task, {"name": "prompt-tuning", "virtual_tokens": 4}, architecture)
    packaged, rows = folder / "packaged", open_dataset(folder / "dataset", "test")
    auto_class = reading_class(packaged)
    assert auto_class == OBJECTIVES[rows.objective].head
    base = getattr(transformers, auto_class).from_pretrained(packaged / "base", dtype=torch.float32)
    if rows.labels:
        assert base.config.id2label == dict(enumerate(rows.labels))
        assert all(f"`{label}`" in (packaged / "README.md").read_text() for label in rows.labels)
    tuned = PeftModel.from_pretrained(base, packaged / "adapter").eval()
    assert {"score", "classifier", "qa_outputs"} & set(".".join(adapters.trained_tensors(tuned)).split("."))
    asked = json.loads((folder / "test.jsonl").read_text().splitlines()[0])
    model = load_chat(packaged)
    told = model.ask({name: asked[name] for name in model.reads if name in asked}).told
    if task == "token-classification":
        words = asked["tokens"]
        shown = [f"{kind} {' '.join(words[first : last + 1])}" for kind, first, last in entities(told["tags"])]
        assert ("; ".join(shown) or "(none)") == samples_of(folder)[0]["tuned"]
    else:
        assert told.get("label", told.get("answer")) == samples_of(folder)[0]["tuned"]
