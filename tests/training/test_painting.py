"""Learning to paint: the gradient, what is drawn, resuming, ranks, refusals, and what diffusers loads of it."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import torch
from safetensors.torch import load_file, save_file

from azft.catalog.folder import folder_identity, problems_of
from azft.data.dataset import open_dataset
from azft.data.prepare import prepare
from azft.errors import AzftError, UsageError
from azft.parameters import EvaluateParameters, FinetuneParameters, PackageParameters, PrepareParameters
from azft.recipe import Recipe
from azft.tasks import TASKS
from azft.training.devices import arithmetic
from azft.training.evaluate import evaluate, measure, totals_of
from azft.training.finetune import finetune
from azft.training.models import fingerprint, load_model
from azft.training.noise import MEASURED_AT, NoiseLoss, picture_batch
from azft.training.package import package
from azft.training.painter import HEAD, Painter
from azft.training.stand_in import StandInSpec, make
from azft.training.techniques import trainable_share
from tests.helpers.painters import SIDE, picture_rows, write_painter, write_picture_rows
from tests.matrix.naive import noise_of_one
from tests.training.ranked import assert_same_training, kill_all_before_step, train, weights
from tests.training.tiny import Float64, gradients, worst_difference

CPU = torch.device("cpu")
LORA: dict[str, Any] = {"name": "lora", "rank": 4, "alpha": 12}


def recipe(**changes: Any) -> Recipe:
    training = {
        "max_steps": 4, "global_batch_size": 4, "micro_batch_size": 2, "precision": "fp32", "learning_rate": 1e-2,
        "warmup_ratio": 0, "save_steps": 1, **changes.pop("training", {}),
    }  # fmt: skip
    data = {"train": "train.jsonl", "validation": "validation.jsonl"}
    given = {"name": "p", "task": "text-to-image", "model": "base", "data": data, "technique": LORA, **changes}
    return Recipe.model_validate({**given, "training": training, "evaluation": {"samples": 2}})


def dataset_of(folder: Path, model: Path) -> Path:
    prepare(
        PrepareParameters.of(recipe()),
        model=model,
        train=write_picture_rows(folder / "train.jsonl", picture_rows(10)),
        validation=write_picture_rows(folder / "validation.jsonl", picture_rows(3, 20)),
        output=folder / "dataset",
        progress=lambda _line: None,
    )
    return folder / "dataset"


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("painting")
    model = write_painter(folder / "model")
    return {"model": model, "dataset": dataset_of(folder, model)}


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory, inputs: dict[str, Path]) -> Path:
    """A LoRA, trained, evaluated and packaged."""
    folder = tmp_path_factory.mktemp("tuned")
    tune(folder, inputs, recipe())
    return folder


def tune(folder: Path, inputs: dict[str, Path], what: Recipe) -> None:
    train_once(folder, inputs, FinetuneParameters.of(what))
    evaluate(EvaluateParameters.of(what), **inputs, trained=folder / "trained", output=folder / "evaluation")
    package(
        PackageParameters.of(what), model=inputs["model"], trained=folder / "trained",
        evaluation=folder / "evaluation", output=folder / "packaged",
    )  # fmt: skip


def train_once(folder: Path, inputs: dict[str, Path], what: FinetuneParameters) -> None:
    finetune(what, **inputs, **{name: folder / name for name in ("trained", "checkpoints", "metrics")})


def painter_of(model: Path, dtype: torch.dtype = torch.float64) -> Painter:
    painter: Painter = load_model(model, head=HEAD, dtype=dtype)
    painter.unet.requires_grad_(True)
    return painter


def test_the_gradient_of_v_prediction_is_the_naive_one(tmp_path: Path, inputs: dict[str, Path]) -> None:
    rows, chosen = open_dataset(inputs["dataset"], "train"), (3, 1, 7)
    with Float64():
        painter = painter_of(write_painter(tmp_path / "v", prediction="v_prediction"))
        loss = NoiseLoss(painter)(picture_batch(rows, chosen, (42, 5)))
        loss.backward()
        mine = gradients(painter)
        painter.zero_grad()
        naive = torch.stack([noise_of_one(painter, rows, sequence, seed=42, step=5) for sequence in chosen]).sum()
        naive.backward()
        assert float(loss.detach()) == pytest.approx(float(naive.detach()), rel=1e-6)
        assert worst_difference(gradients(painter), mine) < 1e-6


def test_what_is_drawn_is_the_step_s_and_the_picture_s_alone(inputs: dict[str, Path]) -> None:
    rows, module = open_dataset(inputs["dataset"], "train"), NoiseLoss(painter_of(inputs["model"]).eval())
    with torch.no_grad():
        together = module.losses(picture_batch(rows, [4, 2, 9], (7, 3)))
        alone = torch.cat([module.losses(picture_batch(rows, [number], (7, 3))) for number in (4, 2, 9)])
        assert torch.allclose(together, alone, rtol=1e-6)
        for other in ((7, 4), (8, 3)):
            assert (module.losses(picture_batch(rows, [4, 2, 9], other)) - together).abs().min() > 1e-4


def test_held_out_pictures_are_measured_at_fixed_noise(inputs: dict[str, Path]) -> None:
    rows, numbers = open_dataset(inputs["dataset"], "validation"), arithmetic("fp32", CPU)
    painter = painter_of(inputs["model"], torch.float32).eval()
    torch.manual_seed(1)
    first = totals_of(painter, rows, numbers)
    torch.manual_seed(2)
    assert measure(painter, rows, numbers) == {"loss": first.mean_loss}
    assert first.labels == len(rows) * len(MEASURED_AT)
    steps = {draw.share for draw in picture_batch(rows, [0]).draws}
    assert steps == set(MEASURED_AT)


def test_a_caption_is_read_as_the_pipeline_reads_it(inputs: dict[str, Path]) -> None:
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(inputs["model"], safety_checker=None)
    painter = painter_of(inputs["model"], torch.float32)
    rows = open_dataset(inputs["dataset"], "train")
    theirs, nothing = pipeline.encode_prompt(picture_rows(1)[0]["text"], CPU, 1, True, "")
    mine = painter.read([rows.document(0).tokens.tolist(), painter.no_caption])
    assert torch.allclose(mine, torch.cat([theirs, nothing]), atol=1e-6)


@pytest.mark.parametrize("technique", [{**LORA, "dropout": 0.2}, {"name": "full"}], ids=["lora", "full"])
def test_killed_and_resumed_it_ends_with_the_same_bits(
    technique: dict[str, Any], inputs: dict[str, Path], tmp_path: Path
) -> None:
    what = FinetuneParameters.of(recipe(technique=technique))
    assert train(tmp_path / "whole", inputs, what, ranks=1) == [0]
    killed = tmp_path / "killed"
    assert train(killed, inputs, what, ranks=1, arrange=kill_all_before_step(2)) == [-signal.SIGKILL]
    assert train(killed, inputs, what, ranks=1) == [0]
    one, other = (weights(folder) for folder in (tmp_path / "whole", killed))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("technique", [LORA, {"name": "full"}], ids=["lora", "full"])
def test_two_ranks_train_as_one_does(technique: dict[str, Any], inputs: dict[str, Path], tmp_path: Path) -> None:
    training = {"global_batch_size": 3, "micro_batch_size": 1, "adam_epsilon": 1e-2}
    alone = FinetuneParameters.of(recipe(technique=technique, training=training))
    both = FinetuneParameters.of(recipe(technique=technique, training=training, distribution={"strategy": "ddp"}))
    assert train(tmp_path / "one", inputs, alone, ranks=1) == [0]
    assert train(tmp_path / "two", inputs, both, ranks=2) == [0, 0]
    assert_same_training(tmp_path / "one", tmp_path / "two")


def test_checkpointed_activations_change_nothing(inputs: dict[str, Path], tmp_path: Path) -> None:
    for name, given in (("plain", False), ("again", True)):
        training = {"gradient_checkpointing": given, "max_steps": 2}
        train_once(tmp_path / name, inputs, FinetuneParameters.of(recipe(training=training)))
    assert_same_training(tmp_path / "plain", tmp_path / "again")


def test_only_the_unet_is_in_training(inputs: dict[str, Path]) -> None:
    painter = painter_of(inputs["model"], torch.float32).train()
    assert (painter.unet.training, painter.vae.training, painter.text_encoder.training) == (True, False, False)


@pytest.mark.slow  # bf16 is emulated on most CPUs, and thirteen seconds of it
def test_bf16_learns_about_what_fp32_does(inputs: dict[str, Path], tmp_path: Path) -> None:
    losses = {}
    for precision in ("fp32", "bf16"):
        tune(tmp_path / precision, inputs, recipe(training={"precision": precision}))
        losses[precision] = orjson.loads((tmp_path / precision / "evaluation" / "evaluation.json").read_bytes())
    for which in ("base", "tuned"):
        assert losses["bf16"][which]["loss"] == pytest.approx(losses["fp32"][which]["loss"], rel=0.02)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"technique": {"name": "freeze"}}, "technique.name freeze"),
        ({"technique": {"name": "prompt-tuning"}}, "technique.name prompt-tuning"),
        ({"technique": {**LORA, "init": "eva"}}, "technique.init eva"),
        ({"technique": {**LORA, "modules_to_save": ["conv_in"]}}, "technique.modules_to_save"),
        ({"distribution": {"strategy": "fsdp"}}, "distribution.strategy fsdp"),
        ({"distribution": {"strategy": "deepspeed"}}, "distribution.strategy deepspeed"),
    ],
)
def test_what_its_models_can_t_be_trained_by(changes: dict[str, Any], key: str) -> None:
    what = recipe(**changes)
    (found,) = TASKS["text-to-image"].refusals(what.technique, what.distribution)
    assert found[1].startswith(key)
    assert found[2]


def test_the_step_refuses_it_before_it_opens_anything(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"technique\.name dora"):
        missing = {"model": tmp_path, "dataset": tmp_path}
        train_once(tmp_path, missing, FinetuneParameters.of(recipe(technique={"name": "dora"})))


def test_target_modules_are_the_unet_s(inputs: dict[str, Path], tmp_path: Path) -> None:
    technique = {**LORA, "target_modules": ["to_q", "to_out.0"]}  # the VAE has modules called so, too
    train_once(tmp_path, inputs, FinetuneParameters.of(recipe(technique=technique, training={"max_steps": 1})))
    names = load_file(tmp_path / "trained" / "adapter_model.safetensors")
    assert names
    assert all(name.startswith("base_model.model.unet.") for name in names)
    with pytest.raises(UsageError, match="no linear module of Painter is called `q_proj`"):
        technique = {**LORA, "target_modules": ["q_proj"]}
        train_once(tmp_path / "other", inputs, FinetuneParameters.of(recipe(technique=technique)))


def test_weights_are_counted_without_loading_any(inputs: dict[str, Path], tuned: Path) -> None:
    summary = orjson.loads((tuned / "trained" / "training.json").read_bytes())
    counts = trainable_share(inputs["model"], recipe().technique, objective="noise")
    assert counts == (summary["trainable_parameters"], summary["total_parameters"])


def test_both_models_paint_the_same_captions(tuned: Path) -> None:
    from PIL import Image

    samples = [orjson.loads(line) for line in (tuned / "evaluation" / "samples.jsonl").read_bytes().splitlines()]
    said = [row["text"].lower().replace(".", " .") for row in picture_rows(2, 20)]
    assert [sample["prompt"].replace(" ", "") for sample in samples] == [text.replace(" ", "") for text in said]
    for sample in samples:
        pictures = [np.asarray(Image.open(tuned / "evaluation" / sample[which])) for which in ("base", "tuned")]
        assert [one.shape for one in pictures] == [(SIDE, SIDE, 3)] * 2
        assert not np.array_equal(*pictures)


def test_evaluating_again_gives_the_same_bytes(tuned: Path, inputs: dict[str, Path], tmp_path: Path) -> None:
    evaluate(EvaluateParameters.of(recipe()), **inputs, trained=tuned / "trained", output=tmp_path / "again")
    for file in sorted((tuned / "evaluation").rglob("*")):
        if file.is_file():
            assert (tmp_path / "again" / file.relative_to(tuned / "evaluation")).read_bytes() == file.read_bytes()


@torch.no_grad()
def said(unet: Any) -> torch.Tensor:
    draw = torch.Generator().manual_seed(0)
    latents, caption = torch.randn(2, 4, 16, 16, generator=draw), torch.randn(2, 24, 24, generator=draw)
    out: torch.Tensor = unet(latents, torch.tensor([5, 700]), caption).sample
    return out


def test_diffusers_and_peft_load_what_was_packaged(tuned: Path, inputs: dict[str, Path]) -> None:
    from diffusers import StableDiffusionPipeline
    from peft import PeftModel

    def pipeline(folder: Path) -> Any:
        return StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)

    base = said(pipeline(inputs["model"]).unet)
    merged = said(pipeline(tuned / "packaged").unet)
    with_lora = pipeline(inputs["model"])
    with_lora.load_lora_weights(tuned / "packaged" / "adapter")
    by_peft = PeftModel.from_pretrained(pipeline(inputs["model"]).unet, tuned / "packaged" / "adapter")
    effect = float((merged - base).abs().max())
    assert effect > 1e-2
    for other in (said(with_lora.unet), said(by_peft)):
        assert float((other - merged).abs().max()) < 1e-4 * effect
    card = (tuned / "packaged" / "README.md").read_text()
    assert "library_name: diffusers" in card
    assert "load_lora_weights" in card


def test_a_whole_unet_is_packaged_as_it_was_stored(tmp_path: Path) -> None:
    from diffusers import StableDiffusionPipeline

    half = write_painter(tmp_path / "model")
    weights_file = half / "unet" / "diffusion_pytorch_model.safetensors"
    save_file({name: tensor.half() for name, tensor in load_file(weights_file).items()}, weights_file)
    inputs = {"model": half, "dataset": dataset_of(tmp_path, half)}
    tune(tmp_path, inputs, recipe(technique={"name": "full"}, training={"max_steps": 1}))
    StableDiffusionPipeline.from_pretrained(tmp_path / "packaged", safety_checker=None)
    before, after = load_file(weights_file), load_file(tmp_path / "packaged" / "unet" / weights_file.name)
    assert {tensor.dtype for tensor in after.values()} == {torch.float16}
    assert any(not torch.equal(before[name], after[name]) for name in before)
    for part in ("vae", "text_encoder"):
        for file in sorted((half / part).iterdir()):
            assert (tmp_path / "packaged" / part / file.name).read_bytes() == file.read_bytes()
    assert not (tmp_path / "packaged" / "training.json").exists()


@pytest.mark.parametrize(
    ("file", "change", "why"),
    [
        ("model_index.json", {"_class_name": "StableDiffusionXLPipeline"}, "it is a StableDiffusionXLPipeline"),
        ("unet/config.json", {"in_channels": 9}, "its UNet reads 9 channels"),
        ("scheduler/scheduler_config.json", {"prediction_type": "sample"}, "prediction_type is sample"),
    ],
)
def test_other_models_are_refused(
    file: str, change: dict[str, Any], why: str, inputs: dict[str, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "other"
    shutil.copytree(inputs["model"], folder)
    (folder / file).write_bytes(orjson.dumps(orjson.loads((folder / file).read_bytes()) | change))
    assert any(why in what for what, _ in problems_of(folder))
    with pytest.raises(AzftError, match=why):
        load_model(folder, head=HEAD)


def test_a_folder_that_is_not_whole_is_refused(inputs: dict[str, Path], tmp_path: Path) -> None:
    assert problems_of(inputs["model"]) == []
    folder = tmp_path / "damaged"
    shutil.copytree(inputs["model"], folder)
    (folder / "vae" / "diffusion_pytorch_model.safetensors").rename(folder / "vae" / "weights.bin")
    (folder / "tokenizer" / "tokenizer.json").unlink()
    os.truncate(folder / "unet" / "diffusion_pytorch_model.safetensors", 5000)
    said = " ".join(what for what, _ in problems_of(folder))
    assert "its vae has only pickles (weights.bin)" in said
    assert "no tokenizer" in said
    assert "diffusion_pytorch_model.safetensors is cut off" in said
    shutil.rmtree(folder / "text_encoder")
    assert any("it has no text_encoder/config.json" in what for what, _ in problems_of(folder))


def test_each_part_is_part_of_the_model_s_identity(inputs: dict[str, Path], tmp_path: Path) -> None:
    seen = {(fingerprint(inputs["model"]), folder_identity(inputs["model"]))}
    for number, file in enumerate(("vae/diffusion_pytorch_model.safetensors", "scheduler/scheduler_config.json")):
        folder = tmp_path / str(number)
        shutil.copytree(inputs["model"], folder)
        data = bytearray((folder / file).read_bytes())
        data[-3] ^= 1
        (folder / file).write_bytes(data)
        seen.add((fingerprint(folder), folder_identity(folder)))
    assert len({one for one, _ in seen}) == len({one for _, one in seen}) == 3


def test_a_stand_in_is_what_diffusers_loads_and_always_the_same(tmp_path: Path) -> None:
    from diffusers import StableDiffusionPipeline

    rows = write_picture_rows(tmp_path / "rows.jsonl", picture_rows(10))
    special = {"bos": "<|startoftext|>", "eos": "<|endoftext|>", "pad": "<|endoftext|>", "stop": "<|endoftext|>"}
    spec = StandInSpec.model_validate(
        {"architecture": HEAD, "special_tokens": special, "data": rows, "data_sha256": "0", "context_length": 77}
    )
    for name in ("one", "two"):
        make(spec, tmp_path / name)
    assert folder_identity(tmp_path / "one") == folder_identity(tmp_path / "two")
    assert problems_of(tmp_path / "one") == []
    pipeline = StableDiffusionPipeline.from_pretrained(tmp_path / "one", safety_checker=None)
    caption = picture_rows(1)[0]["text"]
    mine = load_model(tmp_path / "one", head=HEAD)
    from azft.data.tokenizer import load_tokenizer

    ids = load_tokenizer(tmp_path / "one").backend.encode(caption).ids
    assert pipeline.tokenizer(caption).input_ids == ids
    assert len(ids) < 12  # its merges are of the captions
    assert torch.equal(mine.read([ids])[0], pipeline.encode_prompt(caption, CPU, 1, False)[0][0])


def test_nobody_can_chat_with_a_painter(tuned: Path) -> None:
    from azft.training.generate import load_chat

    with pytest.raises(UsageError, match="paints pictures"):
        load_chat(tuned / "packaged")
