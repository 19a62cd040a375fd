from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from azft.catalog import ResolvedModel, materialize, resolve_model
from azft.catalog.cache import model_folder
from azft.catalog.resolve import ModelNameError, ModelNotFoundError
from azft.errors import ExitCode, FindingsError, NotFoundError
from azft.findings import Severity
from azft.recipe_file import RecipeFile
from tests.catalog.conftest import make_model

MakeRecipe = Callable[..., RecipeFile]


def test_without_weights_a_stand_in_of_the_same_architecture_takes_their_place_and_says_so_loudly(
    recipe: MakeRecipe,
) -> None:
    resolved = resolve_model(recipe("Phi-4-mini-instruct"))
    assert resolved.kind == "stand-in"
    assert resolved.spec is not None
    assert resolved.spec.architecture == "Phi3ForCausalLM"
    assert resolved.context_length == 131072
    (finding,) = resolved.findings
    assert finding.severity is Severity.WARNING
    assert finding.line == 3
    assert "proves the pipeline, not the quality" in finding.message
    assert "azft models get Phi-4-mini-instruct" in finding.fix


def test_a_stand_in_on_purpose_is_only_mentioned(recipe: MakeRecipe) -> None:
    (finding,) = resolve_model(recipe("Phi-4-mini-instruct", "stand-in")).findings
    assert finding.severity is Severity.INFO


@pytest.mark.parametrize(
    ("model", "command"),
    [
        ("phi-4-mini-instruct", "azft models get Phi-4-mini-instruct"),
        ("someone/some-model", "azft models get someone/some-model"),
        (
            "azureml://registries/azureml/models/Unheard-of/versions/7",
            "az ml model download --name Unheard-of --version 7 --registry-name azureml --download-path models",
        ),
    ],
)
def test_real_weights_that_are_absent_are_an_error_with_the_exact_command(
    recipe: MakeRecipe, model: str, command: str
) -> None:
    with pytest.raises(ModelNotFoundError) as error:
        resolve_model(recipe(model, "real"))
    assert error.value.exit_code == ExitCode.NOT_FOUND
    assert command in error.value.findings[0].fix


@pytest.mark.parametrize("model", ["someone/some-model", "azureml://registries/azureml/models/Unheard-of/versions/7"])
def test_a_model_without_a_row_gets_a_llama_and_is_told(recipe: MakeRecipe, model: str) -> None:
    resolved = resolve_model(recipe(model))
    assert resolved.spec is not None
    assert resolved.spec.architecture == "LlamaForCausalLM"
    assert "not known here" in resolved.findings[0].message


def test_an_unknown_name_gets_its_neighbour(recipe: MakeRecipe) -> None:
    with pytest.raises(ModelNameError, match="phi4-mini") as error:
        resolve_model(recipe("phi4-mini-instruct"))
    assert error.value.exit_code == ExitCode.USAGE
    assert error.value.fix == "Did you mean `Phi-4-mini-instruct`?"
    assert error.value.findings[0].line == 3


@pytest.mark.parametrize("name", ["a\0b", "~no-such-user/model", "x" * 5000, "a/b/c"])
def test_text_that_can_be_neither_path_nor_name_is_a_finding(recipe: MakeRecipe, name: str) -> None:
    with pytest.raises(ModelNameError):
        resolve_model(recipe(name))


def test_a_half_written_azureml_id_is_explained(recipe: MakeRecipe) -> None:
    with pytest.raises(ModelNameError) as error:
        resolve_model(recipe("azureml:mine:3"))
    assert "azureml://registries/" in error.value.fix


@pytest.mark.parametrize("text", ["model", "./model", "{absolute}"])
def test_a_folder_is_used_where_it_lies(recipe: MakeRecipe, model: Path, text: str) -> None:
    resolved = resolve_model(recipe(text.format(absolute=model)))
    assert resolved.kind == "folder"
    assert resolved.path == model
    assert resolved.context_length == 64
    assert materialize(resolved) == model


def test_a_folder_with_faults_is_refused_with_all_of_them(recipe: MakeRecipe, model: Path) -> None:
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    (model / "chat_template.jinja").unlink()
    with pytest.raises(FindingsError) as error:
        resolve_model(recipe("./model"))
    assert [finding.code for finding in error.value.findings] == ["model-unusable"] * 2
    assert "opening one can run code" in error.value.findings[0].message


def test_a_folder_that_is_not_there_is_not_found_and_never_a_stand_in(recipe: MakeRecipe) -> None:
    with pytest.raises(ModelNotFoundError, match="does not exist"):
        resolve_model(recipe("./absent"))


