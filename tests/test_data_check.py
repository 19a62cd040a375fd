"""Data and model are checked together: what the model's template refuses is a finding before anything runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import orjson
import pytest
from safetensors.numpy import save_file

import azft
from azft.data_check import learning_rate_findings
from tests.helpers.azure_recipes import MODES, SECTIONS, azure_recipe, codes
from tests.helpers.tokens import tokenizer_folder

GOOD = {"messages": [{"role": "user", "content": "Are you open?"}, {"role": "assistant", "content": "Yes, we are."}]}
MARKER = {
    "messages": [{"role": "user", "content": "Say <|end|> now"}, {"role": "assistant", "content": "I'd rather not."}]
}


def recipe(folder: Path, rows: list[object], *, model: str = "Phi-4-mini-instruct") -> Path:
    (folder / "train.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    file = folder / "recipe.yaml"
    file.write_text(f"name: x\ntask: chat-completion\nmodel: {model}\ndata: {{train: train.jsonl}}\n")
    return file


def test_a_short_row_that_the_template_would_misread_is_found_without_the_models_weights(tmp_path: Path) -> None:
    rows = [
        {"messages": [{**GOOD["messages"][0], "content": f"Question {i}?"}, GOOD["messages"][1]]} for i in range(20)
    ]
    report = azft.check(recipe(tmp_path, [*rows, MARKER]))
    refused = [finding for finding in report.findings if finding.code == "data-not-renderable"]
    assert [(finding.line, "<|end|>" in finding.message) for finding in refused] == [(21, True)]
    assert not report.ok


def test_a_family_without_system_turns_refuses_a_row_that_has_one(tmp_path: Path) -> None:
    system = {"messages": [{"role": "system", "content": "Be brief."}, *GOOD["messages"]]}
    file = recipe(tmp_path, [GOOD] * 3 + [system], model="gemma-2-2b-it")
    assert [f.line for f in azft.check(file).findings if f.code == "data-not-renderable"] == [4]


def test_the_plan_sees_it_too_and_nothing_is_submitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    plan = azft.plan(recipe(tmp_path, [GOOD, MARKER]))
    assert plan.has_errors
    with pytest.raises(azft.AzftError):
        azft.submit(plan)
    assert not (tmp_path / ".azft" / "runs").exists()


def test_broken_rows_are_reported_where_no_stand_in_can_be_made_of_them(tmp_path: Path) -> None:
    file = recipe(tmp_path, [])
    (tmp_path / "train.jsonl").write_bytes(b"not json\n")
    assert "data-not-json" in {finding.code for finding in azft.check(file).findings}


@pytest.mark.parametrize(
    ("technique", "said"),
    [
        ("{name: lora, target_modules: [q_proj, o_proj]}", [("target_modules: no weight", "q_proj", "qkv_proj")]),
        ("{name: dora, target_modules: [qkv_proj, self_attn.o_proj]}", []),
        (
            "{name: lora, modules_to_save: [lm_head, layernorms]}",
            [("modules_to_save: no weight", "layernorms", "norm")],
        ),
        ("{name: ia3, feedforward_modules: [down_proj]}", []),
        ("{name: full}", []),
    ],
)
def test_a_module_that_the_models_files_have_not_is_a_warning_before_anything_runs(
    technique: str, said: list[tuple[str, str, str]], tmp_path: Path
) -> None:
    file = recipe(tmp_path, [GOOD] * 3)
    file.write_text(f"{file.read_text()}technique: {technique}\n")
    found = [finding for finding in azft.check(file).findings if finding.code == "technique-no-such-module"]
    assert len(found) == len(said)
    for finding, (key, name, fix) in zip(found, said, strict=True):
        assert key in finding.message
        assert f"`{name}`" in finding.message
        assert fix in finding.fix
        assert (finding.severity, finding.line) == ("warning", 5)


@pytest.mark.parametrize(("tied", "refused"), [(True, ["lm_head", "model.embed_tokens"]), (False, [])])
def test_a_module_that_shares_its_weights_can_not_be_trained_whole_and_is_told_before(
    tied: bool, refused: list[str], tmp_path: Path
) -> None:
    model = tokenizer_folder(tmp_path / "model")
    names = ["lm_head", "model.embed_tokens", "model.norm"]
    save_file({f"{name}.weight": np.zeros((4, 4), np.float32) for name in names}, model / "model.safetensors")
    config = orjson.loads((model / "config.json").read_bytes()) if (model / "config.json").exists() else {}
    (model / "config.json").write_bytes(orjson.dumps({**config, "model_type": "llama", "tie_word_embeddings": tied}))
    file = recipe(tmp_path, [GOOD] * 3, model=str(model))
    file.write_text(f"{file.read_text()}technique: {{name: lora, modules_to_save: [{', '.join(names)}]}}\n")
    found = [f for f in azft.check(file).findings if f.code.startswith("technique-")]
    assert [(f.code, f.message.split("`")[1], f.line) for f in found] == [
        ("technique-shared-module", name, 5) for name in refused
    ]


RATES = [
    # technique, task's divisor, rate, what of it is said
    ("lora", 1, 0.5, "2,500 times above"),
    ("lora", 1, 0.02, None),  # a hundredfold: still a choice
    ("full", 1, 9.9, "495,000 times above"),
    ("full", 1, 1e-9, "20,000 times below"),
    ("prompt-tuning", 1, 0.3, None),  # the paper's
    ("lora", 40, 1e-3, "200 times above"),  # preferences are tuned at a fortieth
    ("lora", 40, 2e-4, None),
]


@pytest.mark.parametrize(("technique", "divisor", "rate", "said"), RATES)
def test_a_learning_rate_far_from_the_usual_one_is_a_warning_at_its_line(
    technique: str, divisor: int, rate: float, said: str | None, tmp_path: Path
) -> None:
    file = tmp_path / "recipe.yaml"
    task = "chat-completion" if divisor == 1 else "preference-tuning"
    file.write_text(
        f"name: x\ntask: {task}\nmodel: m\ndata: {{train: t.jsonl}}\ntechnique: {{name: {technique}}}\n"
        f"training:\n  epochs: 1\n  learning_rate: {rate}\n"
    )
    found = list(learning_rate_findings(azft.load_recipe(file)))
    assert len(found) == (said is not None)
    for finding in found:
        assert said is not None
        assert said in finding.message
        assert (finding.code, finding.severity, finding.line) == ("training-learning-rate", "warning", 8)
        assert "leave training.learning_rate out" in finding.fix


def test_a_rate_that_the_recipe_leaves_out_is_never_far(tmp_path: Path) -> None:
    assert not list(learning_rate_findings(azft.load_recipe(recipe(tmp_path, [GOOD]))))


@pytest.mark.parametrize("target", ["local", *SECTIONS])
def test_the_rate_is_warned_of_wherever_the_recipe_runs(target: str, tmp_path: Path) -> None:
    file = azure_recipe(tmp_path, "maas" if target == "local" else target, training={"learning_rate": 9.9})
    plan = azft.plan(file, MODES.get(target, "local"))
    assert "training-learning-rate" in codes(plan, "warning")
    assert not plan.has_errors
    assert "training-learning-rate" in {finding.code for finding in azft.check(file).findings}
