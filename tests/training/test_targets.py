"""LoRA's target modules are resolved against the real model; a name that hits nothing is an error."""

from __future__ import annotations

import pytest

from azft.errors import UsageError
from azft.training.low_rank import resolve_targets
from tests.training.tiny import tiny_model


@pytest.mark.parametrize(
    ("architecture", "expected"),
    [
        ("phi3", ["down_proj", "gate_up_proj", "o_proj", "qkv_proj"]),
        ("llama", ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]),
    ],
)
def test_all_linear_is_every_linear_module_but_the_head(architecture: str, expected: list[str]) -> None:
    assert resolve_targets(tiny_model(architecture), "all-linear") == expected


def test_unfused_names_on_a_fused_model_are_an_error_that_says_so() -> None:
    """peft would adapt o_proj alone and say nothing."""
    with pytest.raises(UsageError) as caught:
        resolve_targets(tiny_model("phi3"), ["q_proj", "k_proj", "v_proj", "o_proj"])
    assert caught.value.message == (
        "technique.target_modules: no linear module of Phi3ForCausalLM is called `q_proj`, `k_proj`, `v_proj`."
    )
    assert caught.value.fix.startswith("`q_proj` is part of `qkv_proj` here.")
    assert "There are: down_proj (2), gate_up_proj (2), o_proj (2), qkv_proj (2)." in caught.value.fix


@pytest.mark.parametrize("name", ["layers", "norm", "embed_tokens", "roj", "Q_PROJ"])
def test_a_name_must_be_a_whole_linear_module(name: str) -> None:
    with pytest.raises(UsageError, match=f"`{name}`"):
        resolve_targets(tiny_model("llama"), ["q_proj", name])


def test_longer_names_and_the_head_may_be_given() -> None:
    names = ["model.layers.0.self_attn.q_proj", "mlp.up_proj", "lm_head"]
    assert resolve_targets(tiny_model("llama"), names) == sorted(names)
