"""The registry's pipelines: the recipe in their words, and the rules that the service checks only after a queue."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from azft.catalog.system_pipelines import system_pipelines
from azft.plan import Plan
from azft.targets.columns import INPUTS
from azft.targets.finetuning import TASKS as FINE_TUNED
from azft.targets.system import COLUMN_INPUTS, check_parameters, keys_of_parameters
from azft.targets.table import Scalar
from tests.helpers.azure_recipes import azure_plan, codes
from tests.matrix.cells import ROWS

CHAT = system_pipelines()["chat-completion"]


@pytest.fixture(autouse=True)
def no_data_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("azft.data_check.check_for_plan", lambda *_: ())


def parameters(plan: Plan) -> dict[str, Scalar]:
    assert plan.target is not None
    return plan.target.parameters


def test_the_recipe_in_the_pipelines_words(tmp_path: Path) -> None:
    plan = azure_plan(
        tmp_path,
        "system",
        training={
            "epochs": 2, "learning_rate": 1e-4, "global_batch_size": 8, "micro_batch_size": 2, "max_length": 256,
            "schedule": "linear", "warmup_ratio": 0.1, "eval_steps": 4, "early_stopping_patience": 3,
            "precision": "fp32", "adam_beta2": 0.95, "seed": 7,
        },
        technique={"name": "lora", "rank": 4, "alpha": 8.0, "dropout": 0.1},
        output={"merge": False},
    )  # fmt: skip
    assert parameters(plan) == {
        "apply_lora": "true", "lora_r": 4, "lora_alpha": 8, "lora_dropout": 0.1, "merge_lora_weights": "false",
        "num_train_epochs": 2, "max_steps": -1, "learning_rate": 1e-4, "lr_scheduler_type": "linear",
        "warmup_steps": 1,  # 40 rows in batches of 8 are 5 steps an epoch, 10 in all
        "per_device_train_batch_size": 2, "per_device_eval_batch_size": 2, "gradient_accumulation_steps": 4,
        "max_seq_length": 256, "precision": "32", "weight_decay": 0.0, "adam_beta1": 0.9, "adam_beta2": 0.95,
        "adam_epsilon": 1e-8, "max_grad_norm": 1.0, "seed": 7, "logging_steps": 1, "evaluation_strategy": "steps",
        "eval_steps": 4, "save_total_limit": 2, "apply_early_stopping": "true", "early_stopping_patience": 3,
        "early_stopping_threshold": 0.0, "compute_model_import": "gpu-cluster", "compute_preprocess": "gpu-cluster",
        "compute_finetune": "gpu-cluster", "compute_model_evaluation": "gpu-cluster", "num_nodes_finetune": 1,
        "number_of_gpu_to_use_finetuning": 1, "task_name": "ChatCompletion",
    }  # fmt: skip
    assert not plan.has_errors


def test_full_training_applies_no_lora(tmp_path: Path) -> None:
    told = parameters(azure_plan(tmp_path, "system", technique={"name": "full"}))
    assert told["apply_lora"] == "false"
    assert not {"lora_r", "lora_alpha", "lora_dropout"} & set(told)
    assert told["learning_rate"] == 2e-5


def test_a_constant_rate_with_a_warm_up_has_a_schedule_of_its_own(tmp_path: Path) -> None:
    constant = parameters(azure_plan(tmp_path, "system", "training.schedule=constant", "training.warmup_ratio=0"))
    warmed = parameters(azure_plan(tmp_path, "system", "training.schedule=constant", "training.warmup_ratio=0.1"))
    assert constant["lr_scheduler_type"] == "constant"
    assert warmed["lr_scheduler_type"] == "constant_with_warmup"


def test_without_a_cluster_azure_makes_the_machines(tmp_path: Path) -> None:
    modes = {"maap": {"pipeline": "system", "instance_types": ["Standard_NC48ads_A100_v4"], "nodes": 2}}
    told = parameters(azure_plan(tmp_path, "system", modes=modes))
    assert told["compute_finetune"] == "serverless"
    assert told["instance_type_finetune"] == "Standard_NC48ads_A100_v4"
    assert told["number_of_gpu_to_use_finetuning"] == 2
    assert told["num_nodes_finetune"] == 2
    assert told["gradient_accumulation_steps"] == 4


@pytest.mark.parametrize(
    ("overrides", "code"),
    [
        (["training.epochs=1.5"], "azure-parameter"),
        (["technique.name=lora", "technique.alpha=8.5"], "azure-parameter"),
        (["modes.maap.gpus_per_node=1", "modes.maap.nodes=3"], "azure-batch-does-not-divide"),
        (["modes.maap.parameters={evaluation_config_params: it's}"], "azure-parameter"),
        (["modes.maap.parameters={optim: sgd}"], "azure-parameter"),
        (["modes.maap.parameters={optimizer: adafactor}"], "azure-unknown-parameter"),
        (["modes.maap.parameters={dataloader_num_workers: two}"], "azure-parameter"),
        (["modes.maap.parameters={learning_rate: 0.1}", "training.learning_rate=0.2"], "azure-said-twice"),
        (["modes.maap.parameters={train_mltable_path: rows}"], "azure-parameter"),
        (["modes.maap.parameters={deepspeed: gone.json}"], "azure-parameter-file"),
        (["modes.maap.parameters={apply_deepspeed: 'true', auto_find_batch_size: 'true'}"], "azure-parameter"),
        (["modes.maap.parameters={apply_ort: 'true'}"], "azure-parameter"),
        (
            ["training.early_stopping_patience=1", "modes.maap.parameters={evaluation_strategy: disable}"],
            "azure-parameter",
        ),
    ],
)
def test_what_the_service_would_refuse_is_refused_here(tmp_path: Path, overrides: list[str], code: str) -> None:
    plan = azure_plan(tmp_path, "system", *overrides)
    assert codes(plan, "error") == {code}
    found = [finding for finding in plan.findings if finding.code == code]
    assert all(finding.line and finding.file for finding in found)


def test_early_stopping_needs_rows_to_evaluate_on(tmp_path: Path) -> None:
    plan = azure_plan(tmp_path, "system", "training.early_stopping_patience=1", data={"train": "train.jsonl"})
    assert "azure-stopping-without-validation" in codes(plan, "error")


def test_further_inputs_pass_and_files_are_uploaded(tmp_path: Path) -> None:
    stage = {"stage": 3, "stage3_gather_16bit_weights_on_model_save": False}
    (tmp_path / "ds.json").write_text(json.dumps({"zero_optimization": stage}))
    told = ["modes.maap.parameters={apply_deepspeed: 'true', deepspeed: ds.json, optim: adafactor}"]
    refused = azure_plan(tmp_path, "system", *told)
    assert codes(refused, "error") == {"azure-parameter"}
    assert "stage3_gather_16bit" in next(f.fix for f in refused.findings if f.code == "azure-parameter")
    (tmp_path / "ds.json").write_text(json.dumps({"zero_optimization": {"stage": 2}}))
    plan = azure_plan(tmp_path, "system", *told)
    assert not plan.has_errors
    assert parameters(plan)["optim"] == "adafactor"
    assert "deepspeed" not in parameters(plan)
    assert [entry.role for entry in plan.inputs] == ["train", "validation", "deepspeed"]
    assert plan.hash != refused.hash


def test_rows_that_are_not_counted_have_no_warm_up(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("messages\n")
    plan = azure_plan(tmp_path, "system", "data.train=rows.csv")
    assert "azure-no-warmup" in codes(plan, "info")
    asked = azure_plan(tmp_path, "system", "data.train=rows.csv", "training.warmup_ratio=0.2")
    assert "azure-no-warmup" in codes(asked, "warning")
    assert "azure-no-warmup" not in codes(azure_plan(tmp_path, "system", "data.train=rows.csv", "training.max_steps=9"))


GOOD: dict[str, dict[str, Scalar]] = {
    "chat-completion": {},
    "text-generation": {"text_key": "text"},
    "summarization": {"document_key": "document", "summary_key": "summary"},
    "translation": {"source_lang": "en", "target_lang": "ro"},
    "question-answering": {
        "question_key": "q", "context_key": "c", "answers_key": "a", "answer_start_key": "s", "answer_text_key": "t",
    },
    "text-classification": {"sentence1_key": "text", "label_key": "label"},
    "token-classification": {"token_key": "tokens", "tag_key": "tags"},
}  # fmt: skip


@pytest.mark.parametrize("task", GOOD)
def test_every_pipeline_asks_for_its_columns(task: str) -> None:
    pipeline = system_pipelines()[task]
    assert list(check_parameters(pipeline, GOOD[task])) == []
    missing = [name for name, what, _ in check_parameters(pipeline, {}) if what == "it is required"]
    assert missing == list(GOOD[task])


@pytest.mark.parametrize(
    ("told", "deepspeed", "name"),
    [
        ({"learning_rate": 0.0}, None, "learning_rate"),
        ({"learning_rate": "0.1"}, None, "learning_rate"),
        ({"num_train_epochs": 0}, None, "num_train_epochs"),
        ({"precision": 16}, None, "precision"),
        ({"apply_lora": "True"}, None, "apply_lora"),
        ({"huggingface_id": "a\\b"}, None, "huggingface_id"),
        ({"compute_finetune": "a'b"}, None, "compute_finetune"),
        ({"apply_early_stopping": "true", "evaluation_strategy": "disable"}, None, "apply_early_stopping"),
        ({"apply_deepspeed": "true", "auto_find_batch_size": "true"}, None, "auto_find_batch_size"),
        ({"apply_deepspeed": "true"}, {"zero_optimization": {"stage": 3}}, "deepspeed"),
    ],
)
def test_rules_hold_for_the_values_themselves(
    told: dict[str, Scalar], deepspeed: dict[str, Any] | None, name: str
) -> None:
    found = list(check_parameters(CHAT, told, deepspeed))
    assert [entry[0] for entry in found] == [name]
    assert all(what and fix for _, what, fix in found)


def test_a_gathering_stage_3_and_defaults_are_fine() -> None:
    stage = {"stage": 3, "stage3_gather_16bit_weights_on_model_save": True}
    assert list(check_parameters(CHAT, {"apply_deepspeed": "true"}, {"zero_optimization": stage})) == []
    assert list(check_parameters(CHAT, {})) == []


def test_every_mapped_name_is_an_input_of_every_pipeline() -> None:
    for pipeline in system_pipelines().values():
        assert set(keys_of_parameters()) - set(COLUMN_INPUTS) <= set(pipeline.inputs)
        assert {*INPUTS[pipeline.task].values()} <= set(pipeline.inputs)


SISTERS: dict[str, tuple[dict[str, str], dict[str, Scalar]]] = {
    "text-generation": ({}, {"text_key": "prompt", "ground_truth_key": "completion"}),
    "summarization": ({"document": "text"}, {"document_key": "text", "summary_key": "summary"}),
    "translation": ({}, {"source_lang": "source", "target_lang": "target"}),
    "question-answering": (
        {},
        {
            "question_key": "question", "context_key": "context", "answers_key": "answers",
            "answer_start_key": "answer_start", "answer_text_key": "text",
        },
    ),
    "text-classification": ({"label": "stars"}, {"sentence1_key": "text", "label_key": "stars"}),
    "token-classification": ({}, {"token_key": "tokens", "tag_key": "tags"}),
}  # fmt: skip
"""Of each sister: the recipe's data.columns, and the pipeline's inputs that name columns."""


def write_task(folder: Path, task: str, columns: dict[str, str], change: Any = lambda row: row) -> None:
    folder.mkdir(exist_ok=True)
    rows = [{columns.get(name, name): value for name, value in row.items()} for row in ROWS[task] if "text" not in row
            or task != "text-generation"]  # fmt: skip
    for name in ("train", "validation"):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(change(row)) + "\n" for row in rows))


@pytest.mark.parametrize("task", SISTERS)
def test_each_sister_is_told_which_columns_the_rows_have(task: str, tmp_path: Path) -> None:
    columns, told = SISTERS[task]
    write_task(tmp_path, task, columns)
    data = {"train": "train.jsonl", "validation": "validation.jsonl", "columns": columns}
    plan = azure_plan(tmp_path, "system", task=task, data=data)
    assert not plan.has_errors, plan.findings
    pipeline = system_pipelines()[task]
    assert plan.target is not None
    assert plan.target.component == f"azureml://registries/azureml/components/{pipeline.name}/labels/latest"
    keys = {name: value for name, value in parameters(plan).items() if name in COLUMN_INPUTS}
    assert keys == told
    assert parameters(plan)["task_name"] == pipeline.task_name
    assert set(parameters(plan)) <= set(pipeline.inputs)


def test_whole_texts_have_no_completion(tmp_path: Path) -> None:
    tmp_path.mkdir(exist_ok=True)
    for name in ("train", "validation"):
        (tmp_path / f"{name}.jsonl").write_text('{"text": "a"}\n' * 12)
    plan = azure_plan(tmp_path, "system", task="text-generation")
    assert {n: v for n, v in parameters(plan).items() if n in COLUMN_INPUTS} == {"text_key": "text"}


@pytest.mark.parametrize(
    ("task", "change", "words"),
    [
        ("question-answering", lambda row: {**row, "answers": "bread"}, "SQuAD's answers"),
        ("text-classification", lambda row: {"text": row["text"], "labels": [row["label"]]}, "one label a row"),
    ],
)
def test_rows_that_only_azft_reads_are_refused(task: str, change: Any, words: str, tmp_path: Path) -> None:
    write_task(tmp_path, task, {}, change)
    plan = azure_plan(tmp_path, "system", task=task)
    messages = [finding.message for finding in plan.findings if finding.code == "azure-data-column"]
    assert len(messages) == 1
    assert words in messages[0]


@pytest.mark.parametrize("target", ["system", "maas", "finetuning"])
def test_a_task_that_the_service_has_not_is_an_error_and_no_traceback(target: str, tmp_path: Path) -> None:
    write_task(tmp_path, "preference-tuning", {})
    plan = azure_plan(tmp_path, target, task="preference-tuning")
    assert "azure-task" in codes(plan, "error")


@pytest.mark.parametrize("task", [task for task in FINE_TUNED if task != "chat-completion"])
def test_serverless_fine_tuning_reads_chats_and_no_other_rows(task: str, tmp_path: Path) -> None:
    """Its docs name one column, `messages`: a job of other rows is refused after its upload, or after training."""
    write_task(tmp_path, task, {})
    plan = azure_plan(tmp_path, "maas", task=task)
    found = next(finding for finding in plan.findings if finding.code == "azure-task")
    assert found.message == f"`task: {task}` can't be had: serverless fine-tuning reads chats only."
    assert found.fix == "Take --mode maap with modes.maap.pipeline: azft. There are: chat-completion."
    assert "azure-columns-unpublished" not in codes(plan)


def test_what_columns_a_fine_tuning_job_reads_nobody_says(tmp_path: Path) -> None:
    write_task(tmp_path, "translation", {})
    plan = azure_plan(tmp_path, "finetuning", task="translation")
    assert "azure-columns-unpublished" in codes(plan, "warning")
