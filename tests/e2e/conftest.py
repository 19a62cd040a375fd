"""One emulator a module, because it takes seconds to start; each test has a folder and a recipe of its own."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from tests.e2e.world import RECIPE, Cloud, Person, shop

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Cloud]:
    """Azure, for the module; `PIPELINES` and `SETTINGS` of the module say with what."""
    folder = tmp_path_factory.mktemp("cloud")
    person = shop(folder / "shop")
    wanted = [person.folder / "recipe.yaml"]
    for pipeline in getattr(request.module, "PIPELINES", ()):
        out = f"{pipeline}.json"
        person.azft("plan", "--mode", "maap", "--set", f"modes.maap.pipeline={pipeline}", "--out", out, "-o", "none")
        wanted.append(person.folder / out)
    made = Cloud(folder, *wanted, **getattr(request.module, "SETTINGS", {}))
    yield made
    made.stop()


@pytest.fixture
def person(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Person]:
    """Somebody who signed in to that Azure, with data and a recipe that makes no plan of another test's."""
    before = cloud.tell("GET", "settings")
    recipe = RECIPE.replace("name: bakery", f"name: bakery-{next(_numbers)}")
    yield shop(tmp_path_factory.mktemp("shop"), cloud, recipe)
    cloud.faults()
    cloud.settings(**before)
