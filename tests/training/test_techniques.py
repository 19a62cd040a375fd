"""Every technique is exact: its gradients, what plain peft makes of its saved form, merging, and what it counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
import torch
from torch.nn import functional as F

from azft.data.tokenizer import load_tokenizer
from azft.techniques import TECHNIQUES as PARAMETERS
from azft.techniques import Lora, Qlora
from azft.training import adapters, models
from azft.training.batches import assemble
from azft.training.probe import token_loss
from azft.training.techniques import TECHNIQUES, TrainingData, prepare, trainable_share
from tests.helpers.tokens import tokenizer_folder
from tests.training.technique_rows import ROWS, move, row
from tests.training.tiny import (
    ARCHITECTURES,
    Float64,
    gradients,
    open_train,
    random_documents,
    save_model,
    tiny_dataset,
    tiny_model,
    worst_difference,
)

ADAPTERS = [name for name in ROWS if PARAMETERS[ROWS[name]["name"]].is_adapter]
MERGED = [name for name in ADAPTERS if PARAMETERS[ROWS[name]["name"]].merges]
VIRTUAL = ["prompt-tuning", "prefix-tuning", "p-tuning"]
DOCUMENTS = random_documents(5, seed=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> TrainingData:
    return TrainingData(open_train(tiny_dataset(tmp_path_factory.mktemp("data"))), 0, torch.device("cpu"))


def load(folder: Path, which: str) -> Any:
    technique = row(which)
    quantization = technique if isinstance(technique, Qlora) else None
    return models.load_model(folder, dtype=torch.float32, quantization=quantization)


def trained(folder: Path, which: str, data: TrainingData) -> Any:
    torch.manual_seed(0)
    return move(prepare(load(folder, which), row(which), data)).eval()


def relative(one: torch.Tensor, reference: torch.Tensor) -> float:
    return float((one - reference).norm() / reference.norm())


def by_documents(model: Any, *, peft: bool) -> torch.Tensor:
    """Mean loss the naive way: eager attention, one document at a time, through peft's own forward."""
    inner = models.unwrapped(model)
    inner.set_attn_implementation("eager")
    losses = []
    for tokens, mask in DOCUMENTS:
        ids = torch.tensor(tokens)[None]
        caller = model if peft else inner
        logits = caller(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits[0, -len(tokens) :]
        counted = torch.tensor(mask[1:])
        losses.append(F.cross_entropy(logits[:-1][counted], ids[0, 1:][counted], reduction="none"))
    return torch.cat(losses).mean()


@pytest.mark.parametrize(
    ("architecture", "which"),
    [
        *((architecture, which) for architecture in ("llama", "phi3") for which in ("freeze", "dora", "ia3")),
        *((architecture, which) for architecture in ARCHITECTURES for which in VIRTUAL),
    ],
)
def test_packed_gradients_equal_one_document_at_a_time_through_peft(architecture: str, which: str) -> None:
    with Float64():
        reference, packed = (move(prepare(tiny_model(architecture).double(), row(which)).double()) for _ in range(2))
        expected = by_documents(reference, peft=which != "freeze")
        expected.backward()
        batch = assemble(DOCUMENTS)
        loss = token_loss(packed, one_document=False)(batch) / len(batch.labels)
        loss.backward()
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-12)
    assert worst_difference(gradients(reference), gradients(packed)) < 1e-10


@pytest.mark.parametrize("which", [name for name in ROWS if name not in {*PARAMETERS, "lora-eva"}])
def test_every_variant_has_the_gradients_of_its_formula(which: str, folder: Path, data: TrainingData) -> None:
    """In fp32, because 4-bit weights have no other; the tolerance is its rounding."""
    is_adapter = which in ADAPTERS
    reference = trained(folder, which, data)
    by_documents(reference, peft=is_adapter).backward()
    packed = trained(folder, which, data)
    batch = assemble(DOCUMENTS)
    (token_loss(packed, one_document=False)(batch) / len(batch.labels)).backward()
    assert worst_difference(gradients(reference), gradients(packed)) < 1e-4


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", [(4, 32), (6, 96), (3, 160), (10, 66), (5, 7), (8, 128), (2, 2, 48)], ids=str)
def test_four_bit_weights_come_back_rightly_whatever_their_rows_are(
    shape: tuple[int, ...], dtype: torch.dtype, folder: Path
) -> None:
    """A block may reach over the end of a row, which bitsandbytes' kernel for CPUs with AVX-512 gets wrong."""
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    load(folder, "qlora")  # repairs it, where it is needed
    weights = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=dtype)
    packed, state = quantize_4bit(weights, blocksize=64, quant_type="nf4")
    halves = torch.stack([packed.flatten() >> 4, packed.flatten() & 15], 1).flatten()[: weights.numel()]
    scales = state.absmax.repeat_interleave(64)[: weights.numel()]
    expected = (state.code[halves.long()] * scales).reshape(shape).to(dtype)
    torch.testing.assert_close(
        dequantize_4bit(packed, state), expected, rtol=1e-2 if dtype != torch.float32 else 0, atol=0
    )


