"""Preference tuning: the gradient is the paper's, whatever the batching, and what was preferred is learned."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import torch
from torch.nn import functional as F

from azft import init
from azft.catalog.rows import load_catalog
from azft.data.check import check_files
from azft.data.dataset import TokenDataset, open_dataset
from azft.data.dataset_writer import write_dataset
from azft.data.prepare import prepare
from azft.data.preview import preview
from azft.data.renderers import renderer_for
from azft.data.rows import RowChecker
from azft.data.tokenizer import load_tokenizer
from azft.parameters import EvaluateParameters, FinetuneParameters, PackageParameters, PrepareParameters
from azft.recipe import Recipe
from azft.recipe_file import load_recipe
from azft.training.devices import arithmetic
from azft.training.evaluate import evaluate
from azft.training.finetune import finetune
from azft.training.objectives import OBJECTIVES
from azft.training.package import package
from azft.training.preference import PreferenceLoss, ask_reference
from azft.training.stand_in import StandInSpec, make
from tests.helpers.tokens import tokenizer_folder
from tests.training.loops import one_process_loop
from tests.training.tiny import Float64, gradients, random_documents, tiny_model, worst_difference

BETA = 0.3


@pytest.fixture
def float64() -> Iterator[None]:
    with Float64():
        yield


def pairs(folder: Path, count: int = 7) -> TokenDataset:
    with write_dataset(
        folder, splits=["train"], vocab_size=96, max_length=64, packing=False, tokenizer="t",
        objective="preference", documents_per_row=2,
    ) as writer:  # fmt: skip
        for tokens, mask in random_documents(2 * count, seed=3):
            writer.splits["train"].add(tokens, mask)
    return open_dataset(folder, "train")


def answer_log_probability(model: Any, document: Any) -> torch.Tensor:
    model.set_attn_implementation("eager")
    tokens = torch.tensor(document.tokens.astype(np.int64))[None]
    told = model(input_ids=tokens, use_cache=False).logits[0].log_softmax(-1)
    return sum(told[place - 1, tokens[0, place]] for place in range(1, tokens.shape[1]) if document.loss_mask[place])  # type: ignore[return-value]


def naive_loss(model: Any, base: Any, dataset: TokenDataset) -> torch.Tensor:
    """Mean loss per pair, one conversation at a time."""
    total = torch.zeros(())
    for pair in range(len(dataset)):
        preferred, other = (answer_log_probability(model, one) for one in dataset.sequence(pair))
        with torch.no_grad():
            preferred_before, other_before = (answer_log_probability(base, one) for one in dataset.sequence(pair))
        total = total - F.logsigmoid(BETA * ((preferred - preferred_before) - (other - other_before)))
    return total / len(dataset)


def moved(model: Any) -> Any:
    """The model some way from where it began, so that its margins are not zero."""
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.03)
    return model


@pytest.mark.parametrize("architecture", ["llama", "gemma2"])
@pytest.mark.parametrize("micro", [1, 3, 7])
def test_the_gradient_is_that_of_the_paper_however_pairs_are_batched(
    architecture: str, micro: int, float64: None, tmp_path: Path
) -> None:
    dataset = pairs(tmp_path / "dataset")
    expected = moved(tiny_model(architecture).double())
    naive = naive_loss(expected, tiny_model(architecture).double(), dataset)
    naive.backward()
    reference = ask_reference(tiny_model(architecture).double(), [dataset], arithmetic("fp32", torch.device("cpu")))
    model = moved(tiny_model(architecture).double())
    module = OBJECTIVES["preference"].make(model, micro == 1)
    module.against(reference, BETA)
    batches = {"global_batch_size": micro * 7, "micro_batch_size": micro}
    loop = one_process_loop(module, "preference", dataset, tmp_path, **batches)
    losses, _ = loop.accumulate(list(range(7)))
    assert abs(sum(loss for _, loss in losses) / 7 - float(naive)) < 1e-10
    assert worst_difference(gradients(expected), gradients(model)) < 1e-10


def test_before_the_first_step_every_pair_is_undecided(float64: None, tmp_path: Path) -> None:
    dataset = pairs(tmp_path / "dataset", count=3)
    model, numbers = tiny_model("llama").double(), arithmetic("fp32", torch.device("cpu"))
    module = PreferenceLoss(model)
    module.against(ask_reference(model, [dataset], numbers), BETA)
    score = module.score(OBJECTIVES["preference"].batch_of(dataset, [0, 1, 2]))
    assert float(score.loss) == pytest.approx(3 * np.log(2), abs=1e-12)
    assert score.answers is not None
    assert score.answers.abs().max() < 1e-12


ROWS = [
    {"prompt": f"May I return {thing}?", "chosen": f"Of course: bring {thing} back.", "rejected": "No."}
    for thing in ("bread", "a cake", "the rolls", "two loaves", "a tart", "buns", "pies", "the box")
]


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    tiny_model("phi3", vocab_size=512, sliding_window=None).save_pretrained(folder)
    tokenizer_folder(folder, "phi-4-mini")
    return folder


def recipe_of(folder: Path, **sections: Any) -> Recipe:
    recipe = {
        "name": "better",
        "task": "preference-tuning",
        "model": "tiny",
        "data": {"train": "train.jsonl", "validation": "validation.jsonl"},
        "technique": {"name": "full"},
        "training": {
            "epochs": 6,
            "learning_rate": 3e-3,
            "global_batch_size": 2,
            "max_length": 128,
            "precision": "fp32",
        },
        "evaluation": {"samples": 2, "max_new_tokens": 4},
    }
    return Recipe.model_validate(recipe | sections)


@pytest.mark.parametrize("technique", [{"name": "full"}, {"name": "lora", "rank": 8, "target_modules": "all-linear"}])
def test_the_whole_way_learns_to_prefer(technique: dict[str, Any], base: Path, tmp_path: Path) -> None:
    train, validation = write(tmp_path / "train.jsonl", ROWS), write(tmp_path / "validation.jsonl", ROWS[:3])
    recipe = recipe_of(tmp_path, technique=technique)
    steps = {
        name: tmp_path / name for name in ("dataset", "trained", "checkpoints", "metrics", "evaluation", "packaged")
    }
    prepare(
        PrepareParameters.of(recipe), model=base, train=train, validation=validation, output=steps["dataset"],
        progress=lambda line: None,
    )  # fmt: skip
    finetune(
        FinetuneParameters.of(recipe), model=base, dataset=steps["dataset"], trained=steps["trained"],
        checkpoints=steps["checkpoints"], metrics=steps["metrics"],
    )  # fmt: skip
    evaluate(
        EvaluateParameters.of(recipe), model=base, dataset=steps["dataset"], trained=steps["trained"],
        output=steps["evaluation"],
    )  # fmt: skip
    package(
        PackageParameters.of(recipe), model=base, trained=steps["trained"], evaluation=steps["evaluation"],
        output=steps["packaged"],
    )  # fmt: skip
    figures = orjson.loads((steps["evaluation"] / "evaluation.json").read_bytes())
    assert figures["base"]["loss"] == pytest.approx(np.log(2), abs=1e-6)
    assert figures["base"]["reward_accuracy"] == 0.5
    assert figures["tuned"]["loss"] < 0.55
    assert figures["tuned"]["reward_accuracy"] == 1.0
    lines = [orjson.loads(line) for line in (steps["metrics"] / "metrics.jsonl").read_bytes().splitlines()]
    assert lines[0]["loss"] == pytest.approx(np.log(2), abs=1e-4)
    assert "reward accuracy" in (steps["packaged"] / "README.md").read_text()
    samples = [orjson.loads(line) for line in (steps["evaluation"] / "samples.jsonl").read_bytes().splitlines()]
    assert [sample["reference"] for sample in samples] == [row["chosen"] for row in ROWS[:2]]


def test_the_shipped_recipe_learns_visibly_at_its_low_default_rate(tmp_path: Path) -> None:
    scaffold = init(tmp_path / "shipped", task="preference-tuning")
    recipe, rows = load_recipe(scaffold.recipe).recipe, scaffold.recipe.parent
    assert (recipe.training.learning_rate, recipe.learning_rate) == (None, 5e-6)
    family = load_catalog().families["phi-4-mini"]
    spec = StandInSpec(
        architecture="Phi3ForCausalLM", chat_template=family.chat_template, special_tokens=family.special_tokens,
        data=rows / "train.jsonl", data_sha256="0",
    )  # fmt: skip
    model, dataset, metrics = tmp_path / "model", tmp_path / "dataset", tmp_path / "metrics"
    make(spec, model)
    prepare(
        PrepareParameters.of(recipe), model=model, train=rows / "train.jsonl", validation=rows / "validation.jsonl",
        output=dataset, progress=lambda line: None,
    )  # fmt: skip
    finetune(
        FinetuneParameters.of(recipe).override(epochs=1), model=model, dataset=dataset, trained=tmp_path / "trained",
        checkpoints=tmp_path / "checkpoints", metrics=metrics,
    )  # fmt: skip
    lines = [orjson.loads(line) for line in (metrics / "metrics.jsonl").read_bytes().splitlines()]
    held_out = [line["eval_loss"] for line in lines if "eval_loss" in line]
    assert held_out[-1] < 0.4 < np.log(2)  # from which every pair starts


def test_rows_in_openais_form_and_as_conversations_are_the_same_pairs(base: Path) -> None:
    renderer = renderer_for("preference-tuning", load_tokenizer(base))
    row = ROWS[0]
    talk = [{"role": "user", "content": row["prompt"]}]
    answers = [{"role": "assistant", "content": row[name]} for name in ("chosen", "rejected")]
    plain, full, openai = (
        RowChecker("preference-tuning", columns).check(given)
        for columns, given in (
            ({}, row),
            ({}, {"prompt": talk, "chosen": [answers[0]], "rejected": answers[1]}),
            (
                {"prompt": "input", "chosen": "preferred_output", "rejected": "non_preferred_output"},
                {"input": {"messages": talk}, "preferred_output": [answers[0]], "non_preferred_output": [answers[1]]},
            ),
        )
    )
    assert plain[0] == full[0] == openai[0] == []
    assert plain[1] == full[1] == openai[1]
    assert plain[1] is not None
    rendered = renderer.render(plain[1])
    chat = renderer_for("chat-completion", load_tokenizer(base))
    halves = [chat.render({"messages": [*talk, answer]}) for answer in answers]
    assert rendered.token_ids == halves[0].token_ids + halves[1].token_ids
    assert rendered.loss_mask.tolist() == [*halves[0].loss_mask, *halves[1].loss_mask]
    assert renderer.count_tokens([plain[1]]) == [max(len(half.token_ids) for half in halves)] == [rendered.longest]


def test_earlier_answers_of_the_prompt_are_not_learned(base: Path) -> None:
    renderer = renderer_for("preference-tuning", load_tokenizer(base))
    prompt = [{"role": r, "content": c} for r, c in (("user", "A?"), ("assistant", "B."), ("user", "C?"))]
    rendered = renderer.render({"prompt": prompt, "chosen": "Yes, D.", "rejected": "No."})
    assert [rendered.text[span.start : span.stop] for span in rendered.spans] == ["Yes, D.", "No."]


@pytest.mark.parametrize(
    ("row", "code"),
    [
        ({"prompt": " ", "chosen": "a", "rejected": "b"}, "data-empty-text"),
        ({"prompt": [], "chosen": "a", "rejected": "b"}, "data-no-messages"),
        ({"prompt": 3, "chosen": "a", "rejected": "b"}, "data-wrong-type"),
        ({"prompt": "a", "chosen": ["a"], "rejected": "b"}, "data-wrong-type"),
        ({"prompt": "a", "chosen": {"role": "user", "content": "a"}, "rejected": "b"}, "data-wrong-type"),
        ({"prompt": "a", "chosen": "a", "rejected": ""}, "data-empty-text"),
        ({"prompt": "a", "chosen": "b", "rejected": "b"}, "data-nothing-to-prefer"),
        ({"prompt": [{"role": "assistant", "content": "x"}], "chosen": "a", "rejected": "b"}, "data-prompt-answered"),
        ({"prompt": [{"role": "bot", "content": "x"}], "chosen": "a", "rejected": "b"}, "data-unknown-role"),
        ({"prompt": "a", "chosen": "b"}, "data-missing-column"),
    ],
)
def test_broken_pairs_are_found(row: dict[str, Any], code: str, tmp_path: Path) -> None:
    report = check_files("preference-tuning", {}, {"train": write(tmp_path / "t.jsonl", [row, *ROWS])}, near=False)
    assert [finding.code for finding in report.findings if finding.line == 1] == [code]


def test_a_pair_with_a_long_half_goes_whole(base: Path, tmp_path: Path) -> None:
    rows = [
        *ROWS,
        {"prompt": "a", "chosen": "short", "rejected": "long " * 200},
        {"prompt": "long " * 200, "chosen": "short", "rejected": "a bit longer"},  # both prompts are cut alike
    ]
    files = write(tmp_path / "train.jsonl", rows), write(tmp_path / "validation.jsonl", ROWS[:1])
    for long_rows, count in (("drop", 8), ("split", 8), ("truncate", 9)):
        recipe = recipe_of(tmp_path, data={"train": "t.jsonl", "validation": "v.jsonl", "long_rows": long_rows})
        out = tmp_path / long_rows
        prepare(
            PrepareParameters.of(recipe), model=base, train=files[0], validation=files[1], output=out,
            progress=lambda line: None,
        )  # fmt: skip
        dataset = open_dataset(out, "train")
        assert (len(dataset), set(dataset.label_counts.tolist())) == (count, {1})
        assert all(len(dataset.sequence(pair)) == 2 for pair in range(count))


def test_the_preview_shows_both_answers(base: Path, tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", ROWS)
    (tmp_path / "recipe.yaml").write_text(
        "name: better\ntask: preference-tuning\nmodel: tiny\ndata: {train: train.jsonl}\n"
    )
    report = preview(load_recipe(tmp_path / "recipe.yaml"), load_tokenizer(base), rows=1)
    learned = [segment.text for segment in report.rows[0].segments if segment.in_loss]
    assert [text.partition("<|")[0] for text in learned] == [ROWS[0]["chosen"], "No."]
