"""Near-duplicates: rows that share most of their text, found by MinHash and locality-sensitive hashing.

Broder 1997 (resemblance by min-wise hashing); Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, ch. 3.
Vectorised with numpy over a whole block of rows; no signature is kept but its bands: 24 bytes a row (as
many again for the prompts, where files are compared with each other), and 16 for hashes of prompt and answer.
Candidates are read a second time and compared exactly, so that what is reported is true; what is missed is said below.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any

from azft.data.lane import RowText
from azft.data.row_hash import hash_bytes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SHINGLE = 8
"""Bytes of a shingle, on lower-cased text without white space: about a word and a half of English."""
BANDS, BAND_ROWS = 6, 4
"""24 hashes in 6 bands of 4: a pair of Jaccard similarity 0.9 is found with probability 0.998, 0.85 with 0.988, 0.8
with 0.96; one of 0.5 becomes a candidate, to be compared and thrown away, with 0.32, one of 0.3 with 0.05."""
THRESHOLD = 0.85
"""Jaccard similarity of two rows' shingles from which they are reported."""
PROMPT_THRESHOLD = 0.95
"""The same for prompts alone: higher, because prompts of one template are alike by design."""
MIN_BYTES = 40
"""Shorter texts are not compared: `Yes.` and `Yes!` are no discovery."""

_DROP = b" \t\n\r\x0b\x0c"
_LOWER = bytes(range(256)).lower()
_MULTIPLIER = 0x9E3779B97F4A7C15
_PIECE = 1 << 17  # shingles hashed at once: three uint32 arrays of it stay in a core's cache


class Signatures:
    """What is kept of one file's rows: `bands` of the text, and hashes of the squeezed `prompts` and `answers`.

    `prompt_bands` are the bands of the prompts alone, kept only where there are other files to compare with. Bands are
    0 for a text too short to compare, the prompt's hash for a row without a prompt. A passage is no text of one row:
    bands are of the row's own text, and tell passages apart.
    """

    def __init__(self, with_prompt_bands: bool = False) -> None:
        self.with_prompt_bands = with_prompt_bands
        self.bands, self.prompt_bands = array("I"), array("I")
        self.prompts, self.answers = array("Q"), array("Q")

    @property
    def arrays(self) -> tuple[array[int], ...]:
        """All that is kept, in a fixed order."""
        return self.bands, self.prompt_bands, self.prompts, self.answers

    def add(self, texts: list[RowText | None]) -> None:
        """Append some rows."""
        passages: list[bytes] = []
        befores: list[bytes] = []
        wholes: list[bytes] = []
        for text in texts:
            before, answer = (squeezed(text.before), squeezed(text.answer)) if text else (b"", b"")
            passages.append(squeezed(text.passage) if text and text.passage else b"")
            befores.append(before)
            wholes.append(before + answer)
            prompt = passages[-1] + before
            self.prompts.append(hash_bytes(squeezed(text.system), prompt) if text and prompt else 0)
            self.answers.append(hash_bytes(answer) if text else 0)
        self.bands.frombytes(_bands_about(passages, wholes).tobytes())
        if self.with_prompt_bands:
            self.prompt_bands.frombytes(_bands_about(passages, befores).tobytes())

    def extend(self, other: Signatures) -> None:
        """Append another piece's rows."""
        for mine, theirs in zip(self.arrays, other.arrays, strict=True):
            mine.extend(theirs)


def as_bands(numbers: array[int]) -> NDArray[np.uint32]:
    """Kept bands, shape (rows, BANDS)."""
    import numpy as np

    return np.frombuffer(numbers, dtype=np.uint32).reshape(-1, BANDS)


def squeezed(text: str) -> bytes:
    """A text as it is compared: case folded, Unicode's compatibility forms united, white space removed."""
    if not text.isascii():
        import unicodedata

        text = unicodedata.normalize("NFKC", text).casefold()
        text = "".join(text.split())
    return text.encode("utf-8", "replace").translate(_LOWER, _DROP)


