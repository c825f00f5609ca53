"""Weights beside a second engine: slow, plain, written from docs/portfolios.md, sharing no line with it.

Sizes and the common factor are found by bisection instead of in closed form. Random markets with holes are
played by both under all rules; every fill, the row that it is named after, every state and equity must agree.
"""

import math
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from neural_trader_tools.backtest.portfolio import Panel, replay_portfolio
from neural_trader_tools.backtest.prices import Prices
from neural_trader_tools.backtest.settings import Settings
from neural_trader_tools.engine import orders as o

DAY, YEAR, NAN = 86_400_000_000, 365 * 86_400_000_000, float("nan")
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def largest(fits: Any, low: float, high: float) -> float:
    """The largest number of a range for which something still fits."""
    if fits(high):
        return high
    for _ in range(120):
        middle = (low + high) / 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


@dataclass
class Symbol:
    """What is known of one symbol while it is played."""

    bars: dict[int, int]  # number of its bar by time
    held: float = 0.0
    mark: float = 1.0
    since: int | None = None
    room: float = math.inf
    weight: float | None = None
    row: int = -1
    has_traded: bool = False


@dataclass
class Purse:
    """Cash and what of it has not settled, with the day on which each sale was made."""

    cash: float
    rules: Settings
    sales: list[tuple[int, float]] = field(default_factory=list[tuple[int, float]])
    sessions: list[int] = field(default_factory=list[int])
    rejections: int = 0

    @property
    def settled(self) -> float:
        if not self.rules.settlement_days:
            return math.inf
        recent = self.sessions[-self.rules.settlement_days :]
        return self.cash - sum(money for day, money in self.sales if day in recent)

    def fee(self, units: float, price: float) -> float:
        by_unit = price * self.rules.commission_bps / 1e4 + float(self.rules.commission_per_unit)
        return max(abs(units) * by_unit, float(self.rules.commission_min))


def reach(weight: float, equity: float, one: Symbol, market: float, purse: Purse) -> tuple[float, float]:
    """The position that a weight asks for, cost and commission included, and the price of the way there."""
    rules = purse.rules
    worse = rules.slippage_bps / 1e4 + rules.spread_bps / 2e4
    if weight == 0:
        return 0.0, market * (1 - worse * (1 if one.held > 0 else -1))
    sign = math.copysign(1.0, weight)
    held = one.held * sign
    price = market * (1 + sign * worse)
    worth = equity + one.held * (price - market)
    goal = abs(weight) * worth
    if goal > held * price:
        low = max(held, 0.0)

        def carries(size: float) -> bool:
            cost = purse.fee(size - held, price)
            fits = size * price + cost <= goal
            return fits and (rules.margin == 1 or size * price * rules.margin + cost <= worth)

        size = largest(carries, low, low + max(goal, 0.0) / price + 1)
        return sign * (max(math.floor(size + 1e-9), low) if rules.lots == "whole" else size), price
    price = market * (1 - sign * worse)
    goal = abs(weight) * (equity + one.held * (price - market))
    if goal >= held * price * (1 - 1e-12):
        return one.held, price

    def is_within(size: float) -> bool:
        return size * price + purse.fee(held - size, price) <= goal

    size = largest(is_within, 0.0, held)
    return sign * (min(math.floor(size + 1e-9), held) if rules.lots == "whole" else size), price


def parts(traded: float, held: float) -> tuple[float, float]:
    """What of a trade closes a position, and what opens or enlarges one."""
    if traded * held >= 0:
        return 0.0, traded
    closes = math.copysign(min(abs(traded), abs(held)), traded)
    return closes, traded - closes


