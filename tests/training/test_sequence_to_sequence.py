"""Encoder-decoders: gradients equal a naive reference, whatever the batches; what is written is what was learned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from azft.data.dataset import Document
from azft.data.dataset_writer import write_dataset
from azft.errors import UsageError
from azft.techniques import Lora
from azft.training import answers
from azft.training.answers import greedy_answers
from azft.training.loop import Loop, Progress
from azft.training.objectives import OBJECTIVES
from azft.training.probe import sequence_to_sequence_loss
from azft.training.sequence_to_sequence import assemble_pairs
from azft.training.techniques import TECHNIQUES
from tests.training.loops import one_process_loop
from tests.training.tiny import VOCABULARY, Float64, gradients, open_train, worst_difference

EXACT = 1e-10
OBJECTIVE = OBJECTIVES["sequence-to-sequence"]
START = 0


def tiny_t5(**changes: Any) -> Any:
    from transformers import T5Config, T5ForConditionalGeneration

    sizes = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4, "vocab_size": VOCABULARY}
    config = T5Config(
        **{**sizes, "feed_forward_proj": "gated-gelu", "dropout_rate": 0.0, "decoder_start_token_id": START, **changes}
    )
    torch.manual_seed(0)
    return T5ForConditionalGeneration(config).eval()


def tiny_bart(**changes: Any) -> Any:
    from transformers import BartConfig, BartForConditionalGeneration

    sizes = {"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4}
    widths = {"decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "vocab_size": VOCABULARY}
    still = {"dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0}
    begins = {"decoder_start_token_id": 2, "eos_token_id": 2, "pad_token_id": 1, "forced_eos_token_id": None}
    torch.manual_seed(0)
    model = BartForConditionalGeneration(BartConfig(**{**sizes, **widths, **still, **begins, **changes})).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(4)
        model.final_logits_bias.normal_()  # as Marian's and some of BART's are
    return model


def unscaled_t5() -> Any:
    """As T5s since 1.1 are; the first ones scale the decoder's states before the head."""
    model = tiny_t5(tie_word_embeddings=False)
    assert not model.config.scale_decoder_outputs
    assert tiny_t5().config.scale_decoder_outputs
    return model


MODELS = {"t5": tiny_t5, "t5-unscaled": unscaled_t5, "bart": tiny_bart}


def pairs(count: int) -> list[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]:
    random = np.random.default_rng(0)
    documents = []
    for _ in range(count):
        source, target = random.integers(2, 30), random.integers(1, 12)
        documents.append((random.integers(3, VOCABULARY, source + target), np.arange(source + target) >= source))
    return documents


def dataset_of(folder: Path, count: int) -> Path:
    options = {"vocab_size": VOCABULARY, "max_length": 48, "packing": False, "tokenizer": "tiny"}
    with write_dataset(folder, splits=["train"], objective="sequence-to-sequence", **options) as writer:
        for tokens, mask in pairs(count):
            writer.splits["train"].add(tokens, mask)
    return folder


def reference_loss(model: Any, documents: Any) -> torch.Tensor:
    """Mean loss per target token, one document at a time and without a mask."""
    losses = []
    for tokens, mask, *_ in documents:
        ids = torch.from_numpy(np.asarray(tokens, dtype=np.int64))[None]
        border = int(mask.argmax())
        target, start = ids[:, border:], model.config.decoder_start_token_id
        given = torch.cat([torch.tensor([[start]]), target[:, :-1]], dim=1)
        logits = model(input_ids=ids[:, :border], decoder_input_ids=given, use_cache=False).logits
        losses.append(F.cross_entropy(logits[0].double(), target[0], reduction="none"))
    return torch.cat(losses).mean()


def prepared(kind: str, technique: str) -> Any:
    model = MODELS[kind]()
    if technique == "lora":
        model = TECHNIQUES["lora"].prepare(model, Lora(name="lora", rank=4), None)
        torch.manual_seed(7)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    parameter.normal_(std=0.2)
    else:
        model.requires_grad_(True)
    return model.double()


def told(model: Any) -> dict[str, torch.Tensor]:
    """Gradients, but of biases of keys: a softmax does not feel them, so that theirs are rounding alone."""
    return {name: gradient for name, gradient in gradients(model).items() if not name.endswith("k_proj.bias")}


def make_loop(model: Any, dataset: Path, tmp_path: Path, **training: Any) -> Loop:
    return one_process_loop(
        OBJECTIVE.make(model, False), "sequence-to-sequence", open_train(dataset), tmp_path, **training
    )


@pytest.mark.parametrize("technique", ["full", "lora"])
@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("micro", [1, 4])
def test_gradients_equal_the_naive_reference_whatever_the_batches(
    kind: str, technique: str, micro: int, tmp_path: Path
) -> None:
    with Float64():
        dataset = dataset_of(tmp_path / "data", 9)
        naive = prepared(kind, technique)
        loop = make_loop(prepared(kind, technique), dataset, tmp_path, global_batch_size=64, micro_batch_size=micro)
        documents = [loop.train.document(number) for number in range(9)]
        loss = reference_loss(naive.get_base_model() if technique == "lora" else naive, documents)
        loss.backward()
        losses, tokens = loop.accumulate(list(range(9)))
    assert worst_difference(told(naive), told(loop.module.model)) < EXACT
    assert sum(value for _, value in losses) / int(loop.train.label_counts.sum()) == pytest.approx(
        float(loss.detach()), rel=1e-12
    )
    assert tokens == len(loop.train.tokens)
    assert len(losses) > 1 or micro == 4
    assert loop.module.plain_head


