"""LoRA, DoRA and QLoRA through peft: which modules they adapt, and how A and B start.

Target modules are resolved against the real model before peft sees them, because peft passes over a name that hits
nothing as long as another one hits: `q_proj, k_proj, v_proj, o_proj` on a model with a fused `qkv_proj` would adapt
`o_proj` alone.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch

from azft.errors import UsageError
from azft.techniques import Dora, LowRank, Qlora
from azft.training import adapters
from azft.training.painter import TRAINED, Painter
from azft.training.stand_in import MARK

_FUSED = {
    "q_proj": ("qkv_proj", "query_key_value", "c_attn", "Wqkv", "W_pack"),
    "k_proj": ("qkv_proj", "query_key_value", "c_attn", "Wqkv", "W_pack"),
    "v_proj": ("qkv_proj", "query_key_value", "c_attn", "Wqkv", "W_pack"),
    "gate_proj": ("gate_up_proj",),
    "up_proj": ("gate_up_proj",),
}
"""What a missing module is often fused into, to say so."""

Batches = Callable[[int], Iterator[dict[str, Any]]]
"""Least number of tokens in each -> batches of training data as a model's arguments."""

_NUMBER = re.compile(r"\.(\d+)\.")
"""A layer's number in a module's name."""
_EVA_BATCHES = 16
"""Batches that EVA sees, over and over until its directions settle; its paper settles within some hundred sequences."""
_EVA_SPREAD = 2.0
"""peft's `rho`: how many times its share a module's rank may become when EVA hands the ranks out."""


def linear_modules(model: Any) -> dict[str, torch.nn.Module]:
    """Every module that can be adapted, by its full name, but for the output head and new heads."""
    from transformers.pytorch_utils import Conv1D

    output = model.get_output_embeddings()
    heads = tuple(adapters.new_heads(model))
    kinds = (torch.nn.Linear, Conv1D)
    part = f"{TRAINED}." if isinstance(model, Painter) else ""
    return {
        name: m
        for name, m in model.named_modules()
        if isinstance(m, kinds) and m is not output and name.split(".")[0] not in heads and name.startswith(part)
    }


def resolve_targets(model: Any, wanted: str | Sequence[str], key: str = "target_modules") -> list[str]:
    """The module names to hand to peft, sorted.

    `all-linear` becomes the last part of every linear module's name. A given name hits modules whose full name is it,
    or ends with `.` and it, as in peft; the output head may be named. Of a model that paints only the UNet is adapted,
    whose modules have the names of the other parts': there full names are given.

    Raises:
        UsageError: A name hits nothing; the message lists what there is.
    """
    modules = linear_modules(model)
    last_parts = Counter(name.rpartition(".")[2] for name in modules)
    if isinstance(wanted, str):
        return sorted(modules if isinstance(model, Painter) else last_parts)
    head = [
        n for n, m in model.named_modules() if m is model.get_output_embeddings() and isinstance(m, torch.nn.Linear)
    ]
    names = [*modules, *head]
    missing = [name for name in wanted if not any(n == name or n.endswith(f".{name}") for n in names)]
    if missing or not wanted:
        there = ", ".join(f"{name} ({count})" for name, count in sorted(last_parts.items()))
        hints = [
            f"`{name}` is part of `{fused}` here."
            for name in missing
            for fused in _FUSED.get(name, ())
            if fused in last_parts
        ]
        raise UsageError(
            f"technique.{key}: no linear module of {type(model).__name__} is called "
            f"{', '.join(f'`{name}`' for name in missing)}."
            if missing
            else f"technique.{key} is empty.",
            fix=" ".join([*dict.fromkeys(hints), f"There are: {there}. Or write all-linear."]),
        )
    if isinstance(model, Painter):
        return sorted(n for n in modules if any(n == name or n.endswith(f".{name}") for name in wanted))
    return sorted(set(wanted))


