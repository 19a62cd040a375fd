"""Which columns the training rows have, and by what names the registry's pipelines are told of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from azft.data.column_names import guess_columns
from azft.data.readers import first_row
from azft.findings import Finding, Severity
from azft.recipe_file import RecipeFile
from azft.targets.table import Scalar, Setting, finding
from azft.tasks import TASKS

INPUTS: Mapping[str, Mapping[str, str]] = {
    "chat-completion": {},
    "text-generation": {"text": "text_key", "prompt": "text_key", "completion": "ground_truth_key"},
    "summarization": {"document": "document_key", "summary": "summary_key"},
    "translation": {"source": "source_lang", "target": "target_lang"},
    "question-answering": {"question": "question_key", "context": "context_key", "answers": "answers_key"},
    "text-classification": {"text": "sentence1_key", "text_pair": "sentence2_key", "label": "label_key"},
    "token-classification": {"tokens": "token_key", "tags": "tag_key"},
}
"""Of each task that has a pipeline in the registry: the task's column, and the pipeline's input that names the file's.
The chat pipeline reads `messages` and can't be told otherwise."""
SQUAD = {"answer_start_key": "answer_start", "answer_text_key": "text"}
"""Inside the column of answers: SQuAD's own names, the only ones that azft reads."""


def columns_given(recipe_file: RecipeFile) -> dict[str, str]:
    """The task's columns that the first training row has, and the file's names of them; {} without a row."""
    recipe = recipe_file.recipe
    first = first_row(recipe_file.resolve(recipe.data.train))
    if first is None:
        return {}
    named = {**recipe.data.columns, **guess_columns(recipe.task, recipe.data.columns, first.data)}
    every = {column.name: named.get(column.name, column.name) for column in TASKS[recipe.task].columns}
    return {column: name for column, name in every.items() if first.data.get(name) is not None}


def column_inputs(setting: Setting) -> dict[str, Scalar]:
    """The pipeline's inputs that name columns."""
    task = setting.recipe.task
    inputs: dict[str, Scalar] = {
        INPUTS[task][column]: name for column, name in setting.columns.items() if column in INPUTS.get(task, {})
    }
    return {**inputs, **SQUAD} if task == "question-answering" else inputs


def column_findings(recipe_file: RecipeFile, columns: Mapping[str, str]) -> Iterator[Finding]:
    """What the registry's pipeline of a task can't read, though azft can."""
    task = recipe_file.recipe.task
    own = "Take modes.maap.pipeline: azft, which reads them."
    if task == "text-classification" and "labels" in columns:
        message = "The registry's pipeline learns one label a row, and the rows have several."
        yield finding(recipe_file, "data.train", "data-column", Severity.ERROR, message, own)
    if task == "question-answering" and not _is_squad(recipe_file, columns):
        message = "The registry's pipeline reads a context and SQuAD's answers ({text, answer_start}); the rows differ."
        yield finding(recipe_file, "data.train", "data-column", Severity.ERROR, message, own)


def _is_squad(recipe_file: RecipeFile, columns: Mapping[str, str]) -> bool:
    first = first_row(recipe_file.resolve(recipe_file.recipe.data.train))
    if first is None or not {"context", "answers"} <= columns.keys():
        return first is None
    answers = first.data[columns["answers"]]
    return isinstance(answers, dict) and set(SQUAD.values()) <= answers.keys()
