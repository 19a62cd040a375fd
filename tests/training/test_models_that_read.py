"""Classification, named entities and answers in a context: gradients equal a naive reference, whatever the filler."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from azft.data.dataset import open_dataset
from azft.techniques import Lora
from azft.training.devices import arithmetic
from azft.training.evaluate import totals_of
from azft.training.loop import Loop
from azft.training.objectives import OBJECTIVES
from azft.training.techniques import TECHNIQUES
from tests.training.loops import one_process_loop
from tests.training.readers import HEADS, READERS, naive_loss, random_reads, read_dataset, tiny_reader
from tests.training.tiny import Float64, gradients, worst_difference

EXACT = 1e-9
CPU = arithmetic("fp32", torch.device("cpu"))


@pytest.fixture
def float64() -> Iterator[None]:
    with Float64():
        yield


def prepared(architecture: str, objective: str, technique: str) -> Any:
    """A float64 model with its technique applied; LoRA's B is random, because with zeros A has no gradient."""
    model = tiny_reader(architecture, objective).double()
    model = TECHNIQUES[technique].prepare(model, Lora(name="lora", rank=4) if technique == "lora" else None)
    torch.manual_seed(7)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.2)
    return model.double()


def make_loop(model: Any, objective: str, dataset: Path, tmp_path: Path, **training: Any) -> Loop:
    module = OBJECTIVES[objective].make(model, False)
    train = open_dataset(dataset, "train")
    return one_process_loop(module, objective, train, tmp_path, global_batch_size=64, **training)


CELLS = [
    ("bert", "class", "lora"),
    ("bert", "classes", "full"),
    ("bert", "tag", "lora"),
    ("bert", "span", "lora"),
    ("roberta", "class", "full"),
    ("roberta", "span", "full"),
    ("modernbert", "class", "lora"),
    ("modernbert", "tag", "full"),
    ("llama", "class", "lora"),
    ("llama", "tag", "full"),
    ("qwen2", "classes", "full"),
]


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("architecture", "objective", "technique"), CELLS)
def test_gradients_equal_the_naive_reference(architecture: str, objective: str, technique: str, tmp_path: Path) -> None:
    documents = random_reads(objective, 9)
    dataset = read_dataset(tmp_path / "data", objective, {"train": documents})
    naive = prepared(architecture, objective, technique)
    inner = naive.get_base_model() if technique == "lora" else naive
    loss = naive_loss(inner, objective, documents, types=architecture == "bert")
    loss.backward()
    loop = make_loop(prepared(architecture, objective, technique), objective, dataset, tmp_path, micro_batch_size=2)
    losses, tokens = loop.accumulate(list(range(len(loop.train))))
    assert len(losses) > 1  # several micro-batches, with filler
    assert worst_difference(gradients(naive), gradients(loop.module.model)) < EXACT
    labels = int(loop.train.label_counts.sum())
    assert labels == sum(len(document.targets) for document in documents if document.targets is not None)
    assert sum(value for _, value in losses) / labels == pytest.approx(float(loss.detach()), rel=1e-12)
    assert tokens == len(loop.train.tokens)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("micro", [1, 4, 8])
@pytest.mark.parametrize("objective", HEADS)
def test_batches_and_filler_do_not_change_the_gradient(objective: str, micro: int, tmp_path: Path) -> None:
    documents = random_reads(objective, 11)
    dataset = read_dataset(tmp_path / "data", objective, {"train": documents})
    naive = prepared("bert", objective, "full")
    naive_loss(naive, objective, documents, types=True).backward()
    loop = make_loop(prepared("bert", objective, "full"), objective, dataset, tmp_path, micro_batch_size=micro)
    losses, _ = loop.accumulate(list(range(11)))
    assert (len(losses) == 1) == (micro == 8)
    assert worst_difference(gradients(naive), gradients(loop.module.model)) < EXACT


@pytest.mark.parametrize("architecture", READERS)
def test_filler_is_the_models_own_whatever_the_batch_holds(architecture: str) -> None:
    """A decoder is read at the last token that is no filler, and RoBERTa counts its positions past the filler."""
    one, two = random_reads("class", 2, seed=3, pairs=False)
    assert len(one.tokens) != len(two.tokens)
    module = OBJECTIVES["class"].make(tiny_reader(architecture, "class"), False)
    assemble = OBJECTIVES["class"].assemble
    together = module.logits(assemble([one, two], ()))
    alone = torch.cat([module.logits(assemble([document], ())) for document in (one, two)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("objective", HEADS)
def test_dropout_is_as_in_the_models_own_training(objective: str) -> None:
    model = tiny_reader("bert", objective, hidden_dropout_prob=0.5, attention_probs_dropout_prob=0.5)
    module = OBJECTIVES[objective].make(model, False)
    batch = OBJECTIVES[objective].assemble(random_reads(objective, 3), ())
    still = [float(module(batch).detach()) for _ in range(2)]
    module.train()
    noisy = [float(module(batch).detach()) for _ in range(2)]
    assert still[0] == still[1]
    assert noisy[0] != noisy[1]


@pytest.mark.parametrize("objective", HEADS)
def test_a_model_that_learns_tells_every_training_row_right(objective: str, tmp_path: Path) -> None:
    documents = random_reads(objective, 8, seed=5)
    dataset = read_dataset(tmp_path / "data", objective, {"train": documents, "validation": documents})
    module = OBJECTIVES[objective].make(tiny_reader("bert", objective), False)
    rows = open_dataset(dataset, "validation")
    before = OBJECTIVES[objective].figures(totals_of(module.model, rows, CPU))
    batch = OBJECTIVES[objective].batch_of(rows, range(len(rows)))
    optimizer = torch.optim.AdamW(module.parameters(), lr=3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        (module(batch) / len(batch.labels)).backward()
        optimizer.step()
    totals = totals_of(module.model, rows, CPU)
    after = OBJECTIVES[objective].figures(totals)
    assert after["loss"] < 0.1 < before["loss"]
    for name in after.keys() - {"loss", "f1_macro"}:
        assert after[name] == 1.0, name
        assert before[name] < 1.0, name
    samples = OBJECTIVES[objective].samples
    assert samples is not None
    told = samples(totals, lambda ids: " ".join(map(str, ids)), 3)
    assert len(told) == 3
    assert all(sample.reference == sample.answer for sample in told)
    assert str(documents[0].tokens[1]) in told[0].prompt
