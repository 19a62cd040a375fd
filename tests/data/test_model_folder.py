"""A model reads the same from a plain folder and from the MLflow layouts in which registries keep it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from azft.catalog import materialize, resolve_model
from azft.data.model_folder import find_model_folder, find_tokenizer_folder, model_kind
from azft.data.prepare import prepare
from azft.data.tokenizer import context_length, load_tokenizer
from azft.files import sha256_file, sha256_tree
from azft.parameters import EvaluateParameters, FinetuneParameters, PackageParameters, PrepareParameters
from azft.recipe_file import RecipeFile, load_recipe

TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")
RECIPE = """\
name: folders
task: chat-completion
model: Phi-4-mini-instruct
data: {train: train.jsonl, validation: train.jsonl}
technique: {name: lora, rank: 2}
training: {max_steps: 2, max_length: 64, global_batch_size: 2}
evaluation: {samples: 1, max_new_tokens: 2}
modes: {local: {weights: stand-in}}
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> RecipeFile:
    folder = tmp_path_factory.mktemp("recipe")
    rows = [
        [{"role": "user", "content": f"Say {n}."}, {"role": "assistant", "content": f"It is {n}."}] for n in range(12)
    ]
    (folder / "train.jsonl").write_text("".join(json.dumps({"messages": row}) + "\n" for row in rows))
    (folder / "recipe.yaml").write_text(RECIPE)
    return load_recipe(folder / "recipe.yaml", environment={})


@pytest.fixture(scope="module")
def plain(recipe: RecipeFile, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("AZFT_CACHE", str(tmp_path_factory.mktemp("cache")))
        return Path(shutil.copytree(materialize(resolve_model(recipe)), tmp_path_factory.mktemp("plain") / "model"))


def lay_out(plain: Path, root: Path, model: str, tokenizer: str) -> Path:
    """The files of a plain folder in two parts below `root`."""
    for file in plain.iterdir():
        target = root / (tokenizer if file.name in TOKENIZER else model) / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
    (root / "MLmodel").write_text("flavors: {}\n")
    return root


LAYOUTS = {
    "azure": ("data/model", "data/tokenizer"),
    "transformers flavour": ("model", "components/tokenizer"),
    "together": ("data/model", "data/model"),
    "one deeper": ("mlflow_model_folder/data/model", "mlflow_model_folder/data/tokenizer"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_tokenizer_and_context_are_those_of_the_plain_folder(plain: Path, tmp_path: Path, layout: str) -> None:
    model, tokenizer = LAYOUTS[layout]
    root = lay_out(plain, tmp_path / "mlflow", model, tokenizer)
    assert find_model_folder(root) == root / model
    assert find_tokenizer_folder(root) == root / tokenizer
    expected, found = load_tokenizer(plain), load_tokenizer(root)
    assert found.fingerprint == expected.fingerprint
    assert found.stop_ids == expected.stop_ids
    assert context_length(root) == context_length(plain)


def test_a_plain_folder_is_its_own_answer_and_so_is_one_without_a_model(plain: Path, tmp_path: Path) -> None:
    assert find_model_folder(plain) == find_tokenizer_folder(plain) == plain
    assert find_model_folder(tmp_path) == find_tokenizer_folder(tmp_path) == tmp_path
    assert find_model_folder(tmp_path / "gone") == tmp_path / "gone"


def test_of_two_models_in_a_folder_none_is_guessed(plain: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        shutil.copytree(plain, tmp_path / name)
    assert find_model_folder(tmp_path) == tmp_path


def test_every_step_gives_the_same_from_an_mlflow_model(recipe: RecipeFile, plain: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    mlflow = lay_out(plain, tmp_path / "mlflow", *LAYOUTS["azure"])
    one, other = (carry_out(recipe, model, tmp_path / name) for name, model in (("a", plain), ("b", mlflow)))
    assert sha256_tree(one / "dataset") == sha256_tree(other / "dataset")
    for file in ("trained/adapter_model.safetensors", "packaged/model.safetensors", "packaged/tokenizer.json"):
        assert sha256_file(one / file) == sha256_file(other / file), file
    assert (one / "evaluation/evaluation.json").read_text() == (other / "evaluation/evaluation.json").read_text()
    assert {p.name for p in (one / "packaged").iterdir()} == {p.name for p in (other / "packaged").iterdir()}


def carry_out(recipe_file: RecipeFile, model: Path, work: Path) -> Path:
    """All four steps."""
    from azft.training.evaluate import evaluate
    from azft.training.finetune import finetune
    from azft.training.package import package

    recipe = recipe_file.recipe
    rows = recipe_file.resolve(recipe.data.train)
    outputs = {n: work / n for n in ("dataset", "trained", "checkpoints", "metrics", "evaluation", "packaged")}
    for folder in outputs.values():
        folder.mkdir(parents=True)
    prepare(
        PrepareParameters.of(recipe), model=model, train=rows, validation=rows, output=outputs["dataset"],
        progress=lambda _: None,
    )  # fmt: skip
    finetune(
        FinetuneParameters.of(recipe), model=model, dataset=outputs["dataset"], trained=outputs["trained"],
        checkpoints=outputs["checkpoints"], metrics=outputs["metrics"],
    )  # fmt: skip
    evaluate(
        EvaluateParameters.of(recipe), model=model, dataset=outputs["dataset"], trained=outputs["trained"],
        output=outputs["evaluation"],
    )  # fmt: skip
    package(
        PackageParameters.of(recipe), model=model, trained=outputs["trained"], evaluation=outputs["evaluation"],
        output=outputs["packaged"],
    )  # fmt: skip
    return work


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        ({"model_type": "t5", "is_encoder_decoder": True}, "encoder-decoder"),
        ({"model_type": "marian"}, "encoder-decoder"),
        ({"model_type": "bert", "architectures": ["BertModel"]}, "encoder"),
        ({"model_type": "bert", "architectures": ["BertLMHeadModel"], "is_decoder": True}, "decoder"),
        ({"model_type": "new", "architectures": ["NewForMaskedLM"]}, "encoder"),
        ({"model_type": "llama"}, "decoder"),
        ({"model_type": "gemma3", "architectures": ["Gemma3ForConditionalGeneration"]}, "decoder"),
        (None, "decoder"),
    ],
)
def test_the_kind_of_a_model_is_told_by_its_config(tmp_path: Path, config: object, kind: str) -> None:
    if config is not None:
        (tmp_path / "config.json").write_text(json.dumps(config))
    assert model_kind(tmp_path) == kind
