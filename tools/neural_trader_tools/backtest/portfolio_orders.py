"""Orders of a portfolio: the checked stream of an `on_bars` strategy, and its trusted replay."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from neural_trader_governance.errors import StrategyError
from neural_trader_tools.backtest.portfolio import Panel, check_equity, replay_portfolio
from neural_trader_tools.backtest.prices import Prices
from neural_trader_tools.backtest.replay import Replay, SymbolReplay
from neural_trader_tools.backtest.settings import Settings
from neural_trader_tools.backtest.stream import check_orders, check_weights, forged
from neural_trader_tools.engine import orders as o

if TYPE_CHECKING:
    from neural_trader_tools.engine.books import Events

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
COLUMNS: Final = ("symbol", *o.COLUMNS)
"""Columns of the orders; `bar` is the number of the time of the decision."""


class PortfolioHeader(BaseModel):
    """The JSON beside the columns. Nothing else is allowed."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    kind: Literal["portfolio"]


def warm_up() -> None:
    """Compiles the trusted engines of portfolios, or loads them from their cache; `setup` calls it."""
    line = np.ones(3)
    prices = [Prices(name, np.arange(3, dtype=np.int64), line, line, line, line, line) for name in "AB"]
    panel, rows, weights = Panel.of(prices), np.array([1]), np.array([[0.5, 0.5]])
    order = np.full((1, len(o.COLUMNS)), np.nan)
    order[0, [o.BAR, o.ACTION, o.SIDE, o.SIZE, o.SIZED_BY, o.TIME_IN_FORCE, o.TRAIL_BY]] = 0, 0, 1, 2, 0, 0, 0
    decisions = Decisions(order, np.zeros(1, dtype=np.int64), rows, weights)
    replay_decisions(decisions, panel, Settings(), 1e5)
    replay_portfolio(rows, weights, panel, Settings(), 1e5)


@dataclass(frozen=True, slots=True, eq=False)
class Decisions:
    """What a portfolio strategy decided.

    Attributes:
        commands: Orders, targets and cancellations, (rows, 14); `bar` is the number of a time of the panel.
        symbols: Symbol of each, as a number of the panel.
        rows: Time of each row of weights, ascending.
        weights: Parts of equity, (rows of weights, symbols); NaN leaves alone.
    """

    commands: Floats
    symbols: Ints
    rows: Ints
    weights: Floats


def read_decisions(
    value: JsonValue, columns: Mapping[str, Floats], panel: Panel, exposure_max: float = 1.0
) -> Decisions:
    """Returns the checked answer of a guest.

    Args:
        value: The JSON that the guest returned.
        columns: The arrays that the guest returned.
        panel: The bars that it was given.
        exposure_max: Largest target, fraction and sum of absolute weights.

    Raises:
        StrategyError: `forged_stream`, with the reason.
    """
    try:
        PortfolioHeader.model_validate(value)
    except ValidationError as error:
        raise forged(f"its header is not valid ({error.errors()[0]['msg'][:80]})") from None
    expected = {*COLUMNS, "row", "weight"}
    if set(columns) != expected:
        raise forged(f"it has {len(columns)} columns, not exactly: {', '.join(sorted(expected))}")
    count = len(columns["symbol"])
    for name, array in columns.items():
        is_long = name in ("row", "weight") or len(array) == count
        if array.dtype != np.float64 or array.ndim != 1 or not is_long:
            raise forged(f"column {name} is not a float64 array of the common length")
    times, number = len(panel.times), len(panel.prices)
    if count > o.ORDERS_PER_BAR_MAX * times * number:
        raise forged(f"it has {count} rows, more than {o.ORDERS_PER_BAR_MAX} for each symbol and time")
    rows, weights = check_weights(columns["row"], columns["weight"], times, number, exposure_max)
    commands = check_orders(
        np.column_stack([columns[name] for name in o.COLUMNS]),
        times,
        exposure_max=exposure_max,
        most=o.ORDERS_PER_BAR_MAX * number,
    )
    given = columns["symbol"]
    _refuse(
        ~((given == np.floor(given)) & (given >= 0) & (given < number)), "is of a symbol that is not there"
    )
    symbols = given.astype(np.int64)
    bars = commands[:, o.BAR].astype(np.int64)
    first = np.searchsorted(panel.times, [int(one.times[0]) for one in panel.prices])
    _refuse(bars < first[symbols], "is of a symbol that has no bar yet")
    cancels = commands[:, o.ACTION] == o.CANCEL
    for column, points in ((o.SIZE, cancels), (o.OCO, ~np.isnan(commands[:, o.OCO]))):
        named: Ints = commands[points, column].astype(np.int64)
        other = np.zeros(count, dtype=np.bool_)
        other[points] = symbols[named] != symbols[points]
        _refuse(other, "names an order of another symbol")
    if count and np.unique(bars * number + symbols, return_counts=True)[1].max() > o.ORDERS_PER_BAR_MAX:
        raise forged(f"it has more than {o.ORDERS_PER_BAR_MAX} rows of one symbol at one time")
    return Decisions(commands, symbols, rows, weights)


