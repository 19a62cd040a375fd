"""Evaluate, package and chat on what finetune made, from end to end on tiny models with a real tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
import torch

from azft.data.dataset_writer import write_dataset
from azft.data.documents import Counts
from azft.data.masking import ChatRenderer
from azft.data.renderers import renderer_for
from azft.data.tokenizer import load_tokenizer
from azft.errors import AzftError, NotFoundError
from azft.parameters import EvaluateParameters, PackageParameters
from azft.recipe import Recipe
from azft.training import adapters
from azft.training.evaluate import evaluate
from azft.training.finetune import finetune
from azft.training.generate import load_chat, stream_tokens
from azft.training.models import load_model
from azft.training.package import merge, package
from tests.helpers.tokens import tokenizer_folder
from tests.training.tiny import parameters, tiny_model, write_tiny_dataset

ANSWER = "It is Paris, of course."
CHATS = [
    [
        {"role": "user", "content": f"What is the capital of France? {n} apples"},
        {"role": "assistant", "content": ANSWER},
    ]
    for n in range(6)
]


def recipe(**sections: Any) -> Recipe:
    base = {"name": "paris", "task": "chat-completion", "model": "tiny-base", "data": {"train": "train.jsonl"}}
    return Recipe.model_validate(base | sections)


@pytest.fixture(scope="module", params=["full", "lora"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with base, dataset, trained, evaluation and packaged, as the four steps leave them."""
    folder = tmp_path_factory.mktemp(request.param)
    base = folder / "base"
    tiny_model("phi3", vocab_size=512, sliding_window=None).save_pretrained(base)
    tokenizer_folder(base, "phi-4-mini")
    renderer = ChatRenderer(load_tokenizer(base))
    rendered = [renderer.render({"messages": chat}) for chat in CHATS]
    documents = [(one.token_ids, one.loss_mask) for one in rendered]
    write_tiny_dataset(folder / "dataset", train=documents[:5], validation=documents[5:], vocab_size=512)
    technique = {"name": "full"} if request.param == "full" else {"name": "lora", "rank": 16, "alpha": 64}
    finetune(
        parameters(technique=technique, epochs=12, global_batch_size=1, warmup_ratio=0.1),
        model=base,
        dataset=folder / "dataset",
        trained=folder / "trained",
        checkpoints=folder / "checkpoints",
        metrics=folder / "metrics",
    )
    evaluate(
        EvaluateParameters.of(recipe(evaluation={"samples": 2, "max_new_tokens": 24})),
        model=base,
        dataset=folder / "dataset",
        trained=folder / "trained",
        output=folder / "evaluation",
    )
    package(
        PackageParameters.of(recipe()),
        model=base,
        trained=folder / "trained",
        evaluation=folder / "evaluation",
        output=folder / "packaged",
    )
    return folder


def test_evaluation_shows_that_the_tuned_model_learned(made: Path) -> None:
    figures = orjson.loads((made / "evaluation/evaluation.json").read_bytes())
    assert (figures["split"], figures["rows"]) == ("validation", 1)
    assert figures["tuned"]["loss"] < 0.7 * figures["base"]["loss"]
    assert figures["tuned"]["perplexity"] == pytest.approx(2.718281828 ** figures["tuned"]["loss"])
    assert figures["base"]["token_accuracy"] < 0.5 < figures["tuned"]["token_accuracy"]


def test_samples_hold_prompt_reference_and_both_answers(made: Path) -> None:
    (sample,) = [orjson.loads(line) for line in (made / "evaluation/samples.jsonl").read_bytes().splitlines()]
    assert sample["prompt"].startswith("<|user|>What is the capital")
    assert sample["prompt"].endswith("<|assistant|>")
    assert sample["reference"] == sample["tuned"] == ANSWER
    assert sample["base"] != ANSWER


def test_the_packaged_model_answers_with_what_it_learned_and_stops(made: Path) -> None:
    chat = load_chat(made / "packaged")
    question = [{"role": "user", "content": "What is the capital of France? 3 apples"}]
    pieces = list(chat.reply(question, max_new_tokens=40))
    assert "".join(pieces) == ANSWER
    assert len(pieces) > 2


def test_the_packaged_model_computes_what_was_evaluated(made: Path) -> None:
    ids = torch.arange(5, 40)[None]
    packaged = load_model(made / "packaged", dtype=torch.float32)(input_ids=ids).logits
    if (made / "trained/adapter_config.json").exists():
        tuned = adapters.attach(load_model(made / "base", dtype=torch.float32), made / "trained")(input_ids=ids).logits
        torch.testing.assert_close(packaged, tuned, rtol=0, atol=1e-4)
    else:
        assert torch.equal(packaged, load_model(made / "trained", dtype=torch.float32)(input_ids=ids).logits)


