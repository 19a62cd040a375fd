"""The README.md of a packaged model: what it is, how it was made, and what it gained, in figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from azft import __version__
from azft.data.model_folder import READING_HEADS
from azft.parameters import PackageParameters
from azft.tasks import TASKS
from azft.training.objectives import OBJECTIVES


def model_card(
    parameters: PackageParameters,
    *,
    training: Mapping[str, Any],
    evaluation: Mapping[str, Any],
    is_adapter: bool,
    has_base: bool,
) -> str:
    """Markdown with the front matter that model hubs read. The JSON of the finetune and evaluate steps goes in."""
    settings = training["parameters"]["training"]
    technique = training["parameters"]["technique"]
    trained, total = training["trainable_parameters"], training["total_parameters"]
    objective = OBJECTIVES[training["objective"]]
    paints = objective.paints is not None
    told = "tokens" if objective.writes else "pictures" if paints else "answers"
    library = "diffusers" if paints else "transformers"
    lines = [
        "---",
        f"base_model: {_quoted(parameters.base_model)}",
        f"library_name: {library if parameters.merge or not is_adapter else 'peft'}",
        f"pipeline_tag: {TASKS[parameters.task].pipeline_tag}",
        f"tags: [azft, {technique['name']}]",
        "---",
        f"# {parameters.model_name}",
        "",
        f"`{parameters.base_model}`, fine-tuned with azft {__version__}. {TASKS[parameters.task].title}.",
        "",
        "## Before and after",
        f"On {evaluation['rows']:,} held-out rows ({evaluation['split']}), {evaluation['label_tokens']:,} {told}:",
        "",
        "| | base | tuned |",
        "| --- | ---: | ---: |",
        *(
            f"| {name.replace('_', ' ')} | {evaluation['base'][name]:.4g} | {evaluation['tuned'][name]:.4g} |"
            for name in TASKS[parameters.task].metrics
            if name in evaluation["base"]
        ),
        *_about_texts(evaluation),
        "",
        "## How it was made",
        f"- Technique: {_described(technique)}; {trained:,} of {total:,} weights ({trained / total:.2%}) were trained.",
        f"- {training['steps']:,} steps of {settings['global_batch_size']} sequences; {training['epochs']:.3g} epochs.",
        f"- Tokens: {training['tokens']:,}; the weights are those after step {training['result_step']:,}.",
        f"- Learning rate: {settings['learning_rate']:g}, {settings['schedule']}.",
        *([] if paints else [f"- Sequences: at most {settings['max_length']:,} tokens, {_together(training)}."]),
        f"- Arithmetic: {training['precision']}; seed {settings['seed']}.",
        "",
        "## What is here",
    ]
    if paints:
        lines += _of_pictures(parameters, is_adapter)
    elif parameters.merge or not is_adapter:
        lines.append(
            "- This folder is a whole model: load it with transformers, vLLM or any server that reads its format."
        )
    if is_adapter and not paints:
        lines.append(f"- `adapter/` is the trained adapter alone: put it onto `{parameters.base_model}` with peft.")
    if has_base:
        lines.append("- `base/` is the base model, because these virtual tokens can't be merged into its weights.")
    if is_adapter and not (parameters.merge or paints) and objective.head.endswith(READING_HEADS):
        lines.append(f"- The base is loaded as `{objective.head}`; the adapter brings its head.")
        if labels := training["labels"]:
            lines.append(f"- Labels, by number: {', '.join(f'{n} `{name}`' for n, name in enumerate(labels))}.")
    return "\n".join([*lines, ""])


def _of_pictures(parameters: PackageParameters, is_adapter: bool) -> list[str]:
    """How what is here of a model that paints is loaded."""
    lines = []
    if parameters.merge or not is_adapter:
        lines.append("- This folder is a whole model: `StableDiffusionPipeline.from_pretrained` of diffusers loads it.")
    if is_adapter:
        lines.append(
            f"- `adapter/` is the UNet's LoRA alone. On `{parameters.base_model}`: `pipeline.load_lora_weights` of "
            "diffusers, or `PeftModel.from_pretrained(pipeline.unet, ...)` of peft."
        )
    return lines


def _about_texts(evaluation: Mapping[str, Any]) -> list[str]:
    """What the metrics over generated texts were measured on."""
    rows = evaluation.get("generated_rows")
    if not rows:
        return []
    return ["", f"Metrics over texts are of what the models wrote, greedily, for the first {rows:,} of them."]


def _together(training: Mapping[str, Any]) -> str:
    """How documents shared a pass."""
    if OBJECTIVES[training["objective"]].pads:
        return "padded to the longest of a batch"
    return f"packing {'on' if training['parameters']['training']['packing'] else 'off'}"


def _described(technique: Mapping[str, Any]) -> str:
    told = {k: v for k, v in technique.items() if k != "name" and v not in (None, False, "", "default", [], {})}
    settings = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in told.items())
    return f"{technique['name']} ({settings})" if settings else str(technique["name"])


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
