"""Risk: what an account may lose within a day, by what its holdings did in the past year.

Historical simulation: today's holdings are carried through each of the last 250 sessions on which all of
them have a close, at total returns (splits and dividends) as they were known at the desk's time. Of the n
losses, ascending, with a confidence a:

    VaR  = L(k), k = ceil(n a)                                    the smallest l with P(L <= l) >= a
    CVaR = (sum of L(j), j > k, + (k - n a) L(k)) / (n (1 - a))   the mean of the worst share 1 - a

That CVaR is Rockafellar's and Uryasev's (Journal of Banking & Finance 26, 2002, eq. 25) for a distribution
of atoms, which is coherent (Acerbi and Tasche, ibid.) and never below VaR.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import ROUND_CEILING, Decimal
from fractions import Fraction
from math import ceil, isfinite

import polars as pl

from neural_trader_governance.errors import DataError
from neural_trader_governance.terms.money import CENT
from neural_trader_governance.terms.portfolios import Portfolio
from neural_trader_tools.market.archive import Archive
from neural_trader_tools.orders.price_memory import memory_of, state_of

CONFIDENCE = Fraction(95, 100)
OBSERVATIONS_MAX = 250
"""A year of trading days, the least that the Basel Committee asks of a historical observation period."""
OBSERVATIONS_MIN = 100
"""With fewer, the worst twentieth is a handful of days."""
REACH = timedelta(days=400)
"""In which 251 sessions lie, whatever holidays there are; what traded before says nothing of today."""


@dataclass(frozen=True, slots=True)
class Risk:
    """What an account may lose.

    Attributes:
        var: Loss that is exceeded on one day of twenty, in the account's currency, rounded up to the cent;
            negative where even that day gains. None where it is not known.
        cvar: The mean loss of the worst twentieth of days; likewise.
        observations: Days that it was read from.
        note: Why it is not known; empty where it is.
    """

    var: Decimal | None
    cvar: Decimal | None
    observations: int
    note: str = ""

    @property
    def confidence(self) -> float:
        """The share of days on which no more than `var` is lost."""
        return float(CONFIDENCE)

    @property
    def method(self) -> str:
        """How it was found, and for how long ahead."""
        return "historical simulation, 1 day"


def assess_risk(portfolio: Portfolio, archive: Archive, now: datetime) -> Risk:
    """Returns the risk of what an account holds, from closes that were known at a moment."""
    held = [each for each in portfolio.positions if each.quantity]
    if not held:
        return Risk(Decimal(0), Decimal(0), 0, "nothing is held")
    joined: pl.DataFrame | None = None
    for position in held:
        closes = _closes(archive, position.symbol, now)
        if closes.height <= OBSERVATIONS_MIN:
            days = max(0, closes.height - 1)
            why = f"{position.symbol} has {days} daily returns of late, fewer than {OBSERVATIONS_MIN}"
            return Risk(None, None, days, why)
        closes = closes.rename({"close": position.symbol})
        joined = closes if joined is None else joined.join(closes, on="day", maintain_order="left")
    assert joined is not None  # noqa: S101 - something is held
    returns = joined.tail(OBSERVATIONS_MAX + 1).select(pl.col(each.symbol).pct_change() for each in held)
    count = max(0, returns.height - 1)
    if count < OBSERVATIONS_MIN:
        why = f"the holdings have {count} common daily returns, fewer than {OBSERVATIONS_MIN}"
        return Risk(None, None, count, why)
    losses = [0.0] * count
    for position in held:
        value = float(position.market_value or 0)
        for day, change in enumerate(returns[position.symbol][1:]):
            losses[day] -= value * change
    var, cvar = tail_losses(losses, CONFIDENCE)
    return Risk(_cents(var), _cents(cvar), count)


def tail_losses(losses: Sequence[float], confidence: Fraction) -> tuple[float, float]:
    """Returns value at risk and conditional value at risk of losses that are equally likely."""
    ascending, share = sorted(losses), len(losses) * confidence
    at = ceil(share)
    var = ascending[at - 1]
    # What lies beyond is averaged as its distance from VaR, so that rounding puts no CVaR below it.
    beyond = sum(loss - var for loss in ascending[at:])
    return var, var + beyond / float(len(losses) - share)


def _closes(archive: Archive, symbol: str, now: datetime) -> pl.DataFrame:
    """Returns `day, close` of the past year, ascending: closes whose changes are total returns, no gaps."""

    def read() -> pl.DataFrame:
        try:
            bars = archive.bars(symbol, "1d", start=now - REACH, as_of=now, adjust="total")
        except DataError:  # no daily bars, and none that they could be made of
            return pl.DataFrame(schema={"day": pl.Date, "close": pl.Float64})
        priced = bars.filter(pl.col("close").is_finite() & (pl.col("close") > 0))
        return priced.select(pl.col("event_time").dt.date().alias("day"), "close").unique(
            subset="day", keep="last", maintain_order=True
        )

    return memory_of(archive).recall("daily closes", state_of(archive, symbol, now), read)


def _cents(amount: float) -> Decimal | None:
    return Decimal(repr(amount)).quantize(CENT, ROUND_CEILING) if isfinite(amount) else None
