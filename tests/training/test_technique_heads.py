"""Techniques on models with other heads than a language model's: trained whole, saved, and never in 4 bits."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from azft.errors import AzftError, UsageError
from azft.training import adapters, models
from azft.training.techniques import prepare
from tests.training.technique_rows import move, row
from tests.training.test_techniques import relative
from tests.training.tiny import tiny_model

COMMON: dict[str, Any] = {
    "vocab_size": 96, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": 64, "num_labels": 3, "pad_token_id": 0,
}  # fmt: skip
HEADS = {
    "bert": "AutoModelForSequenceClassification",
    "roberta": "AutoModelForTokenClassification",
    "distilbert": "AutoModelForQuestionAnswering",
    "llama": "AutoModelForSequenceClassification",
}
SIZES = {
    "distilbert": {"dim": 32, "hidden_dim": 48, "n_layers": 2, "n_heads": 4, "num_labels": 2},
    "llama": {"num_key_value_heads": 2},
}
EVERYWHERE = ["freeze", "lora", "dora", "qlora", "ia3", "prompt-tuning", "p-tuning"]


def build(family: str, head: str | None = None, **changes: Any) -> Any:
    import transformers

    config = transformers.AutoConfig.for_model(family, **{**COMMON, **SIZES.get(family, {}), **changes})
    torch.manual_seed(0)
    return getattr(transformers, head or HEADS[family]).from_config(config).eval()


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Backbones without heads, as most are published."""
    made = {}
    for family in HEADS:
        made[family] = tmp_path_factory.mktemp(family)
        build(family, "AutoModel").save_pretrained(made[family])
    return made


def load(folder: Path, family: str, which: str, *, seed: int, dtype: torch.dtype = torch.float32) -> Any:
    torch.manual_seed(seed)
    technique: Any = row(which)
    quantization = technique if which == "qlora" else None
    labels = [] if family == "distilbert" else ["a", "b", "c"]
    return models.load_model(folder, head=HEADS[family], labels=labels, dtype=dtype, quantization=quantization)


def answers(model: Any) -> torch.Tensor:
    ids = torch.arange(3, 30)[None]
    with torch.no_grad():
        output = model(input_ids=ids, attention_mask=torch.ones_like(ids))
    return torch.cat([value.flatten() for name, value in output.items() if "logits" in name])


