"""Rows with pictures: what the check says of them, how they become tokens and pixels, and how a folder becomes rows."""

from __future__ import annotations

import base64
import io
import json
import sys
from pathlib import Path

import numpy as np
import orjson
import pytest
from PIL import Image

import azft
from azft.data.check import check_files
from azft.data.clip_tokenizer import build
from azft.data.convert import convert
from azft.data.dataset import open_dataset, read_manifest, verify
from azft.data.model_folder import model_kind
from azft.data.pictures import check_image, open_picture, pixels_of, plain_base64
from azft.data.prepare import prepare
from azft.data.preview import preview
from azft.data.template_probe import RefusalError
from azft.data.tokenizer import load_tokenizer
from azft.errors import FindingsError, MissingDependencyError
from azft.parameters import PrepareParameters
from azft.recipe import Recipe
from azft.recipe_file import load_recipe
from scripts.make_example_pictures import COUNTS, files
from tests.helpers.painters import (
    MERGES,
    SIDE,
    TOKENS,
    in_base64,
    picture,
    picture_rows,
    tiny_tokenizer,
    vocabulary,
    write_painter,
    write_picture_rows,
)

GOOD = in_base64(picture())


@pytest.fixture(scope="module")
def painter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_painter(tmp_path_factory.mktemp("painter") / "model")


def codes(value: object) -> list[str]:
    return [problem.code for problem in check_image(value, "image", {})]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (GOOD, []),
        (f"data:image/png;base64,{GOOD}", []),
        (in_base64(picture(), "JPEG"), []),
        (7, ["wrong-type"]),
        ("", ["image-broken"]),
        ("pictures/red.png", ["image-elsewhere"]),
        ("https://example.org/red", ["image-elsewhere"]),
        ("no base64!", ["image-not-base64"]),
        (GOOD[:-400], ["image-broken"]),
        ("aGVsbG8=", ["image-broken"]),
        (in_base64(picture(size=(63, 200))), ["image-small"]),
        (in_base64(picture(mode="RGBA")), ["image-transparent"]),
        (in_base64(picture(mode="L")), []),
        (in_base64(picture(mode="CMYK"), "JPEG"), []),
    ],
    ids=lambda value: str(value)[:24],
)
def test_what_is_wrong_with_a_picture(value: object, expected: list[str]) -> None:
    assert codes(value) == expected


def test_a_moving_picture_is_warned_about(tmp_path: Path) -> None:
    first, *others = [picture(color) for color in ("red", "blue", "green")]
    first.save(tmp_path / "moving.gif", save_all=True, append_images=others)
    assert codes(base64.b64encode((tmp_path / "moving.gif").read_bytes()).decode()) == ["image-frames"]


def test_a_bomb_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64 * 64 - 1)
    assert codes(GOOD) == ["image-broken"]


def test_without_pillow_the_check_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingDependencyError) as caught:
        codes(GOOD)
    assert "azft[images]" in caught.value.fix


def test_the_middle_square_is_scaled_and_white_is_under_what_is_transparent() -> None:
    wide = Image.new("RGBA", (120, 60), (0, 0, 255, 255))
    wide.paste((255, 0, 0, 255), (30, 0, 90, 60))  # the middle square
    wide.paste((0, 255, 0, 0), (50, 20, 70, 40))  # a hole in it
    pixels = pixels_of(in_base64(wide), 30)
    assert (pixels.shape, pixels.dtype) == ((3, 30, 30), np.uint8)
    for place, color in (((2, 2), [255, 0, 0]), ((2, 27), [255, 0, 0]), ((15, 15), [255, 255, 255])):
        assert np.allclose(pixels[:, *place], color, atol=2)  # Lanczos's filter reaches over edges


def test_a_camera_s_turn_is_taken_back() -> None:
    lying = Image.new("RGB", (80, 80), "white")
    lying.paste((255, 0, 0), (0, 0, 80, 40))
    turned = Image.Exif()
    turned[0x0112] = 3  # by half a turn
    file = io.BytesIO()
    lying.save(file, "PNG", exif=turned)
    pixels = pixels_of(base64.b64encode(file.getvalue()).decode(), 16)
    assert pixels[:, 2, 8].tolist() == [255, 255, 255]
    assert pixels[:, 13, 8].tolist() == [255, 0, 0]


