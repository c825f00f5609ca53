"""The floor: the kernel's books stepped time by time around a portfolio strategy, inside the sandbox.

As in `session.py`, its numbers leave the sandbox as decisions only; the trusted replay is what counts.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from neural_trader_tools.engine import account, books, kernel
from neural_trader_tools.engine import orders as o
from neural_trader_tools.engine.faults import StrategyFault, did_you_mean
from neural_trader_tools.engine.feature import COLUMNS, Evaluate, feature_values
from neural_trader_tools.engine.guest import evaluator, load, rules
from neural_trader_tools.engine.portfolio_strategy import Portfolio, PortfolioFill, configure_portfolio
from neural_trader_tools.engine.session import bar_columns
from neural_trader_tools.engine.strategy import Bar, Bars, Command, Position, new_tuple
from neural_trader_tools.engine.surroundings import Surroundings, disturb

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
REPORTS: Final = 50


def run_portfolio(
    arguments: dict[str, Any],
    tables: dict[str, pl.DataFrame],
    report: Callable[[float], None] = lambda _: None,
) -> tuple[dict[str, Any], dict[str, Floats]]:
    """Runs one portfolio strategy with orders. The entry point of the sandbox job.

    Args:
        arguments: As of `guest.run_strategy`, and `symbols`, sorted by name.
        tables: `bars`: time, symbol, open, high, low, close, volume, and dividend where it is paid, sorted by
            time, then symbol.
        report: Told the finished part, 0 … 1.

    Returns:
        `{"kind": "portfolio"}` with the columns `symbol`, those of `orders.COLUMNS` (`bar` is the number of a
        time), `row` and `weight` (as of `weights.run_weights`). Whoever receives it must not trust it.

    Raises:
        StrategyFault: the strategy broke the contract. Whatever the user's code raises passes through.
    """
    frame = tables["bars"]
    settings: Mapping[str, Any] = arguments["settings"]
    kept = disturb(int(arguments["disturbance"])) if "disturbance" in arguments else []
    with Surroundings(int(arguments.get("seed", 0)), frame["time"][0]) as surroundings:
        cls = find_portfolio(load(str(arguments["source"]), Portfolio))
        floor = Floor(
            frame,
            list(arguments["symbols"]),
            float(settings["cash"]),
            rules(settings),
            evaluator(arguments),
        )
        floor.run(configure_portfolio(cls, arguments.get("params", {}), floor), surroundings, report)
    kept.clear()
    return {"kind": "portfolio"}, floor.columns()


def find_portfolio(namespace: Mapping[str, Any]) -> type[Portfolio]:
    """Returns the one class that extends `Strategy` and is not extended.

    Raises:
        StrategyFault: there is none, or more than one.
    """
    classes = [
        value
        for value in dict.fromkeys(v for v in namespace.values() if isinstance(v, type))
        if issubclass(value, Portfolio) and value.__module__ == "strategy"
    ]
    leaves = [c for c in classes if not any(other is not c and issubclass(other, c) for other in classes)]
    if len(leaves) != 1:
        raise StrategyFault(
            "several_strategies" if leaves else "no_strategy",
            f"the file defines {len(leaves)} classes with on_bars that extend Strategy",
            "keep one of them" if leaves else "strategy_get_api topic 'portfolio' shows one",
        )
    return leaves[0]


class Floor:
    """Bars of many symbols and one purse, as a portfolio strategy sees them.

    Args:
        frame: See `run_portfolio`.
        symbols: Their names, in order; the frame's symbols are these.
        cash: Cash at the start.
        limits: The kernel's rules, see `account.make_rules`.
        evaluate: Computes a feature over all bars of one symbol.
    """

    def __init__(
        self, frame: pl.DataFrame, symbols: list[str], cash: float, limits: Floats, evaluate: Evaluate
    ) -> None:
        self.symbols, self.numbers = symbols, {name: number for number, name in enumerate(symbols)}
        self.exposure_max = kernel.exposure_max(limits)
        self._evaluate = evaluate
        self._features: dict[tuple[str, str, str | None], Floats] = {}
        self._events, self._frames = events_of(frame, symbols)
        self._at_close = bool(limits[account.FILL_AT_CLOSE] != 0.0)
        self._state = books.make_books(len(symbols), cash, limits, self._events.dividends)
        self._fills, self._owners = np.empty((256, len(o.FILL_COLUMNS))), np.empty(256, dtype=np.int64)
        self._commands, self._rows = np.empty((256, len(o.COLUMNS))), 0
        self._row_symbols, self._states = np.empty(256, dtype=np.int64), np.zeros(256, dtype=np.int64)
        self._entered = 0
        self._counts: dict[int, int] = {}
        self._targeted: set[int] = set()
        self._weights: list[Floats] = []
        self._weight_times: list[int] = []
        self._waiting: list[int] = []
        self.time = -1
        """Number of the current time; -1 before the first."""
        self.desks: list[Desk] = [
            Desk(self, number, bar_columns(frame)) for number, frame in enumerate(self._frames)
        ]

    def run(
        self,
        strategy: Portfolio,
        surroundings: Surroundings,
        report: Callable[[float], None] = lambda _: None,
    ) -> None:
        """Calls the strategy at every time at which a symbol has a bar.

        Raises:
            StrategyFault: too many orders; and whatever the strategy raises.
        """
        events, state = self._events, self._state
        surroundings.follow(lambda: int(events.times[max(self.time, 0)]))
        strategy.on_start()
        is_told = type(strategy).on_fill is not Portfolio.on_fill
        times, starts = events.times.tolist(), events.starts.tolist()
        every, seen = max(len(times) // REPORTS, 1), 0
        for t in range(len(times)):
            if t % every == 0:
                report(t / len(times))
            self._make_room(starts[t + 1] - starts[t])
            books.before(t, events, state, self._fills, self._owners, self._states)
            self.time = t
            bars = self._bars(starts[t], starts[t + 1])
            self._counts.clear()
            self._targeted.clear()
            while is_told and seen < int(state.purse[account.FILLS]):
                strategy.on_fill(self._fill(seen))
                seen += 1
            strategy.on_bars(bars)
            self._enter()
            self._make_room(starts[t + 1] - starts[t])
            books.after(t, events, state, self._fills, self._owners, self._states)
            if state.accounts[:, account.OVERFLOW].any():
                raise StrategyFault(
                    "too_many_orders",
                    f"more than {o.WORKING_MAX - 2} orders of one symbol are waiting",
                    "cancel old orders, or use time_in_force='day'",
                )

    def columns(self) -> dict[str, Floats]:
        """Returns the decisions as columns."""
        count = self._rows
        weights = np.array(self._weights).ravel() if self._weights else np.empty(0)
        return {
            "symbol": self._row_symbols[:count].astype(np.float64),
            **{name: self._commands[:count, place].copy() for place, name in enumerate(o.COLUMNS)},
            "row": np.array(self._weight_times, dtype=np.float64),
            "weight": weights,
        }

    @property
    def fills(self) -> tuple[Floats, Ints]:
        """Fills so far, and the symbol of each."""
        count = int(self._state.purse[account.FILLS])
        return self._fills[:count], self._owners[:count]

    @property
    def cash(self) -> float:
        """Cash."""
        return float(self._state.purse[account.CASH])

    @property
    def equity(self) -> float:
        """Cash and every position at its last close."""
        held = self._state.positions * self._state.marks
        return self.cash + float(held.sum())

    def number_of(self, symbol: str) -> int:
        """Returns a symbol's number.

        Raises:
            StrategyFault: `unknown_symbol`.
        """
        number = self.numbers.get(symbol)
        if number is None:
            raise StrategyFault(
                "unknown_symbol",
                f"{symbol!r:.40} is not among the symbols of this run",
                did_you_mean(str(symbol), self.symbols),
            )
        return number

    def held(self, number: int) -> Position:
        """Returns the position of one symbol."""
        return Position(float(self._state.positions[number]))

    def submit(self, number: int, command: Command) -> int:
        """Puts a row into the stream and returns its number; the books take it after the decision."""
        symbol = self.symbols[number]
        if self.time < 0 or self.desks[number].bars.count == 0:
            raise StrategyFault("no_bar_yet", f"{symbol} has no bar yet", "trade what has a bar")
        count = self._counts[number] = self._counts.get(number, 0) + 1
        if count > o.ORDERS_PER_BAR_MAX:
            raise StrategyFault(
                "too_many_orders",
                f"more than {o.ORDERS_PER_BAR_MAX} orders of {symbol} at one time",
                "place fewer orders on one bar",
            )
        row = self._rows
        if row == len(self._commands):
            self._commands = np.concatenate([self._commands, np.empty_like(self._commands)])
            self._row_symbols = np.concatenate([self._row_symbols, np.zeros_like(self._row_symbols)])
            self._states = np.concatenate([self._states, np.zeros_like(self._states)])
        action = command[o.ACTION]
        for named in (command[o.OCO], command[o.SIZE] if action == o.CANCEL else np.nan):
            if named == named and self._row_symbols[int(named)] != number:
                other = self.symbols[self.symbol_of(int(named))]
                raise StrategyFault(
                    "invalid_order",
                    f"an order of {symbol} names one of {other}",
                    "name one of the same symbol",
                )
        self._commands[row] = command
        self._commands[row, o.BAR] = self.time
        self._row_symbols[row] = number
        self._rows = row + 1
        if action == o.ORDER:
            self._waiting.append(row)
        elif action == o.TARGET:
            self._targeted.add(number)
        elif self._states[int(command[o.SIZE])] == o.WORKING:
            self._states[int(command[o.SIZE])] = o.CANCELED  # as `self.orders` tells it until it is done
        return row

    def rebalance(self, weights: Mapping[int, float]) -> None:
        """Takes weights by symbol's number; those of the same time are put together."""
        if self.time < 0:
            raise StrategyFault("no_bar_yet", "on_start cannot trade: no bar was seen", "trade in on_bars")
        if not self._weight_times or self._weight_times[-1] != self.time:
            self._weight_times.append(self.time)
            self._weights.append(np.full(len(self.symbols), np.nan))
        row = self._weights[-1]
        for number, weight in weights.items():
            if number in self._targeted:
                raise StrategyFault(
                    "invalid_order",
                    f"{self.symbols[number]} is given a target and a weight at one time",
                    "give one of them",
                )
            row[number] = weight
        gross = float(np.nansum(np.abs(row)))
        if not gross <= self.exposure_max * (1.0 + 1e-9):
            raise StrategyFault(
                "target_out_of_range",
                f"the weights sum to {gross:.6g} in absolute value, above {self.exposure_max:g}",
                "divide them by their sum, or ask for more leverage with a smaller margin",
            )

    def working(self) -> list[int]:
        """Returns the rows of the orders that wait."""
        self._waiting = [row for row in self._waiting if self._states[row] == o.WORKING]
        return self._waiting

    @property
    def version(self) -> tuple[int, int]:
        """Changes whenever the orders that wait may have changed."""
        return self.time, self._rows

    def symbol_of(self, row: int) -> int:
        """Returns the number of the symbol of a row."""
        return int(self._row_symbols[row])

    def feature(self, number: int, expression: str, interval: str | None) -> Floats:
        """Returns a feature's values of one symbol, up to its current bar."""
        key = (self.symbols[number], expression, interval)
        values = self._features.get(key)
        if values is None:
            values = feature_values(self._evaluate, expression, self._frames[number], interval)
            self._features[key] = values
        return values[: self.desks[number].bars.count]

    def _bars(self, first: int, last: int) -> dict[str, Bar]:
        events, bars = self._events, dict[str, Bar]()
        time = int(events.times[self.time])
        columns = (events.symbols, events.bars, *(getattr(events, name) for name in COLUMNS))
        cells = zip(*(column[first:last].tolist() for column in columns), strict=True)
        for number, bar, open_, high, low, close, volume in cells:
            desk = self.desks[int(number)]
            desk.bars.count = bar + 1
            bars[self.symbols[number]] = new_tuple(Bar, (bar, time, open_, high, low, close, volume))
        return bars

    def _enter(self) -> None:
        if self._weight_times and self._weight_times[-1] == self.time:
            books.weigh(len(self._weights) - 1, self._weights[-1], self._state, self._states)
        if self._rows > self._entered:
            books.order(
                self._entered, self._rows, self._commands, self._row_symbols, self._events, self._state,
                self._states,
            )  # fmt: skip
            self._entered = self._rows

    def _make_room(self, bars: int) -> None:
        """Makes room for what one step can fill: each waiting order and its legs, weights, liquidation."""
        count = int(self._state.purse[account.FILLS])
        need = count + 4 * int(self._state.accounts[:, account.BOOKED].sum()) + 3 * bars
        while need > len(self._fills):
            self._fills = np.concatenate([self._fills, np.empty_like(self._fills)])
            self._owners = np.concatenate([self._owners, np.zeros_like(self._owners)])

    def _fill(self, number: int) -> PortfolioFill:
        bar, order, quantity, price, commission, reason, position = self._fills[number].tolist()
        symbol = self.symbols[int(self._owners[number])]
        row = max(int(order), -1)
        cells = (symbol, row, int(bar), quantity, price, commission, o.REASONS[int(reason)], position)
        return PortfolioFill(*cells)


