"""What peft's adapters share: which head a model has, the saved form that plain peft loads, and the way back.

An adapter is what was trained beside an unchanged base model. Which weights those are is in `low_rank`, `ia3` and
`prompt_learning`; here is what happens to them afterwards.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import torch
from safetensors.torch import load_file, save_file

from azft.errors import AzftError, UsageError
from azft.files import atomic_path
from azft.training.painter import Painter

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
_HALF = (torch.bfloat16, torch.float16)

_HEADS = {
    "ForSequenceClassification": "SEQ_CLS",
    "ForTokenClassification": "TOKEN_CLS",
    "ForQuestionAnswering": "QUESTION_ANS",
}
"""How the names of transformers' classes end, and what peft calls the task of such a model."""


def task_type(model: Any) -> str | None:
    """The `TaskType` by which peft knows a transformers model, from its class and configuration; None: no such model.

    peft's plain wrapper then passes a model's own arguments on.
    """
    if isinstance(model, Painter):
        return None
    for ending, task in _HEADS.items():
        if type(model).__name__.endswith(ending):
            return task
    return "SEQ_2_SEQ_LM" if model.config.is_encoder_decoder else "CAUSAL_LM"


def new_heads(model: Any) -> list[str]:
    """Names of the modules that a classification or question answering model has on top of its backbone.

    They start from random weights, so they are always trained and saved. A language model's output head is none.
    """
    if task_type(model) not in _HEADS.values():
        return []
    with_weights = (name for name, child in model.named_children() if any(True for _ in child.parameters()))
    return [name for name in with_weights if name != model.base_model_prefix]


def trained_whole(model: Any, wanted: Sequence[str]) -> list[str] | None:
    """The modules that peft is to train whole, what the recipe names and new heads; None: no module.

    Raises:
        UsageError: A name hits no module with weights, or one that shares them with another.
    """
    for name in wanted:
        hits = [m for full, m in model.named_modules() if full == name or full.endswith(f".{name}")]
        if not any(True for m in hits for _ in m.parameters()):
            raise UsageError(
                f"technique.modules_to_save: no module of {type(model).__name__} is called `{name}`.",
                fix=f"The outermost ones are: {', '.join(n for n, _ in model.named_children())}.",
            )
        ends = (model.get_input_embeddings(), model.get_output_embeddings())
        if ties_embeddings(model) and any(m is end for m in hits for end in ends):
            raise UsageError(
                f"technique.modules_to_save: `{name}` shares its weights in {type(model).__name__}: the embeddings are "
                "the output head too, and a copy of one would part them.",
                fix="Leave it out, or take technique full, or freeze with head: true.",
            )
    return sorted({*wanted, *new_heads(model)}) or None


def ties_embeddings(model: Any) -> bool:
    """Whether the output head is the embeddings."""
    head, embeddings = model.get_output_embeddings(), model.get_input_embeddings()
    return head is not None and head.weight is embeddings.weight


def wrap(model: Any, config: Any) -> Any:
    """The model in peft's wrapper, everything trained in at least fp32: small updates would be lost in 16 bits."""
    from peft import get_peft_model

    with _without_notice():
        wrapped: Any = get_peft_model(model, config)
    for parameter in wrapped.parameters():
        if parameter.requires_grad and parameter.dtype in _HALF:
            parameter.data = parameter.data.float()
    return wrapped


def attach(model: Any, folder: Path) -> Any:
    """Put a saved adapter onto a freshly loaded base model; peft's wrapper."""
    from peft import PeftModel

    from azft.training import prompt_learning

    with _without_notice():
        wrapped = PeftModel.from_pretrained(model, folder, local_files_only=True).eval()
    _unround(wrapped, folder, "default")
    prompt_learning.install(wrapped)
    return wrapped


def merges(folder: Path) -> bool:
    """Whether the adapter in a folder can become part of the base model's weights."""
    config = orjson.loads((folder / CONFIG).read_bytes())
    return config["peft_type"] in ("LORA", "IA3")


def save(model: Any, folder: Path, dtype: torch.dtype) -> None:
    """Write `adapter_model.safetensors` and `adapter_config.json` into an existing folder.

    Written here and not by peft's own method, which asks a hub about the base model, adds a card, and writes module
    names in another order each time.
    """
    del dtype
    config = model.peft_config["default"].to_dict() | _as_plain_lora(model)
    for key, value in config.items():
        if isinstance(value, set | frozenset):
            config[key] = sorted(value)
    if _loses_second_texts(model):
        config["task_type"] = None
    config |= {"inference_mode": True, "base_model_name_or_path": Path(model.get_base_model().name_or_path).name}
    with atomic_path(folder / WEIGHTS) as path:
        save_file(trained_tensors(model), path, metadata={"format": "pt"})
    with atomic_path(folder / CONFIG) as path:
        path.write_bytes(orjson.dumps(config, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS, default=str))


