"""The ground of a sweep: prices, rules and cells that all combinations share, and their outcomes on it.

Outcomes are sums, not curves: what every metric, every fold and every block needs, in some hundred bytes a
combination. Target changes on one symbol take the compiled path; several symbols, order streams and rules
that only the whole engine knows are played by it, one combination after the other.
"""

import functools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from neural_trader_governance.errors import StrategyError
from neural_trader_tools.backtest.metrics import bar_returns, drawdowns
from neural_trader_tools.backtest.prices import Prices
from neural_trader_tools.backtest.replay import Replay, replay_symbol
from neural_trader_tools.backtest.settings import Settings
from neural_trader_tools.backtest.sweeps import kernel as k
from neural_trader_tools.backtest.sweeps.answer import Decisions
from neural_trader_tools.backtest.sweeps.ranges import Ranges
from neural_trader_tools.engine import orders as o
from neural_trader_tools.engine.guest import rules

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
_COMPILED = (
    "cash", "commission_bps", "slippage_bps", "fill", "lots", "commission_per_unit", "commission_min",
    "spread_bps", "convention",
)  # fmt: skip
_TINY = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class Outcomes:
    """What combinations came to.

    Attributes:
        totals: (combinations, 14), see `kernel.TOTALS`; NaN where a combination failed.
        cells: (combinations, cells, 3): sum of returns, of their squares, equity at the last close.
        faults: Why a combination failed, else None.
    """

    totals: Floats
    cells: Floats
    faults: list[str | None]


@dataclass(frozen=True, slots=True, eq=False)
class Ground:
    """See the module.

    Attributes:
        prices: Bars, one for each symbol.
        settings: Costs and rules.
        edges: Where cells begin, on the union of the times, and its length.
        threads: How many play at the same time; the outcomes do not depend on it.
    """

    prices: Sequence[Prices]
    settings: Settings
    edges: Ints
    threads: int = 2
    _ranges: list[Ranges] = field(default_factory=list[Ranges], init=False, repr=False)

    @property
    def is_compiled(self) -> bool:
        """Whether target changes take the compiled path."""
        plain = Settings().model_copy(update={name: getattr(self.settings, name) for name in _COMPILED})
        return len(self.prices) == 1 and plain == self.settings

    def play(self, decisions: Sequence[Decisions]) -> Outcomes:
        """Returns the outcomes of combinations.

        Args:
            decisions: One for each symbol, all of the same combinations.
        """
        faults = [
            next((f for f in each if f is not None), None)
            for each in zip(*(d.faults for d in decisions), strict=True)
        ]
        count = len(faults)
        outcomes = Outcomes(
            np.full((count, k.TOTALS_SIZE), np.nan),
            np.full((count, len(self.edges) - 1, k.CELL_SIZE), np.nan),
            faults,
        )
        if self.is_compiled and decisions[0].kind == "signals":
            self._play_changes(decisions[0], outcomes)
            slow = np.flatnonzero(_is_cancelled(outcomes.totals))
        else:
            slow = np.arange(count)
        if len(slow):
            with ThreadPoolExecutor(self.threads) as pool:
                list(pool.map(functools.partial(self._play_one, decisions, outcomes), slow.tolist()))
        for number, fault in enumerate(faults):
            if fault is not None:
                outcomes.totals[number], outcomes.cells[number] = np.nan, np.nan
        return outcomes

    def replay(self, streams: Sequence[tuple[str, Floats]], settings: Settings | None = None) -> Replay:
        """Returns the whole replay of one combination, as (kind, stream) for each symbol."""
        settings = settings or self.settings
        cash = float(settings.cash) / len(self.prices)
        replays = [
            replay_symbol(kind, stream, prices, settings, cash)
            for (kind, stream), prices in zip(streams, self.prices, strict=True)
        ]
        return Replay.combine(replays, float(settings.cash))

    def _play_changes(self, decisions: Decisions, outcomes: Outcomes) -> None:
        prices = self.prices[0]
        if not self._ranges:
            self._ranges.append(Ranges.of(prices.close))
        ranges, limits = self._ranges[0], rules(self.settings.model_dump(mode="python"))
        bars, targets = (np.ascontiguousarray(decisions.rows[:, column]) for column in (0, 1))
        parts = np.linspace(0, len(decisions), self.threads + 1).astype(np.int64)

        def play(part: int) -> None:
            k.play_changes(
                int(parts[part]), int(parts[part + 1]), prices.open, prices.close, decisions.offsets, bars,
                targets, float(self.settings.cash), limits, self.edges, ranges.sums, ranges.ahead,
                ranges.behind, ranges.blocks, outcomes.totals, outcomes.cells,
            )  # fmt: skip

        with ThreadPoolExecutor(self.threads) as pool:
            list(pool.map(play, range(self.threads)))

    def _play_one(self, decisions: Sequence[Decisions], outcomes: Outcomes, number: int) -> None:
        if outcomes.faults[number] is not None:
            return
        try:
            replay = self.replay([("orders", commands(each, number)) for each in decisions])
        except StrategyError as error:
            outcomes.faults[number] = str(error)
            return
        outcomes.totals[number], outcomes.cells[number] = measure(replay, self.edges)


