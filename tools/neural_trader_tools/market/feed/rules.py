"""Data-quality rules of a live feed: a verdict with its reason for every tick, one symbol at a time.

| verdict | means | reasons |
|---|---|---|
| pass | nothing is wrong | |
| flag | kept and used, marked | `gap`, `out_of_order`, `stale`, `volume`, `jump_confirmed`, `one_sided` |
| drop | an exact repeat of what was received before: nothing is lost | `duplicate` |
| quarantine | kept apart, used nowhere | `bad_symbol`, `bad_price`, `bad_size`, `bad_bar`, `bad_time`, `future`, `crossed`, `contradicts`, `jump`, `too_many_symbols` |

A jump is a move of more than 10 % a second since the last accepted price, where less than a second counts as
one and more than five as five. A single bad print is thereby kept out; a level that three jumps in a row confirm
is accepted as the new one, flagged. Trades, quotes (by their middle) and each interval's bars are judged apart.
Where the sessions are known, only silence within one of them is a gap.
"""  # noqa: E501 (a table's row cannot be broken)

import re
from collections import Counter

from neural_trader_governance.terms.instruments import SYMBOL_PATTERN
from neural_trader_tools.market.feed.hours import SessionHours
from neural_trader_tools.market.feed.ticks import SECOND_NS, BarTick, Gap, Quote, Tick, Trade
from neural_trader_tools.market.feed.verdicts import (
    DUPLICATE,
    PASS,
    Action,
    RuleLimits,
    Verdict,
    flagged_too,
    quarantined_for,
)

_SYMBOL = re.compile(SYMBOL_PATTERN)
_INFINITE = float("inf")


class _Series:
    """What the rules remember of one symbol's trades, or quotes, or bars."""

    __slots__ = ("deviation2", "event_ns", "jump_price", "jumps", "mean", "price", "recv_ns", "sizes")

    def __init__(self) -> None:
        self.event_ns = 0
        self.recv_ns = 0
        self.price = 0.0
        self.jump_price = 0.0
        self.jumps = 0
        self.sizes = 0
        self.mean = 0.0
        self.deviation2 = 0.0


