"""The fine-tuning service's hyperparameters, in azft's own words."""

from __future__ import annotations

import pytest

from azft.rehearsal.hyperparameters import WITHOUT_EFFECT, HyperparameterError, Settings, read_hyperparameters
from azft.techniques import Lora


def read(has_validation: bool = True, **given: str) -> Settings:
    return read_hyperparameters(given, task="chat-completion", has_validation=has_validation)


def test_a_job_that_says_nothing_gets_the_services_defaults() -> None:
    settings = read()
    training = settings.finetune.training
    assert (training.epochs, training.learning_rate, training.global_batch_size) == (1.0, 2e-5, 1)
    assert (training.schedule, training.precision, training.packing) == ("linear", "fp32", False)
    assert settings.finetune.technique == Lora(name="lora", rank=8, alpha=128.0, dropout=0.0)
    assert settings.prepare.validation_split is None
    assert read(has_validation=False).prepare.validation_split == 0.1


def test_what_is_given_is_what_is_trained() -> None:
    settings = read(
        num_train_epochs="3",
        per_device_train_batch_size="4",
        gradient_accumulation_steps="2",
        learning_rate="0.001",
        max_seq_length="128",
        lr_scheduler_type="cosine",
        seed="7",
        weight_decay="0.1",
        apply_lora="true",
        lora_r="4",
        lora_alpha="16",
        lora_dropout="0.05",
        evaluation_strategy="steps",
        eval_steps="5",
        apply_early_stopping="true",
        early_stopping_patience="2",
    )
    training = settings.finetune.training
    assert (training.micro_batch_size, training.global_batch_size) == (4, 8)
    assert (training.epochs, training.learning_rate, training.max_length, training.seed) == (3.0, 0.001, 128, 7)
    assert (training.schedule, training.weight_decay, training.eval_steps) == ("cosine", 0.1, 5)
    assert training.early_stopping_patience == 2
    assert settings.prepare.max_length == 128
    assert settings.finetune.technique.model_dump()["rank"] == 4
    assert read(apply_lora="false").finetune.technique.name == "full"


def test_warm_up_steps_become_a_share_of_the_steps_there_are() -> None:
    settings = read(warmup_steps="3", num_train_epochs="2", per_device_train_batch_size="4")
    assert settings.with_warmup(40).training.warmup_ratio == pytest.approx(3 / 20)
    assert read(warmup_steps="3", max_steps="6").with_warmup(1000).training.warmup_ratio == pytest.approx(0.5)
    assert read(warmup_steps="30").with_warmup(3).training.warmup_ratio == 1.0


@pytest.mark.parametrize("name", sorted(WITHOUT_EFFECT))
def test_what_has_no_effect_here_is_said(name: str) -> None:
    assert read(**{name: "anything"}).notes == (f"{name}: {WITHOUT_EFFECT[name]}",)


def test_everything_that_is_wrong_is_named_at_once() -> None:
    with pytest.raises(HyperparameterError) as caught:
        read(lora_rank="3", learning_rate="-1", apply_lora="yes", num_train_epochs="many")
    told = caught.value.message
    assert "lora_rank: not supported. Supported hyperparameters are: adam_beta1" in told
    for part in (
        "learning_rate must be greater than 0",
        "apply_lora must be 'true'",
        "num_train_epochs must be a number",
    ):
        assert part in told


def test_early_stopping_needs_an_evaluation() -> None:
    with pytest.raises(HyperparameterError, match="needs an evaluation_strategy"):
        read(apply_early_stopping="true", evaluation_strategy="disable")


def test_a_value_that_no_training_could_have_is_refused() -> None:
    with pytest.raises(HyperparameterError, match="learning_rate"):
        read(learning_rate="1e9")
