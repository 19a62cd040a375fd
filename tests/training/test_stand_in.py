from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from azft.catalog.rows import load_catalog
from azft.errors import UsageError
from azft.files import sha256_tree
from azft.training.stand_in import StandInSpec, main, make
from azft.training.stand_in_architectures import ARCHITECTURES

FAMILY_OF = {
    "Phi3ForCausalLM": "phi-4-mini",
    "LlamaForCausalLM": "llama-3",
    "MistralForCausalLM": "mistral",
    "Qwen2ForCausalLM": "chatml",
    "Gemma2ForCausalLM": "gemma",
    "T5ForConditionalGeneration": "t5",
    "BertForMaskedLM": "bert",
    "BertModel": "bert",
    "RobertaForMaskedLM": "roberta",
}
CHATS = [[("user", f"What is {n} plus {n}?"), ("assistant", f"It is {2 * n}.")] for n in range(60)]


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "train.jsonl"
    messages = [[{"role": role, "content": content} for role, content in chat] for chat in CHATS]
    path.write_text("".join(json.dumps({"messages": chat}) + "\n" for chat in messages))
    return path


def spec_of(rows: Path, architecture: str = "Phi3ForCausalLM", **changes: object) -> StandInSpec:
    family = load_catalog().families[FAMILY_OF[architecture]]
    return StandInSpec.model_validate(
        {
            "architecture": architecture,
            "chat_template": family.chat_template,
            "special_tokens": family.special_tokens,
            "data": rows,
            "data_sha256": "0",
            **changes,
        }
    )


@pytest.mark.parametrize("architecture", [name for name in ARCHITECTURES if name.endswith("ForCausalLM")])
def test_plain_transformers_loads_every_architecture_with_each_weight_in_its_place(
    rows: Path, tmp_path: Path, architecture: str
) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    make(spec_of(rows, architecture), tmp_path / "model")
    model, info = AutoModelForCausalLM.from_pretrained(tmp_path / "model", output_loading_info=True)
    assert type(model).__name__ == architecture
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    chat = [{"role": "user", "content": "What is 2 plus 2?"}]
    ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    with torch.no_grad():
        logits = model(**ids).logits
    assert logits.shape == (*ids["input_ids"].shape, len(tokenizer))
    assert logits.isfinite().all()


def test_plain_transformers_loads_an_encoder_decoder_and_ends_its_texts(rows: Path, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    make(spec_of(rows, "T5ForConditionalGeneration"), tmp_path / "model")
    model, info = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "model", output_loading_info=True)
    assert type(model).__name__ == "T5ForConditionalGeneration"
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert not model.config.scale_decoder_outputs
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    ids = tokenizer("What is 2 plus 2?", return_tensors="pt")["input_ids"]
    assert (tokenizer.decode(ids[0, -1]), tokenizer.chat_template) == ("</s>", None)
    begin = torch.tensor([[model.config.decoder_start_token_id]])
    with torch.no_grad():
        logits = model(input_ids=ids, decoder_input_ids=begin).logits
    assert logits.shape == (1, 1, len(tokenizer))
    assert model.generate(ids, max_new_tokens=2).shape[1] > 1
    assert logits.isfinite().all()


@pytest.mark.parametrize("architecture", ["BertForMaskedLM", "BertModel", "RobertaForMaskedLM"])
def test_plain_transformers_loads_an_encoder_and_tells_two_texts_apart(
    rows: Path, tmp_path: Path, architecture: str
) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    make(spec_of(rows, architecture, context_length=32), tmp_path / "model")
    model, info = AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "model", num_labels=3, output_loading_info=True
    )
    head = ("classifier.",)
    assert {name for name in info["missing_keys"] if not name.startswith(head)} == set()
    assert not any(info[kind] for kind in ("unexpected_keys", "mismatched_keys"))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    ids = tokenizer("What is 2?", "It is 4.", return_tensors="pt", padding="max_length", max_length=32)
    bert = architecture != "RobertaForMaskedLM"
    first, last = ("[CLS]", "[SEP]") if bert else ("<s>", "</s>")
    shown = tokenizer.decode(ids["input_ids"][0][ids["attention_mask"][0].bool()])
    assert shown.startswith(first)
    assert shown.count(last) == 2
    assert ("token_type_ids" in ids) == bert
    with torch.no_grad():
        assert model(**ids).logits.isfinite().all()


def test_the_phi_shape_is_fused_and_tied(rows: Path, tmp_path: Path) -> None:
    from safetensors import safe_open

    make(spec_of(rows), tmp_path / "model")
    with safe_open(tmp_path / "model" / "model.safetensors", "np") as weights:
        names = set(weights.keys())
    assert "model.layers.0.self_attn.qkv_proj.weight" in names
    assert "model.layers.1.mlp.gate_up_proj.weight" in names
    assert "lm_head.weight" not in names
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config["original_max_position_embeddings"] == config["max_position_embeddings"]


def test_the_same_spec_gives_the_same_bytes_in_another_process(rows: Path, tmp_path: Path) -> None:
    spec = spec_of(rows)
    make(spec, tmp_path / "one")
    (tmp_path / "spec.json").write_text(spec.model_dump_json())
    command = [sys.executable, "-m", "azft.training.stand_in", "--spec", str(tmp_path / "spec.json")]
    subprocess.run([*command, "--output", str(tmp_path / "two")], check=True)
    assert sha256_tree(tmp_path / "one") == sha256_tree(tmp_path / "two")
    make(spec.model_copy(update={"seed": 1}), tmp_path / "three")
    assert sha256_tree(tmp_path / "one") != sha256_tree(tmp_path / "three")