def test_qlora_has_the_gradients_of_lora_on_the_dequantised_weights(folder: Path) -> None:
    from bitsandbytes.functional import dequantize_4bit

    quantised = load(folder, "qlora")
    plain = models.load_model(folder, dtype=torch.float32)
    rounded = 0
    with torch.no_grad():
        for name, parameter in quantised.named_parameters():
            if getattr(parameter, "quant_state", None) is not None:
                weight = dequantize_4bit(parameter.data, parameter.quant_state)
                assert 0 < float((plain.get_parameter(name) - weight).abs().max()) < 0.2 * float(weight.abs().max())
                plain.get_parameter(name).copy_(weight)
                rounded += 1
    assert rounded == 14, "every linear weight but the output head's"
    found = []
    for model, technique in ((quantised, row("qlora")), (plain, Lora(name="lora", rank=4))):
        torch.manual_seed(0)
        prepared = move(prepare(model, technique))
        batch = assemble(DOCUMENTS)
        token_loss(prepared, one_document=False)(batch).backward()
        found.append(gradients(prepared))
    assert worst_difference(*found) < 1e-5


@pytest.mark.parametrize("which", VIRTUAL)
def test_virtual_tokens_work_with_gradient_checkpointing(which: str) -> None:
    found: list[dict[str, torch.Tensor]] = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        model = move(prepare(tiny_model("llama"), row(which)))
        module = token_loss(model, one_document=False)
        if checkpointing:
            model.get_base_model().activation_checkpointing_enable({"use_reentrant": False})
        module.train()(assemble(DOCUMENTS)).backward()
        found.append(gradients(model))
    assert worst_difference(*found) < 1e-6


@pytest.mark.parametrize("which", ADAPTERS)
def test_plain_peft_loads_the_adapter_onto_the_unchanged_base(
    which: str, folder: Path, data: TrainingData, tmp_path: Path
) -> None:
    from peft import PeftModel

    model = trained(folder, which, data)
    adapters.save(model, tmp_path, torch.float32)
    adapters.verify(model, tmp_path)
    ids = torch.arange(3, 30)[None]
    with torch.no_grad():
        loaded = PeftModel.from_pretrained(load(folder, which), tmp_path).eval()(input_ids=ids).logits
        expected = model(input_ids=ids).logits
        base = models.load_model(folder, dtype=torch.float32)(input_ids=ids).logits
    assert relative(loaded, expected) < 1e-5
    assert relative(loaded[:, -27:], base) > 1e-3, "it has an effect"


@pytest.mark.parametrize("which", ["lora", "lora-pissa-quick", "lora-eva", "qlora-dora", "ia3", *VIRTUAL])
def test_the_saved_bytes_are_the_same_each_time(which: str, folder: Path, data: TrainingData, tmp_path: Path) -> None:
    saved = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        adapters.save(trained(folder, which, data), tmp_path / name, torch.float32)
        saved.append({file.name: file.read_bytes() for file in (tmp_path / name).iterdir()})
    assert saved[0] == saved[1]
    assert set(saved[0]) == {"adapter_model.safetensors", "adapter_config.json"}
    config = orjson.loads(saved[0]["adapter_config.json"])
    assert config["inference_mode"]
    assert str(folder) not in str(config)


@pytest.mark.parametrize("which", [name for name in MERGED if name != "lora-eva"])  # a LoRA, and slow to start
def test_merged_weights_compute_what_base_and_adapter_do(
    which: str, folder: Path, data: TrainingData, tmp_path: Path
) -> None:
    from azft.training.package import merge

    adapters.save(trained(folder, which, data), tmp_path, torch.float32)
    ids = torch.arange(3, 30)[None]
    base = models.load_model(folder, dtype=torch.float32)
    names = {name: value.shape for name, value in base.state_dict().items()}
    merged = merge(base, tmp_path)
    assert {name: value.shape for name, value in merged.state_dict().items()} == names
    both = adapters.attach(models.load_model(folder, dtype=torch.float32), tmp_path)
    with torch.no_grad():
        assert relative(merged(input_ids=ids).logits, both(input_ids=ids).logits) < 1e-5


@pytest.mark.parametrize("which", [name for name in ROWS if name != "lora-eva"])  # it hands ranks out by the data
def test_the_share_that_is_trained_is_known_without_weights(which: str, folder: Path, data: TrainingData) -> None:
    counted = models.parameter_counts(prepare(load(folder, which), row(which), data))
    assert trainable_share(folder, row(which)) == counted
    assert 0 < counted[0] < counted[1] or which == "full"


