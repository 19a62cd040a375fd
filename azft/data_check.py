"""The data's check together with the model's: token lengths and the chat template, where the model is on this machine.

`azft.data.check` knows no models and the catalog no data; this is where the two meet.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from azft.catalog import materialize, resolve_model
from azft.catalog.modules import module_findings
from azft.catalog.resolve import ResolvedModel
from azft.data.check import DataReport, check_data
from azft.data.template_trial import TemplateTrial
from azft.errors import AzftError, FindingsError, MissingDependencyError
from azft.extras import needs
from azft.findings import Finding, Severity, by_severity
from azft.recipe import RATE_ABOVE, RATE_BELOW
from azft.recipe_file import RecipeFile
from azft.tasks import TASKS

if TYPE_CHECKING:
    from azft.data.rendering import Renderer


def check_recipe(recipe_file: RecipeFile, *, near_duplicates: bool = True, processes: int | None = None) -> DataReport:
    """Everything that can be found wrong with a recipe's data and model before it runs."""
    try:
        model: ResolvedModel | None = resolve_model(recipe_file)
        found: Sequence[Finding] = ()
    except FindingsError as error:
        model, found = None, error.findings
    report = _check(recipe_file, model, near_duplicates=near_duplicates, processes=processes)
    return replace(report, findings=tuple(by_severity([*report.findings, *found])))


def check_for_plan(recipe_file: RecipeFile, model: ResolvedModel | None) -> Sequence[Finding]:
    """The same for a plan, which has resolved the model (None: it could not) and reports what is wrong with it."""
    return _check(recipe_file, model, near_duplicates=True, processes=None).findings


def _check(
    recipe_file: RecipeFile, model: ResolvedModel | None, *, near_duplicates: bool, processes: int | None
) -> DataReport:
    renderer, found = _renderer(recipe_file, model)
    real = model is not None and model.path is not None
    report = check_data(
        recipe_file,
        near_duplicates=near_duplicates,
        processes=processes,
        # A stand-in has the family's template, and a tokenizer of its own whose counts say nothing about the model's.
        lengths=renderer.count_tokens if renderer is not None and real else None,
        trial=_trial(renderer) if renderer is not None else None,
        context_length=model.context_length if model else None,
    )
    modules = module_findings(recipe_file, materialize(model)) if renderer is not None and model is not None else ()
    own = [*_unsuited(recipe_file), *learning_rate_findings(recipe_file)]
    return replace(report, findings=tuple(by_severity([*report.findings, *found, *modules, *own])))


def _unsuited(recipe_file: RecipeFile) -> Iterator[Finding]:
    """What the task's models can't be trained by."""
    recipe = recipe_file.recipe
    for key, message, fix in TASKS[recipe.task].refusals(recipe.technique, recipe.distribution):
        line = recipe_file.line_of(*key.split("."))
        yield Finding("task-unsuited", Severity.ERROR, message, fix, str(recipe_file.path), line)


def learning_rate_findings(recipe_file: RecipeFile) -> Iterator[Finding]:
    """A warning of a rate so far from the usual one that the model forgets all it knows, or learns nothing."""
    recipe = recipe_file.recipe
    rate, usual = recipe.learning_rate, recipe.usual_learning_rate
    times = round(max(rate / usual, usual / rate), 3)
    if times <= (RATE_ABOVE if rate > usual else RATE_BELOW):
        return
    where, what = ("above", "forgets what it knows") if rate > usual else ("below", "learns next to nothing")
    message = (
        f"A learning rate of {rate:g} is {times:,.0f} times {where} the usual {usual:g} of {recipe.technique.name} for "
        f"{recipe.task}: the model {what}."
    )
    fix = f"Say {usual:g}, or leave training.learning_rate out."
    line = recipe_file.line_of("training", "learning_rate")
    yield Finding("training-learning-rate", Severity.WARNING, message, fix, str(recipe_file.path), line)


def _trial(renderer: Renderer) -> TemplateTrial:
    return TemplateTrial(renderer.text, renderer.control_texts, by_shape=renderer.refuses_by_shape)


def _limit(recipe_file: RecipeFile, model: ResolvedModel) -> int:
    """Most tokens in a sequence."""
    return min(recipe_file.recipe.training.max_length, model.context_length or recipe_file.recipe.training.max_length)


def _renderer(recipe_file: RecipeFile, model: ResolvedModel | None) -> tuple[Renderer | None, Sequence[Finding]]:
    """What renders rows and counts tokens, and what is wrong with the tokenizer or template."""
    if model is None:
        return None, ()
    try:
        with needs("data", "Rendering rows"):
            from azft.data.prepare_findings import not_splittable
            from azft.data.renderers import Rendering, renderer_for
            from azft.data.template_probe import RefusalError
            from azft.data.tokenizer import load_tokenizer
    except MissingDependencyError:  # lengths stay unchecked, and the report says so
        return None, ()
    place = (str(recipe_file.path), recipe_file.line_of("model"))
    try:
        recipe = recipe_file.recipe
        data = recipe.data
        limit = _limit(recipe_file, model)
        rendering = Rendering(data.prompt, tuple(data.labels), limit, resolution=data.resolution)
        renderer = renderer_for(recipe.task, load_tokenizer(materialize(model)), rendering)
    except RefusalError as refusal:
        return None, [refusal.finding(*place)]
    except AzftError as error:
        if model.path is None:  # no rows to train a stand-in's tokenizer on, which the data check says better
            return None, ()
        return None, [Finding("model-tokenizer", Severity.ERROR, error.message, error.fix, *place)]
    if recipe.data.long_rows == "split" and not renderer.splits:
        found = not_splittable(recipe.task, str(recipe_file.path), recipe_file.line_of("data.long_rows"))
        return renderer, (*renderer.findings, found)
    return renderer, renderer.findings
