"""The last-value cache: the newest trade, quote and bar of every symbol, by the vendor's time."""

from typing import Any

import msgspec

from neural_trader_tools.market.feed.ticks import SECOND_NS, Amendment, BarTick, Quote, Tick, Trade


class LastValues:
    """What is newest; a tick that arrives late never replaces a newer one."""

    def __init__(self) -> None:
        self._trades: dict[str, Trade] = {}
        self._quotes: dict[str, Quote] = {}
        self._bars: dict[tuple[str, str], BarTick] = {}
        self._changed: set[str] = set()

    def update(self, tick: Tick) -> bool:
        """Takes a tick in; returns false where a newer one is there already.

        Of two with the same time the one received later counts: it is the correction.
        """
        symbol = tick.symbol
        self._changed.add(symbol)
        kind = type(tick)  # `isinstance` costs five times as much where the answer is no
        known: dict[Any, Any]
        if kind is BarTick:
            known, name = self._bars, (symbol, tick.interval)  # pyright: ignore
        else:
            known, name = (self._trades if kind is Trade else self._quotes), symbol
        before = known.get(name)
        if before is not None and before.ts_event_ns > tick.ts_event_ns:
            return False
        known[name] = tick
        return True

    def amend(self, amendment: Amendment) -> bool:
        """Corrects the newest trade, or forgets it where it was cancelled; false where it was another one."""
        self._changed.add(amendment.symbol)
        trade = self._trades.get(amendment.symbol)
        if trade is None or (trade.trade_id, trade.venue) != (amendment.trade_id, amendment.venue):
            return False
        if amendment.price > 0:
            self._trades[amendment.symbol] = msgspec.structs.replace(
                trade, price=amendment.price, size=amendment.size, trade_id=amendment.new_trade_id
            )
        else:
            del self._trades[amendment.symbol]
        return True

    def trade(self, symbol: str) -> Trade | None:
        """Returns the newest trade, None where there was none."""
        return self._trades.get(symbol)

    def quote(self, symbol: str) -> Quote | None:
        """Returns the newest quote, None where there was none."""
        return self._quotes.get(symbol)

    def bar(self, symbol: str, interval: str) -> BarTick | None:
        """Returns the newest complete bar, None where there was none."""
        return self._bars.get((symbol, interval))

    def age_s(self, symbol: str, now_ns: int) -> float | None:
        """Returns the seconds since the symbol's newest trade or quote; None where there was none."""
        times = [
            tick.ts_event_ns
            for tick in (self._trades.get(symbol), self._quotes.get(symbol))
            if tick is not None
        ]
        return (now_ns - max(times)) / SECOND_NS if times else None

    def take_changed(self) -> set[str]:
        """Returns the symbols that something was said of since the last call."""
        changed, self._changed = self._changed, set()
        return changed

    def symbols(self) -> list[str]:
        """Returns every symbol that had a trade or a quote."""
        return sorted({*self._trades, *self._quotes})
