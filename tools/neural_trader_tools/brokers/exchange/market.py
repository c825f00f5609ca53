"""The market that a served exchange lives in: bars of the archive, one after another, at a pace.

The exchange's time is the market's: it moves to each bar's close. At pace 0 it moves only when told (`step`).
"""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

from neural_trader_governance.errors import DataError
from neural_trader_tools.brokers.exchange.prices import BarSeen
from neural_trader_tools.market.archive import Archive

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_ns(moment: datetime) -> int:
    """Returns nanoseconds since 1970."""
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1000


def from_ns(time_ns: int) -> datetime:
    """Returns the instant, to the microsecond."""
    return _EPOCH + timedelta(microseconds=time_ns // 1000)


def archive_bars(
    archive: Archive, symbols: Sequence[str], interval: str, *, start: datetime, end: datetime | None
) -> Iterator[list[BarSeen]]:
    """Yields raw bars of several symbols as they became known, those of one instant together.

    Args:
        archive: Where they are.
        symbols: As the archive spells them.
        interval: Such as `1d`; every symbol must have it.
        start: First close wanted is after this.
        end: No bar known later.

    Raises:
        DataError: unknown symbol or interval, or there is nothing in that range.
    """
    streams = [_bars(archive, symbol, interval, start, end) for symbol in symbols]
    now: list[BarSeen] = []
    found = False
    for bar in heapq.merge(*streams, key=lambda bar: (bar.time_ns, bar.symbol)):
        if now and bar.time_ns != now[0].time_ns:
            yield now
            now = []
        now.append(bar)
        found = True
    if now:
        yield now
    if not found:
        raise DataError(
            "no_bars_to_play",
            f"the archive has no {interval} bars of {', '.join(symbols)} after {start.isoformat()}",
            "choose an earlier start: neural-trader data list shows what there is",
        )


def _bars(
    archive: Archive, symbol: str, interval: str, start: datetime, end: datetime | None
) -> Iterable[BarSeen]:
    rows = archive.bars(symbol, interval, as_of=end, adjust="none")
    for row in rows.filter(rows.get_column("known_time") > start).iter_rows(named=True):
        yield BarSeen.of(
            symbol,
            to_ns(row["event_time"]),
            to_ns(row["known_time"]),
            (row["open"], row["high"], row["low"], row["close"]),
            row["volume"],
        )
