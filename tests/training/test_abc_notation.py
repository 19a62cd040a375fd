"""What counts as a tune in ABC notation, and what does not."""

from __future__ import annotations

import pytest

from azft.training.abc_notation import parses_as_abc

HEAD = "X:1\nT:Kitchen Jig\nM:6/8\nL:1/8\nK:G\n"
GOOD = [
    "|:GBd gdB|c2A A2d|[1 GBd gfe|d3-d3:|[2 d6|]",
    "z2 \"Am\"A>B c/2d// (3efg {ag}f | [CEG]4 ^F=f_B, c''2 || % the end",
    "~G3 !trill!A2 .B (AB)c | x2 Z4 |",
    "GABc|\\\ndefg|\nw: la la la la\n[K:D] d4 ::a4|",
]
BAD = ["hello there", "GAB | q2 |", "", "| | |", "G 9x A!", "w: only words", "[CEG", "K:H\nGAB|"]


@pytest.mark.parametrize("tune", GOOD)
def test_tunes_are_read(tune: str) -> None:
    assert parses_as_abc(HEAD + tune)


@pytest.mark.parametrize("tune", BAD)
def test_what_is_no_music_is_not(tune: str) -> None:
    assert not parses_as_abc(HEAD + tune)


@pytest.mark.parametrize(
    "head",
    [
        "T:No number\nK:G\n",
        "X:1\nK:G\n",
        "X:1\nT:No key\n",
        "X:1\nT:Odd meter\nM:6/7\nK:G\n",
        "X:one\nT:Odd number\nK:G\n",
        "X:1\nT:Odd key\nK:Q\n",
        "X:1\nT:Two\nX:2\nK:G\n",
        "A tune:\nX:1\nT:Talk before it\nK:G\n",
    ],
)
def test_a_header_must_have_its_fields(head: str) -> None:
    assert not parses_as_abc(head + GOOD[0])


@pytest.mark.parametrize("key", ["C", "F#m", "Bb", "A mix", "Ador", "Dminor", "HP", "none", "G clef=bass"])
def test_keys_and_modes_are_known(key: str) -> None:
    assert parses_as_abc(f"X:7\nT:t\nM:C|\nK:{key}\nGAB|")
