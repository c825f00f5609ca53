"""Market observations: bar, quote, trade.

`event_time` is when it happened, `known_time` when it could first be known.
"""

import math
import re
from datetime import timedelta
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from neural_trader_governance.errors import InputError
from neural_trader_governance.terms.clocks import UtcTime
from neural_trader_governance.terms.instruments import Symbol
from neural_trader_governance.terms.money import DecimalText
from neural_trader_governance.terms.term import Term

_INTERVAL = re.compile(r"^([1-9]\d{0,3})(s|m|h|d|w)$")
_UNIT = {
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}


def interval_duration(interval: str) -> timedelta:
    """Returns the nominal length of an interval such as `1m`, `5m`, `1h`, `1d`.

    Raises:
        InputError: the text is not an interval.
    """
    match = _INTERVAL.match(interval)
    if match is None:
        raise InputError(
            "invalid_interval",
            f"{interval!r:.20} is not a bar interval",
            "use a number and s, m, h, d or w, such as 1d",
        )
    return int(match[1]) * _UNIT[match[2]]


def _check_interval(interval: str) -> str:
    if _INTERVAL.match(interval) is None:
        raise ValueError("use a number and s, m, h, d or w, such as 1d")
    return interval


Interval = Annotated[str, AfterValidator(_check_interval)]


class Bar(Term):
    """Open, high, low, close and volume of one interval; `time` is the interval's open.

    Prices of bars are observations for computing with, hence floats; a price that settles an
    order is a Decimal on the tick grid.
    """

    symbol: Symbol
    interval: Interval
    event_time: UtcTime = Field(description="Open of the interval")
    known_time: UtcTime = Field(description="When the complete bar could first be known")
    open: float = Field(gt=0)
    high: float = Field(gt=0)
    low: float = Field(gt=0)
    close: float = Field(gt=0)
    volume: float = Field(ge=0)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.low <= min(self.open, self.close) <= max(self.open, self.close) <= self.high:
            raise ValueError("low <= open, close <= high does not hold")
        if self.known_time < self.event_time:
            raise ValueError("a bar cannot be known before it opens")
        if not math.isfinite(self.volume):
            raise ValueError("volume is not finite")
        return self


class Quote(Term):
    """The best prices known for a symbol; bid and ask are absent where the source has none."""

    symbol: Symbol
    bid: DecimalText | None = None
    ask: DecimalText | None = None
    last: DecimalText
    event_time: UtcTime
    known_time: UtcTime
    source: str = Field(max_length=80, description="Feed or archive that the prices came from")


class Trade(Term):
    """One execution printed by a venue."""

    symbol: Symbol
    price: DecimalText
    size: DecimalText
    event_time: UtcTime
    known_time: UtcTime