class Rules:
    """Judges ticks in the order of their arrival; not for several threads at once.

    Args:
        limits: The bounds.
        hours: The sessions of the feed's venue; without them it is expected to speak at all hours.
    """

    def __init__(self, limits: RuleLimits | None = None, hours: SessionHours | None = None) -> None:
        self.limits = limits or RuleLimits()
        self._hours = hours if hours is not None and hours.opens_ns else None
        self.checked = 0
        self.reasons: Counter[str] = Counter()
        """How often each reason was given."""
        self.actions: Counter[Action] = Counter()
        """How often each action other than `pass` was taken."""
        self._trades: dict[str, _Series] = {}
        self._quotes: dict[str, _Series] = {}
        self._bars: dict[str, _Series] = {}
        # Two generations of content by identity: the older is forgotten when the newer is full.
        self._recent: dict[int, int] = {}
        self._older: dict[int, int] = {}
        self._generation_max = max(1, self.limits.remembered_max // 2)
        self._sigma2_max = self.limits.volume_sigma_max**2
        self._weight_min = 1.0 / max(1, self.limits.volume_window)

    def check(self, tick: Tick) -> Verdict:
        """Returns the verdict on the next tick; counts it; remembers what later ticks are compared with."""
        self.checked += 1
        kind = type(tick)
        if kind is Trade:
            verdict = self._trade(tick)  # pyright: ignore[reportArgumentType]
        elif kind is Quote:
            verdict = self._quote(tick)  # pyright: ignore[reportArgumentType]
        else:
            verdict = self._bar(tick)  # pyright: ignore[reportArgumentType]
        if verdict is not PASS:
            self.actions[verdict.action] += 1
            self.reasons.update(verdict.reasons)
        return verdict

    def forget_counts(self) -> None:
        """Sets the counts to zero; what later ticks are compared with stays."""
        self.checked = 0
        self.reasons.clear()
        self.actions.clear()

    def silent(self, now_ns: int) -> list[Gap]:
        """Returns one gap per symbol of which nothing was received for longer than the limit, in session."""
        opened_ns = 0
        if self._hours is not None:
            session = self._hours.around(now_ns)
            if session is None:
                return []
            opened_ns = session[0]
        heard: dict[str, int] = {}
        for every in (self._trades, self._quotes):
            for symbol, series in every.items():
                heard[symbol] = max(heard.get(symbol, opened_ns), series.recv_ns)
        return [
            Gap(symbol, recv_ns, now_ns, "silent")
            for symbol, recv_ns in heard.items()
            if now_ns - recv_ns > self.limits.gap_ns
        ]

    def _trade(self, trade: Trade) -> Verdict:
        symbol, price, size, event_ns = trade.symbol, trade.price, trade.size, trade.ts_event_ns
        series = self._trades.get(symbol)
        if series is None:
            series = self._first(self._trades, symbol, symbol)
            if isinstance(series, Verdict):
                return series
        if not 0.0 < price < _INFINITE:
            return quarantined_for("bad_price")
        if not 0.0 <= size < _INFINITE:
            return quarantined_for("bad_size")
        if trade.trade_id:
            seen = self._seen(
                hash((symbol, trade.venue, trade.trade_id)), hash((price, size, event_ns, trade.conditions))
            )
        else:
            seen = self._seen(hash((symbol, trade.venue, price, size, event_ns)), 0)
        if seen is not None:
            return seen
        return self._continued(series, event_ns, trade.ts_recv_ns, price, size, live=True)

    def _quote(self, quote: Quote) -> Verdict:
        symbol, bid, ask, event_ns = quote.symbol, quote.bid, quote.ask, quote.ts_event_ns
        series = self._quotes.get(symbol)
        if series is None:
            series = self._first(self._quotes, symbol, symbol)
            if isinstance(series, Verdict):
                return series
        no_bid, no_ask = bid == 0.0 == quote.bid_size, ask == 0.0 == quote.ask_size
        if (no_bid and no_ask) or not (
            (no_bid or 0.0 < bid < _INFINITE) and (no_ask or 0.0 < ask < _INFINITE)
        ):
            return quarantined_for("bad_price")
        if not (0.0 <= quote.bid_size < _INFINITE and 0.0 <= quote.ask_size < _INFINITE):
            return quarantined_for("bad_size")
        if bid > ask and not no_ask:
            return quarantined_for("crossed")
        identity = hash((symbol, event_ns, bid, quote.bid_size, ask, quote.ask_size, quote.venue))
        seen = self._seen(identity, 0)
        if seen is not None:
            return seen
        if no_bid or no_ask:  # it has no middle to compare
            verdict = self._continued(series, event_ns, quote.ts_recv_ns, series.price or bid or ask, None)
            return flagged_too(verdict, "one_sided")
        return self._continued(series, event_ns, quote.ts_recv_ns, (bid + ask) * 0.5, None, live=True)

    def _bar(self, bar: BarTick) -> Verdict:
        symbol = bar.symbol
        name = f"{symbol} {bar.interval}"
        series = self._bars.get(name)
        if series is None:
            series = self._first(self._bars, name, symbol)
            if isinstance(series, Verdict):
                return series
        low, high = bar.low, bar.high
        if not (0.0 < low <= high < _INFINITE):
            return quarantined_for("bad_price")
        if not (low <= bar.open <= high and low <= bar.close <= high):
            return quarantined_for("bad_bar")
        if not 0.0 <= bar.volume < _INFINITE:
            return quarantined_for("bad_size")
        identity = hash((name, bar.ts_event_ns, bar.open, high, low, bar.close, bar.volume))
        seen = self._seen(identity, 1)
        if seen is not None:
            return seen
        if bar.ts_event_ns == series.event_ns:  # a revision replaces its bar and is compared with nothing
            return PASS
        return self._continued(series, bar.ts_event_ns, bar.ts_recv_ns, bar.close, bar.volume)

    def _first(self, every: dict[str, _Series], name: str, symbol: str) -> _Series | Verdict:
        if _SYMBOL.fullmatch(symbol) is None:
            return quarantined_for("bad_symbol")
        if len(every) >= self.limits.symbols_max:
            return quarantined_for("too_many_symbols")
        series = every[name] = _Series()
        return series

    def _seen(self, identity: int, content: int) -> Verdict | None:
        """Returns the verdict on a tick that was received before, None on a new one."""
        known = self._recent.get(identity)
        if known is None:
            known = self._older.get(identity)
        if known is not None:
            return DUPLICATE if known == content else quarantined_for("contradicts")
        if len(self._recent) >= self._generation_max:
            self._older, self._recent = self._recent, {}
        self._recent[identity] = content
        return None

    def _continued(
        self,
        series: _Series,
        event_ns: int,
        recv_ns: int,
        price: float,
        size: float | None,
        *,
        live: bool = False,
    ) -> Verdict:
        """Compares a sound tick with its predecessors."""
        limits = self.limits
        if event_ns <= 0:
            return quarantined_for("bad_time")
        if event_ns - recv_ns > limits.future_ns:
            return quarantined_for("future")
        reasons = ()
        late = False
        before = series.price
        if before:
            elapsed = event_ns - series.event_ns
            late = elapsed < 0
            change = price - before if price > before else before - price
            if change > limits.jump_per_s_max * before and self._is_jump(before, change, elapsed):
                if not self._confirmed(series, price):
                    return quarantined_for("jump")
                reasons = ("jump_confirmed",)
            series.jumps = 0
            if late:
                reasons += ("out_of_order",)
            elif live and elapsed > limits.gap_ns and self._is_gap(series.event_ns, event_ns):
                reasons += ("gap",)
        if live and recv_ns - event_ns > limits.stale_ns:
            reasons += ("stale",)
        if size is not None:
            # Mean and deviation over an exponential window, compared with before the size is added to them.
            distance = size - series.mean
            squared = distance * distance
            count = series.sizes = series.sizes + 1
            if (
                distance > 0.0
                and squared > self._sigma2_max * series.deviation2
                and count > limits.volume_sizes_min
            ):
                reasons += ("volume",)
            weight = 1.0 / count if count < limits.volume_window else self._weight_min
            series.mean += weight * distance
            series.deviation2 = (1.0 - weight) * (series.deviation2 + weight * squared)
        if not late:  # a late tick is no newer price
            series.event_ns = event_ns
            series.price = price
        series.recv_ns = recv_ns
        return Verdict("flag", reasons) if reasons else PASS

    def _is_gap(self, before_ns: int, event_ns: int) -> bool:
        """Says whether silence between two times means anything: not over night, nor out of hours."""
        if self._hours is None:
            return True
        session = self._hours.around(event_ns)
        return session is not None and before_ns >= session[0]

    def _is_jump(self, before: float, change: float, elapsed_ns: int) -> bool:
        """Says whether a change, above what one second allows, is above what the time elapsed allows."""
        span_s = min(max(abs(elapsed_ns) / SECOND_NS, 1.0), self.limits.jump_span_s_max)
        return change > self.limits.jump_per_s_max * span_s * before

    def _confirmed(self, series: _Series, price: float) -> bool:
        """Counts jumps that agree on a level; true where they are enough to believe it."""
        if series.jumps and abs(price - series.jump_price) <= self.limits.jump_per_s_max * series.jump_price:
            series.jumps += 1
        else:
            series.jumps = 1
        series.jump_price = price
        return series.jumps >= self.limits.jumps_confirm
