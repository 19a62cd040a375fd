"""Prompt tuning, prefix tuning and P-tuning: trained vectors before each document, in batches of many documents too.

peft's own forward puts one prompt before a row of tokens, which in a packed row is before the first document only. So
the model itself is made to do it: hooks put the virtual tokens before every document of a batch, and take their hidden
states out again, so that whoever calls the model sees the rows that it gave. Text generation goes through peft, which
calls the model with embeddings or a filled cache; the hooks leave such calls alone. Each document sees what peft's
forward would show it alone: the tests compare the two.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from azft.errors import UsageError
from azft.techniques import PrefixTuning, PromptTuning, PTuning, VirtualTokens
from azft.training import adapters, attention

if TYPE_CHECKING:
    from torch import Tensor


def prepare_prompt_tuning(model: Any, technique: PromptTuning) -> Any:
    """Freeze the model and give it trained embeddings (fp32) before each document; peft's wrapper.

    Raises:
        UsageError: `init_text` is given and the model's folder has no tokenizer.
    """
    from peft import PromptTuningConfig

    wrapped = _wrap(model, PromptTuningConfig(**_common(model, technique), **_embeddings(model)))
    start = _first_words(model, technique)
    if start is not None and not start.is_meta:
        embeddings = model.get_input_embeddings().weight
        with torch.no_grad():
            wrapped.prompt_encoder["default"].embedding.weight.copy_(embeddings[start.to(embeddings.device)])
    return wrapped


def prepare_prefix_tuning(model: Any, technique: PrefixTuning) -> Any:
    """Freeze the model and give each layer trained keys and values (fp32) before each document's; peft's wrapper.

    Raises:
        UsageError: The model is no decoder; others take no keys and values from outside.
    """
    from peft import PrefixTuningConfig

    causal = adapters.task_type(model) == "CAUSAL_LM" or getattr(model.config, "num_key_value_heads", None)
    if model.config.is_encoder_decoder or not causal:
        raise UsageError(
            f"technique prefix-tuning: {type(model).__name__} takes no keys and values before its own.",
            fix="Take prompt-tuning or p-tuning, or a decoder model.",
        )
    config = PrefixTuningConfig(
        prefix_projection=technique.projection,
        encoder_hidden_size=technique.hidden_size or _width(model),
        **_common(model, technique),
    )
    return _wrap(model, config)


def prepare_p_tuning(model: Any, technique: PTuning) -> Any:
    """Freeze the model and give it a trained network that makes embeddings before each document; peft's wrapper."""
    from peft import PromptEncoderConfig

    config = PromptEncoderConfig(
        encoder_reparameterization_type=technique.encoder.upper(),
        encoder_hidden_size=technique.hidden_size or _width(model),
        **_common(model, technique),
        **_embeddings(model),
    )
    return _wrap(model, config)


def check_room(model: Any, technique: VirtualTokens, longest: int) -> None:
    """Refuse documents of up to `longest` tokens that don't fit the model's context beside the virtual ones."""
    context = getattr(model.config, "max_position_embeddings", None) or getattr(model.config, "n_positions", None)
    if context is not None and longest + technique.virtual_tokens > context:
        raise UsageError(
            f"Documents of up to {longest} tokens and {technique.virtual_tokens} virtual ones don't fit the model's "
            f"context of {context}.",
            fix=f"Lower training.max_length to {context - technique.virtual_tokens} or technique.virtual_tokens.",
        )


def install(model: Any) -> None:
    """Make a prompt-learning model put its virtual tokens before every document; others stay as they are."""
    if not getattr(model, "_is_prompt_learning", False):
        return
    # Said by peft in every generation: it counts the positions itself, virtual tokens included.
    warnings.filterwarnings("ignore", message="Position ids are not supported for parameter efficient tuning")
    inner = model.get_base_model()
    hook = _VirtualTokens(model)
    body = inner if inner.config.is_encoder_decoder else inner.base_model
    body.register_forward_pre_hook(hook.insert, with_kwargs=True)
    if body is not inner:  # of an encoder-decoder model come the decoder's states, which are without virtual tokens
        body.register_forward_hook(hook.remove)


def _common(model: Any, technique: VirtualTokens) -> dict[str, Any]:
    return {
        "num_virtual_tokens": technique.virtual_tokens,
        "num_transformer_submodules": 1,  # before the encoder's tokens only: peft uses none for the decoder either
        "task_type": adapters.task_type(model),
        "modules_to_save": adapters.trained_whole(model, ()),
    }


def _embeddings(model: Any) -> dict[str, Any]:
    """Sizes that peft would look for under names that not every family's configuration has."""
    return {"token_dim": _width(model), "num_attention_heads": model.config.num_attention_heads}


def _wrap(model: Any, config: Any) -> Any:
    wrapped = adapters.wrap(model.requires_grad_(False), config)
    install(wrapped)
    return wrapped


