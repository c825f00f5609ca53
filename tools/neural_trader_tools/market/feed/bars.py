"""Bars from trades: one builder per interval, fed trade by trade.

Without a calendar, bars are aligned to 00:00 UTC. On an exchange calendar a bar's interval is counted from
the session's open and ends with the session at the latest: an hourly bar of XNYS opens at 14:30 UTC in
winter, the last one of a half day is short, and `1d` is the session. Trades outside the session make no bar
and are counted.

A bar is complete when a trade of a later interval arrives or when `advance` says that its time is over. A
late trade changes the bar that is being made, or the one before it, which is then sent again with a later
ts_recv_ns: a revision, as the archive knows them. One for an older bar is counted and changes nothing.
"""

from datetime import timedelta

from neural_trader_governance.errors import InputError
from neural_trader_governance.terms.market import interval_duration
from neural_trader_tools.market.feed.hours import SessionHours
from neural_trader_tools.market.feed.ticks import SECOND_NS, BarTick, Trade

DAY_NS = 86_400 * SECOND_NS
DAY = timedelta(days=1)


class _Bar:
    """A bar that is being made."""

    __slots__ = ("close", "end_ns", "first_ns", "high", "last_ns", "low", "open", "open_ns", "volume")

    def __init__(self, open_ns: int, end_ns: int, trade: Trade) -> None:
        self.open_ns = open_ns
        self.end_ns = end_ns
        self.first_ns = self.last_ns = trade.ts_event_ns
        self.open = self.high = self.low = self.close = trade.price
        self.volume = trade.size

    def add(self, trade: Trade) -> None:
        """Takes a trade in; of equal times the first to arrive opens and the last closes."""
        price, event_ns = trade.price, trade.ts_event_ns
        if price > self.high:
            self.high = price
        elif price < self.low:
            self.low = price
        self.volume += trade.size
        if event_ns >= self.last_ns:
            self.last_ns, self.close = event_ns, price
        elif event_ns < self.first_ns:
            self.first_ns, self.open = event_ns, price


class BarBuilder:
    """Makes the bars of one interval, of any number of symbols.

    Args:
        interval: Such as `1s`, `1m`, `5m`, `1h`, `1d`.
        hours: The sessions; without them bars are aligned to 00:00 UTC.
        patience_ns: How long after a bar's end `advance` waits for trades that are still under way.

    Raises:
        InputError: the interval is none, or longer than a day.
    """

    def __init__(
        self, interval: str, hours: SessionHours | None = None, *, patience_ns: int = SECOND_NS
    ) -> None:
        duration = interval_duration(interval)
        if duration > DAY:
            raise InputError(
                "interval_too_long",
                f"bars of {interval} are not made from live trades",
                "use an interval up to 1d, and resample the archive's bars",
            )
        self.interval = interval
        self.late = 0
        """Trades for bars that are too old to revise."""
        self.outside = 0
        """Trades outside the sessions."""
        self._length_ns = duration // timedelta(microseconds=1) * 1_000
        self._whole_session = duration == DAY
        self._hours = hours if hours is not None and hours.opens_ns else None
        self._patience_ns = patience_ns
        self._open_ns = self._close_ns = 0
        self._making: dict[str, _Bar] = {}
        self._made: dict[str, _Bar] = {}

    def add(self, trade: Trade) -> BarTick | None:
        """Takes a trade in; returns the bar that it completed or revised, if any.

        Args:
            trade: One that the rules let through.
        """
        symbol, event_ns = trade.symbol, trade.ts_event_ns
        bar = self._making.get(symbol)
        if bar is not None and bar.open_ns <= event_ns < bar.end_ns:
            bar.add(trade)
            return None
        bounds = self._bounds(event_ns)
        if bounds is None:
            self.outside += 1
            return None
        made = self._made.get(symbol)
        if bar is not None and bounds[0] > bar.open_ns:
            self._making[symbol] = _Bar(*bounds, trade)
            self._made[symbol] = bar
            return self._complete(symbol, bar, trade.ts_recv_ns)
        if made is not None and bounds[0] <= made.open_ns:
            if bounds[0] < made.open_ns:
                self.late += 1
                return None
            made.add(trade)
            return self._complete(symbol, made, trade.ts_recv_ns)
        if bar is not None:  # late, of an interval between the two that had no bar
            self._made[symbol] = bar = _Bar(*bounds, trade)
            return self._complete(symbol, bar, trade.ts_recv_ns)
        self._making[symbol] = _Bar(*bounds, trade)
        return None

    def advance(self, now_ns: int) -> list[BarTick]:
        """Returns the bars whose time is over, by symbol.

        Args:
            now_ns: Our clock; a bar ends with its interval plus the patience.
        """
        over = [symbol for symbol, bar in self._making.items() if bar.end_ns + self._patience_ns <= now_ns]
        complete: list[BarTick] = []
        for symbol in sorted(over):
            bar = self._made[symbol] = self._making.pop(symbol)
            complete.append(self._complete(symbol, bar, now_ns))
        return complete

    def _bounds(self, event_ns: int) -> tuple[int, int] | None:
        """Returns start and end of the interval that holds a time, None outside the sessions."""
        length_ns = self._length_ns
        if self._hours is None:
            midnight = event_ns - event_ns % DAY_NS
            start = event_ns - (event_ns - midnight) % length_ns
            return start, min(start + length_ns, midnight + DAY_NS)
        if not self._open_ns <= event_ns < self._close_ns:
            around = self._hours.around(event_ns)
            if around is None:
                return None
            self._open_ns, self._close_ns = around
        if self._whole_session:
            return self._open_ns, self._close_ns
        start = event_ns - (event_ns - self._open_ns) % length_ns
        return start, min(start + length_ns, self._close_ns)

    def _complete(self, symbol: str, bar: _Bar, recv_ns: int) -> BarTick:
        return BarTick(
            symbol,
            self.interval,
            bar.open,
            bar.high,
            bar.low,
            bar.close,
            bar.volume,
            bar.open_ns,
            max(recv_ns, bar.end_ns),
        )