def replay_decisions(decisions: Decisions, panel: Panel, settings: Settings, cash: float) -> Replay:
    """Plays what a portfolio strategy decided.

    Args:
        decisions: As `read_decisions` returned them.
        panel: The bars, its symbols sorted by name: where an order matters, it is theirs.
        settings: Costs and rules.
        cash: Cash at the start, shared by all symbols.

    Raises:
        StrategyError: too many orders wait at once, or equity is no number.
    """
    from neural_trader_tools.engine import books
    from neural_trader_tools.engine.account import FILLS, REJECTIONS, RUINED
    from neural_trader_tools.engine.guest import rules

    limits = rules(settings.model_dump(mode="python"))
    count, number = len(panel.times), len(panel.prices)
    state = books.make_books(number, cash, limits, panel.dividends)
    asked = int(np.count_nonzero(~np.isnan(decisions.weights)))
    room = books.room(len(decisions.commands), asked, len(panel.symbols), number, limits)
    fills, owners = np.empty((room, len(o.FILL_COLUMNS))), np.empty(room, dtype=np.int64)
    states = np.zeros(len(decisions.commands), dtype=np.int64)
    equity, gross = np.empty(count), np.empty(count)
    fits = books.play_books(
        events_of(panel), decisions.commands, decisions.symbols, decisions.rows, decisions.weights, state,
        fills, owners, states, equity, gross,
    )  # fmt: skip
    if not fits:
        raise StrategyError(
            "too_many_orders",
            f"more than {o.WORKING_MAX - 2} orders of one symbol wait at once",
            "cancel old orders, or use time_in_force='day'",
        )
    check_equity(equity)
    filled = int(state.purse[FILLS])
    fills, owners = fills[:filled], owners[:filled]
    symbols = [
        _symbol_replay(s, decisions, panel, fills[owners == s], states, bool(state.purse[RUINED]))
        for s in range(number)
    ]
    symbols[0] = replace(symbols[0], rejections=int(state.purse[REJECTIONS]))
    return Replay(symbols, panel.times, equity, int(np.count_nonzero(gross > 0.0)), cash)


def events_of(panel: Panel) -> "Events":
    """Returns a panel's bars as `engine/books.py` reads them."""
    from neural_trader_tools.engine.books import Events

    lengths = [len(one) for one in panel.prices]
    return Events(
        times=panel.times,
        starts=panel.starts,
        symbols=panel.symbols,
        bars=panel.bars,
        open=panel.open,
        high=panel.high,
        low=panel.low,
        close=panel.close,
        volume=panel.volume,
        dividends=panel.dividends,
        own_times=np.concatenate([one.times for one in panel.prices]),
        offsets=np.cumsum([0, *lengths]).astype(np.int64),
    )


def _symbol_replay(
    s: int, decisions: Decisions, panel: Panel, fills: Floats, states: Ints, ruined: bool
) -> SymbolReplay:
    """What the portfolio did with one symbol: its orders and weights as rows of its own bars."""
    from neural_trader_tools.engine.trades import round_trips

    prices = panel.prices[s]
    mine = np.flatnonzero(decisions.symbols == s)
    asked = np.flatnonzero(~np.isnan(decisions.weights[:, s]))
    weights = np.full((len(asked), len(o.COLUMNS)), np.nan)
    weights[:, o.BAR], weights[:, o.ACTION], weights[:, o.SIDE] = decisions.rows[asked], o.TARGET, 0
    weights[:, o.SIZE], weights[:, o.SIZED_BY] = decisions.weights[asked, s], o.QUANTITY
    weights[:, o.TIME_IN_FORCE], weights[:, o.TRAIL_BY] = o.GTC, o.DISTANCE
    stacked = np.concatenate([weights, decisions.commands[mine]])
    order = np.argsort(stacked[:, o.BAR], kind="stable")
    commands = stacked[order]
    times = panel.times[commands[:, o.BAR].astype(np.int64)]
    # before its first bar a symbol can only be given a weight
    commands[:, o.BAR] = np.maximum(np.searchsorted(prices.times, times, side="right") - 1, 0)
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    of_weight, of_order = place[: len(asked)], place[len(asked) :]
    for column, points in (
        (o.SIZE, commands[:, o.ACTION] == o.CANCEL),
        (o.OCO, ~np.isnan(commands[:, o.OCO])),
    ):
        named: Ints = commands[points, column].astype(np.int64)
        commands[points, column] = of_order[np.searchsorted(mine, named)]
    own = fills.copy()
    for k, name in enumerate(fills[:, o.FILL_ORDER].astype(np.int64)):
        if name >= 0:
            own[k, o.FILL_ORDER] = of_order[np.searchsorted(mine, name)]
        elif name < -1:
            own[k, o.FILL_ORDER] = of_weight[np.searchsorted(asked, -2 - name)]
    found = np.full(len(commands), o.DONE, dtype=np.int64)
    found[of_order] = states[mine]
    by_weight = fills[:, o.FILL_ORDER] < -1
    found[own[by_weight, o.FILL_ORDER].astype(np.int64)] = o.FILLED
    last = np.searchsorted(own[:, o.FILL_BAR], np.arange(len(prices)), side="right") - 1
    positions = np.where(last >= 0, own[last, o.FILL_POSITION] if len(own) else 0.0, 0.0)
    return SymbolReplay(
        prices=prices,
        commands=commands,
        states=found,
        fills=own,
        trades=round_trips(own, float(prices.close[-1])),
        equity=positions * prices.close,
        rejections=0,
        ruined=ruined,
    )


def _refuse(bad: NDArray[np.bool_], reason: str) -> None:
    if bad.any():
        raise forged(f"row {int(bad.argmax())} {reason}")
