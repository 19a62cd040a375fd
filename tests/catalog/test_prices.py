"""A price is what somebody said, or unknown; never a guess."""

from __future__ import annotations

from pathlib import Path

import pytest

from azft.catalog import prices
from azft.errors import AzftError, UsageError


def test_every_kind_says_how_it_is_billed_and_by_what_source() -> None:
    for kind in ("serverless", "online", "compute", "job", "marketplace"):
        row = prices.billing(kind)
        assert row.words
        assert row.source
        assert row.date.year >= 2026


def test_an_unknown_price_says_so() -> None:
    assert prices.hourly("Standard_NC24ads_A100_v4") is None
    assert "unknown" in prices.hourly_words("Standard_NC24ads_A100_v4")


def test_the_users_own_prices_are_used_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "prices.yaml"
    own.write_text("currency: EUR\nhourly: {Standard_NC24ads_A100_v4: 3.25, serverless: 0.5}\n", encoding="utf-8")
    monkeypatch.setenv("AZFT_PRICES", str(own))
    found = prices.hourly("standard_nc24ads_a100_V4", 2)
    assert found is not None
    assert (found.amount, found.currency, found.source) == (6.5, "EUR", str(own))
    assert prices.hourly_words("serverless") == f"0.50 EUR an hour ({own})"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("hourly: {a: -1}", "greater than or equal to 0"),
        ("hourly: [", "not valid YAML"),
        ("horly: {}", "prices.yaml:1"),
    ],
)
def test_a_file_that_is_wrong_says_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, words: str
) -> None:
    own = tmp_path / "prices.yaml"
    own.write_text(text, encoding="utf-8")
    monkeypatch.setenv("AZFT_PRICES", str(own))
    with pytest.raises(AzftError, match=words):
        prices.hourly("a")


def test_a_file_that_is_not_there_is_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZFT_PRICES", "/nowhere/prices.yaml")
    with pytest.raises(UsageError, match="can't be read"):
        prices.hourly("a")
