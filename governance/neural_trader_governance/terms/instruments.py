"""Instruments: what can be looked at and, where it is tradable, bought and sold."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from neural_trader_governance.terms.money import Currency
from neural_trader_governance.terms.term import Term

SYMBOL_PATTERN = r"^[A-Z0-9^][A-Z0-9.\-/^=]{0,15}$"

Symbol = Annotated[str, StringConstraints(pattern=SYMBOL_PATTERN)]
"""Upper-case ASCII, as exchanges and vendors write it: `AAPL`, `BRK.B`, `BTC/USD`, `^GSPC`."""

AssetClass = Literal["equity", "etf", "index", "crypto", "fx", "future", "rate", "other"]


class Instrument(Term):
    """One listed thing, under the symbol by which the archive and the broker know it."""

    symbol: Symbol
    name: str = Field(max_length=200)
    venue: str = Field(
        default="", max_length=40, description="ISO 10383 MIC where known, else the source's word"
    )
    currency: Currency = "USD"
    asset_class: AssetClass = "equity"
    tradable: bool = Field(default=True, description="False for an index or a rate: data only")
