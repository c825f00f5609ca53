"""The kernel beside a second engine: slow, plain, written from docs/backtest.md, sharing no line with it.

Orders are objects, sizes are found by bisection instead of the closed form, and every phase of a bar asks
each order anew. Random markets with gaps and several bars a day are played by both; every fill, state and
equity must agree.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from neural_trader_tools.engine import orders as o

NAN = float("nan")
Bar = tuple[float, float, float, float]
Told = tuple[int, int, float, float, float, str, float]


@dataclass
class Wait:
    """An order, target or bracket leg that waits."""

    row: int
    kind: str  # market, limit, stop, stop_limit, trail, target, take_profit, stop_loss
    side: int
    size: float
    by_fraction: bool = False
    limit: float | None = None
    stop: float | None = None
    trail: float | None = None
    take_profit: float | None = None
    stop_loss: float | None = None
    last_day: int | None = None
    is_leg: bool = False
    entry_price: float = NAN
    entered: tuple[int, str] = (-1, "")  # bar and phase of the entry that left this leg
    rests_from: int = -1  # a stop-limit triggered inside a bar rests as a limit from the next one


@dataclass
class Oracle:
    """One symbol's account, played bar by bar."""

    cash: float
    commission: float = 0.0
    slippage: float = 0.0
    whole: bool = False
    at_close: bool = False
    held: float = 0.0
    ruined: bool = False
    waiting: list[Wait] = field(default_factory=list[Wait])
    fills: list[Told] = field(default_factory=list[Told])
    states: dict[int, str] = field(default_factory=dict[int, str])
    equity: list[float] = field(default_factory=list[float])
    marked: list[float] = field(default_factory=list[float])  # equity at each close before any liquidation

    def play(self, bars: Sequence[Bar], rows: Sequence[Sequence[float]], days: Sequence[int]) -> None:
        for bar, (open_, high, low, close) in enumerate(bars):
            self._open(bar, open_, days[bar])
            self._stops(bar, high, low)
            self._limits(bar, high, low)
            for wait in self.waiting:
                if wait.trail is not None and wait.stop is not None:
                    best = (
                        max(wait.stop, high - wait.trail)
                        if wait.side < 0
                        else min(wait.stop, low + wait.trail)
                    )
                    wait.stop = best
            for number, row in enumerate(rows):
                if row[o.BAR] == bar:
                    self._take(number, row, close, days[bar + 1] if bar + 1 < len(bars) else None)
            if self.at_close:
                for wait in [w for w in self.waiting if w.kind in ("market", "target")]:
                    if wait in self.waiting:
                        self._fill(wait, bar, close, "close")
            self._settle(bar, close)

    def _settle(self, bar: int, close: float) -> None:
        self.marked.append(self.cash + self.held * close)
        if not self.ruined and self.cash + self.held * close <= 0.0:
            self.ruined = True
            if self.held:
                cost = abs(self.held) * close * self.commission
                self.cash += self.held * close - cost
                self.fills.append((bar, -1, -self.held, close, cost, "liquidation", 0.0))
                self.held = 0.0
            for wait in list(self.waiting):
                self._end(wait, "canceled")
        self.equity.append(self.cash + self.held * close)

    def _take(self, number: int, row: Sequence[float], close: float, next_day: int | None) -> None:
        action = int(row[o.ACTION])
        if action == o.CANCEL:
            for wait in [w for w in self.waiting if w.row == row[o.SIZE]]:
                self._end(wait, "canceled")
            self.states[number] = "done"
            return
        if self.ruined:
            self.states[number] = "rejected"
            return
        self.states[number] = "working"
        if action == o.TARGET:
            for wait in [w for w in self.waiting if w.kind == "target"]:
                self._end(wait, "canceled")
            self.waiting.append(Wait(number, "target", 0, row[o.SIZE]))
            return
        limit, stop, trail, profit, loss = (
            None if math.isnan(x) else x for x in row[o.LIMIT : o.STOP_LOSS + 1]
        )
        side = int(row[o.SIDE])
        kind = "market"
        if trail is not None:
            kind, stop = "trail", close + side * trail
        elif stop is not None:
            kind = "stop" if limit is None else "stop_limit"
        elif limit is not None:
            kind = "limit"
        wait = Wait(
            number, kind, side, row[o.SIZE], row[o.SIZED_BY] == o.FRACTION, limit, stop, trail, profit, loss
        )
        wait.last_day = next_day if row[o.TIME_IN_FORCE] == o.DAY else None
        self.waiting.append(wait)

    def _end(self, wait: Wait, state: str) -> None:
        self.waiting.remove(wait)
        if not wait.is_leg:
            self.states[wait.row] = state

    def _open(self, bar: int, open_: float, day: int) -> None:
        for wait in list(self.waiting):
            if wait not in self.waiting:
                continue
            if wait.last_day is not None and day > wait.last_day:
                self._end(wait, "expired")
                continue
            if wait.kind == "stop_limit" and wait.stop is not None and wait.side * (open_ - wait.stop) >= 0:
                wait.stop = None
            if wait.entered == (bar, "open"):
                continue
            past_stop = wait.stop is not None and wait.side * (open_ - wait.stop) >= 0
            inside_limit = (
                wait.stop is None and wait.limit is not None and wait.side * (wait.limit - open_) >= 0
            )
            if wait.kind in ("market", "target") or past_stop or inside_limit:
                self._fill(wait, bar, open_, "open")

    def _stops(self, bar: int, high: float, low: float) -> None:
        for wait in self._each():
            if wait.stop is None or not (high >= wait.stop if wait.side > 0 else low <= wait.stop):
                continue
            if (
                wait.kind == "stop_limit"
                and wait.limit is not None
                and wait.side * (wait.limit - wait.stop) < 0
            ):
                wait.stop, wait.rests_from = None, bar + 1
            else:
                self._fill(wait, bar, self._level(wait, wait.stop, bar), "stops")

    def _limits(self, bar: int, high: float, low: float) -> None:
        for wait in self._each():
            if wait.kind == "stop_loss":
                assert wait.stop is not None
                touched = high >= wait.stop if wait.side > 0 else low <= wait.stop
                if wait.entered == (bar, "limits") and touched:
                    self._fill(wait, bar, self._level(wait, wait.stop, bar), "limits")
            elif wait.stop is None and wait.limit is not None and wait.rests_from <= bar:
                touched = low <= wait.limit if wait.side > 0 else high >= wait.limit
                if touched and wait.entered != (bar, "limits"):
                    level = wait.limit
                    if wait.entered[0] == bar and wait.side * (wait.limit - wait.entry_price) > 0:
                        level = wait.entry_price
                    self._fill(wait, bar, level, "limits")

    def _each(self) -> Any:
        """Goes through the waiting orders in the order in which they came, those born meanwhile included."""
        seen: list[Wait] = []
        while True:
            fresh = next((w for w in self.waiting if not any(w is s for s in seen)), None)
            if fresh is None:
                return
            seen.append(fresh)
            yield fresh

    @staticmethod
    def _level(wait: Wait, stop: float, bar: int) -> float:
        beyond = wait.entered[0] == bar and wait.side * (wait.entry_price - stop) > 0
        return wait.entry_price if beyond else stop

    def _fill(self, wait: Wait, bar: int, market: float, phase: str) -> None:
        held = self.held
        if wait.kind == "target":
            wanted, price = self._reach(wait.size, market)
        else:
            slips = wait.kind in ("market", "stop", "trail", "stop_loss")
            price = market * (1 + wait.side * self.slippage) if slips else market
            size = wait.size
            if wait.by_fraction:
                size = max(0.0, size * (self.cash + held * price) / (price * (1 + self.commission)))
            if self.whole:
                size = math.floor(size + 1e-9)
            if wait.is_leg:
                size = min(size, max(0.0, -wait.side * held))
            wanted = held + wait.side * size
        if abs(wanted) <= 1e-12 * max(abs(held), abs(wanted - held)):
            wanted = 0.0
        traded = wanted - held
        if abs(traded) <= 1e-12 * max(abs(held), abs(wanted)):
            self._end(wait, "done" if wait.kind == "target" else "rejected")
            return
        cost = abs(traded) * price * self.commission
        bigger = abs(wanted) > abs(held) or wanted * held < 0
        if bigger and abs(wanted) * price + cost > (self.cash + held * price) * (1 + 1e-9):
            self._end(wait, "rejected")
            return
        self.cash -= traded * price + cost
        self.held = wanted
        self.fills.append((bar, wait.row, traded, price, cost, wait.kind, wanted))
        self._end(wait, "filled")
        over = held != 0 and wanted * held <= 0
        for other in [w for w in self.waiting if w.is_leg and (over or (wait.is_leg and w.row == wait.row))]:
            self._end(other, "")
        if not wait.is_leg and wait.kind != "target" and wanted * wait.side > 0:
            size = min(abs(traded), abs(wanted))
            for kind, level in (("stop_loss", wait.stop_loss), ("take_profit", wait.take_profit)):
                if level is not None:
                    leg = Wait(wait.row, kind, -wait.side, size, is_leg=True)
                    leg.entry_price, leg.entered = market, (bar, phase)
                    leg.stop, leg.limit = (level, None) if kind == "stop_loss" else (None, level)
                    self.waiting.append(leg)

    def _reach(self, target: float, market: float) -> tuple[float, float]:
        """Finds q with q p + |q - h| p c = |t| E by bisection, in the target's own direction."""
        sign = -1 if target < 0 else 1
        held = self.held * sign
        if target == 0:
            return 0.0, market * (1 - math.copysign(self.slippage, self.held))
        for up in (True, False):
            price = market * (1 + sign * self.slippage * (1 if up else -1))
            goal = abs(target) * (self.cash + self.held * price)
            if up and goal <= held * price:
                continue  # too much is held already: it is a decrease, at the other price
            low, high = (max(held, 0.0), max(held, 0.0) + max(goal, 0.0) / price + 1) if up else (0.0, held)
            for _ in range(200):
                middle = (low + high) / 2
                spent = middle * price + abs(middle - held) * price * self.commission
                low, high = (middle, high) if spent <= goal else (low, middle)
            size = low
            if self.whole:
                size = float(math.floor(size + 1e-9))
                size = max(size, held) if up else min(size, held)
            return sign * size, price
        raise AssertionError