def test_the_check_names_file_and_line(tmp_path: Path) -> None:
    rows = picture_rows(12)
    rows[3]["image"] = "photos/4.jpg"
    rows[5] = rows[4]
    path = write_picture_rows(tmp_path / "train.jsonl", rows)
    report = check_files("text-to-image", {}, {"train": path})
    found = {finding.code: finding for finding in report.findings}
    assert found["data-image-elsewhere"].line == 4
    assert "azft convert" in found["data-image-elsewhere"].fix
    assert found["data-duplicate-row"].line == 6
    assert not report.ok


def test_one_caption_may_have_many_pictures(tmp_path: Path) -> None:
    rows = [{**row, "text": "a photo of sks dog"} for row in picture_rows(12)]
    path = write_picture_rows(tmp_path / "train.jsonl", rows)
    report = check_files("text-to-image", {}, {"train": path})
    assert {finding.code for finding in report.findings} == {"data-lengths-unchecked"}


def test_the_tokenizer_of_old_folders_is_transformers_own(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_bytes(orjson.dumps(vocabulary()))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in MERGES))
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "<|endoftext|>", "bos_token": "<|startoftext|>"}')
    theirs, mine = tiny_tokenizer(), load_tokenizer(tmp_path)
    for text in ("A red  Circle's edge, 12 wide!", "blue\n\tCAFÉ — <|endoftext|> naïve", "", "ﬁ 🎈 it'll"):
        assert mine.backend.encode(text).ids == theirs(text).input_ids
    assert build(vocabulary(), MERGES).encode("red blue").ids[1:3] == [
        vocabulary()["red</w>"],
        vocabulary()["blue</w>"],
    ]


def recipe(**data: object) -> Recipe:
    given = {"train": "train.jsonl", "validation": "validation.jsonl", **data}
    return Recipe.model_validate({"name": "p", "task": "text-to-image", "model": "model", "data": given})


def prepared(folder: Path, painter: Path, rows: list[dict[str, str]], **data: object) -> Path:
    prepare(
        PrepareParameters.of(recipe(**data)),
        model=painter,
        train=write_picture_rows(folder / "train.jsonl", rows),
        validation=write_picture_rows(folder / "validation.jsonl", picture_rows(2, 50)),
        output=folder / "dataset",
        progress=lambda _line: None,
    )
    return folder / "dataset"


def test_a_dataset_has_captions_as_tokens_and_pictures_as_pixels(tmp_path: Path, painter: Path) -> None:
    rows = picture_rows(10)
    folder = prepared(tmp_path, painter, rows)
    verify(folder)
    train, theirs = open_dataset(folder, "train"), tiny_tokenizer()
    assert (model_kind(painter), train.objective, len(train)) == ("diffusion", "noise", 10)
    assert train.pixels is not None
    assert train.pixels.shape == (10, 3, SIDE, SIDE)
    assert train.label_counts.tolist() == [1] * 10
    for number, row in enumerate(rows):
        assert train.document(number).tokens.tolist() == theirs(row["text"]).input_ids
        assert np.array_equal(train.pixels[number], pixels_of(row["image"], SIDE))
    assert read_manifest(prepared(tmp_path, painter, rows))["fingerprint"] == train.fingerprint
    other = [*rows[:-1], {**rows[-1], "image": GOOD}]
    assert read_manifest(prepared(tmp_path, painter, other))["fingerprint"] != train.fingerprint


def test_the_recipe_s_resolution_is_taken_where_the_model_can_have_it(tmp_path: Path, painter: Path) -> None:
    train = open_dataset(prepared(tmp_path, painter, picture_rows(10), resolution=48), "train")
    assert train.pixels is not None
    assert train.pixels.shape[1:] == (3, 48, 48)
    with pytest.raises(RefusalError, match="steps of 2 pixels"):
        prepared(tmp_path, painter, picture_rows(10), resolution=49)


@pytest.mark.parametrize(("long_rows", "lengths"), [("drop", [9]), ("truncate", [9, TOKENS])])
def test_a_caption_that_is_too_long(tmp_path: Path, painter: Path, long_rows: str, lengths: list[int]) -> None:
    rows = [
        {"image": GOOD, "text": "red box"},
        {"image": GOOD, "text": "a box that is red, and nothing else is to see"},
    ]
    train = open_dataset(prepared(tmp_path, painter, rows, long_rows=long_rows), "train")
    ends = [train.document(number).tokens.tolist() for number in range(len(train))]
    assert [len(ids) for ids in ends] == [len(tiny_tokenizer()("red box").input_ids), *lengths[1:]]
    assert all(ids[-1] == vocabulary()["<|endoftext|>"] for ids in ends)
    assert train.pixels is not None
    assert len(train.pixels) == len(lengths)