def test_the_package_is_complete_and_says_what_it_is(made: Path) -> None:
    names = {path.relative_to(made / "packaged").as_posix() for path in (made / "packaged").rglob("*")}
    assert {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "chat_template.jinja",
        "generation_config.json",
    } <= names
    config = orjson.loads((made / "packaged/config.json").read_bytes())
    assert "azft" not in orjson.dumps(config).decode()
    card = (made / "packaged/README.md").read_text()
    figures = orjson.loads((made / "evaluation/evaluation.json").read_bytes())
    assert f"| loss | {figures['base']['loss']:.4g} | {figures['tuned']['loss']:.4g} |" in card
    assert 'base_model: "tiny-base"' in card
    if (made / "trained/adapter_config.json").exists():
        adapter = orjson.loads((made / "packaged/adapter/adapter_config.json").read_bytes())
        assert adapter["base_model_name_or_path"] == "tiny-base"


def test_without_merging_only_the_adapter_is_packaged_and_chat_says_so(made: Path, tmp_path: Path) -> None:
    if not (made / "trained/adapter_config.json").exists():
        pytest.skip("only adapters can be left unmerged")
    package(
        PackageParameters.of(recipe(output={"merge": False})),
        model=made / "base",
        trained=made / "trained",
        evaluation=made / "evaluation",
        output=tmp_path / "packaged",
    )
    assert not (tmp_path / "packaged/model.safetensors").exists()
    with pytest.raises(NotFoundError, match="an adapter and not a whole model"):
        load_chat(tmp_path / "packaged")


def test_a_merge_that_changes_the_model_is_an_error(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from peft import PeftModel

    if not (made / "trained/adapter_config.json").exists():
        pytest.skip("only adapters are merged")
    monkeypatch.setattr(PeftModel, "merge_and_unload", lambda self, **_: self.unload(), raising=False)
    with pytest.raises(AzftError, match="merged model's logits differ"):
        merge(load_model(made / "base", dtype=torch.float32), made / "trained")


def test_generation_can_be_left_early() -> None:
    stream = stream_tokens(tiny_model("llama"), [5, 6, 7], stop=[], max_new_tokens=200)
    assert len([next(stream) for _ in range(3)]) == 3
    stream.close()


def test_greedy_generation_equals_the_likeliest_token_each_time() -> None:
    model = tiny_model("mistral")
    ids = [5, 6, 7]
    with torch.no_grad():
        for _ in range(20):
            ids.append(int(model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
    assert 95 not in ids
    assert list(stream_tokens(model, [5, 6, 7], stop=[95], max_new_tokens=20)) == ids[3:]
    assert list(stream_tokens(model, [5, 6, 7], stop=[ids[6]], max_new_tokens=20)) == ids[3:6]


def test_an_error_while_generating_reaches_the_caller() -> None:
    with pytest.raises(IndexError):
        list(stream_tokens(tiny_model("llama"), [10_000], stop=[], max_new_tokens=2))


def test_written_answers_are_measured_against_every_right_one(tmp_path: Path) -> None:
    """A model that learned its answer by heart goes from none to all; its reference is another way to say it."""
    base, dataset = tmp_path / "base", tmp_path / "dataset"
    tiny_model("phi3", vocab_size=512, sliding_window=None).save_pretrained(base)
    tokenizer_folder(base, "phi-4-mini")
    renderer = renderer_for("question-answering", load_tokenizer(base))
    rows = [{"question": "What is the capital of France?", "answers": [[ANSWER, None]]}] * 4
    pieces = [piece for row in rows for piece in renderer.documents(renderer.render(row), 64, "drop", Counts())]
    options = {"vocab_size": 512, "max_length": 64, "packing": False, "tokenizer": "tiny"}
    with write_dataset(dataset, splits=["train", "test"], **options) as writer:
        for piece in pieces:
            writer.splits["train"].add(*piece)
            writer.splits["test"].add(*piece[:2], references=["Lyon", "it is PARIS, of course"])
    folders = {"model": base, "dataset": dataset, "trained": tmp_path / "trained"}
    finetune(parameters(max_steps=40), **folders, checkpoints=tmp_path / "c", metrics=tmp_path / "m")
    told = recipe(task="question-answering", evaluation={"samples": 1, "generate_rows": 3, "max_new_tokens": 24})
    evaluate(EvaluateParameters.of(told), **folders, output=tmp_path / "evaluation")
    figures = orjson.loads((tmp_path / "evaluation/evaluation.json").read_bytes())
    assert (figures["base"]["exact_match"], figures["tuned"]["exact_match"]) == (0, 1)
    assert (figures["generated_rows"], figures["tuned"]["f1"]) == (3, 1)
    assert len((tmp_path / "evaluation/samples.jsonl").read_bytes().splitlines()) == 1
    package(
        PackageParameters.of(told),
        model=base,
        trained=tmp_path / "trained",
        evaluation=tmp_path / "evaluation",
        output=tmp_path / "packaged",
    )
    card = (tmp_path / "packaged/README.md").read_text()
    assert "| exact match | 0 | 1 |" in card
    assert "pipeline_tag: question-answering" in card