def oracle(prices: list[Prices], rows: Ints, weights: Floats, rules: Settings, cash: float) -> dict[str, Any]:
    times = sorted({int(time) for one in prices for time in one.times})
    every = [Symbol({int(time): bar for bar, time in enumerate(one.times)}) for one in prices]
    purse = Purse(cash, rules)
    fills: list[list[tuple[float, ...]]] = [[] for _ in prices]
    states = np.full(weights.shape, o.DONE)
    curve: list[float] = []
    before: list[float] = []  # equity before any liquidation
    ruined = False
    worth = lambda: purse.cash + sum(one.held * one.mark for one in every)  # noqa: E731

    def book(s: int, now: int, traded: float, price: float, name: int) -> None:
        one, cost = every[s], purse.fee(traded, price)
        purse.cash -= traded * price + cost
        if traded < 0:
            purse.sales.append((now // DAY, max(-traded * price - cost, 0.0)))
        one.held = 0.0 if abs(one.held + traded) <= 1e-12 * abs(traded) else one.held + traded
        fills[s].append((one.bars[now], name, traded, price, cost))

    def fill(now: int) -> None:
        those = [s for s, one in enumerate(every) if now in one.bars and one.weight is not None]
        if not those or ruined:
            return
        equity, available = worth(), purse.settled
        wanted: dict[int, tuple[float, float, bool]] = {}
        for s in those:
            one = every[s]
            assert one.weight is not None
            target, price = reach(one.weight, equity, one, one.mark, purse)
            traded, room = target - one.held, one.room
            traded = traded if abs(traded) > 1e-12 * max(abs(one.held), abs(target)) else 0.0
            if rules.lots == "whole" and math.isfinite(room):
                room = math.floor(room + 1e-9)
            wanted[s] = (math.copysign(min(abs(traded), room), traded), price, abs(traded) > room)
        closing = {s: parts(traded, every[s].held)[0] for s, (traded, _, _) in wanted.items()}
        growing = {s: parts(traded, every[s].held)[1] for s, (traded, _, _) in wanted.items()}

        def cost(part: float, s: int) -> float:
            price = wanted[s][1]
            return abs(part) * abs(price - every[s].mark) + purse.fee(part, price) if part else 0.0

        left = equity - sum(cost(part, s) for s, part in closing.items())
        base = sum(abs(one.held) * one.mark for one in every)
        base -= sum(abs(part) * every[s].mark for s, part in closing.items())

        def is_carried(factor: float) -> bool:
            more = sum(abs(part) * factor * every[s].mark for s, part in growing.items())
            lost = sum(cost(part * factor, s) for s, part in growing.items())
            return left - lost >= rules.margin * (base + more)

        def is_paid(factor: float) -> bool:
            bought = [(part * factor, wanted[s][1]) for s, part in growing.items() if part > 0]
            return sum(part * price + purse.fee(part, price) for part, price in bought) <= available

        factor, settled = (largest(fits, 0.0, 1.0) for fits in (is_carried, is_paid))
        if not any(part > 0 for part in growing.values()):
            settled = 1.0
        has_unsettled = purse.settled < purse.cash or any(traded < 0 for traded, _, _ in wanted.values())
        waits = bool(rules.settlement_days) and has_unsettled and settled < factor * (1 - 1e-9)
        factor = min(factor, settled)
        if not any(growing.values()) or factor >= 1 - 1e-9:
            factor = 1.0
        elif not waits:
            purse.rejections += 1
        for s in those:
            traded, price, is_cut = wanted[s]
            one, grown = every[s], growing[s] * factor
            if rules.lots == "whole" and factor < 1:
                grown = math.copysign(math.floor(abs(grown) + 1e-9), grown)
            whole, traded = abs(traded), traded if factor == 1 else closing[s] + grown
            if abs(traded) > 1e-12 * max(abs(one.held), abs(one.held + traded), whole):
                book(s, now, traded, price, one.row)
                one.room -= abs(traded)
                one.has_traded = True
            if not is_cut and not (waits and growing[s]):
                states[one.row, s] = o.FILLED if one.has_traded else o.DONE
                one.weight = None

    for t, now in enumerate(times):
        if not purse.sessions or purse.sessions[-1] != now // DAY:
            purse.sessions.append(now // DAY)
        here = [s for s, one in enumerate(every) if now in one.bars]
        for s in here:
            one, bar = every[s], every[s].bars[now]
            if one.held < 0 and one.since is not None:
                purse.cash += one.held * one.mark * rules.borrow_bps_annual / 1e4 * (now - one.since) / YEAR
            if len(prices[s].dividends):
                purse.cash += one.held * float(prices[s].dividends[bar])
            one.since, one.mark = now, float(prices[s].open[bar])
            one.room = (
                math.inf if rules.volume_cap is None else rules.volume_cap * float(prices[s].volume[bar])
            )
        fill(now)
        for s in here:
            every[s].mark = float(prices[s].close[every[s].bars[now]])
        for row in np.flatnonzero(rows == t):
            for s, one in enumerate(every):
                if math.isnan(weights[row, s]):
                    continue
                if one.weight is not None:
                    states[one.row, s] = o.CANCELED
                states[row, s] = o.REJECTED if ruined else o.WORKING
                if not ruined:
                    one.weight, one.row, one.has_traded = float(weights[row, s]), int(row), False
        if rules.fill == "close":
            fill(now)
        gross = sum(abs(one.held) * one.mark for one in every)
        before.append(worth())
        least = rules.margin / 2 if rules.margin < 1 else 0.0
        if (not ruined and worth() <= least * gross) or (ruined and gross > 0):
            for s in here:
                if every[s].held:
                    book(s, now, -every[s].held, every[s].mark, -1)
            for s, one in enumerate(every):
                if one.weight is not None:
                    states[one.row, s], one.weight = o.CANCELED, None
            ruined = ruined or worth() <= 0
        curve.append(worth())
    return {
        "fills": fills,
        "states": states,
        "equity": curve,
        "before": before,
        "rejections": purse.rejections,
    }


RULES = st.fixed_dictionaries(
    {
        "commission_bps": st.sampled_from([0.0, 20.0, 300.0]),
        "slippage_bps": st.sampled_from([0.0, 10.0]),
        "spread_bps": st.sampled_from([0.0, 40.0]),
        "commission_per_unit": st.sampled_from([Decimal(0), Decimal("0.05")]),
        "commission_min": st.sampled_from([Decimal(0), Decimal(0), Decimal(1), Decimal(25)]),
        "lots": st.sampled_from(["fractional", "whole"]),
        "fill": st.sampled_from(["next_open", "close"]),
        "volume_cap": st.sampled_from([None, None, 0.1]),
        "margin": st.sampled_from([1.0, 0.5]),
        "settlement_days": st.sampled_from([0, 0, 1, 2]),
        "borrow_bps_annual": st.sampled_from([0.0, 3_000.0]),
    }
).map(lambda rules: rules | ({"margin": 1.0} if rules["settlement_days"] else {}))


def case(seed: int, count: int) -> tuple[list[Prices], Ints, Floats]:
    """Several bars a day with holes, gaps and dividends, and weights that sum to 1 at most."""
    rng = np.random.default_rng(seed)
    prices: list[Prices] = []
    for s in range(count):
        kept = np.union1d(np.flatnonzero(rng.random(24) < 0.8), [s, s + 3])
        close, open_ = (
            np.round(np.clip(10 + rng.normal(0, 2.5, len(kept)), 3, 30) * 4) / 4 for _ in range(2)
        )
        volume = rng.choice([0.0, 5.0, 300.0, 1e6], len(kept))
        paid = np.where(rng.random(len(kept)) < 0.1, 0.25, 0.0) if seed % 2 else np.empty(0)
        high, low = np.maximum(open_, close), np.minimum(open_, close)
        prices.append(
            Prices("ABCD"[s], kept * DAY // 2 + 20_000 * DAY, open_, high, low, close, volume, paid)
        )
    times = len(np.unique(np.concatenate([one.times for one in prices])))
    rows = np.flatnonzero(rng.random(times) < 0.35)
    weights = rng.dirichlet(np.ones(count), len(rows)) * rng.choice([1.0, 1.0, -1.0], (len(rows), count))
    weights[rng.random(weights.shape) < 0.2] = 0.0
    weights[rng.random(weights.shape) < 0.2] = NAN
    return prices, rows.astype(np.int64), weights


@given(st.integers(0, 1_000_000), st.integers(1, 4), RULES)
@settings(max_examples=150, deadline=None)
def test_both_engines_make_the_same_of_any_weights(seed: int, count: int, rules: dict[str, Any]) -> None:
    prices, rows, weights = case(seed, count)
    chosen = Settings(cash=Decimal(1_000), **rules)
    found = replay_portfolio(rows, weights, Panel.of(prices), chosen, 1_000.0)
    expected = oracle(prices, rows, weights, chosen, 1_000.0)
    assume(all(abs(value) > 1e-6 for value in expected["before"]))  # at 0 sharp, rounding decides on ruin
    assert found.equity == pytest.approx(expected["equity"], rel=1e-7, abs=1e-6)
    assert sum(one.rejections for one in found.symbols) == expected["rejections"]
    for s, one in enumerate(found.symbols):
        asked = np.flatnonzero(~np.isnan(weights[:, s]))
        named = [int(asked[int(name)]) if name >= 0 else -1 for name in one.fills[:, o.FILL_ORDER]]
        assert [(bar, name) for bar, name, *_ in expected["fills"][s]] == list(
            zip(one.fills[:, o.FILL_BAR].astype(int).tolist(), named, strict=True)
        )
        theirs = np.array([fill[2:] for fill in expected["fills"][s]]).reshape(-1, 3)
        np.testing.assert_allclose(one.fills[:, 2:5], theirs, rtol=1e-7, atol=1e-7)
        waits = expected["states"][asked, s] == o.WORKING
        np.testing.assert_array_equal(one.states == o.WORKING, waits)