def ticks(low: int, high: int) -> st.SearchStrategy[float]:
    return st.integers(low, high).map(lambda n: n / 4)


@st.composite
def markets(draw: st.DrawFn) -> list[Bar]:
    """Bars on a grid of quarters, with gaps, spikes and days that stand still."""
    bars: list[Bar] = []
    close = 10.0
    for _ in range(draw(st.integers(2, 14))):
        gap = draw(st.sampled_from([0, 0, 0, -1, 1, -4, 4, -16, 24, 60]))
        open_ = max(0.5, close + gap / 4)
        close = max(0.5, open_ + draw(st.integers(-6, 6)) / 4)
        high = max(open_, close) + draw(st.integers(0, 6)) / 4
        low = max(0.25, min(open_, close) - draw(st.integers(0, 6)) / 4)
        bars.append((open_, high, low, close))
    return bars


@st.composite
def streams(draw: st.DrawFn, length: int) -> list[list[float]]:
    """Rows of every kind, also such as the strategy API itself would refuse: the kernel must not care."""
    rows: list[list[float]] = []
    for bar in sorted(draw(st.lists(st.integers(0, length - 1), max_size=14))):
        action = draw(st.sampled_from([o.ORDER] * 6 + [o.TARGET, o.CANCEL]))
        if action == o.TARGET:
            size = draw(st.sampled_from([-1.0, -0.5, 0.0, 0.5, 1.0]))
            rows.append([bar, action, 0, size, o.QUANTITY, *[NAN] * 5, o.GTC, NAN, NAN, 0])
        elif action == o.CANCEL:
            if rows:
                size = draw(st.integers(0, len(rows) - 1))
                rows.append([bar, action, 0, size, o.QUANTITY, *[NAN] * 5, o.GTC, NAN, NAN, 0])
        else:
            by = draw(st.sampled_from([o.QUANTITY, o.FRACTION]))
            size = draw(
                st.sampled_from([0.25, 0.5, 1.0] if by == o.FRACTION else [0.5, 1.0, 3.0, 10.0, 40.0])
            )
            price = st.one_of(st.just(NAN), ticks(16, 80))
            trail = draw(st.one_of(st.just(NAN), st.just(NAN), ticks(1, 12)))
            limit, stop = (NAN, NAN) if not math.isnan(trail) else (draw(price), draw(price))
            legs = [draw(price), draw(price)]
            side = draw(st.sampled_from([-1, 1]))
            force = draw(st.sampled_from([o.GTC, o.DAY]))
            rows.append([bar, action, side, size, by, limit, stop, trail, *legs, force, NAN, NAN, 0])
    return rows


