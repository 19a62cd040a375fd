"""Draw the pictures of `azft init --task text-to-image`: plain shapes on plain ground, each with a caption.

    python scripts/make_example_pictures.py

writes azft/templates/text-to-image/*.jsonl; needs Pillow.
"""

from __future__ import annotations

import base64
import io
import itertools
import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

FOLDER = Path(__file__).parent.parent / "azft" / "templates" / "text-to-image"
COUNTS = {"train": 24, "validation": 6, "test": 6}
SIDE = 64
COLORS = {"red": "#d62828", "blue": "#1d4ed8", "green": "#2a9d4a", "yellow": "#f4c20d", "black": "#1c1c1c"}
GROUNDS = {"white": "#ffffff", "gray": "#c9ccd1", "pink": "#f8c8dc"}
SHAPES = ("circle", "square", "triangle", "cross")
PLACES = {"on the left": 20, "in the middle": 32, "on the right": 44}


def scenes() -> list[tuple[str, str, str, str]]:
    """(color, shape, place, ground) of each picture, no two alike, neighbours different in each."""
    every = list(itertools.product(COLORS, SHAPES, PLACES, GROUNDS))
    return [every[(67 * number) % len(every)] for number in range(sum(COUNTS.values()))]


def draw(color: str, shape: str, place: str, ground: str) -> Image:
    """The picture of a scene."""
    from PIL import Image, ImageDraw

    picture = Image.new("RGB", (SIDE, SIDE), GROUNDS[ground])
    pen, x, y, reach = ImageDraw.Draw(picture), PLACES[place], SIDE // 2, 14
    box = (x - reach, y - reach, x + reach, y + reach)
    ink = COLORS[color]
    if shape == "circle":
        pen.ellipse(box, fill=ink)
    elif shape == "square":
        pen.rectangle(box, fill=ink)
    elif shape == "triangle":
        pen.polygon([(x, y - reach), (x - reach, y + reach), (x + reach, y + reach)], fill=ink)
    else:
        pen.rectangle((x - reach, y - 4, x + reach, y + 4), fill=ink)
        pen.rectangle((x - 4, y - reach, x + 4, y + reach), fill=ink)
    return picture


def caption(color: str, shape: str, place: str, ground: str) -> str:
    """What is to be seen."""
    return f"a {color} {shape} {place}, {ground} ground"


def files() -> dict[str, list[dict[str, str]]]:
    """File name -> its rows."""
    rows = []
    for scene in scenes():
        file = io.BytesIO()
        draw(*scene).quantize(8).save(file, "PNG", optimize=True)
        encoded = base64.b64encode(file.getvalue()).decode()
        rows.append({"image": f"data:image/png;base64,{encoded}", "text": caption(*scene)})
    following = iter(rows)
    return {f"{role}.jsonl": list(itertools.islice(following, count)) for role, count in COUNTS.items()}


def main() -> None:
    """Write the files."""
    FOLDER.mkdir(exist_ok=True)
    for name, rows in files().items():
        (FOLDER / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    main()