def test_eva_moves_ranks_to_where_the_inputs_vary_most_and_keeps_their_sum(folder: Path, data: TrainingData) -> None:
    model = prepare(load(folder, "lora-eva"), row("lora-eva"), data)
    modules = [module for module in model.modules() if hasattr(module, "lora_A")]
    ranks = [module.r["default"] for module in modules]
    assert len(set(ranks)) > 1
    assert sum(ranks) == 4 * 14, "modules that got none are gone, and their rank went elsewhere"
    for module in modules:
        rows = module.lora_A["default"].weight
        torch.testing.assert_close(rows @ rows.T, torch.eye(len(rows)), atol=1e-4, rtol=0)  # directions
        assert float(module.lora_B["default"].weight.detach().abs().max()) == 0


@pytest.mark.parametrize("which", ["lora-pissa", "lora-pissa-quick", "dora-pissa"])
def test_pissa_starts_from_the_base_models_own_outputs(which: str, folder: Path) -> None:
    ids = torch.arange(3, 30)[None]
    base = models.load_model(folder, dtype=torch.float32)
    with torch.no_grad():
        expected = base(input_ids=ids).logits
        weight = base.model.layers[0].self_attn.q_proj.weight.clone()
        model = prepare(base, row(which))
        assert relative(model(input_ids=ids).logits, expected) < 1e-5
    q_proj = model.get_base_model().model.layers[0].self_attn.q_proj
    before, after = (torch.linalg.svdvals(w) for w in (weight, q_proj.base_layer.weight.detach()))
    assert float(after[0]) == pytest.approx(float(before[4]), rel=0.05), "the four largest went into the adapter"


def test_only_the_last_layers_are_unfrozen() -> None:
    moving = {name for name, p in prepare(tiny_model("llama"), row("freeze")).named_parameters() if p.requires_grad}
    assert moving
    assert all(name.startswith("model.layers.1.") for name in moving)
    every = prepare(tiny_model("llama"), row({"name": "freeze", "layers": 9}))
    assert {name.split(".")[1] for name, p in every.named_parameters() if p.requires_grad} == {"layers"}
    model = prepare(tiny_model("phi3"), row("freeze-head"))
    others = {name for name, p in model.named_parameters() if p.requires_grad and not name.startswith("model.layers.1")}
    assert others == {"model.embed_tokens.weight", "model.norm.weight"}, "the head is the embeddings"


def test_virtual_tokens_start_from_words(tmp_path: Path) -> None:
    model = tiny_model("llama", vocab_size=512)
    model.save_pretrained(tmp_path)
    tokenizer_folder(tmp_path, "phi-4-mini")
    ids = load_tokenizer(tmp_path).encode("Be brief.")
    technique = {
        "name": "prompt-tuning",
        "virtual_tokens": 9,
        "init": "text",
        "init_text": "Be brief.",
    }
    prepared = prepare(models.load_model(tmp_path), row(technique))
    start = prepared.prompt_encoder["default"].embedding.weight
    words = prepared.get_base_model().get_input_embeddings().weight
    assert len(ids) < 9
    assert torch.equal(start, words[torch.tensor([*ids, *ids])[:9]]), "repeated to fit"
    sampled = prepare(models.load_model(tmp_path), row("prompt-tuning")).prompt_encoder["default"].embedding.weight
    assert all(any(torch.equal(vector, word) for word in words) for vector in sampled)


def test_ia3_scales_keys_values_and_inner_activations() -> None:
    expected = {
        "llama": (["down_proj", "k_proj", "v_proj"], ["down_proj"]),
        "gemma2": (["down_proj", "k_proj", "v_proj"], ["down_proj"]),
        "phi3": (["down_proj", "qkv_proj"], ["down_proj"]),
    }
    for architecture, (targets, feedforward) in expected.items():
        config = prepare(tiny_model(architecture), row("ia3")).peft_config["default"]
        assert (sorted(config.target_modules), sorted(config.feedforward_modules)) == (targets, feedforward)


@pytest.mark.parametrize("which", sorted(TECHNIQUES))
def test_everything_that_is_trained_beside_a_16_bit_base_is_kept_in_fp32(which: str) -> None:
    if not PARAMETERS[which].is_adapter:
        pytest.skip("its base is kept in fp32")
    model = prepare(tiny_model("llama").bfloat16(), row(which))
    kinds = {p.dtype for p in model.parameters() if p.requires_grad}
    assert kinds == {torch.float32}
    assert next(models.unwrapped(model).parameters()).dtype == torch.bfloat16


def test_the_modules_to_save_are_kept_in_fp32_too() -> None:
    model = prepare(tiny_model("llama").bfloat16(), row("lora-head"))
    head = {name: p for name, p in model.named_parameters() if "modules_to_save" in name}
    assert [p.dtype for p in head.values()] == [torch.float32]
