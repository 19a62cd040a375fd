"""Gradients equal a naive per-document float64 reference, whatever the packing, batching and accumulation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from azft.techniques import Lora
from azft.training.batches import assemble
from azft.training.loop import Loop
from azft.training.objectives import OBJECTIVES
from azft.training.probe import token_loss
from azft.training.techniques import TECHNIQUES
from tests.training.loops import one_process_loop
from tests.training.tiny import (
    ARCHITECTURES,
    Float64,
    gradients,
    open_train,
    random_documents,
    reference_loss,
    tiny_dataset,
    tiny_model,
    worst_difference,
    write_tiny_dataset,
)

EXACT = 1e-10
LORAS = {
    "full": None,
    "lora": Lora(name="lora", rank=4),
}


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    with Float64():
        yield


def prepared(architecture: str, technique: str) -> Any:
    """A float64 model with its technique applied; LoRA's B is random, because with zeros A has no gradient."""
    model = tiny_model(architecture).double()
    model = TECHNIQUES[technique].prepare(model, LORAS[technique])
    torch.manual_seed(7)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.2)
    return model.double()


def reference_gradients(architecture: str, technique: str, documents: Any) -> tuple[dict[str, torch.Tensor], float]:
    model = prepared(architecture, technique)
    loss = reference_loss(model.get_base_model() if technique == "lora" else model, documents)
    loss.backward()
    return gradients(model), float(loss.detach())


def make_loop(model: Any, dataset: Path, tmp_path: Path, **training: Any) -> Loop:
    module = token_loss(model, one_document=False)
    return one_process_loop(module, "next-token", open_train(dataset), tmp_path, **training)


def documents_of(dataset: Path) -> Any:
    train = open_train(dataset)
    return [document for s in range(len(train)) for document in train.sequence(s)]


