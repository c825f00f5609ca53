"""A session: the kernel stepped bar by bar around a `Strategy`, inside the sandbox.

It exists so that a strategy can see its fills, its cash and its orders. Its numbers leave the sandbox as an
order stream only; the trusted replay of that stream is what counts.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from neural_trader_tools.engine import kernel
from neural_trader_tools.engine import orders as o
from neural_trader_tools.engine.faults import StrategyFault
from neural_trader_tools.engine.feature import feature_values
from neural_trader_tools.engine.strategy import Bar, Bars, Fill, Strategy
from neural_trader_tools.engine.surroundings import Surroundings

Floats = NDArray[np.float64]
DAY_US = 86_400_000_000
REPORT_BARS = 32
"""So few that a slow strategy is heard of, so many that a fast one does not notice."""


class Session:
    """One symbol's bars and account, as a strategy sees them.

    Args:
        frame: Bars with the columns time, open, high, low, close, volume.
        cash: Cash at the start.
        rules: The kernel's rules: commission, slippage, whole lots, fill at close.
        evaluate: Computes a feature over all bars; causal by its own tests and by the look-ahead check.
    """

    def __init__(
        self, frame: pl.DataFrame, cash: float, rules: Floats, evaluate: Callable[[str, pl.DataFrame], Floats]
    ) -> None:
        self._frame = frame
        self._columns = bar_columns(frame)
        self._times: NDArray[np.int64] = self._columns["time"].astype(np.int64)
        self.bars = Bars(self._columns)
        self._evaluate = evaluate
        self._features: dict[str, Floats] = {}
        self._rules = rules
        has_dividends = "dividend" in frame.columns
        self._dividends: Floats = (
            frame["dividend"].to_numpy().astype(np.float64) if has_dividends else np.empty(0)
        )
        self.exposure_max = kernel.exposure_max(rules)
        self._bar = -1
        self._rows = 0
        self._first_row = 0
        self._commands: Floats = np.empty((64, len(o.COLUMNS)))
        self._states: NDArray[np.int64] = np.zeros(64, dtype=np.int64)
        self.fills: Floats = np.empty((129, len(o.FILL_COLUMNS)))
        self._account = np.zeros(kernel.ACCOUNT_SIZE)
        self._account[kernel.CASH] = cash
        self._book = np.empty((o.WORKING_MAX, kernel.BOOK_SIZE))
        self.equity = np.empty(frame.height)

    @property
    def commands(self) -> Floats:
        """The order stream so far, shape (rows, 14)."""
        return self._commands[: self._rows]

    @property
    def fill_count(self) -> int:
        """Fills so far."""
        return int(self._account[kernel.FILLS])

    def run(
        self,
        strategy: Strategy,
        surroundings: Surroundings | None = None,
        report: Callable[[float], None] = lambda _: None,
    ) -> None:
        """Calls the strategy on every bar.

        Args:
            strategy: Configured for this session.
            surroundings: Told the time of each bar.
            report: Told the finished part, 0 … 1, every few bars.

        Raises:
            StrategyFault: too many orders; and whatever the strategy raises.
        """
        times: list[datetime] = self._frame["time"].to_list()
        open_, high, low, close, volume = (
            self._columns[name].tolist() for name in ("open", "high", "low", "close", "volume")
        )
        strategy.on_start()
        seen = 0
        opens, rules, account, book = self._times, self._rules, self._account, self._book
        dividends = self._dividends
        begins = kernel.needs_begin(rules, dividends)
        reported = 0
        for bar in range(len(times)):
            if bar == reported:
                report(bar / len(times))
                reported += REPORT_BARS
            if begins:
                before, dividend = max(bar - 1, 0), dividends[bar] if len(dividends) else 0.0
                kernel.begin(opens[bar], opens[before], close[before], dividend, volume[bar], rules, account)
                self._make_room(0)
            if account[kernel.BOOKED] > 0.0:
                kernel.match(
                    bar,
                    open_[bar],
                    high[bar],
                    low[bar],
                    opens,
                    rules,
                    account,
                    book,
                    self.fills,
                    self._states,
                )
            self._bar = bar
            if surroundings is not None:
                surroundings.now = times[bar]
            self._first_row = self._rows
            self.bars._end = bar + 1  # pyright: ignore[reportPrivateUsage]  # the session owns its bars
            while seen < self.fill_count:
                seen += 1
                strategy.on_fill(self._fill(seen - 1))
            strategy.on_bar(Bar(bar, times[bar], open_[bar], high[bar], low[bar], close[bar], volume[bar]))
            self.equity[bar] = kernel.finish(bar, close[bar], rules, account, book, self.fills, self._states)
            if account[kernel.OVERFLOW] != 0.0:
                raise too_many_working()

    def submit(self, command: Floats) -> int:
        """Puts a row into the stream, and into the book."""
        if self._bar < 0:
            raise StrategyFault("no_bar_yet", "on_start cannot trade: no bar was seen", "trade in on_bar")
        if self._rows - self._first_row >= o.ORDERS_PER_BAR_MAX:
            raise StrategyFault(
                "too_many_orders",
                f"more than {o.ORDERS_PER_BAR_MAX} orders on bar {self._bar}",
                "place fewer orders on one bar",
            )
        if self._rows == len(self._commands):
            self._commands = np.concatenate([self._commands, np.empty_like(self._commands)])
            self._states = np.concatenate([self._states, np.zeros_like(self._states)])
            self._make_room(len(self._states))
        row = self._rows
        command[o.BAR] = self._bar
        self._commands[row] = command
        self._rows += 1
        close = float(self._columns["close"][self._bar])
        kernel.submit(
            self._bar, row, command, close, self._times, self._rules, self._account, self._book, self._states
        )
        if self._account[kernel.OVERFLOW] != 0.0:
            raise too_many_working()
        return row

    def _make_room(self, rows: int) -> None:
        """Makes room for the fills of so many rows, and for what one bar cuts apart."""
        needed = 2 * rows + 1 if rows else self.fill_count + 2 * o.WORKING_MAX
        if needed > len(self.fills):
            self.fills = np.concatenate([self.fills, np.empty((needed, self.fills.shape[1]))])

    def account(self) -> tuple[float, float, float]:
        """Returns cash, position and equity at the current bar's close."""
        cash, position = float(self._account[kernel.CASH]), float(self._account[kernel.POSITION])
        if self._bar < 0:
            return cash, position, cash
        return cash, position, cash + position * float(self._columns["close"][self._bar])

    def working(self) -> list[int]:
        """Returns the rows of waiting orders; targets and bracket legs are not orders of the strategy."""
        book = self._book[: int(self._account[kernel.BOOKED])]
        waits = (
            (book[:, kernel.ID] >= 0.0) & (book[:, kernel.LEG] == 0.0) & (book[:, kernel.KIND] != o.BY_TARGET)
        )
        return [int(row) for row in book[waits, kernel.ID]]

    def feature(self, expression: str) -> Floats:
        """Returns a feature's values up to and including the current bar."""
        values = self._features.get(expression)
        if values is None:
            values = self._features[expression] = feature_values(self._evaluate, expression, self._frame)
        return values[: self._bar + 1]

    def _fill(self, number: int) -> Fill:
        bar, order, quantity, price, commission, reason, position = (
            float(cell) for cell in self.fills[number]
        )
        return Fill(int(order), int(bar), quantity, price, commission, o.REASONS[int(reason)], position)


def too_many_working() -> StrategyFault:
    """Returns the failure of a full book."""
    return StrategyFault(
        "too_many_orders",
        f"more than {o.WORKING_MAX - 2} orders are waiting",
        "cancel old orders, or use time_in_force='day'",
    )


def bar_columns(frame: pl.DataFrame) -> dict[str, NDArray[Any]]:
    """Returns the frame's columns as read-only, contiguous arrays; prices and volume as float64."""
    columns: dict[str, NDArray[Any]] = {
        "time": frame["time"].dt.cast_time_unit("us").to_physical().to_numpy()
    }
    columns["time"] = columns["time"].astype("datetime64[us]")
    for name in ("open", "high", "low", "close", "volume"):
        columns[name] = np.ascontiguousarray(frame[name].to_numpy(), dtype=np.float64)
    for values in columns.values():
        values.flags.writeable = False
    return columns


def utc_days(times: NDArray[Any]) -> NDArray[np.int64]:
    """Returns whole days since 1970-01-01 of `datetime64[us]` times."""
    return times.astype(np.int64) // DAY_US