@pytest.mark.parametrize("which", EVERYWHERE)
@pytest.mark.parametrize("family", HEADS)
def test_the_new_head_is_trained_and_saved_with_the_rest(
    family: str, which: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    model = prepare(load(folders[family], family, which, seed=1), row(which))
    moving = [name for name, p in model.named_parameters() if p.requires_grad]
    heads = adapters.new_heads(models.unwrapped(model))
    assert heads
    assert all(any(f".{head}." in f".{name}" for name in moving) for head in heads)
    assert not any("lora" in name and f".{head}." in f".{name}" for name in moving for head in heads)
    move(model).eval()
    if which == "freeze":
        return
    adapters.save(model, tmp_path, torch.float32)
    adapters.verify(model, tmp_path)
    # The base's own head is drawn anew here, from other random numbers: it must not matter.
    attached = adapters.attach(load(folders[family], family, which, seed=2), tmp_path)
    torch.testing.assert_close(answers(attached), answers(model), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("which", ["lora", "dora", "ia3", "prompt-tuning"])
@pytest.mark.parametrize("family", HEADS)
def test_a_head_that_was_trained_on_a_base_in_bf16_is_what_was_saved(
    family: str, which: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    """Its weights are fp32, peft lays the copy that it loads in the base's type: every such run ended in an error."""
    model = prepare(load(folders[family], family, which, seed=1).to(torch.bfloat16), row(which))
    for weights in model.parameters():
        if weights.requires_grad:
            weights.data = weights.data.float()
            weights.data += 1e-3 * torch.randn_like(weights.data)  # bits that bf16 has not
    adapters.save(model, tmp_path, torch.bfloat16)
    adapters.verify(model, tmp_path)
    tensors = load_file(tmp_path / adapters.WEIGHTS)
    assert all(tensor.dtype is torch.float32 for tensor in tensors.values())
    name = next(iter(tensors))
    tensors[name] = tensors[name].to(torch.bfloat16).float()
    save_file(tensors, tmp_path / adapters.WEIGHTS, metadata={"format": "pt"})
    with pytest.raises(AzftError, match="not the one that was trained"):
        adapters.verify(model, tmp_path)


def test_a_new_head_is_no_warning_and_any_other_weight_that_lacks_is(
    folders: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    load(folders["bert"], "bert", "lora", seed=1)
    assert "LOAD REPORT" not in caplog.text
    weights = load_file(folders["bert"] / "model.safetensors")
    del weights["encoder.layer.1.output.dense.bias"]
    shutil.copytree(folders["bert"], tmp_path / "damaged")
    save_file(weights, tmp_path / "damaged/model.safetensors", metadata={"format": "pt"})
    load(tmp_path / "damaged", "bert", "lora", seed=1)
    assert "encoder.layer.1.output.dense.bias" in caplog.text


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
@pytest.mark.parametrize("which", [which for which in EVERYWHERE if which != "freeze"])
@pytest.mark.parametrize("family", ["bert", "llama"])
def test_what_is_trained_beside_weights_in_16_bits_stays_in_32(
    family: str, which: str, dtype: torch.dtype, folders: dict[str, Path], tmp_path: Path
) -> None:
    model = move(prepare(load(folders[family], family, which, seed=1, dtype=dtype), row(which))).eval()
    adapters.save(model, tmp_path, dtype)
    adapters.verify(model, tmp_path)
    attached = adapters.attach(load(folders[family], family, which, seed=2, dtype=dtype), tmp_path)
    trained, found = adapters.trained_tensors(model), adapters.trained_tensors(attached)
    assert trained.keys() == found.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in trained.items())
    with torch.autocast("cpu", dtype):
        torch.testing.assert_close(answers(attached), answers(model), rtol=2e-2, atol=2e-2)


def test_an_output_head_trained_beside_a_lora_in_16_bits_is_saved_as_it_is(tmp_path: Path) -> None:
    model = tiny_model("llama", vocab_size=96, tie_word_embeddings=False).to(torch.bfloat16)
    model = move(prepare(model, row("lora-head")))
    adapters.save(model, tmp_path, torch.bfloat16)
    adapters.verify(model, tmp_path)


@pytest.mark.parametrize("which", ["lora", "ia3"])
def test_plain_peft_tells_question_and_context_apart(which: str, tmp_path: Path) -> None:
    """peft's own class for the task forgets BERT's token types, and its answers would be others."""
    from peft import PeftModel

    model = prepare(build("bert", "AutoModelForQuestionAnswering", num_labels=2), row(which))
    move(model).eval()
    adapters.save(model, tmp_path, torch.float32)
    adapters.verify(model, tmp_path)
    plain = PeftModel.from_pretrained(build("bert", "AutoModelForQuestionAnswering", num_labels=2), tmp_path).eval()
    ids = torch.arange(3, 30)[None]
    given = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    second = {**given, "token_type_ids": (ids > 12).long()}
    with torch.no_grad():
        wanted = models.unwrapped(model)(**second).start_logits
        assert relative(plain(**second).start_logits, wanted) < 1e-5
        assert relative(models.unwrapped(model)(**given).start_logits, wanted) > 1e-3  # they do say something


def test_a_new_head_is_never_kept_in_4_bits(folders: dict[str, Path]) -> None:
    for family in HEADS:
        model = load(folders[family], family, "qlora", seed=0)
        quantised = {name.split(".")[0] for name, p in model.named_parameters() if hasattr(p, "quant_state")}
        assert quantised == {model.base_model_prefix}


def test_prefix_tuning_is_refused_where_nothing_takes_keys_and_values_from_outside() -> None:
    for family in ("bert", "roberta", "distilbert"):
        with pytest.raises(UsageError, match="takes no keys and values before its own") as caught:
            prepare(build(family), row("prefix-tuning"))
        assert "prompt-tuning" in caught.value.fix
    move(prepare(build("llama"), row("prefix-tuning")))


@pytest.mark.parametrize("which", ["freeze", "lora", "dora", "ia3", "prompt-tuning", "p-tuning"])
def test_encoder_decoder_models_are_trained_in_both_halves(which: str, tmp_path: Path) -> None:
    import transformers

    config = transformers.T5Config(
        vocab_size=96, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_decoder_layers=2, num_heads=4,
        decoder_start_token_id=0, pad_token_id=0,
    )  # fmt: skip

    def make() -> Any:
        torch.manual_seed(0)
        return transformers.T5ForConditionalGeneration(config).eval()

    model = move(prepare(make(), row(which))).eval()
    moving = " ".join(name for name, p in model.named_parameters() if p.requires_grad)
    given = {
        "input_ids": torch.arange(3, 20)[None],
        "attention_mask": torch.ones(1, 17, dtype=torch.int64),
        "decoder_input_ids": torch.arange(5, 12)[None],
    }
    if which == "freeze":
        assert all(half in moving for half in ("encoder.block.1.", "decoder.block.1."))
        return
    if which in ("lora", "dora", "ia3"):
        assert all(half in moving for half in ("encoder.", "decoder."))
    with torch.no_grad():
        through_peft = model(**given).logits
        # The model itself, with tokens: what training calls. Its hooks must give what peft's forward gives.
        through_hooks = model.get_base_model()(**given).logits
    torch.testing.assert_close(through_hooks, through_peft, rtol=1e-5, atol=1e-5)
    assert model.peft_config["default"].task_type == "SEQ_2_SEQ_LM"
    adapters.save(model, tmp_path, torch.float32)
    adapters.verify(model, tmp_path)


def test_padding_changes_nothing_for_virtual_tokens() -> None:
    model = move(prepare(build("bert"), row("prompt-tuning"))).get_base_model().eval()
    ids, longer = torch.arange(3, 20)[None], torch.arange(3, 40)[None]
    padded = torch.cat([ids, torch.zeros(1, 20, dtype=torch.int64)], 1)
    mask = torch.stack([torch.arange(37) < 17, torch.ones(37, dtype=torch.bool)]).long()
    with torch.no_grad():
        alone = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
        together = model(input_ids=torch.cat([padded, longer]), attention_mask=mask).logits
    torch.testing.assert_close(together[:1], alone, rtol=1e-5, atol=1e-5)


def test_a_language_models_output_head_is_no_new_head() -> None:
    assert adapters.new_heads(tiny_model("llama")) == []
    assert adapters.task_type(tiny_model("llama")) == "CAUSAL_LM"
