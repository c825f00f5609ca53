"""Strict mode: the strategy gets one bar at a time, so that what it decides cannot come from later bars.

The trusted kernel plays the decisions as they come and tells the strategy its fills, as a desk does. Of a
`signals` function only the last target counts, on bars that grow by one: its cost grows with the square.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from neural_trader_governance.errors import StrategyError
from neural_trader_sandbox.port import Sandbox
from neural_trader_tools.backtest.live import BarMessage, LiveBar, LiveFill, LiveStrategy, rows_of
from neural_trader_tools.backtest.prices import Prices
from neural_trader_tools.backtest.settings import BacktestRequest, Settings
from neural_trader_tools.backtest.simulation import FEATURES
from neural_trader_tools.engine import orders as o

Floats = NDArray[np.float64]
STRICT_BARS_MAX: Final = 1_000


class LateError(Exception):
    """The strategy failed on a bar: `bars` is how many it had been told, `error` what it failed with."""

    def __init__(self, bars: int, error: StrategyError) -> None:
        super().__init__(str(error))
        self.bars = bars
        self.error = error


async def decide_strictly(
    sandbox: Sandbox,
    request: BacktestRequest,
    bars: Prices,
    *,
    first: int = 0,
    cash: float,
    features: str = FEATURES,
) -> tuple[str, Floats]:
    """Returns what the strategy decides on the bars from `first` on, told one by one.

    Args:
        sandbox: Where it runs.
        request: Source, params, settings and seed.
        bars: All bars; those before `first` are its history.
        first: First bar that it decides on.
        cash: Cash at the start.
        features: Module that evaluates `self.feature(...)`.

    Returns:
        `("signals", targets)`, NaN before `first`, or `("orders", commands)`, as `decide` does.

    Raises:
        LateError: it failed on a bar.
        StrategyError: it failed before the first one.
        HostError: this host has no sandbox.
    """
    history = bars.head(first) if first else None
    live = await LiveStrategy.open(sandbox, request, history, start_us=int(bars.times[0]), features=features)
    try:
        return await _feed(live, bars, first, Account(bars, request.settings, cash))
    finally:
        await live.aclose()


async def _feed(live: LiveStrategy, bars: Prices, first: int, account: "Account") -> tuple[str, Floats]:
    targets = np.full(len(bars), np.nan)
    kind = "orders"
    for bar in range(first, len(bars)):
        try:
            answer = await live.decide(account.open_bar(bar))
        except StrategyError as error:
            raise LateError(bar + 1, error) from error
        kind = answer.kind
        if answer.kind == "signals":
            targets[bar] = np.nan if answer.target is None else answer.target
        else:
            account.close_bar(bar, rows_of(answer.commands, bar))
    return kind, targets if kind == "signals" else account.commands


class Account:
    """One symbol's account, stepped bar by bar by the trusted kernel.

    Args:
        bars: The bars it is played over.
        settings: Costs and rules.
        cash: Cash at the start.
    """

    def __init__(self, bars: Prices, settings: Settings, cash: float) -> None:
        from neural_trader_tools.engine import kernel
        from neural_trader_tools.engine.guest import rules

        self._kernel = kernel
        self._bars = bars
        self._dividends = bars.dividends
        self._rules = rules(settings.model_dump(mode="python"))
        self._account = np.zeros(kernel.ACCOUNT_SIZE)
        self._account[kernel.CASH] = cash
        self._book = np.empty((o.WORKING_MAX, kernel.BOOK_SIZE))
        self._fills = np.empty((129, len(o.FILL_COLUMNS)))
        self._begins = kernel.needs_begin(self._rules, self._dividends)
        self._states = np.zeros(64, dtype=np.int64)
        self._rows: list[Floats] = []
        self._told = 0

    @property
    def commands(self) -> Floats:
        """The order stream so far, shape (rows, 14)."""
        return np.array(self._rows, dtype=np.float64).reshape(-1, len(o.COLUMNS))

    def open_bar(self, bar: int) -> BarMessage:
        """Plays waiting orders over a bar and returns what the strategy is told at its close."""
        bars, kernel = self._bars, self._kernel
        open_, high, low, close, volume = (
            float(column[bar]) for column in (bars.open, bars.high, bars.low, bars.close, bars.volume)
        )
        if self._begins:
            before, paid = max(bar - 1, 0), self._dividends
            kernel.begin(
                bars.times[bar], bars.times[before], bars.close[before], paid[bar] if len(paid) else 0.0,
                volume, self._rules, self._account,
            )  # fmt: skip
        room = int(self._account[kernel.FILLS]) + 2 * o.WORKING_MAX
        if room > len(self._fills):
            self._fills = np.concatenate([self._fills, np.empty((room, self._fills.shape[1]))])
        if self._account[kernel.BOOKED] > 0.0:
            kernel.match(
                bar, open_, high, low, bars.times, self._rules, self._account, self._book,
                self._fills, self._states,
            )  # fmt: skip
        book = self._book[: int(self._account[kernel.BOOKED])]
        waits = (
            (book[:, kernel.ID] >= 0.0) & (book[:, kernel.LEG] == 0.0) & (book[:, kernel.KIND] != o.BY_TARGET)
        )
        count = int(self._account[kernel.FILLS])
        told, self._told = self._fills[self._told : count].tolist(), count
        return BarMessage(
            bar=LiveBar(
                number=bar, time_us=int(bars.times[bar]),
                open=open_, high=high, low=low, close=close, volume=volume,
            ),
            fills=tuple(
                LiveFill(
                    order_id=int(order), bar=int(at), quantity=quantity, price=price, commission=commission,
                    reason=o.REASONS[int(reason)], position=position,  # pyright: ignore[reportArgumentType]  # the same words
                )
                for at, order, quantity, price, commission, reason, position in told
            ),
            cash=float(self._account[kernel.CASH]),
            position=float(self._account[kernel.POSITION]),
            working=tuple(int(row) for row in book[waits, kernel.ID]),
        )  # fmt: skip

    def close_bar(self, bar: int, commands: Floats) -> None:
        """Puts the bar's commands into the book and ends the bar.

        Raises:
            StrategyError: too many orders wait at once.
        """
        kernel, close = self._kernel, float(self._bars.close[bar])
        for command in commands:
            row = len(self._rows)
            if row == len(self._states):
                self._states = np.concatenate([self._states, np.zeros_like(self._states)])
                self._fills = np.concatenate([self._fills, np.empty_like(self._fills)])
            self._rows.append(command)
            kernel.submit(
                bar,
                row,
                command,
                close,
                self._bars.times,
                self._rules,
                self._account,
                self._book,
                self._states,
            )
        kernel.finish(bar, close, self._rules, self._account, self._book, self._fills, self._states)
        if self._account[kernel.OVERFLOW] != 0.0:
            raise StrategyError(
                "too_many_orders",
                f"more than {o.WORKING_MAX - 2} orders wait at once",
                "cancel old orders, or use time_in_force='day'",
            )