def commands(decisions: Decisions, number: int) -> Floats:
    """Returns the order stream of one combination, (rows, 14)."""
    rows = np.ascontiguousarray(decisions.of(number))
    if decisions.kind == "orders":
        return rows
    stream = np.full((len(rows), len(o.COLUMNS)), np.nan)
    stream[:, [o.SIDE, o.SIZED_BY, o.TIME_IN_FORCE, o.TRAIL_BY]] = 0.0, o.QUANTITY, o.GTC, o.DISTANCE
    stream[:, o.BAR], stream[:, o.ACTION], stream[:, o.SIZE] = rows[:, 0], o.TARGET, rows[:, 1]
    return stream


def measure(replay: Replay, edges: Ints) -> tuple[Floats, Floats]:
    """Returns totals and cells of a replay, from its equity."""
    returns = bar_returns(replay.equity)
    whole = np.zeros(len(replay.equity))
    whole[1 : len(returns) + 1] = returns
    fills = np.concatenate([symbol.fills for symbol in replay.symbols])
    trades = np.concatenate([symbol.trades for symbol in replay.symbols])
    totals = np.zeros(k.TOTALS_SIZE)
    totals[k.EQUITY] = replay.equity[-1]
    totals[k.DRAWDOWN] = drawdowns(replay.equity, replay.cash)[0]
    totals[k.TRADES] = np.count_nonzero(~np.isnan(trades[:, 1]))
    totals[k.EXPOSED] = replay.exposed_bars
    totals[k.COMMISSIONS] = fills[:, o.FILL_COMMISSION].sum()
    totals[k.TRADED] = np.abs(fills[:, o.FILL_QUANTITY] * fills[:, o.FILL_PRICE]).sum()
    totals[k.RETURNS] = len(returns)
    for power in range(1, 5):
        totals[k.SUM_1 + power - 1] = (returns**power).sum()
    totals[k.SUM_DOWN] = (np.minimum(returns, 0.0) ** 2).sum()
    totals[k.REJECTIONS] = sum(symbol.rejections for symbol in replay.symbols)
    totals[k.RUINED] = any(symbol.ruined for symbol in replay.symbols)
    starts = edges[:-1]
    cells = np.empty((len(starts), k.CELL_SIZE))
    cells[:, k.CELL_SUM] = np.add.reduceat(whole, starts)
    cells[:, k.CELL_SQUARES] = np.add.reduceat(whole**2, starts)
    cells[:, k.CELL_EQUITY] = replay.equity[edges[1:] - 1]
    return totals, cells


def _is_cancelled(totals: Floats) -> NDArray[np.bool_]:
    """Tells where the variance is so small beside the mean that the sums cannot tell it: play these whole."""
    with np.errstate(all="ignore"):
        count = totals[:, k.RETURNS]
        mean, square = totals[:, k.SUM_1] / count, totals[:, k.SUM_2] / count
        return (square > 0.0) & ((square - mean * mean) < _TINY * square)


def warm_up() -> None:
    """Compiles the sweep's kernel, or loads it from its cache; `setup` calls it, so that nobody waits."""
    line = np.linspace(1.0, 2.0, 40)
    prices = Prices("X", np.arange(40, dtype=np.int64), line, line, line, line, line)
    rows = np.array([[1.0, 1.0], [20.0, -0.5]])
    changes = Decisions("signals", np.array([0, 2], dtype=np.int64), rows, [None])
    Ground([prices], Settings(), np.array([0, 20, 40], dtype=np.int64), threads=1).play([changes])