def test_a_long_caption_stops_the_run_where_that_is_wanted(tmp_path: Path, painter: Path) -> None:
    rows = [{"image": GOOD, "text": "word " * 30}]
    with pytest.raises(FindingsError) as caught:
        prepared(tmp_path, painter, rows, long_rows="error")
    assert "data-row-too-long" in {finding.code for finding in caught.value.findings}


def test_preview_shows_the_caption_and_the_picture_s_size(tmp_path: Path, painter: Path) -> None:
    write_picture_rows(tmp_path / "train.jsonl", [{"image": in_base64(picture(size=(80, 70))), "text": "red box"}])
    text = f"name: p\ntask: text-to-image\nmodel: {painter}\ndata: {{train: train.jsonl}}\n"
    (tmp_path / "recipe.yaml").write_text(text)
    report = preview(load_recipe(tmp_path / "recipe.yaml"), load_tokenizer(painter))
    outside, inside = report.rows[0].segments
    assert outside.text == "red box\n"
    assert (inside.text, inside.in_loss) == (f"[picture, 80 x 70 to {SIDE} x {SIDE} pixels]", True)


def test_a_folder_of_pictures_is_converted(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for number in range(3):
        picture(seed=number).save(tmp_path / "photos" / f"{number}.png")
    lines = [{"file_name": f"photos/{number}.png", "caption": f"box {number}"} for number in range(3)]
    (tmp_path / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = convert(tmp_path / "metadata.jsonl", tmp_path / "train.jsonl")
    assert (result.format, result.task, result.rows) == ("pictures", "text-to-image", 3)
    rows = [json.loads(line) for line in (tmp_path / "train.jsonl").read_text().splitlines()]
    assert [row["text"] for row in rows] == ["box 0", "box 1", "box 2"]
    assert np.array_equal(np.asarray(open_picture(rows[2]["image"])), np.asarray(picture(seed=2)))
    assert check_files("text-to-image", {}, {"train": tmp_path / "train.jsonl"}).ok


def test_paths_in_the_task_s_own_column_are_converted_as_the_check_says(tmp_path: Path) -> None:
    picture().save(tmp_path / "a.png")
    (tmp_path / "rows.jsonl").write_text('{"image": "a.png", "text": "a box"}\n')
    convert(tmp_path / "rows.jsonl", tmp_path / "new.jsonl", format="pictures", columns={"file_name": "image"})
    assert codes(json.loads((tmp_path / "new.jsonl").read_text())["image"]) == []


def test_a_picture_that_is_not_there_stops_the_conversion(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"file_name": "gone.png", "text": "a box"}\n')
    with pytest.raises(FindingsError) as caught:
        convert(tmp_path / "rows.jsonl", tmp_path / "new.jsonl")
    assert "gone.png can't be read" in caught.value.findings[0].message
    assert not (tmp_path / "new.jsonl").exists()


def test_the_example_is_the_script_s(tmp_path: Path) -> None:
    folder = Path(azft.__file__).parent / "templates" / "text-to-image"
    for name, rows in files().items():
        shipped = [json.loads(line) for line in (folder / name).read_text(encoding="utf-8").splitlines()]
        assert len(shipped) == COUNTS[name.removesuffix(".jsonl")]
        for one, other in zip(shipped, rows, strict=True):
            assert one["text"] == other["text"]
            assert np.array_equal(pixels_of(one["image"], 64), pixels_of(other["image"], 64))
            assert plain_base64(one["image"]) != one["image"]


def test_the_example_s_rows_are_without_fault(tmp_path: Path) -> None:
    recipe_file = azft.load_recipe(azft.init(tmp_path / "mine", task="text-to-image").recipe)
    paths = {role: recipe_file.folder / f"{role}.jsonl" for role in COUNTS}
    report = check_files("text-to-image", {}, paths)
    assert {finding.code for finding in report.findings} == {"data-lengths-unchecked"}
