"""The table of renderings: how the rows of a task become tokens, for a given model.

A task names its rendering (`azft.tasks`). A new one is a row here and a module with its renderer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from azft.data.class_rendering import ClassRenderer
from azft.data.masking import ChatRenderer
from azft.data.pairs import PairRenderer
from azft.data.picture_rendering import PictureRenderer
from azft.data.prompts import PromptRenderer
from azft.data.rendering import Renderer
from azft.data.source_target import SourceTargetRenderer
from azft.data.span_rendering import SpanRenderer
from azft.data.tag_rendering import TagRenderer
from azft.data.template_probe import RefusalError
from azft.data.text_rendering import TextRenderer
from azft.data.tokenizer import ModelTokenizer
from azft.tasks import TASKS, Task


@dataclass(frozen=True, slots=True)
class Rendering:
    """What the recipe and the data say about rendering, besides the task."""

    prompt: str | None = None
    """The recipe's data.prompt; None: the task's."""
    labels: tuple[str, ...] = ()
    """What rows or tokens can be told to be, in order; () where the task knows no labels."""
    max_length: int | None = None
    several: bool = False
    """Whether a row may have several labels at once."""
    resolution: int | None = None
    """Pixels of a picture's side; None: the model's own."""


RENDERINGS: Mapping[str, Callable[[Task, ModelTokenizer, Rendering], Renderer]] = {
    "chat": lambda _task, tokenizer, _rendering: ChatRenderer(tokenizer),
    "text": lambda _task, tokenizer, _rendering: TextRenderer(tokenizer),
    "pair": lambda _task, tokenizer, _rendering: PairRenderer(tokenizer),
    "source-target": lambda task, tokenizer, rendering: SourceTargetRenderer(tokenizer, task, rendering.prompt),
    "class": lambda _task, tokenizer, rendering: ClassRenderer(tokenizer, rendering.labels, several=rendering.several),
    "tag": lambda _task, tokenizer, rendering: TagRenderer(tokenizer, rendering.labels),
    "span": lambda _task, tokenizer, rendering: SpanRenderer(tokenizer, rendering.max_length),
    "picture": lambda _task, tokenizer, rendering: PictureRenderer(tokenizer, rendering.resolution),
    "prompt": lambda task, tokenizer, rendering: PromptRenderer(tokenizer, task, rendering.prompt),
}


_A = {
    "decoder": "a decoder",
    "encoder": "an encoder",
    "encoder-decoder": "an encoder-decoder",
    "diffusion": "a diffusion model",
}


def renderer_for(task: str, tokenizer: ModelTokenizer, rendering: Rendering | None = None) -> Renderer:
    """The renderer of a task's rows for a model; `AzftError` where the model can't be trained on the task."""
    row = TASKS[task]
    name = row.rendering_for(tokenizer.model_kind)
    if name is None:
        raise RefusalError(
            "model-kind",
            f"The model in {tokenizer.folder} is {_A[tokenizer.model_kind]}, which can't do {task}.",
            fix="Choose another model: azft models lists them.",
        )
    return RENDERINGS[name](row, tokenizer, rendering or Rendering())