def _loses_second_texts(model: Any) -> bool:
    """Whether peft's class for question answering would leave out `token_type_ids`, by which the model knows a context.

    It does so (0.21) with all adapters but virtual tokens. Without a task, `PeftModel.from_pretrained` takes its
    general class, which hands on what it is given; the new head is named in `modules_to_save`: nothing else is lost.
    """
    config = model.peft_config["default"]
    tells_texts_apart = getattr(model.get_base_model().config, "type_vocab_size", 0) > 1
    return config.task_type == "QUESTION_ANS" and not config.is_prompt_learning and tells_texts_apart


def verify(model: Any, folder: Path) -> None:
    """Load a saved adapter back as peft does, and compare every weight with the model's; `AzftError` if one differs."""
    with _without_notice():
        model.load_adapter(str(folder), adapter_name="saved", local_files_only=True)
    try:
        _unround(model, folder, "saved")
        trained, saved = trained_tensors(model), _tensors(model, "saved")
        wrong = sorted(trained.keys() ^ saved.keys())
        wrong += [name for name in sorted(trained.keys() & saved.keys()) if not torch.equal(trained[name], saved[name])]
        if wrong or not trained:
            raise AzftError(
                f"The adapter in {folder} is not the one that was trained: {wrong[0] if wrong else 'empty'}."
            )
    finally:
        model.delete_adapter("saved")


def _unround(model: Any, folder: Path, name: str) -> None:
    """Give modules that are trained whole the fp32 they are saved in: peft loads them in the base's 16 bits."""
    from peft import set_peft_model_state_dict
    from peft.utils.other import ModulesToSaveWrapper

    wrappers = [one for one in model.modules() if isinstance(one, ModulesToSaveWrapper) and name in one.modules_to_save]
    copies = [wrapper.modules_to_save[name] for wrapper in wrappers]
    if not any(parameter.dtype in _HALF for copy in copies for parameter in copy.parameters()):
        return
    for copy in copies:
        copy.float()
    set_peft_model_state_dict(model, load_file(folder / WEIGHTS), adapter_name=name)


def trained_tensors(model: Any) -> dict[str, torch.Tensor]:
    """What is saved, by peft's names, on the CPU: an adapter for the base as it is stored.

    After PiSSA the base in memory lacks what the adapter started with, W = R + s·B0·A0. What was learned is
    s·(B·A - B0·A0) = s·[B, -B0]·[A; A0]: a plain LoRA of twice the rank, as in peft's conversion guide.
    """
    tensors = _tensors(model, "default")
    for name, start in initial_adapter(model).items():
        with_start = (tensors[name], start) if ".lora_A." in name else (tensors[name], -start)
        tensors[name] = torch.cat(with_start, 0 if ".lora_A." in name else 1)
    return tensors


def initial_adapter(model: Any) -> dict[str, torch.Tensor]:
    """A and B as PiSSA took them out of the base weights, by peft's names; empty for what left the base alone."""
    start: dict[str, torch.Tensor] = getattr(model, "azft_initial_adapter", {})
    return start


def remember_start(model: Any) -> None:
    """Keep a copy of the A and B that PiSSA has just taken out of the base weights."""
    tensors = _tensors(model, "default")
    model.azft_initial_adapter = {
        name: tensor.clone() for name, tensor in tensors.items() if ".lora_A." in name or ".lora_B." in name
    }


def _as_plain_lora(model: Any) -> dict[str, Any]:
    """What a LoRA's configuration says once initialisation is done: it need not, and can't, be done again."""
    config = model.peft_config["default"]
    if config.peft_type != "LORA":
        return {}
    plain: dict[str, Any] = {"init_lora_weights": True, "eva_config": None}
    if initial_adapter(model):
        # Twice the rank, yet the same scale: alpha / rank, or alpha / sqrt(rank).
        grown = 2**0.5 if config.use_rslora else 2
        plain |= {
            "r": 2 * config.r,
            "lora_alpha": grown * config.lora_alpha,
            "rank_pattern": {name: 2 * rank for name, rank in config.rank_pattern.items()},
            "alpha_pattern": {name: grown * alpha for name, alpha in config.alpha_pattern.items()},
        }
    return plain


@contextmanager
def _without_notice() -> Iterator[None]:
    """Keep peft's advice out of a step's log where it is already followed, or about transformers' names of tomorrow."""
    with warnings.catch_warnings():
        for message in (
            ".*is_gradient_checkpointing",
            "PiSSA changes the base weights",  # what is saved is converted
            ".*with eva initialization used with low_cpu_mem_usage=False",  # there would be nothing to train from
        ):
            warnings.filterwarnings("ignore", message=message)
        yield


def _tensors(model: Any, name: str) -> dict[str, torch.Tensor]:
    from peft import get_peft_model_state_dict

    state = get_peft_model_state_dict(model, adapter_name=name, save_embedding_layers=False)
    return {key: value.detach().cpu().contiguous() for key, value in state.items()}