def similarity(left: bytes, right: bytes) -> float:
    """Jaccard similarity of the shingles of two squeezed texts, 0 to 1; texts without shingles are alike if equal."""
    if left == right:
        return 1.0
    a = {left[i : i + SHINGLE] for i in range(len(left) - SHINGLE + 1)}
    b = {right[i : i + SHINGLE] for i in range(len(right) - SHINGLE + 1)}
    union = len(a | b)
    return len(a & b) / union if union else 0.0


def _bands_about(passages: list[bytes], texts: list[bytes]) -> NDArray[np.uint32]:
    """Bands of texts, each of which holds one hash of the passage, too, that its text is about."""
    bands = _bands(texts)
    return ((bands ^ _bands(passages, 1)) | 1) * (bands != 0) if any(passages) else bands


def _bands(texts: list[bytes], rows: int = BAND_ROWS) -> NDArray[np.uint32]:
    import numpy as np

    result = np.zeros((len(texts), BANDS), dtype=np.uint32)
    pieces: list[bytes] = []
    places: list[int] = []
    size = 0
    for place, data in enumerate(texts):
        if len(data) >= MIN_BYTES:
            pieces.append(data)
            places.append(place)
            size += len(data)
        if pieces and (size >= _PIECE or place == len(texts) - 1):
            result[places] = _band_hashes(b"".join(pieces), np.array([len(p) for p in pieces]), rows)
            pieces, places, size = [], [], 0
    if pieces:
        result[places] = _band_hashes(b"".join(pieces), np.array([len(p) for p in pieces]), rows)
    return result


def _band_hashes(data: bytes, lengths: NDArray[Any], rows: int) -> NDArray[np.uint32]:
    """Bands (texts, BANDS) of `rows` hashes, at most BAND_ROWS, of texts that stand one after the other in `data`."""
    import numpy as np

    windows = np.ndarray(shape=(len(data) - SHINGLE + 1,), dtype="<u8", buffer=data, strides=(1,))
    mixed = windows * np.uint64(_MULTIPLIER)
    mixed ^= mixed >> np.uint64(29)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    hashes = (mixed >> np.uint64(32)).astype(np.uint32)
    # Windows that reach into the next text belong to neither: reduce over [start, end - SHINGLE + 1) of each text.
    ends = np.cumsum(lengths)
    edges = np.empty(2 * len(lengths), dtype=np.intp)
    edges[0::2] = ends - lengths
    edges[1::2] = ends - SHINGLE + 1
    if edges[-1] == len(hashes):
        edges = edges[:-1]
    bands = np.empty((len(lengths), BANDS), dtype=np.uint32)
    permuted = np.empty_like(hashes)
    random = np.random.default_rng(0xA2F7).integers(0, 2**32, size=(BANDS, BAND_ROWS), dtype=np.uint32) | np.uint32(1)
    for band in range(BANDS):
        combined = np.full(len(lengths), band + 1, dtype=np.uint64)
        for row in range(rows):
            np.multiply(hashes, random[band, row], out=permuted)
            smallest = np.minimum.reduceat(permuted, edges)[::2]
            combined = (combined ^ smallest) * np.uint64(_MULTIPLIER)
            combined ^= combined >> np.uint64(32)
        bands[:, band] = combined.astype(np.uint32) | np.uint32(1)  # 0 stands for "no text"
    return bands


def candidates(bands: NDArray[np.uint32]) -> NDArray[np.int64]:
    """Pairs (n, 2) of rows, first < second, that share a band: each row with the nearest before it, and the first.

    Two partners a band instead of all pairs keep the work linear when thousands of rows are alike.
    """
    import numpy as np

    found: list[NDArray[np.int64]] = []
    for band in range(bands.shape[1]):
        values = bands[:, band]
        order = np.argsort(values, kind="stable")
        ordered = values[order]
        same = np.flatnonzero((ordered[1:] == ordered[:-1]) & (ordered[1:] != 0)) + 1
        if not len(same):
            continue
        starts = np.concatenate(([0], np.flatnonzero(ordered[1:] != ordered[:-1]) + 1))
        firsts = order[starts[np.searchsorted(starts, same, side="right") - 1]]
        found += [np.stack((partner, order[same]), axis=1) for partner in (order[same - 1], firsts)]
    if not found:
        return np.empty((0, 2), dtype=np.int64)
    return np.unique(np.concatenate(found), axis=0)