class Desk:
    """What the orders of one symbol talk to; see `strategy.Desk`."""

    def __init__(self, floor: Floor, number: int, columns: dict[str, NDArray[Any]]) -> None:
        self._floor, self._number = floor, number
        self.bars = Bars(columns)
        self.exposure_max = floor.exposure_max

    @property
    def cash(self) -> float:
        """The purse."""
        return self._floor.cash

    @property
    def position(self) -> Position:
        """What is held of this symbol."""
        return self._floor.held(self._number)

    @property
    def equity_now(self) -> float:
        """Equity of the whole portfolio."""
        return self._floor.equity

    def submit(self, command: Command) -> int:
        """Puts a row into the order stream and returns its number."""
        return self._floor.submit(self._number, command)

    def working(self) -> list[int]:
        """Returns the rows of this symbol's orders that are waiting."""
        return [row for row in self._floor.working() if self._floor.symbol_of(row) == self._number]

    def feature(self, expression: str, interval: str | None = None) -> Floats:
        """Returns a feature's values up to and including the symbol's current bar."""
        return self._floor.feature(self._number, expression, interval)


def events_of(frame: pl.DataFrame, symbols: list[str]) -> tuple[books.Events, list[pl.DataFrame]]:
    """Returns the bars as the kernel's books and as each symbol's features read them."""
    frame = frame.with_columns(pl.col("symbol").cast(pl.Enum(symbols)))
    codes = frame["symbol"].to_physical().to_numpy().astype(np.int64)
    moments = frame["time"].dt.cast_time_unit("us").to_physical().to_numpy().astype(np.int64)
    times, first = np.unique(moments, return_index=True)
    by_symbol = np.argsort(codes, kind="stable")
    lengths = np.bincount(codes, minlength=len(symbols))
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    bars = np.empty(len(codes), dtype=np.int64)
    bars[by_symbol] = np.arange(len(codes)) - np.repeat(offsets[:-1], lengths)
    values: dict[str, Floats] = {name: np.array(frame[name].to_numpy(), dtype=np.float64) for name in COLUMNS}
    paid = (
        np.array(frame["dividend"].to_numpy(), dtype=np.float64)
        if "dividend" in frame.columns
        else np.empty(0)
    )
    events = books.Events(
        times=times,
        starts=np.append(first, len(moments)).astype(np.int64),
        symbols=codes,
        bars=bars,
        **values,
        dividends=paid,
        own_times=moments[by_symbol],
        offsets=offsets,
    )
    ordered = frame.drop("symbol")[by_symbol]
    frames = [
        ordered.slice(int(start), int(length)) for start, length in zip(offsets[:-1], lengths, strict=True)
    ]
    return events, frames


def warm_up() -> None:
    """Compiles the books (or loads them from the cache) before the first portfolio needs them."""
    line, zeros = np.ones(2), np.zeros(2, dtype=np.int64)
    times = np.arange(2, dtype=np.int64)
    events = books.Events(
        times, np.arange(3, dtype=np.int64), zeros, times, line, line, line, line, line, np.empty(0), times,
        np.array([0, 2], dtype=np.int64),
    )  # fmt: skip
    state = books.make_books(1, 1.0, kernel.make_rules(), events.dividends)
    fills, owners, states = np.empty((9, len(o.FILL_COLUMNS))), np.zeros(9, dtype=np.int64), zeros
    command = np.full((1, len(o.COLUMNS)), np.nan)
    command[0, [o.BAR, o.ACTION, o.SIDE, o.SIZE, o.SIZED_BY, o.TIME_IN_FORCE]] = 0, o.TARGET, 0, 1, 0, o.GTC
    books.before(0, events, state, fills, owners, states)
    books.weigh(0, np.array([1.0]), state, states)
    books.order(0, 1, command, zeros[:1], events, state, states)
    books.after(0, events, state, fills, owners, states)