def test_a_stand_in_of_a_folder_takes_its_architecture(recipe: MakeRecipe, model: Path) -> None:
    (model / "config.json").write_text(
        json.dumps({"architectures": ["Qwen2ForCausalLM"], "max_position_embeddings": 99})
    )
    resolved = resolve_model(recipe("./model", "stand-in"))
    assert resolved.spec is not None
    assert (resolved.spec.architecture, resolved.context_length) == ("Qwen2ForCausalLM", 99)


def test_layers_that_a_stand_in_has_not_are_said(recipe: MakeRecipe) -> None:
    def said(*overrides: str) -> list[str]:
        return [one.message for one in resolve_model(recipe("Phi-4", "stand-in", *overrides)).findings[1:]]

    (message,) = said("technique.layers=[1, 20, 39]")
    assert message.startswith("The stand-in has 2 layers, so its last one (number 1) is adapted in place of 20, 39.")
    assert said("technique.layers=[0, 1]") == said() == said("technique.name=freeze", "technique.layers=30") == []


def test_a_copy_in_azfts_cache_is_found_by_every_name(recipe: MakeRecipe) -> None:
    make_model(model_folder("smollm2-135m-instruct"))
    for name in ("SmolLM2-135M-Instruct", "HuggingFaceTB/SmolLM2-135M-Instruct"):
        resolved = resolve_model(recipe(name, "real"))
        assert (resolved.kind, resolved.path) == ("cached", model_folder("smollm2-135m-instruct"))


def test_a_copy_in_the_hubs_cache_is_found_without_a_connection(
    recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = tmp_path / "hub"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(hub))
    commit = "0123456789" * 4
    make_model(hub / "models--microsoft--Phi-4-mini-instruct" / "snapshots" / commit)
    refs = hub / "models--microsoft--Phi-4-mini-instruct" / "refs"
    refs.mkdir()
    (refs / "main").write_text(commit)
    resolved = resolve_model(recipe("Phi-4-mini-instruct"))
    assert resolved.kind == "cached"
    assert resolved.path is not None
    assert resolved.path.name == commit
    assert resolve_model(recipe("Phi-4-mini-instruct", "auto", "model_revision=" + "f" * 40)).kind == "stand-in"


def test_an_incomplete_copy_is_passed_over_and_named(recipe: MakeRecipe) -> None:
    folder = make_model(model_folder("Phi-4-mini-instruct"))
    with (folder / "model.safetensors").open("ab") as file:
        file.truncate(40)
    resolved = resolve_model(recipe("Phi-4-mini-instruct"))
    assert resolved.kind == "stand-in"
    assert "model.safetensors" in resolved.findings[0].message
    with pytest.raises(ModelNotFoundError, match="not on this machine"):
        resolve_model(recipe("Phi-4-mini-instruct", "real"))


def test_identity_follows_contents_and_not_places(recipe: MakeRecipe, model: Path, tmp_path: Path) -> None:
    first = resolve_model(recipe("./model"))
    model.rename(tmp_path / "moved")
    assert resolve_model(recipe("./moved")).identity == first.identity
    (tmp_path / "moved" / "config.json").write_text('{"architectures": ["Phi3ForCausalLM"]}')
    assert resolve_model(recipe("./moved")).identity != first.identity


def test_a_stand_ins_identity_follows_the_training_rows(recipe: MakeRecipe, tmp_path: Path) -> None:
    file = recipe("Phi-4-mini-instruct")
    first = resolve_model(file)
    assert resolve_model(file).identity == first.identity
    with (tmp_path / "train.jsonl").open("a") as rows:
        rows.write(json.dumps({"messages": [{"role": "user", "content": "new"}]}) + "\n")
    assert resolve_model(file).identity != first.identity


def test_a_resolved_model_survives_json(recipe: MakeRecipe) -> None:
    resolved = resolve_model(recipe("Phi-4-mini-instruct"))
    assert ResolvedModel.model_validate_json(resolved.model_dump_json()) == resolved


def test_a_stand_in_is_made_once(recipe: MakeRecipe) -> None:
    resolved = resolve_model(recipe("Phi-4-mini-instruct"))
    folder = materialize(resolved)
    before = (folder / "model.safetensors").stat()
    assert materialize(resolved) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == before.st_mtime_ns


def test_a_stand_in_without_training_rows_is_not_made(recipe: MakeRecipe, tmp_path: Path) -> None:
    file = recipe("Phi-4-mini-instruct")
    (tmp_path / "train.jsonl").unlink()
    resolved = resolve_model(file)
    with pytest.raises(NotFoundError, match=r"train\.jsonl"):
        materialize(resolved)