def _width(model: Any) -> int:
    return int(model.get_input_embeddings().weight.shape[1])


def _first_words(model: Any, technique: PromptTuning) -> Tensor | None:
    """Ids of the tokens whose embeddings the virtual ones start from, (virtual_tokens,); None: stay random."""
    wanted = technique.virtual_tokens
    if technique.init == "random":
        return None
    if technique.init == "vocabulary":
        return torch.randint(0, model.get_input_embeddings().weight.shape[0], (wanted,))
    from azft.data.tokenizer import load_tokenizer

    ids = load_tokenizer(Path(model.name_or_path)).encode(technique.init_text)
    return torch.tensor((list(ids) * (-(-wanted // len(ids))))[:wanted])


class _VirtualTokens:
    """The two hooks of one model. They work on calls with tokens, alone or packed (`document_lengths`) or padded."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._inserted: Tensor | None = None
        """Of the call that is running: which hidden states are the caller's, a mask of shape (tokens,)."""

    def insert(self, module: Any, args: tuple[Any, ...], given: dict[str, Any]) -> tuple[Any, dict[str, Any]] | None:
        """Before the model's body runs: give it what it would get from peft, for every document of the call."""
        del module
        self._inserted = None
        ids = args[0] if args else given.get("input_ids")
        if ids is None or not self._concerns(given):
            return None
        config = self._model.active_peft_config
        rows = _Rows(ids, given.get("document_lengths"), config.num_virtual_tokens)
        changed = {**given, "input_ids": ids}
        if changed.get("attention_mask") is not None:
            mask = changed["attention_mask"]
            changed["attention_mask"] = torch.cat([mask.new_ones(len(ids), rows.virtual), mask], 1)
        if config.peft_type == "PREFIX_TUNING":
            return (), self._with_prefix(changed, rows)
        del changed["input_ids"]
        embedded = self._model.get_base_model().get_input_embeddings()(ids)
        prompt = self._model.get_prompt(1)[0, : rows.virtual].to(embedded.dtype)
        changed["inputs_embeds"] = rows.before_each(prompt, embedded)
        if rows.lengths is not None:
            changed["document_lengths"] = tuple(length + rows.virtual for length in rows.lengths)
        if changed.get("position_ids") is not None:
            first = torch.arange(rows.virtual, device=ids.device)
            changed["position_ids"] = rows.before_each(first, changed["position_ids"] + rows.virtual)
        if changed.get("token_type_ids") is not None:
            changed["token_type_ids"] = rows.before_each(ids.new_zeros(rows.virtual), changed["token_type_ids"])
        self._inserted = rows.before_each(
            torch.zeros(rows.virtual, dtype=torch.bool, device=ids.device), torch.ones_like(ids[:1], dtype=torch.bool)
        )[0]
        return (), changed

    def remove(self, module: Any, args: tuple[Any, ...], output: Any) -> Any:
        """After the model's body ran: leave out the virtual tokens' hidden states."""
        del module, args
        if self._inserted is not None:
            output.last_hidden_state = output.last_hidden_state[:, self._inserted]
            self._inserted = None
        return output

    def _concerns(self, given: dict[str, Any]) -> bool:
        """Whether virtual tokens are still missing: peft's generation brings embeddings, or a cache that has them."""
        if self._model._adapters_disabled:
            return False
        cache = given.get("past_key_values")
        has_cache = cache is not None and cache.get_seq_length() > 0
        return not has_cache and given.get("inputs_embeds") is None and given.get("encoder_outputs") is None

    def _with_prefix(self, changed: dict[str, Any], rows: _Rows) -> dict[str, Any]:
        """Keys and values in a cache, as peft gives them; or to document attention, which knows no cache."""
        if changed.get("position_ids") is not None:
            changed["position_ids"] = changed["position_ids"] + rows.virtual
        if self._model.get_base_model().config._attn_implementation == attention.NAME:
            changed["prefix"] = [(layer.keys, layer.values) for layer in self._model.get_prompt(1).layers]
        else:
            changed["past_key_values"] = self._model.get_prompt(len(rows.ids))
        return changed


@dataclass(frozen=True)
class _Rows:
    """The tokens of a call, (rows, tokens); with `lengths`, one row that holds documents of these lengths."""

    ids: Tensor
    lengths: tuple[int, ...] | None
    virtual: int

    def before_each(self, first: Tensor, rest: Tensor) -> Tensor:
        """`first` (virtual, ...) put before each document of `rest` (rows, tokens, ...)."""
        if self.lengths is None:
            return torch.cat([first.expand(len(rest), *first.shape), rest], 1)
        parts = [part for document in torch.split(rest[0], list(self.lengths)) for part in (first, document)]
        return torch.cat(parts)[None]