def test_identity_follows_what_decides_the_bytes_and_not_where_the_rows_lie(rows: Path) -> None:
    spec = spec_of(rows)
    assert spec.identity == spec.model_copy(update={"data": Path("/elsewhere")}).identity
    assert spec.identity != spec.model_copy(update={"data_sha256": "1"}).identity
    assert spec.identity != spec.model_copy(update={"seed": 1}).identity


def test_neither_torch_nor_transformers_is_loaded(rows: Path, tmp_path: Path) -> None:
    (tmp_path / "spec.json").write_text(spec_of(rows).model_dump_json())
    code = (
        "import sys; from azft.training.stand_in import main; main(sys.argv[1:]);"
        "sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    )
    arguments = ["--spec", str(tmp_path / "spec.json"), "--output", str(tmp_path / "model")]
    subprocess.run([sys.executable, "-c", code, *arguments], check=True)


@pytest.mark.parametrize("architecture", [name for name, one in ARCHITECTURES.items() if not one.paints])
def test_special_tokens_are_one_token_each_and_generation_stops_at_the_end_of_a_turn(
    rows: Path, tmp_path: Path, architecture: str
) -> None:
    from tokenizers import Tokenizer

    spec = spec_of(rows, architecture)
    make(spec, tmp_path / "model")
    tokenizer = Tokenizer.from_file(str(tmp_path / "model" / "tokenizer.json"))
    for index, token in enumerate(spec.special_tokens.all):
        assert tokenizer.encode(token, add_special_tokens=False).ids == [index]
    if not ARCHITECTURES[architecture].writes:
        return
    generation = json.loads((tmp_path / "model" / "generation_config.json").read_text())
    assert tokenizer.token_to_id(spec.special_tokens.stop) in generation["eos_token_id"]


@pytest.mark.parametrize("family", sorted(name for name, row in load_catalog().families.items() if row.template))
def test_every_familys_template_can_be_masked(rows: Path, tmp_path: Path, family: str) -> None:
    """Each assistant turn with its stop token, and nothing else."""
    from azft.data.masking import ChatRenderer
    from azft.data.tokenizer import load_tokenizer

    row = load_catalog().families[family]
    spec = spec_of(rows).model_copy(update={"chat_template": row.chat_template, "special_tokens": row.special_tokens})
    make(spec, tmp_path / "model")
    tokenizer = load_tokenizer(tmp_path / "model")
    turns = [("user", "One?"), ("assistant", "Two."), ("user", "Three?"), ("assistant", "Four.")]
    rendered = ChatRenderer(tokenizer).render({"messages": [{"role": r, "content": c} for r, c in turns]})
    learned = [token for token, inside in zip(rendered.token_ids, rendered.loss_mask, strict=True) if inside]
    stop = row.special_tokens.stop
    assert tokenizer.decode(learned).replace(" ", "") == f"Two.{stop}Four.{stop}"


def test_text_that_training_never_showed_survives_the_tokenizer(rows: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    make(spec_of(rows), tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    text = "  Grüße, 世界 🙂\n\n\tdone"
    assert tokenizer.decode(tokenizer(text).input_ids) == text


def test_broken_rows_are_passed_over(rows: Path, tmp_path: Path) -> None:
    with rows.open("a") as file:
        file.write('{"messages": \n[1, 2]\n{"messages": [{"role": "user", "content": "\\ud800 half"}]}\n')
    make(spec_of(rows), tmp_path / "model")
    assert (tmp_path / "model" / "tokenizer.json").is_file()


def test_lora_at_its_default_learning_rate_learns_visibly(rows: Path, tmp_path: Path) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    make(spec_of(rows), tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    model = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules="all-linear"))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-4)
    texts = [f"<|user|>{question[1]}<|end|><|assistant|>{answer[1]}<|end|>" for question, answer in CHATS]
    held_out = tokenizer(texts[::6], return_tensors="pt", padding=True).input_ids
    train = tokenizer([text for i, text in enumerate(texts) if i % 6], return_tensors="pt", padding=True).input_ids

    def loss(ids: torch.Tensor) -> torch.Tensor:
        return model(ids, labels=ids.masked_fill(ids == tokenizer.pad_token_id, -100)).loss

    with torch.no_grad():
        before = loss(held_out).item()
    for _ in range(12):
        loss(train).backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        after = loss(held_out).item()
    assert before > 5
    assert after < 0.7 * before


def test_an_unknown_architecture_is_refused_with_those_that_are_known(rows: Path, tmp_path: Path) -> None:
    spec = spec_of(rows).model_copy(update={"architecture": "MambaForCausalLM"})
    with pytest.raises(UsageError, match="Known: Phi3ForCausalLM"):
        make(spec, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_spec_file_with_a_wrong_value_says_which(tmp_path: Path) -> None:
    (tmp_path / "spec.json").write_text('{"architecture": 1}')
    with pytest.raises(UsageError, match="special_tokens"):
        main(["--spec", str(tmp_path / "spec.json"), "--output", str(tmp_path / "model")])
