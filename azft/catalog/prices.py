"""What an hour costs, when somebody said so: prices.yaml, and over it the user's own file in AZFT_PRICES.

A price is never guessed: None means that nobody told azft, and the callers say "unknown".
"""

from __future__ import annotations

import datetime
import functools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from azft.catalog.tables import Row, read_shipped, read_table
from azft.errors import UsageError

VARIABLE = "AZFT_PRICES"
_SHIPPED = "prices.yaml"


class BillingRow(Row):
    """How a kind of thing is billed, in words."""

    words: str
    source: str
    date: datetime.date


class _Prices(Row):
    currency: str = "USD"
    hourly: dict[str, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)
    billing: dict[str, BillingRow] = Field(default_factory=dict)


@dataclass(frozen=True)
class Price:
    """What an hour costs, and who said so."""

    amount: float
    currency: str
    source: str

    def __str__(self) -> str:
        return f"{self.amount:.2f} {self.currency} an hour ({self.source})"


def billing(kind: str) -> BillingRow:
    """How a kind of thing is billed: serverless, online, compute, job or marketplace."""
    return _shipped().billing[kind]


def hourly(what: str, count: int = 1) -> Price | None:
    """The price of an hour of `count` of a VM size (or of `serverless` hosting); None when nobody said."""
    for prices, source in _tables():
        known = {name.casefold(): amount for name, amount in prices.hourly.items()}
        if what.casefold() in known:
            return Price(known[what.casefold()] * count, prices.currency, source)
    return None


def hourly_words(what: str, count: int = 1) -> str:
    """The price for a person, or that it is unknown and where it can be looked up."""
    price = hourly(what, count)
    if price is not None:
        return str(price)
    return f"price unknown to azft: see Azure's pricing calculator, or name your own prices in {VARIABLE}"


def _tables() -> list[tuple[_Prices, str]]:
    shipped = (_shipped(), f"azft/catalog/{_SHIPPED}")
    own = os.environ.get(VARIABLE)
    if not own:
        return [shipped]
    try:
        text = Path(own).read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"{VARIABLE} names {own}, which can't be read: {error.strerror}.",
            fix="Unset it, or write the file: its form is in docs/serving.md.",
        ) from None
    return [(read_table(text, _Prices, name=own)[0], own), shipped]


@functools.cache
def _shipped() -> _Prices:
    return read_table(read_shipped(_SHIPPED), _Prices, name=f"azft/catalog/{_SHIPPED}")[0]
