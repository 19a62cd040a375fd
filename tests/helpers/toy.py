"""The real pipeline with toy work: azft's own component.yaml files and environments, and main.py files of a few lines.

What a toy step does is told by files in the folder that AZFT_TOY names: `<step>.fail` holds an exit status,
`<step>.wait` makes the step wait until the file is gone. Each start appends a line to `starts.txt`.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from azft.catalog import ResolvedModel
from azft.catalog.folder import folder_identity
from azft.recipe_file import RecipeFile, load_recipe

MAIN = """
import argparse, json, os, pathlib, signal, sys, time
step = pathlib.Path(__file__).parent.name
arguments = sys.argv[1:]
values = {name.removeprefix("--"): value for name, value in zip(arguments[::2], arguments[1::2])}
toy = pathlib.Path(os.environ["AZFT_TOY"])
with (toy / "starts.txt").open("a") as file:
    file.write(f"{step}\\n")
print(f"{step} starts", flush=True)
if step == "finetune":
    mark = pathlib.Path(values["checkpoints"]) / "step.txt"
    done = int(mark.read_text()) if mark.exists() else 0
    print(f"from step {done}", flush=True)
    def save(*_):
        mark.write_text("7")
        print("checkpoint saved", flush=True)
        sys.exit(143)
    signal.signal(signal.SIGTERM, save)
    (mark.parent / "step.txt").write_text(str(max(done, 3)))
    with open(pathlib.Path(values["metrics"]) / "metrics.jsonl", "a") as file:
        file.write(json.dumps({"step": 1, "loss": 2.5}) + "\\n")
while (toy / f"{step}.wait").exists():
    time.sleep(0.02)
if (toy / f"{step}.fail").exists():
    sys.exit(int((toy / f"{step}.fail").read_text()))
output = {"prepare": "dataset", "finetune": "trained", "evaluate": "evaluation", "package": "packaged"}[step]
read = {name: pathlib.Path(path) for name, path in values.items() if name != output}
text = "".join(file.read_text() for name in ("train", "dataset", "trained") if name in read
               for file in ([read[name]] if read[name].is_file() else sorted(read[name].rglob("*"))))
(pathlib.Path(values[output]) / "result.txt").write_text(f"{step}({text.strip()})")
"""

PACKAGE = b"toy steps import nothing of azft"

RECIPE = """\
name: toy
task: chat-completion
model: ./model
data: {train: train.jsonl, validation: validation.jsonl}
technique: {name: lora}
modes: {local: {weights: real}}
"""


class Toy:
    """A folder with a recipe, a model and data, and control over the toy steps."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / ".azft"
        self.control = folder / "toy"

    def recipe(self, *overrides: str) -> RecipeFile:
        return load_recipe(self.folder / "recipe.yaml", overrides=overrides, environment={})

    def starts(self) -> list[str]:
        file = self.control / "starts.txt"
        return file.read_text().split() if file.exists() else []

    def fail(self, step: str, status: int = 1) -> None:
        (self.control / f"{step}.fail").write_text(str(status))

    def hold(self, step: str) -> None:
        (self.control / f"{step}.wait").touch()

    def release(self, step: str) -> None:
        for suffix in ("wait", "fail"):
            (self.control / f"{step}.{suffix}").unlink(missing_ok=True)


def make_toy(folder: Path) -> Toy:
    """Lay out the folder: recipe, data, model, toy components, and a sitecustomize.py that child processes load."""
    toy = Toy(folder)
    toy.control.mkdir(parents=True)
    (folder / "recipe.yaml").write_text(RECIPE)
    row = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}
    for name in ("train", "validation"):  # the same bytes, as many rows as the fine-tuning service takes
        (folder / f"{name}.jsonl").write_text((json.dumps(row) + "\n") * 10)
    model = folder / "model"
    model.mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (model / name).write_text("{}")
    source = Path(__file__).parents[2] / "components"
    shutil.copytree(source, folder / "bundled" / "components", ignore=shutil.ignore_patterns("__pycache__"))
    for step in ("prepare", "finetune", "evaluate", "package"):
        (folder / "bundled" / "components" / step / "main.py").write_text(MAIN)
    shutil.copytree(source.parent / "environments", folder / "bundled" / "environments")
    (folder / "site").mkdir()
    (folder / "site" / "sitecustomize.py").write_text(
        "import os\n"
        "if os.environ.get('AZFT_TOY_BUNDLED'):\n"
        "    from tests.helpers.toy import use_toy_components\n"
        "    use_toy_components(os.environ['AZFT_TOY_BUNDLED'])\n"
    )
    return toy


def use_toy_components(bundled: str | Path) -> None:
    """Make this process (one that a test started) take components and environments from a toy folder."""
    from azft import staging

    staging.bundled = lambda name: Path(bundled) / name
    staging.package_zip = lambda: PACKAGE


def any_folder_is_a_model(recipe_file: RecipeFile) -> ResolvedModel:
    """In place of `resolve_model`, which would refuse the toy's empty model."""
    path = recipe_file.folder / "model"
    return ResolvedModel(kind="folder", name="model", path=path, identity=folder_identity(path), description="a toy")