@pytest.mark.parametrize("technique", ["full", "lora"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_packed_gradients_equal_the_naive_reference(architecture: str, technique: str, tmp_path: Path) -> None:
    dataset = tiny_dataset(tmp_path / "data", count=9)
    expected, loss = reference_gradients(architecture, technique, documents_of(dataset))
    loop = make_loop(prepared(architecture, technique), dataset, tmp_path, global_batch_size=64, micro_batch_size=2)
    losses, tokens = loop.accumulate(list(range(len(loop.train))))
    assert worst_difference(expected, gradients(loop.module.model)) < EXACT
    labels = int(loop.train.label_counts.sum())
    assert sum(value for _, value in losses) / labels == pytest.approx(loss, rel=1e-12)
    assert tokens == len(loop.train.tokens)


@pytest.mark.parametrize(("packing", "micro"), [(True, 1), (True, 4), (False, 1), (False, 4), (False, 8)])
def test_packing_and_micro_batches_do_not_change_the_gradient(packing: bool, micro: int, tmp_path: Path) -> None:
    dataset = tiny_dataset(tmp_path / "data", count=11, packing=packing)
    expected, _ = reference_gradients("mistral", "full", documents_of(dataset))
    loop = make_loop(prepared("mistral", "full"), dataset, tmp_path, global_batch_size=64, micro_batch_size=micro)
    loop.accumulate(list(range(len(loop.train))))
    assert worst_difference(expected, gradients(loop.module.model)) < EXACT


def test_the_incomplete_last_batch_is_normalised_by_its_own_label_tokens(tmp_path: Path) -> None:
    dataset = write_tiny_dataset(tmp_path / "data", train=random_documents(5), packing=False)
    loop = make_loop(prepared("llama", "full"), dataset, tmp_path, global_batch_size=2)
    assert loop.timetable.steps_per_epoch == 3
    loop.accumulate([4])
    expected, _ = reference_gradients("llama", "full", [loop.train.sequence(4)[0]])
    assert worst_difference(expected, gradients(loop.module.model)) < EXACT


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_document_does_not_feel_its_neighbours(architecture: str) -> None:
    one, two, other, three = random_documents(4, seed=3, low=12)
    module = token_loss(tiny_model(architecture).double(), one_document=False)
    alone = module.hidden_states(assemble([two]))
    before = int(one[1][1:].sum())
    for neighbours in ([one, two, three], [one, two, other]):
        together = module.hidden_states(assemble(neighbours))[before : before + len(alone)]
        torch.testing.assert_close(together, alone, rtol=0, atol=1e-12)


def test_the_loss_covers_exactly_the_labelled_positions() -> None:
    """The gradient with respect to the logits' bias tells which targets were counted, and how often."""
    documents = random_documents(3, seed=5)
    model = tiny_model("llama").double()
    model.lm_head.bias = torch.nn.Parameter(torch.zeros(model.config.vocab_size, dtype=torch.float64))
    module = token_loss(model, one_document=False)
    batch = assemble(documents)
    counted = np.zeros(model.config.vocab_size)
    for tokens, mask, *_ in documents:
        np.add.at(counted, tokens[1:][mask[1:]], 1)
    module(batch).backward()
    predicted = torch.softmax(model.lm_head(module.hidden_states(batch)), -1).sum(0)
    torch.testing.assert_close(predicted - model.lm_head.bias.grad, torch.from_numpy(counted), rtol=0, atol=1e-9)
    assert len(batch.labels) == counted.sum()


def test_a_batch_without_labels_gives_zero_and_zero_gradients() -> None:
    tokens = np.arange(5, 12)
    module = token_loss(tiny_model("llama").double(), one_document=False)
    loss = module(assemble([(tokens, np.zeros(7, bool)), (tokens[:1], np.ones(1, bool))]))
    loss.backward()
    assert float(loss.detach()) == 0
    assert all(float(p.grad.abs().sum()) == 0 for p in module.parameters() if p.grad is not None)


def scaled_logits(model: Any) -> None:
    model.lm_head.register_forward_hook(lambda _module, _inputs, output: output * 0.5)


def lora_head(model: Any) -> None:
    """Replaced below, by peft."""


@pytest.mark.parametrize("change", [scaled_logits, lora_head])
def test_a_head_that_is_not_plain_takes_the_models_own_forward(change: Callable[[Any], None], tmp_path: Path) -> None:
    def make() -> Any:
        model = tiny_model("llama")
        if change is scaled_logits:
            scaled_logits(model)
            return model.double()
        targets = Lora(name="lora", rank=2, target_modules=["lm_head", "q_proj"])
        model = TECHNIQUES["lora"].prepare(model, targets).double()
        torch.manual_seed(1)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.2)
        return model

    dataset = tiny_dataset(tmp_path / "data", count=4)
    naive = make()
    reference_loss(naive.get_base_model() if change is lora_head else naive, documents_of(dataset)).backward()
    loop = make_loop(make(), dataset, tmp_path, global_batch_size=64)
    assert not loop.module.plain_head
    loop.accumulate(list(range(len(loop.train))))
    assert worst_difference(gradients(naive), gradients(loop.module.model)) < EXACT


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_tested_architecture_takes_the_chunked_loss(architecture: str) -> None:
    assert token_loss(tiny_model(architecture).double(), one_document=False).plain_head


def test_chunks_do_not_change_loss_or_gradient(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    dataset = tiny_dataset(tmp_path / "data", count=9)
    expected, _ = reference_gradients("gemma2", "full", documents_of(dataset))
    monkeypatch.setattr("azft.training.loss._chunk_rows", lambda _vocabulary: 7)
    loop = make_loop(prepared("gemma2", "full"), dataset, tmp_path, global_batch_size=64, micro_batch_size=4)
    loop.accumulate(list(range(len(loop.train))))
    assert worst_difference(expected, gradients(loop.module.model)) < EXACT


def test_evaluation_counts_loss_and_hits_as_the_reference_does(tmp_path: Path) -> None:
    dataset = tiny_dataset(tmp_path / "data", count=4)
    train = open_train(dataset)
    model = tiny_model("gemma2").double()
    module = token_loss(model, one_document=False)
    scores = [module.score(OBJECTIVES["next-token"].batch_of(train, [s])) for s in range(len(train))]
    mean = float(sum(score.loss for score in scores)) / int(train.label_counts.sum())
    hits = 0
    with torch.no_grad():
        expected = float(reference_loss(model, documents_of(dataset)))
        for tokens, mask, *_ in documents_of(dataset):
            ids = torch.from_numpy(tokens.astype(np.int64))
            best = model(input_ids=ids[None], use_cache=False).logits[0].argmax(-1)
            hits += int((best[:-1] == ids[1:])[torch.from_numpy(mask[1:].astype(bool))].sum())
    assert mean == pytest.approx(expected, rel=1e-12)
    assert int(sum(score.correct for score in scores)) == hits