def test_the_score_counts_loss_and_hits(tmp_path: Path) -> None:
    documents = open_train(dataset_of(tmp_path / "data", 5))
    with Float64():
        module = sequence_to_sequence_loss(tiny_t5().double())
        batch = OBJECTIVE.batch_of(documents, range(5))
        score = module.score(batch)
        assert float(score.loss) == pytest.approx(float(module(batch).detach()), rel=1e-12)
        assert int(score.correct) == int((module.own_logits(batch).argmax(-1) == batch.labels).sum())
    assert batch.labels.tolist() == [int(t) for tokens, mask in pairs(5) for t in tokens[mask]]


def test_a_batch_holds_no_more_than_its_budget(tmp_path: Path) -> None:
    documents = open_train(dataset_of(tmp_path / "data", 12))
    parts = OBJECTIVE.micro_batches(documents, range(12), micro=2, rank=0, ranks=1)
    assert sorted(number for part in parts for number in part) == list(range(12))
    for part in parts:
        assert len(part) * max(int(documents.sequence_lengths[number]) for number in part) <= 2 * 48


@pytest.mark.parametrize("kind", MODELS)
def test_the_loss_needs_no_logits_of_the_whole_batch(kind: str, tmp_path: Path) -> None:
    model = MODELS[kind]()
    module = OBJECTIVE.make(model, False)
    rows = []
    model.get_output_embeddings().register_forward_hook(lambda _head, _given, made: rows.append(made.numel()))
    batch = OBJECTIVE.batch_of(open_train(dataset_of(tmp_path / "data", 5)), range(5))
    module(batch).backward()
    module.score(batch)
    assert rows == [0, 0]


def lora_head(model: Any) -> Any:
    adapted = TECHNIQUES["lora"].prepare(model, Lora(name="lora", rank=2, target_modules=["lm_head", "q"]), None)
    torch.manual_seed(1)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    return adapted


def softly_capped(model: Any) -> Any:
    """By so much that the small logits of random weights hardly feel it."""
    model.lm_head.register_forward_hook(lambda _head, _given, made: 30 * torch.tanh(made / 30))
    return model.requires_grad_(True)


def bypassed(model: Any) -> Any:
    """Its head's weight is used, and not its head."""
    head, own = model.lm_head, model.forward

    def forward(**given: Any) -> Any:
        hidden: list[torch.Tensor] = []
        model.lm_head = type("Take", (torch.nn.Module,), {"forward": lambda _self, x: hidden.append(x) or x})()
        try:
            output = own(**given)
        finally:
            model.lm_head = head
        output.logits = F.linear(hidden[0], head.weight)
        return output

    model.forward = forward
    return model.requires_grad_(True)


@pytest.mark.parametrize("change", [lora_head, softly_capped, bypassed])
def test_an_unusual_head_takes_the_models_own_logits(change: Any, tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path / "data", 6)
    with Float64():
        naive, mine = change(tiny_t5()).double(), change(tiny_t5()).double()
        loop = make_loop(mine, dataset, tmp_path, global_batch_size=64, micro_batch_size=2)
        inner = naive.get_base_model() if change is lora_head else naive
        reference_loss(inner, [loop.train.document(number) for number in range(6)]).backward()
        loop.accumulate(list(range(6)))
    assert not loop.module.plain_head
    assert worst_difference(told(naive), told(loop.module.model)) < EXACT


def test_a_model_must_say_how_its_decoder_begins() -> None:
    model = tiny_t5()
    model.config.decoder_start_token_id = None
    model.generation_config.decoder_start_token_id = None
    with pytest.raises(UsageError, match="does not say with which token its decoder begins"):
        sequence_to_sequence_loss(model)


@pytest.mark.parametrize("kind", MODELS)
def test_a_batch_changes_no_answer(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = MODELS[kind]()
    model.generation_config.decoder_start_token_id = None  # config.json says it too
    prompts = [tokens[~mask].tolist() for tokens, mask in pairs(6)]
    stop = list(range(3, 12))
    monkeypatch.setattr(answers, "_TOGETHER", 1)
    alone = greedy_answers(model, prompts, stop=stop, max_new_tokens=8)
    monkeypatch.setattr(answers, "_TOGETHER", 4)
    assert greedy_answers(model, prompts, stop=stop, max_new_tokens=8) == alone
    for prompt, answer in zip(prompts[:3], alone, strict=False):
        begun = [model.config.decoder_start_token_id]
        while len(begun) <= len(answer):
            given = {"input_ids": torch.tensor([prompt]), "decoder_input_ids": torch.tensor([begun])}
            begun.append(int(model(**given).logits[0, -1].argmax()))
        assert begun[1:] == answer


def test_it_learns_what_it_is_taught(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path / "data", 4)
    model = tiny_t5(num_layers=1, num_decoder_layers=1)
    loop = make_loop(model, dataset, tmp_path, max_steps=40, learning_rate=3e-2, global_batch_size=4)
    loop.run(Progress())
    model.eval()
    learned = [tokens[mask].tolist() for tokens, mask in pairs(4)]
    said = greedy_answers(model, [tokens[~mask].tolist() for tokens, mask in pairs(4)], stop=[1], max_new_tokens=11)
    assert [answer[: len(right)] for answer, right in zip(said, learned, strict=True)] == learned


def test_targets_are_where_the_loss_is() -> None:
    batch = assemble_pairs(
        [
            Document(np.array([5, 6, 7, 8], np.uint16), np.array([0, 0, 1, 1], np.uint8)),
            Document(np.array([9, 10], np.uint16), np.array([0, 1], np.uint8)),
        ]
    )
    assert batch.sources.tolist() == [[5, 6], [9, 0]]
    assert batch.source_mask.tolist() == [[1, 1], [1, 0]]
    assert batch.targets.tolist() == [[7, 8], [10, 0]]
    assert batch.labels.tolist() == [7, 8, 10]
    assert batch.tokens == 6
