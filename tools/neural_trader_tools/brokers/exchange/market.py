"""The market that a served exchange lives in: bars and corporate actions of the archive, one by one.

The exchange's time is the market's: it moves to each instant, at a pace or when it is told.
"""

import heapq
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Literal

from neural_trader_governance.errors import DataError
from neural_trader_governance.terms.market import interval_duration
from neural_trader_tools.brokers.exchange.exchange import Exchange
from neural_trader_tools.brokers.exchange.prices import BarSeen, PrintSeen, QuoteSeen, Seen
from neural_trader_tools.market.archive import Archive
from neural_trader_tools.market.feed.ticks import BarTick, Quote, Tick, Trade

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_RATIO_MAX = 1_000
"""Denominators of splits: 3-for-2 comes out of 1.5."""


@dataclass(frozen=True, slots=True)
class CorporateAction:
    """A split (shares that one becomes) or a cash dividend (USD a share) on its ex-date."""

    symbol: str
    kind: Literal["split", "dividend"]
    value: float

    def apply(self, exchange: Exchange) -> None:
        """Lets it happen."""
        if self.kind == "dividend":
            exchange.pay_dividend(self.symbol, round(Decimal(repr(self.value)) * 1_000_000))
        else:
            ratio = Fraction(repr(self.value)).limit_denominator(_RATIO_MAX)
            exchange.split(self.symbol, ratio.numerator, ratio.denominator)


@dataclass(slots=True)
class Instant:
    """What happens at one time: actions first, then bars that are over, or a feed's recorded ticks."""

    time_ns: int
    actions: list[CorporateAction] = field(default_factory=list[CorporateAction])
    bars: list[Seen] = field(default_factory=list[Seen])

    def happen(self, exchange: Exchange) -> None:
        """Shows it to an exchange and moves its time there."""
        exchange.advance(self.time_ns - 1)
        for action in self.actions:
            action.apply(exchange)
        for bar in self.bars:
            exchange.observe(bar)
        exchange.advance(self.time_ns)


def to_ns(moment: datetime) -> int:
    """Returns nanoseconds since 1970."""
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1000


def from_ns(time_ns: int) -> datetime:
    """Returns the instant, to the microsecond."""
    return _EPOCH + timedelta(microseconds=time_ns // 1000)


def archive_instants(
    archive: Archive, symbols: Sequence[str], interval: str, *, start: datetime, end: datetime | None
) -> Generator[Instant]:
    """Yields what the archive knows of several symbols, instant after instant.

    Args:
        archive: Where it is.
        symbols: As the archive spells them.
        interval: Such as `1d`; every symbol must have it.
        start: Only what happened after this.
        end: Only what was known by then.

    Raises:
        DataError: unknown symbol or interval.
    """
    streams = [_happenings(archive, symbol, interval, start, end) for symbol in symbols]
    now: Instant | None = None
    for time_ns, _, happening in heapq.merge(*streams, key=lambda each: (each[0], each[1])):
        if now is None or time_ns != now.time_ns:
            if now is not None:
                yield now
            now = Instant(time_ns)
        if isinstance(happening, BarSeen):
            now.bars.append(happening)
        else:
            now.actions.append(happening)
    if now is not None:
        yield now


def seen_of(tick: Tick) -> Seen:
    """Returns a feed's tick as the exchange sees it; a bar is seen at its close. Sizes are shares."""
    if isinstance(tick, Trade):
        return PrintSeen.of(tick.symbol, tick.ts_event_ns, tick.price, tick.size)
    if isinstance(tick, Quote):
        return QuoteSeen.of(tick.symbol, tick.ts_event_ns, tick.bid, tick.bid_size, tick.ask, tick.ask_size)
    length_ns = interval_duration(tick.interval) // timedelta(microseconds=1) * 1000
    prices = (tick.open, tick.high, tick.low, tick.close)
    return BarSeen.of(tick.symbol, tick.ts_event_ns, tick.ts_event_ns + length_ns, prices, tick.volume)


def recorded_instants(ticks: Iterable[Tick]) -> Generator[Instant]:
    """Yields what a feed recorded, tick after tick, in the order in which it came.

    Bars are left out of a symbol of which there were trades or quotes before: they are made of those.
    """
    now_ns = 0
    in_ticks: set[str] = set()
    for tick in ticks:
        if isinstance(tick, BarTick) and tick.symbol in in_ticks:
            continue
        if not isinstance(tick, BarTick):
            in_ticks.add(tick.symbol)
        seen = seen_of(tick)
        now_ns = max(now_ns, seen.time_ns)
        yield Instant(now_ns, bars=[seen])


def last_bars(archive: Archive, symbols: Sequence[str], interval: str, at: datetime) -> list[BarSeen]:
    """Returns each symbol's newest bar known at a moment: where the market stands when the exchange begins.

    Raises:
        DataError: `no_price_yet`, or an unknown symbol or interval.
    """
    found: list[BarSeen] = []
    for symbol in symbols:
        bar = archive.last_bar(symbol, at, interval)
        if bar is None:
            raise DataError(
                "no_price_yet",
                f"nothing was known of {symbol} at {at.isoformat()}",
                "choose a later --start: neural-trader data list shows what there is",
            )
        prices = (bar.open, bar.high, bar.low, bar.close)
        found.append(BarSeen.of(symbol, to_ns(bar.event_time), to_ns(bar.known_time), prices, bar.volume))
    return found


def _happenings(
    archive: Archive, symbol: str, interval: str, start: datetime, end: datetime | None
) -> Iterable[tuple[int, str, CorporateAction | BarSeen]]:
    happenings: list[tuple[int, str, CorporateAction | BarSeen]] = []
    for row in archive.actions(symbol, end).iter_rows(named=True):
        if row["event_time"] > start:
            action = CorporateAction(symbol, row["kind"], row["value"])
            happenings.append((to_ns(row["event_time"]), f"{symbol} 0 {row['kind']}", action))
    bars = archive.bars(symbol, interval, as_of=end, adjust="none")
    for row in bars.filter(bars.get_column("known_time") > start).iter_rows(named=True):
        close_ns = to_ns(row["known_time"])
        prices = (row["open"], row["high"], row["low"], row["close"])
        bar = BarSeen.of(symbol, to_ns(row["event_time"]), close_ns, prices, row["volume"])
        happenings.append((close_ns, f"{symbol} 1", bar))
    happenings.sort(key=lambda each: (each[0], each[1]))
    return happenings
