"""A picture in a row: base64 of its file, alone or as a data URL, decoded by Pillow into pixels.

Pictures travel inside the rows. So one file is all there is of the data: hashed, uploaded and read as for every other
task. Paths are for `azft convert`, which writes the pictures of a folder into rows.
"""

from __future__ import annotations

import base64
import binascii
import io
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from azft.data.row_hash import hash_bytes
from azft.data.rules import Problem
from azft.data.values import kind_of
from azft.errors import MissingDependencyError, first_line
from azft.extras import needs

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

SMALL = 64
"""Pixels of the shorter side below which a picture is warned about: it would have to be enlarged a lot."""
_DATA_URL = re.compile(r"^data:image/[\w.+-]+;base64,", re.IGNORECASE)
_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic"}
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
"""Formats that Pillow is let loose on: those that pictures come in, and none that runs other programs (EPS)."""


class PictureError(Exception):
    """Why a value is no picture; `code` is a rule of `azft.data.rules`."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


def check_image(value: Any, column: str, row: Mapping[str, Any]) -> Iterator[Problem]:
    """Problems of a picture: it is none, it is elsewhere, it is broken, or little can be learned from it."""
    del row
    if not isinstance(value, str):
        where = f"Column `{column}`"
        yield Problem("wrong-type", {"where": where, "found": kind_of(value), "expected": "a picture in base64"})
        return
    try:
        picture = open_picture(value)
        picture.load()
    except PictureError as error:
        yield Problem(error.code, {"column": column, "reason": error.reason})
        return
    except MissingDependencyError:
        raise
    except Exception as error:  # Pillow's readers raise whatever a broken file leads them to
        yield Problem("image-broken", {"column": column, "reason": first_line(error)})
        return
    width, height = picture.size
    if min(width, height) < SMALL:
        yield Problem("image-small", {"column": column, "width": width, "height": height, "least": SMALL})
    if (frames := getattr(picture, "n_frames", 1)) > 1:
        yield Problem("image-frames", {"column": column, "frames": frames})
    if _is_transparent(picture):
        yield Problem("image-transparent", {"column": column})


def plain_base64(value: str) -> str:
    """A checked value without what a data URL puts before it: the same picture has the same form."""
    return _DATA_URL.sub("", value.strip())


def digests(picture: str) -> tuple[int, int]:
    """Hashes of a picture, and of what comes before it: 0, for nothing does (the same caption has many pictures)."""
    return hash_bytes(hash(picture)), 0


def open_picture(value: str) -> Image:
    """The picture of a row's value; its pixels are decoded when they are first asked for.

    Raises `PictureError` for a value that is no picture in base64, `MissingDependencyError` without Pillow.
    """
    with needs("images", "Reading pictures"):
        from PIL import Image, UnidentifiedImageError
    text = plain_base64(value)
    if not text:
        raise PictureError("image-broken", "it is empty")
    if "://" in value[:16] or PurePosixPath(value[-300:]).suffix.lower() in _SUFFIXES:
        raise PictureError("image-elsewhere", value)
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise PictureError("image-not-base64", value) from None
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            return Image.open(io.BytesIO(data), formats=_FORMATS)
        except UnidentifiedImageError:
            raise PictureError("image-broken", f"it is none of {', '.join(_FORMATS)}") from None
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise PictureError("image-broken", first_line(error)) from None


def pixels_of(value: str, side: int) -> NDArray[np.uint8]:
    """A picture's pixels, (3, side, side) red, green, blue: turned upright, its middle square scaled to `side`.

    Scaling is Lanczos's; what is transparent is laid on white.
    """
    import numpy as np
    from PIL import Image, ImageOps

    picture = ImageOps.exif_transpose(open_picture(value))
    if _is_transparent(picture):
        picture = picture.convert("RGBA")
        paper = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(paper, picture)
    square = ImageOps.fit(picture.convert("RGB"), (side, side), method=Image.Resampling.LANCZOS)
    return np.ascontiguousarray(np.asarray(square, dtype=np.uint8).transpose(2, 0, 1))


def _is_transparent(picture: Image) -> bool:
    return picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info
