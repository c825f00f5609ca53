"""The check of a portfolio strategy: a trial run, determinism, and look-ahead across symbols.

All symbols are cut at one moment, and their other futures begin there, so a strategy that reads tomorrow's
price of one symbol to weigh another today is found too.
"""

from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Final

import anyio
import anyio.to_thread
import numpy as np
from numpy.typing import NDArray

from neural_trader_governance.errors import StrategyError
from neural_trader_tools.backtest.settings import BacktestRequest
from neural_trader_tools.engine import orders as o
from neural_trader_tools.strategies.outline import portfolio_kind

if TYPE_CHECKING:
    from neural_trader_tools.backtest.lookahead import Difference
    from neural_trader_tools.backtest.portfolio import Panel
    from neural_trader_tools.backtest.prices import Prices
    from neural_trader_tools.backtest.run import Backtests

Floats = NDArray[np.float64]
BARS_MAX: Final = 1_000
ORDER_CELLS: Final = 1 + len(o.COLUMNS)
BEGUN: Final = 4
"""A cut leaves every symbol at least so many bars."""


async def decide_panel(
    backtests: "Backtests", request: BacktestRequest, panel: "Panel", disturbance: int | None = None
) -> Floats:
    """Returns what a portfolio strategy decides at each time, NaN where nothing.

    Returns:
        Shape (times, symbols + more): the weights, then 15 cells for each order of the time, its symbol and
        the columns of `orders.COLUMNS`.

    Raises:
        StrategyError: as in `simulation.simulate`.
        HostError: as in `simulation.simulate`.
    """
    from neural_trader_tools.backtest.simulation import decide_orders, decide_weights

    symbols = tuple(one.symbol for one in panel.prices)
    request = request.model_copy(update={"symbols": symbols})
    options = {"features": backtests.features, "disturbance": disturbance}
    decided = np.full((len(panel.times), len(symbols)), np.nan)
    if portfolio_kind(request.source) == "weights":
        rows, weights = await decide_weights(backtests.sandbox, request, panel, **options)  # type: ignore[arg-type]
        decided[rows] = weights
        return decided
    found = await decide_orders(backtests.sandbox, request, panel, **options)  # type: ignore[arg-type]
    decided[found.rows] = found.weights
    times = found.commands[:, o.BAR].astype(np.int64)
    place = np.arange(len(times)) - np.searchsorted(times, times)  # of an order among those of its time
    cells = np.full((len(panel.times), place.max(initial=-1) + 1, ORDER_CELLS), np.nan)
    cells[times, place] = np.column_stack([found.symbols, found.commands])
    return np.hstack([decided, cells.reshape(len(cells), -1)])


def cut_at(prices: Sequence["Prices"], moment: int, seed: int | None) -> "list[Prices]":
    """Returns the bars before a moment (microseconds), alone or followed by another future.

    Args:
        prices: Bars of each symbol.
        moment: Where the real ones end.
        seed: Of the other future; None: none follows.
    """
    from neural_trader_tools.backtest.lookahead import other_future

    found: list[Prices] = []
    for number, one in enumerate(prices):
        kept = int(np.searchsorted(one.times, moment))
        found.append(
            one.head(kept) if seed is None or kept == len(one) else other_future(one, kept, seed + 2 * number)
        )
    return found