def prepare(model: Any, technique: LowRank, batches: Batches | None = None) -> Any:
    """Freeze the model and put adapters (fp32, from the current seed) on its target modules; peft's wrapper.

    Raises:
        UsageError: Modules, layers or ranks don't fit the model; or EVA has too little data, or none.
    """
    from peft import EvaConfig, LoraConfig
    from transformers.pytorch_utils import Conv1D

    technique = fitted(model, technique)
    targets = resolve_targets(model, technique.target_modules)
    adapted = _adapted(model, targets, technique.layers)
    _check_patterns(technique, adapted)
    empty = any(p.is_meta for p in model.parameters())  # there are no values to start from, only shapes
    init = "default" if empty else technique.init
    if init.startswith("pissa"):
        _check_singular_values(model, technique, adapted)
    config = LoraConfig(
        r=technique.rank,
        lora_alpha=technique.alpha,  # peft types it as int and divides by the rank either way
        lora_dropout=technique.dropout,
        target_modules=targets,
        use_rslora=technique.use_rslora,
        use_dora=isinstance(technique, Dora) or (isinstance(technique, Qlora) and technique.use_dora),
        init_lora_weights=True if init == "default" else init,
        eva_config=EvaConfig(rho=_EVA_SPREAD, adjust_scaling_factors=True) if init == "eva" else None,
        layers_to_transform=technique.layers or None,
        rank_pattern=dict(technique.rank_pattern),
        alpha_pattern=dict(technique.alpha_pattern),
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in adapted.values()),
        modules_to_save=adapters.trained_whole(model, technique.modules_to_save),
        task_type=adapters.task_type(model),
    )
    wrapped = adapters.wrap(model, config)
    if init == "eva":
        _start_from_inputs(wrapped, technique, batches)
    if init.startswith("pissa"):
        adapters.remember_start(wrapped)
    return wrapped


def fitted(model: Any, technique: LowRank) -> LowRank:
    """The technique as a stand-in can take it, which has fewer layers: numbers beyond them mean its last one.

    Any other model's is as the recipe has it, and a layer that is missing there is refused.
    """
    if not getattr(model.config, MARK, False):
        return technique
    last = max((int(found[1]) for name in linear_modules(model) if (found := _NUMBER.search(name))), default=0)

    def clipped(pattern: Mapping[str, Any]) -> dict[str, Any]:
        return {_NUMBER.sub(lambda n: f".{min(int(n[1]), last)}.", name): value for name, value in pattern.items()}

    changes = {
        "layers": sorted({min(layer, last) for layer in technique.layers}),
        "rank_pattern": clipped(technique.rank_pattern),
        "alpha_pattern": clipped(technique.alpha_pattern),
    }
    return technique.model_copy(update={key: new for key, new in changes.items() if new != getattr(technique, key)})


def _adapted(model: Any, targets: Sequence[str], layers: Sequence[int]) -> dict[str, torch.nn.Module]:
    """The modules that will be adapted; with `layers`, those under a numbered list of blocks with such a number."""
    modules = {n: m for n, m in model.named_modules() if any(n == t or n.endswith(f".{t}") for t in targets)}
    if not layers:
        return modules
    numbers = {name: int(found[1]) for name in modules if (found := _NUMBER.search(name))}
    missing = sorted(set(layers) - set(numbers.values()))
    if missing:
        last = max(numbers.values(), default=-1)
        raise UsageError(
            f"technique.layers: {type(model).__name__} has no layer {missing[0]} to adapt.",
            fix=f"Layers are numbered from 0 to {last}.",
        )
    return {name: module for name, module in modules.items() if numbers.get(name) in layers}


def _check_patterns(technique: LowRank, adapted: dict[str, torch.nn.Module]) -> None:
    """A pattern that hits nothing is a mistake; peft passes over it."""
    for key, pattern in (("rank_pattern", technique.rank_pattern), ("alpha_pattern", technique.alpha_pattern)):
        for name in pattern:
            if not any(re.match(rf"(.*\.)?({name})$", full) for full in adapted):  # as peft matches it
                raise UsageError(
                    f"technique.{key}: no adapted module's name ends with `{name}`.",
                    fix=f"One is called: {next(iter(adapted), '(none)')}.",
                )


