"""`azft init` and `azft schema`: what is laid out is valid, clean, and what editors complete from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

import azft as package
from azft.errors import UsageError
from azft.recipe_schema import json_schema
from scripts.make_example_chats import COUNTS, files
from tests.helpers.terminal import azft


def test_the_recipe_is_valid_and_its_data_without_fault(tmp_path: Path) -> None:
    scaffold = package.init(tmp_path / "My demo!")
    recipe = package.load_recipe(scaffold.recipe)
    assert recipe.recipe.name == "My-demo"
    report = package.check(recipe)
    assert [finding for finding in report.findings if finding.severity != "info"] == []
    assert {file.role: file.rows for file in report.files} == COUNTS


@pytest.mark.parametrize(("folder", "name"), [("Für Übung 1", "Fur-Ubung-1"), ("café", "cafe"), ("日本", None)])
def test_a_folders_letters_stay_letters_in_the_recipes_name(folder: str, name: str | None, tmp_path: Path) -> None:
    found = package.load_recipe(package.init(tmp_path / folder).recipe).recipe.name
    assert found == (name or package.load_recipe(package.init(tmp_path / "---").recipe).recipe.name)


def test_the_first_line_points_editors_at_the_schema(tmp_path: Path) -> None:
    scaffold = package.init(tmp_path)
    assert scaffold.recipe.read_text().splitlines()[0] == "# yaml-language-server: $schema=recipe.schema.json"
    assert json.loads((tmp_path / "recipe.schema.json").read_text()) == json_schema()


def test_the_schema_accepts_the_recipe_and_refuses_typos(tmp_path: Path) -> None:
    Draft202012Validator.check_schema(json_schema())
    validator = Draft202012Validator(json_schema())
    recipe = yaml.safe_load(package.init(tmp_path).recipe.read_text())
    assert list(validator.iter_errors(recipe)) == []
    for broken in (
        {**recipe, "modle": "x"},
        {**recipe, "task": "chat"},
        {**recipe, "training": {"epochz": 1}},
        {**recipe, "training": {"epochs": "many"}},
        {**recipe, "technique": {"name": "lora", "ranks": 1}},
        {**recipe, "technique": {"name": "loar"}},
        {key: value for key, value in recipe.items() if key != "data"},
    ):
        assert list(validator.iter_errors(broken)), broken


def test_every_key_of_the_schema_is_described() -> None:
    schema = json_schema()
    for definition in (schema, *schema["$defs"].values()):
        for name, value in definition.get("properties", {}).items():
            target = schema["$defs"].get(value.get("$ref", "").rpartition("/")[2], {})
            assert value.get("description") or target.get("description"), name


def test_commented_out_values_are_the_defaults(tmp_path: Path) -> None:
    """What the template shows behind a # must be what happens without it."""
    scaffold = package.init(tmp_path)
    recipe = package.load_recipe(scaffold.recipe).recipe
    plain = recipe.to_dict()
    assert plain["output"]["merge"] is None  # wherever it is possible, which here it is
    plain["output"]["merge"] = recipe.merges
    plain["data"]["long_rows"] = recipe.long_rows  # the task's
    for key, value in (
        ("technique.dropout", 0.0),
        ("training.schedule", "cosine"),
        ("training.warmup_ratio", 0.03),
        ("training.packing", True),
        ("training.precision", "auto"),
        ("training.seed", 42),
        ("data.long_rows", "drop"),
        ("data.validation_split", 0.1),
        ("distribution.strategy", "none"),
        ("output.merge", True),
    ):
        section, name = key.split(".")
        assert plain[section][name] == value, key
        shown = f"{str(value).lower()}" if isinstance(value, bool) else str(value)
        assert (
            f"# {'  ' if section in {'distribution', 'output'} else ''}{name}: {shown}" in scaffold.recipe.read_text()
        )


def test_nothing_is_overwritten_unless_forced(tmp_path: Path) -> None:
    package.init(tmp_path)
    (tmp_path / "recipe.yaml").write_text("mine")
    (tmp_path / "test.jsonl").unlink()
    with pytest.raises(UsageError, match=r"recipe\.yaml") as caught:
        package.init(tmp_path)
    assert "--force" in caught.value.fix
    assert (tmp_path / "recipe.yaml").read_text() == "mine"
    assert not (tmp_path / "test.jsonl").exists()
    package.init(tmp_path, force=True)
    assert (tmp_path / "recipe.yaml").read_text() != "mine"


MODELS = (
    "smollm2-135m-instruct",
    "./models/with space",
    "azureml://registries/azureml/models/Phi-4/versions/7",
    "a: b # c",
)


@pytest.mark.parametrize("model", MODELS)
def test_any_model_can_be_put_into_the_recipe(tmp_path: Path, model: str) -> None:
    assert package.load_recipe(package.init(tmp_path, model=model).recipe).recipe.model == model


def test_a_file_in_the_folders_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert azft("init", str(tmp_path / "file")).code == 2


def test_the_command_says_what_is_what_and_what_next(tmp_path: Path) -> None:
    out = azft("init", "demo", cwd=tmp_path).out
    assert "demo/train.jsonl         180 rows to learn from" in out
    assert out.endswith("Next: azft submit demo/recipe.yaml --mode local\n")


def test_the_example_chats_are_what_the_script_writes() -> None:
    folder = Path(package.__file__).parent / "templates" / "chat-completion"
    for name, content in files().items():
        assert (folder / name).read_text(encoding="utf-8") == content, "run scripts/make_example_chats.py"


def test_the_example_has_system_turns_and_conversations_of_several_turns() -> None:
    rows = [json.loads(line) for line in files()["train.jsonl"].splitlines()]
    assert 0.2 < sum(row["messages"][0]["role"] == "system" for row in rows) / len(rows) < 0.6
    assert sum(len(row["messages"]) > 3 for row in rows) > 30