def choose_moments(
    decided: Floats, prices: Sequence["Prices"], times: NDArray[np.int64], count: int, seed: int
) -> list[int]:
    """Returns moments to cut at, ascending: about half just behind and before decisions, the rest anywhere.

    Args:
        decided: Weights by time and symbol.
        prices: Bars of each symbol.
        times: Times of the rows.
        count: How many at most.
        seed: Of what is drawn.
    """
    first = max((int(one.times[min(BEGUN, len(one) - 1)]) for one in prices), default=0)
    open_ = np.flatnonzero(times > first)
    if not len(open_):
        return []
    generator = np.random.default_rng(seed)
    rows = np.flatnonzero((~np.isnan(decided)).any(axis=1))
    near = np.intersect1d(np.concatenate([rows, rows + 1]), open_)
    chosen = generator.choice(near, min(len(near), max(1, count // 2)), replace=False) if len(near) else near
    rest = np.setdiff1d(open_, chosen)
    chosen = np.union1d(chosen, generator.choice(rest, min(len(rest), count - len(chosen)), replace=False))
    chosen = np.union1d(chosen[-count:], open_[-1:])  # and the last bar
    return [int(times[row]) for row in chosen]


def compare_weights(part: Floats, whole: Floats, symbols: Sequence[str], before: int) -> "list[Difference]":
    """Returns every time before row `before` at which two runs decided differently."""
    from neural_trader_tools.backtest.lookahead import ABSOLUTE, RELATIVE, Difference

    width = max(part.shape[1], whole.shape[1])
    part, whole = _widened(part[:before], width), _widened(whole[:before], width)
    same = np.isclose(part, whole, rtol=RELATIVE, atol=ABSOLUTE, equal_nan=True)
    rows = np.flatnonzero(~same.all(axis=1))
    return [Difference(int(row), _words(part[row], symbols), _words(whole[row], symbols)) for row in rows]


def _widened(decided: Floats, width: int) -> Floats:
    more = np.full((len(decided), width - decided.shape[1]), np.nan)
    return np.hstack([decided, more])


def _words(decided: Floats, symbols: Sequence[str]) -> str:
    from neural_trader_tools.backtest.lookahead import words_of

    said = [
        f"{symbol} {weight:.6g}" for symbol, weight in zip(symbols, decided, strict=False) if weight == weight
    ]
    orders = decided[len(symbols) :].reshape(-1, ORDER_CELLS)
    orders = orders[~np.isnan(orders[:, 0])]
    said += [f"{symbols[int(order[0])]} {words_of([order[1:]])}" for order in orders]
    more = [f"and {len(said) - 3} more"] if len(said) > 3 else []
    return ", ".join([*said[:3], *more]) or "nothing"


class PortfolioCheck:
    """Runs a portfolio strategy on all of the bars, again, and without its future.

    Args:
        backtests: Whose sandbox and features are used.
        request: The strategy, its parameters and the seed.
        note: Told a failure of a run, and during what.
        at_once: Runs at once.
    """

    def __init__(
        self,
        backtests: "Backtests",
        request: BacktestRequest,
        note: Callable[[StrategyError, str], None],
        at_once: int,
    ) -> None:
        self._backtests, self._request, self._note = backtests, request, note
        self._slots = anyio.CapacityLimiter(at_once)
        self.found: list[tuple[int, str, list[Difference]]] = []
        self.by_chance: str | None = None

    async def run(self, history: Sequence["Prices"], cuts: int) -> int:
        """Returns how many cuts there were; 0 where a run failed or chance decided."""
        from neural_trader_tools.backtest.portfolio import Panel

        prices = [one.tail(BARS_MAX) if len(one) > BARS_MAX else one for one in history]
        prices.sort(key=lambda one: one.symbol)
        panel = await anyio.to_thread.run_sync(Panel.of, prices)
        symbols = [one.symbol for one in prices]
        if (whole := await self._decide(panel, "")) is None:
            return 0
        for number in (1, 2):
            again = await self._decide(panel, "in another run", number)
            if again is None or not np.array_equal(again, whole, equal_nan=True):
                if again is not None:
                    where = compare_weights(again, whole, symbols, len(whole))
                    self.by_chance = (
                        f"at time {where[0].bar}: {where[0].before}, then {where[0].after}"
                        if where
                        else "by a rounding error"
                    )
                return 0
        moments = choose_moments(whole, prices, panel.times, cuts, self._request.seed)

        async def without(moment: int, way: str, seed: int | None) -> None:
            given = await anyio.to_thread.run_sync(Panel.of, cut_at(prices, moment, seed))
            row = int(np.searchsorted(panel.times, moment))
            what = (
                f"on the first {row} times"
                if seed is None
                else f"once the bars from time {row} on are others"
            )
            if (part := await self._decide(given, what)) is None:
                return
            if differences := compare_weights(part, whole, symbols, row):
                again = await self._decide(given, what)
                if again is not None and np.array_equal(again, part, equal_nan=True):
                    self.found.append((row, way, differences))

        jobs: list[Callable[[], Coroutine[Any, Any, None]]] = []
        for number, moment in enumerate(moments):
            seed = self._request.seed + number
            jobs.append(lambda moment=moment, seed=seed: without(moment, "changed", seed))
            if int(np.searchsorted(panel.times, moment)) >= len(panel.times) // 4:
                jobs.append(lambda moment=moment: without(moment, "cut", None))
        async with anyio.create_task_group() as tasks:
            for job in jobs:
                tasks.start_soon(job)
        return len(moments)

    async def _decide(self, panel: "Panel", what: str, disturbance: int | None = None) -> Floats | None:
        try:
            async with self._slots:
                return await decide_panel(self._backtests, self._request, panel, disturbance)
        except StrategyError as error:
            self._note(error, what)
            return None