def agree(played: Any, oracle: Oracle, rows: int) -> None:
    assume(all(abs(value) > 1e-7 for value in oracle.marked))  # at 0 sharp, rounding decides on ruin
    told: list[Told] = [
        (int(f[0]), int(f[1]), f[2], f[3], f[4], o.REASONS[int(f[5])], f[6]) for f in played.fills.tolist()
    ]
    keys = [(f[0], f[1], f[5]) for f in told]
    assert keys == [(f[0], f[1], f[5]) for f in oracle.fills]
    for ours, theirs in zip(told, oracle.fills, strict=True):
        assert [*ours[2:5], ours[6]] == pytest.approx([*theirs[2:5], theirs[6]], rel=1e-9, abs=1e-7)
    assert played.equity.tolist() == pytest.approx(oracle.equity, rel=1e-9, abs=1e-7)
    assert played.states == [oracle.states[row] for row in range(rows)]


RULES = st.fixed_dictionaries(
    {
        "commission": st.sampled_from([0.0, 0.001, 0.02]),
        "slippage": st.sampled_from([0.0, 0.002, 0.03]),
        "whole": st.booleans(),
        "at_close": st.booleans(),
    }
)
FEW = settings(
    max_examples=500,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@FEW
@given(data=st.data(), bars=markets(), rules=RULES)
def test_random_order_streams_are_filled_as_the_oracle_fills_them(
    play: Callable[..., Any], data: st.DataObject, bars: list[Bar], rules: dict[str, Any]
) -> None:
    rows = data.draw(streams(len(bars)))
    steps = data.draw(st.lists(st.integers(0, 1), min_size=len(bars), max_size=len(bars)))
    days = np.cumsum(steps).tolist()
    oracle = Oracle(cash=100.0, **rules)
    oracle.play(bars, rows, days)
    agree(play(bars, rows, cash=100.0, days=days, **rules), oracle, len(rows))


@FEW
@given(data=st.data(), bars=markets(), rules=RULES)
def test_random_targets_are_reached_as_the_oracle_reaches_them(
    play: Callable[..., Any], data: st.DataObject, bars: list[Bar], rules: dict[str, Any]
) -> None:
    exposure = st.sampled_from([NAN, NAN, -1.0, -0.3, 0.0, 0.0, 0.4, 1.0])
    targets = data.draw(st.lists(exposure, min_size=len(bars), max_size=len(bars)))
    rows: list[list[float]] = []
    last = 0.0
    for bar, target in enumerate(targets):
        if not math.isnan(target) and target != last:
            rows.append([bar, o.TARGET, 0, target, o.QUANTITY, *[NAN] * 5, o.GTC, NAN, NAN, 0])
            last = target
    oracle = Oracle(cash=100.0, **rules)
    oracle.play(bars, rows, list(range(len(bars))))
    agree(play(bars, targets=targets, cash=100.0, **rules), oracle, len(rows))
