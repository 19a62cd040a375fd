"""The package step: what was trained becomes a folder that servers load, proven equal to what was evaluated."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import torch

from azft.data.model_folder import READING_HEADS, find_model_folder, is_pipeline
from azft.errors import AzftError
from azft.files import write_bytes, write_json, write_text
from azft.parameters import PackageParameters
from azft.training import adapters
from azft.training.card import model_card
from azft.training.models import copy_tokenizer, empty_model, load_model, save_model, unwrapped, verify_saved
from azft.training.objectives import OBJECTIVES
from azft.training.output import output_folder
from azft.training.painter import Painter
from azft.training.painter_lora import write_diffusers_lora
from azft.training.stored import stored_dtype

_ROUNDING = 1e-4
"""Difference of logits in fp32, relative to their spread, that rounding may make.

Measured: 1e-6; a lost adapter shows as 1e-2."""
_SHARE_OF_EFFECT = 1e-2
"""Difference relative to what the adapter changes: rounding grows with the update (1.8e-4 of the spread after a high
learning rate), and a lost module still shows."""


def package(parameters: PackageParameters, *, model: Path, trained: Path, evaluation: Path, output: Path) -> None:
    """Make the folder that is served.

    It holds the whole model (merged from an adapter when `merge` is set), the adapter in `adapter/` where there is one,
    the tokenizer, and a README.md with the evaluation's figures. An adapter that can't be merged has its base model
    beside it, in `base/`.

    Raises:
        AzftError: The merged model does not compute what base and adapter compute.
    """
    training = _read(trained / "training.json")
    options: dict[str, Any] = {
        **OBJECTIVES[training["objective"]].loading(training["labels"]),
        "trust_remote_code": parameters.trust_remote_code,
    }
    dtype = stored_dtype(model)
    is_adapter = (trained / adapters.CONFIG).is_file()
    with output_folder(output, last="README.md") as folder:
        if is_adapter:
            _copy_adapter(trained, folder / "adapter", parameters.base_model)
            if is_pipeline(model):
                write_diffusers_lora(folder / "adapter")
        if is_adapter and parameters.merge:
            merged = merge(load_model(model, dtype=torch.float32, **options), trained)
            save_model(merged, folder, dtype)
            verify_saved(merged, folder)
        elif not is_adapter:
            _copy_model(trained, folder)
        elif not adapters.merges(trained):
            _copy_model(find_model_folder(model), folder / "base")
            _name_head(folder / "base", options)
        copy_tokenizer(model, folder)
        for name in ("generation_config.json", "LICENSE", "LICENSE.txt", "NOTICE"):
            for source in (find_model_folder(model) / name, model / name):
                if source.is_file() and not (folder / name).exists():
                    shutil.copyfile(source, folder / name)
        write_text(
            folder / "README.md",
            model_card(
                parameters,
                training=training,
                evaluation=_read(evaluation / "evaluation.json"),
                is_adapter=is_adapter,
                has_base=(folder / "base").is_dir(),
            ),
        )
    sys.stdout.write(f"packaged: {output}\n")


@torch.no_grad()
def merge(base: Any, adapter: Path) -> Any:
    """The base model (fp32) with a saved adapter folded into its weights, and proof that nothing else changed.

    Merging happens in fp32 whatever type the model is stored in: 4-bit or bf16 weights would round the update away.
    """
    ids = torch.from_numpy(np.random.default_rng(0).integers(0, base.get_input_embeddings().weight.shape[0], (2, 24)))
    tuned = adapters.attach(base, adapter)
    expected = _logits(tuned, ids)
    with tuned.disable_adapter():
        effect = float((_logits(tuned, ids) - expected).abs().max())
    merged = tuned.merge_and_unload(safe_merge=True)
    actual = _logits(merged, ids)
    difference = float((actual - expected).abs().max())
    if not difference <= max(_ROUNDING * float(expected.std()), _SHARE_OF_EFFECT * effect):
        raise AzftError(
            f"The merged model's logits differ from base + adapter by {difference:.1e}; the adapter changes them by "
            f"{effect:.1e}.",
            fix="Set output.merge: false and serve the adapter; an adapter on a tied output head can't be merged.",
        )
    return merged


def _logits(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """Everything that a model says about token ids, whatever its head."""
    inner = unwrapped(model)
    if isinstance(inner, Painter):
        return inner.probe()
    config = inner.config
    if config.is_encoder_decoder:
        output = model(input_ids=ids, decoder_input_ids=ids, use_cache=False)
    else:
        output = model(input_ids=ids)
    logits = [value for name, value in output.items() if name.endswith("logits")]  # an answer's start and end are two
    return torch.cat(logits, -1)


def _copy_adapter(trained: Path, target: Path, base_model: str) -> None:
    target.mkdir()
    shutil.copyfile(trained / adapters.WEIGHTS, target / adapters.WEIGHTS)
    config = orjson.loads((trained / adapters.CONFIG).read_bytes()) | {"base_model_name_or_path": base_model}
    write_bytes(target / adapters.CONFIG, orjson.dumps(config, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS))


def _copy_model(trained: Path, target: Path) -> None:
    target.mkdir(exist_ok=True)
    if is_pipeline(trained):
        shutil.copytree(trained, target, ignore=shutil.ignore_patterns("training.json"), dirs_exist_ok=True)
        return
    for file in sorted(trained.iterdir()):
        if file.is_file() and file.name != "training.json":
            shutil.copyfile(file, target / file.name)


def _name_head(base: Path, options: dict[str, Any]) -> None:
    """Let the base say which head its adapter brings along, and what the labels are called: nothing else knows."""
    if not options["head"].endswith(READING_HEADS):
        return
    model = empty_model(base, **options)
    keys = ("id2label", "label2id", "problem_type") if options["labels"] else ()
    full: dict[str, Any] = orjson.loads(model.config.to_json_string(use_diff=False))
    said = {key: full[key] for key in keys} | {"architectures": [type(model).__name__]}
    write_json(base / "config.json", _read(base / "config.json") | said)


def _read(path: Path) -> dict[str, Any]:
    value: dict[str, Any] = orjson.loads(path.read_bytes())
    return value
