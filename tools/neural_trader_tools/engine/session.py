"""A session: the kernel stepped bar by bar around a `Strategy`, inside the sandbox.

It exists so that a strategy can see its fills, its cash and its orders. Its numbers leave the sandbox as an
order stream only; the trusted replay of that stream is what counts.

Most bars are quiet: nothing in the book can happen in their range. The session keeps that range, and the
orders that were just placed, and calls the kernel (`engine/step.py`) only for a bar that leaves the range.
What the kernel then does is what it would have done had it been called on every bar.
"""

import math
import struct
from collections.abc import Callable
from itertools import islice, repeat
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from neural_trader_tools.engine import account, kernel, step
from neural_trader_tools.engine import orders as o
from neural_trader_tools.engine.faults import StrategyFault
from neural_trader_tools.engine.feature import feature_values
from neural_trader_tools.engine.strategy import Bar, Bars, Command, Fill, Position, Strategy, new_tuple
from neural_trader_tools.engine.surroundings import Surroundings

Floats = NDArray[np.float64]
REPORT_BARS: Final = 2048
"""A long run reports every so many bars, a short one fifty times: a report costs as much as ten fast bars."""
CHUNK: Final = 8 * REPORT_BARS
"""Bars that are Python numbers at once."""
_ROW: Final = struct.Struct(f"{len(o.COLUMNS)}d")
_ACTION, _SIZE, _OCO = o.ACTION, o.SIZE, o.OCO
_ORDER, _TARGET, _DAY = o.ORDER, o.TARGET, o.DAY
_MOST, _MOST_WAITING = o.ORDERS_PER_BAR_MAX, o.WORKING_MAX - 2
_write, _ROW_BYTES = _ROW.pack_into, _ROW.size


