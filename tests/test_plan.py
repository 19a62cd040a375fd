"""A plan's hash says what decides the result, and nothing else."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from azft import staging
from azft.files import canonical_json
from azft.modes.local import LocalMode
from azft.plan import Plan, make_plan
from azft.plan_checks import changes_since
from azft.recipe_file import load_recipe
from tests.helpers.toy import PACKAGE, Toy, any_folder_is_a_model, make_toy


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    monkeypatch.setattr(staging, "package_zip", lambda: PACKAGE)
    monkeypatch.setattr(sys.modules["azft.plan"], "resolve_model", any_folder_is_a_model)
    monkeypatch.setattr("azft.data_check.check_for_plan", lambda *_: ())
    return make_toy(tmp_path / "one")


def planned(folder: Path, *overrides: str) -> Plan:
    recipe_file = load_recipe(folder / "recipe.yaml", overrides=overrides, environment={})
    return make_plan(recipe_file, "local")


def test_the_same_recipe_elsewhere_and_later_is_the_same_plan(toy: Toy, tmp_path: Path) -> None:
    first = planned(toy.folder)
    shutil.copytree(toy.folder, tmp_path / "two")
    second = planned(tmp_path / "two")
    assert second.hash == first.hash
    assert second.created > first.created
    assert second.run_name == f"toy-{first.hash[:8]}"


@pytest.mark.parametrize(
    "override",
    [
        "training.seed=1",
        "technique.rank=4",
        "technique.name=full",
        "evaluation.samples=1",
        "output.merge=false",
        "description=other",
        "data.long_rows=split",
        "data.test=train.jsonl",
    ],
)
def test_whatever_the_recipe_says_is_in_the_hash(toy: Toy, override: str) -> None:
    other = planned(toy.folder, override)
    assert other.hash != planned(toy.folder).hash


def test_contents_of_data_and_model_and_code_are_in_the_hash(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = [planned(toy.folder).hash]
    (toy.folder / "train.jsonl").write_text("{}\n")
    seen.append(planned(toy.folder).hash)
    (toy.folder / "model" / "config.json").write_text('{"a": 1}')
    seen.append(planned(toy.folder).hash)
    monkeypatch.setattr(staging, "package_zip", lambda: b"other code")
    seen.append(planned(toy.folder).hash)
    assert len(set(seen)) == 4


def test_a_renamed_data_file_is_the_same_data_but_not_under_another_format(toy: Toy) -> None:
    first = planned(toy.folder)
    (toy.folder / "train.jsonl").rename(toy.folder / "rows.jsonl")
    assert planned(toy.folder, "data.train=rows.jsonl").hash == first.hash
    (toy.folder / "rows.jsonl").rename(toy.folder / "rows.json")
    assert planned(toy.folder, "data.train=rows.json").hash != first.hash


def test_json_round_trip(toy: Toy) -> None:
    plan = planned(toy.folder)
    again = Plan.from_json(plan.to_json())
    assert again == plan
    assert again.computed_hash() == plan.hash
    assert changes_since(again) == []


def test_an_edited_plan_is_stale(toy: Toy) -> None:
    plan = planned(toy.folder)
    data = plan.model_dump(mode="json")
    data["recipe"]["training"]["epochs"] = 99
    assert changes_since(Plan.from_json(canonical_json(data))) == ["the plan itself was edited"]


def test_missing_data_is_named(toy: Toy) -> None:
    plan = planned(toy.folder)
    (toy.folder / "train.jsonl").unlink()
    assert "train data" in changes_since(plan)[0]
    assert "gone" in changes_since(plan)[0]


def test_the_local_mode_plans_its_ranks(toy: Toy) -> None:
    recipe = toy.recipe("modes.local.processes=2", "distribution.strategy=ddp")
    assert LocalMode(toy.root).plan(recipe).processes == 2
