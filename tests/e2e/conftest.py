"""One emulator a module, because it takes seconds to start; each test has a folder of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.world import Cloud, Person, shop


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
    """Somebody who signed in to that Azure, with a recipe and data."""
    yield shop(tmp_path_factory.mktemp("shop"), cloud)
    cloud.faults()