class Session:
    """One symbol's bars and account, as a strategy sees them.

    Args:
        frame: Bars with the columns time, open, high, low, close, volume, and dividend where they are paid.
        cash: Cash at the start.
        rules: The kernel's rules, see `account.make_rules`.
        evaluate: Computes a feature over all bars; causal by its own tests and by the look-ahead check.
    """

    __slots__ = (
        "_address", "_at_close", "_begins", "_booked", "_cells", "_chunk", "_closes", "_columns", "_entered",
        "_evaluate", "_expiry", "_fall", "_features", "_first_row", "_frame", "_has_orders", "_is_ruined",
        "_is_watched", "_maintenance", "_marks", "_ordered_bar", "_rise", "_room", "_room_of_fills", "_rows",
        "_times", "_told", "_view", "_waiting", "bars", "cash", "exposure_max", "fill_count", "position",
    )  # fmt: skip
    """More names than Python finds fast without."""

    def __init__(
        self, frame: pl.DataFrame, cash: float, rules: Floats, evaluate: Callable[[str, pl.DataFrame], Floats]
    ) -> None:
        self._frame = frame
        self._columns = bar_columns(frame)
        self._times: NDArray[np.int64] = self._columns["time"].astype(np.int64)
        self.bars = Bars(self._columns)
        self._evaluate = evaluate
        self._features: dict[str, Floats] = {}
        paid = frame["dividend"].to_numpy().astype(np.float64) if "dividend" in frame.columns else np.empty(0)
        self._cells = step.Cells(self._columns, self._times, paid, rules, cash)
        self._address = self._cells.address
        self._told = self._cells.told[: step.FIRST + 1].data  # a view: its list is made twice as fast
        self._view = self._cells.commands.data.cast("B")
        self._room, self._room_of_fills = len(self._cells.commands), _room_of_fills(self._cells)
        self._begins = kernel.needs_begin(rules, paid)
        self._at_close = bool(rules[account.FILL_AT_CLOSE] != 0.0)
        self._maintenance = float(rules[account.MAINTENANCE])
        self.exposure_max = kernel.exposure_max(rules)
        self.cash: float = cash
        self.position, self.fill_count = Position(0.0), 0
        self._marks: list[tuple[int, float, float]] = [(0, cash, 0.0)]  # from a bar on: cash, position
        self._rows = self._entered = 0  # rows of the stream, and how many of them the book knows
        self._first_row, self._ordered_bar = 0, -2
        self._waiting: list[int] = []
        self._booked = 0.0
        self._fall, self._rise, self._expiry = -math.inf, math.inf, math.inf
        self._has_orders = self._is_watched = self._is_ruined = False
        self._closes: list[float] = []
        self._chunk = 0

    @property
    def commands(self) -> Floats:
        """The order stream so far, shape (rows, 14)."""
        return self._cells.commands[: self._rows]

    @property
    def fills(self) -> Floats:
        """Fills, of which `fill_count` rows are written, see `orders.FILL_COLUMNS`."""
        return self._cells.fills

    @property
    def equity(self) -> Floats:
        """Cash plus position at each close."""
        marks = np.array(self._marks, dtype=np.float64)
        last = np.searchsorted(marks[:, 0], np.arange(self._frame.height), side="right") - 1
        return marks[last, 1] + marks[last, 2] * self._columns["close"]

    def run(
        self,
        strategy: Strategy,
        surroundings: Surroundings | None = None,
        report: Callable[[float], None] = lambda _: None,
    ) -> None:
        """Calls the strategy on every bar.

        Args:
            strategy: Configured for this session.
            surroundings: Their clocks say the time of the current bar.
            report: Told the finished part, 0 … 1, every few bars.

        Raises:
            StrategyFault: too many orders; and whatever the strategy raises.
        """
        bars, height, begins = self.bars, self._frame.height, self._begins
        if surroundings is not None:
            surroundings.follow(lambda: int(self._times[max(bars.count - 1, 0)]))
        strategy.on_start()
        on_bar, before, after = strategy.on_bar, step.before, step.after
        seen, is_told = 0, type(strategy).on_fill is not Strategy.on_fill
        every = min(max(height // 50, 1), REPORT_BARS)
        for start in range(0, height, CHUNK):
            end = min(start + CHUNK, height)
            rows = self._read(start, end)
            for part in range(start, end, every):
                report(part / height)
                for bar, count, time, high, low, close in islice(rows, every):
                    if begins or (
                        self._has_orders
                        and not (low > self._fall and high < self._rise and time < self._expiry)
                    ):
                        self._step(before, count - 1)
                    bars.count = count
                    while is_told and seen < self.fill_count:
                        seen += 1
                        strategy.on_fill(self._fill(seen - 1))
                    on_bar(bar)
                    if self._is_watched:
                        held = self.position[0]
                        if (
                            self._at_close and self._has_orders
                        ) or self.cash + held * close <= self._maintenance * abs(held) * close:
                            self._step(after, count - 1)

    def submit(self, command: Command) -> int:
        """Puts a row into the stream; it enters the book when something may happen to it."""
        bar, row = command[0], self._rows
        if bar != self._ordered_bar:
            self._ordered_bar, self._first_row = bar, row
            if bar < 0:
                raise StrategyFault("no_bar_yet", "on_start cannot trade: no bar was seen", "trade in on_bar")
        if row - self._first_row >= _MOST:
            raise StrategyFault(
                "too_many_orders",
                f"more than {o.ORDERS_PER_BAR_MAX} orders on bar {bar}",
                "place fewer orders on one bar",
            )
        if row == self._room:
            self._grow()
        _write(self._view, row * _ROW_BYTES, *command)
        self._rows = row + 1
        self._has_orders = True
        if self._at_close:
            self._is_watched = True
        action = command[_ACTION]
        if action == _ORDER:
            self._waiting.append(row)
            self._narrow(command)
            if command[_OCO] == command[_OCO]:  # not NaN: it may be too late for its group
                self._enter()
        elif action == _TARGET:
            self._fall = math.inf
        elif command[_SIZE] in self._waiting:
            self._waiting.remove(int(command[_SIZE]))
        if self._is_ruined or self._booked + self._rows - self._entered >= _MOST_WAITING:
            self._enter()
        return row

    @property
    def equity_now(self) -> float:
        """Cash plus position at the current bar's close."""
        bar = self.bars.count - 1
        return self.cash if bar < 0 else self.cash + self.position[0] * self._closes[bar - self._chunk]

    def working(self) -> list[int]:
        """Returns the rows of waiting orders; targets and bracket legs are not orders of the strategy."""
        return self._waiting

    def feature(self, expression: str, interval: str | None = None) -> Floats:
        """Returns a feature's values up to and including the current bar."""
        key = expression if interval is None else f"{expression}@{interval}"
        values = self._features.get(key)
        if values is None:
            values = self._features[key] = feature_values(self._evaluate, expression, self._frame, interval)
        return values[: self.bars.count]

    def _read(self, start: int, end: int) -> "zip[tuple[Bar, int, int, float, float, float]]":
        """Returns what the loop needs of some bars: each bar, its number + 1, time, high, low, close."""
        times = self._times[start:end].tolist()
        open_, high, low, close, volume = (
            self._columns[name][start:end].tolist() for name in ("open", "high", "low", "close", "volume")
        )
        self._closes, self._chunk = close, start
        cells = zip(range(start, end), times, open_, high, low, close, volume, strict=True)
        made = map(new_tuple, repeat(Bar), cells)
        return zip(made, range(start + 1, end + 1), times, high, low, close, strict=True)

    def _narrow(self, command: Command) -> None:
        """Narrows the quiet range by an order that has not entered the book; x == x: it is not NaN."""
        _, _, side, _, _, limit, stop, trail, _, _, force, _, _, _ = command
        if trail == trail or force == _DAY:
            self._fall = math.inf  # the kernel knows how far it follows, and when it ends
        elif stop == stop:
            if side > 0.0:
                self._rise = min(self._rise, stop)
            else:
                self._fall = max(self._fall, stop)
        elif limit != limit:
            self._fall = math.inf
        elif side > 0.0:
            if limit > self._fall:
                self._fall = limit
        elif limit < self._rise:
            self._rise = limit

    def _enter(self) -> None:
        self._step(step.enter, self.bars.count - 1)

    def _step(self, play: Callable[[int, int, int, int], None], bar: int) -> None:
        """Steps the kernel, and reads what that left."""
        if self.fill_count > self._room_of_fills:
            self._grow()
        rows = self._rows
        play(bar, self._entered, rows, self._address)
        self._entered = rows
        told: Any = self._told.tolist()
        cash, held, booked, fills, state, self._fall, self._rise, self._expiry, waiting, first = told
        if cash != self.cash or held != self.position[0]:
            self.cash = cash
            self.position = new_tuple(Position, (held,))
            self._marks.append((bar, cash, held))
        self.fill_count, self._booked, self._has_orders = int(fills), booked, booked > 0.0
        if state:
            if state == step.OVERFLOW:
                raise too_many_working()
            self._is_ruined = state == step.RUINED
            self._is_watched = state == step.WATCHED or (self._at_close and booked > 0.0)
        else:
            self._is_ruined, self._is_watched = False, self._at_close and booked > 0.0
        if waiting > 1.0:
            rows_told: list[float] = self._cells.told[step.FIRST : step.FIRST + int(waiting)].tolist()
            self._waiting = [int(row) for row in rows_told]
        elif waiting:
            self._waiting = [int(first)]
        elif self._waiting:
            self._waiting = []

    def _grow(self) -> None:
        self._cells.grow(self._rows, self.fill_count)
        self._view = self._cells.commands.data.cast("B")
        self._room, self._room_of_fills = len(self._cells.commands), _room_of_fills(self._cells)

    def _fill(self, number: int) -> Fill:
        bar, order, quantity, price, commission, reason, position = self._cells.fills[number].tolist()
        return Fill(int(order), int(bar), quantity, price, commission, o.REASONS[int(reason)], position)


def _room_of_fills(cells: step.Cells) -> int:
    """Returns up to how many fills there is room for those of one more bar."""
    return len(cells.fills) - step.FILLS_A_BAR


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
