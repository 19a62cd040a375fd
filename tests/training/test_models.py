"""Model folders: what can't be loaded is said in a line, with what to do."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import orjson
import pytest
import torch
from safetensors.torch import load_file, save_file

from azft.errors import AzftError, NotFoundError, UsageError
from azft.training.models import fingerprint, load_model, save_model, verify_saved
from azft.training.stored import stored_dtype
from tests.training.tiny import save_model as make_folder
from tests.training.tiny import tiny_model


def test_an_empty_folder_is_not_a_model(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"no config\.json"):
        load_model(tmp_path)


def test_what_others_advise_about_packages_that_are_not_needed_stays_out_of_a_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DS_ACCELERATOR", raising=False)
    advice = logging.getLogger("bitsandbytes.backends.cpu.ops")
    monkeypatch.setattr(advice, "level", logging.NOTSET)
    make_folder(tmp_path)
    load_model(tmp_path)
    assert not advice.isEnabledFor(logging.WARNING)
    assert os.environ["DS_ACCELERATOR"] in {"cpu", "cuda"}


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    make_folder(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(UsageError, match="are pickles") as caught:
        load_model(tmp_path)
    assert "safetensors" in caught.value.fix


def test_a_model_with_code_of_its_own_needs_consent(tmp_path: Path) -> None:
    make_folder(tmp_path)
    config = orjson.loads((tmp_path / "config.json").read_bytes())
    config |= {"model_type": "homemade", "auto_map": {"AutoConfig": "code.C", "AutoModelForCausalLM": "code.M"}}
    (tmp_path / "config.json").write_bytes(orjson.dumps(config))
    with pytest.raises(UsageError, match="Python code of its own") as caught:
        load_model(tmp_path)
    assert "trust_remote_code: true" in caught.value.fix


def test_an_unknown_architecture_is_an_error_in_a_line(tmp_path: Path) -> None:
    make_folder(tmp_path)
    (tmp_path / "config.json").write_bytes(orjson.dumps({"model_type": "homemade"}))
    with pytest.raises(AzftError, match="can't be loaded") as caught:
        load_model(tmp_path)
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("architecture", ["llama", "phi3"])
def test_a_saved_model_is_verified_tied_weights_included(architecture: str, tmp_path: Path) -> None:
    model = tiny_model(architecture)
    save_model(model, tmp_path, torch.bfloat16)
    assert stored_dtype(tmp_path) == torch.bfloat16
    assert next(model.parameters()).dtype == torch.float32
    verify_saved(model, tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    weights["model.norm.weight"][3] += 1
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(AzftError, match=r"model\.norm\.weight differs"):
        verify_saved(model, tmp_path)


def test_the_fingerprint_tells_weights_and_settings_apart(tmp_path: Path) -> None:
    one, same, other = (make_folder(tmp_path / str(n), seed=seed) for n, seed in enumerate((1, 1, 2)))
    assert fingerprint(one) == fingerprint(same) != fingerprint(other)