def _check_singular_values(model: Any, technique: LowRank, adapted: dict[str, torch.nn.Module]) -> None:
    highest = max([technique.rank, *technique.rank_pattern.values()])
    smallest = min(size for module in adapted.values() for size in module.get_parameter("weight").shape)
    if highest > smallest:
        raise UsageError(
            f"technique.init: {technique.init} can't find {highest} singular values in a weight that has {smallest}.",
            fix=f"Take a rank of at most {smallest}, or init: default.",
        )
    if adapters.ties_embeddings(model) and any(m is model.get_output_embeddings() for m in adapted.values()):
        raise UsageError(
            f"technique.init: {technique.init} rewrites the weights that it adapts, and this output head's are the "
            "embeddings too.",
            fix="Leave the head out of technique.target_modules, or take init: default.",
        )


def _start_from_inputs(model: Any, technique: LowRank, batches: Batches | None) -> None:
    """EVA: A becomes the main directions of each module's inputs, and ranks go where the inputs vary most."""
    from peft import initialize_lora_eva_weights

    if batches is None:
        raise UsageError(
            "technique.init: eva starts from training data, and none was given.", fix="Take init: default."
        )
    least = round(technique.rank * _EVA_SPREAD)
    sample = [batch for batch, _ in zip(batches(least), range(_EVA_BATCHES), strict=False)]
    if not sample:
        raise UsageError(
            f"technique.init: eva needs batches of at least {least} tokens for rank {technique.rank} (of a "
            "classification: documents), and the training data have not as many.",
            fix="Take a lower rank, more rows, or init: default.",
        )
    model = model.to(sample[0]["input_ids"].device)
    _check_inputs(model, sample, least)
    initialize_lora_eva_weights(
        model,
        dataloader=[_Inputs(batch) for batch in sample],
        prepare_model_inputs_fn=lambda inputs, _config: inputs,
        prepare_layer_inputs_fn=lambda given, _inputs, _name: _rows(given),
        gather_distributed_inputs=False,  # every rank sees the same
        show_progress_bar=False,
    )


@torch.no_grad()
def _check_inputs(model: Any, sample: Sequence[dict[str, Any]], least: int) -> None:
    """Refuse a sample in which a module sees too few inputs at once: peft would wait for more of them for ever.

    So it is with what reads one vector a document (BERT's pooler), and may be with experts that few tokens reach.
    """
    most: dict[str, int] = {}

    def counted(name: str) -> Any:
        def count(_module: Any, inputs: tuple[torch.Tensor, ...]) -> None:
            most[name] = max(most.get(name, 0), len(_rows(inputs)))

        return count

    adapted = {
        n: m for n, m in model.named_modules() if hasattr(m, "lora_A") and not isinstance(m, torch.nn.ModuleDict)
    }
    hooks = [module.register_forward_pre_hook(counted(name)) for name, module in adapted.items()]
    try:
        for batch in sample:
            model(**batch)
    finally:
        for hook in hooks:
            hook.remove()
    short = [name for name in adapted if most.get(name, 0) < least]
    if short:
        name = short[0].removeprefix("base_model.model.")
        raise UsageError(
            f"technique.init: eva needs {least} inputs of each module at a time; `{name}` sees "
            f"{most.get(short[0], 0)}.",
            fix="Take a lower rank, leave the module out of technique.target_modules, or take init: default.",
        )


def _rows(given: Any) -> torch.Tensor:
    """A module's inputs as (inputs, width), in a piece: peft looks at them as one row of numbers."""
    states: torch.Tensor = given[0] if isinstance(given, tuple | list) else given
    return states.reshape(-1, states.shape[-1]).contiguous()


class _Inputs(dict[str, Any]):
    """A model's arguments that are where they belong; peft would try to move every number among them."""

    def to(self, _device: torch.device) -> _Inputs:
        return self
