"""`Strategy` of a portfolio: the class that a file with `on_bars` extends; orders name their symbol.

Each symbol has a `Strategy` of its own behind it, so that orders are checked and mean what they mean there.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from neural_trader_tools.engine.faults import StrategyFault
from neural_trader_tools.engine.parameters import bind, class_parameters
from neural_trader_tools.engine.strategy import Bar, Bars, Order, Position, Strategy, configure

if TYPE_CHECKING:
    from neural_trader_tools.engine.floor import Floor

Floats = NDArray[np.float64]
Value = TypeVar("Value")


class PortfolioFill(NamedTuple):
    """One execution. `order_id` is -1 for weights and liquidations; the rest as in `strategy.Fill`."""

    symbol: str
    order_id: int
    bar: int
    quantity: float
    price: float
    commission: float
    reason: str
    position: float


class BySymbol(Mapping[str, Value]):
    """Something of each symbol, made when it is asked for. All symbols are in it."""

    def __init__(self, floor: "Floor", get: Callable[[int], Value]) -> None:
        self._floor, self._get = floor, get

    def __getitem__(self, symbol: str) -> Value:
        return self._get(self._floor.number_of(symbol))

    def __iter__(self) -> Iterator[str]:
        return iter(self._floor.symbols)

    def __len__(self) -> int:
        return len(self._floor.symbols)


class Portfolio:
    """Base class of portfolio strategies. Annotated class attributes are the parameters.

    Overwrite `on_bars`, and `on_start` and `on_fill` where needed. `on_fill` is called before `on_bars`, for
    every fill since the last call.
    """

    _floor: "Floor"
    _hands: list[Strategy]
    _placed: dict[int, Order]
    _told: tuple[int, int]
    _found: "defaultdict[str, list[Order]]"

    def on_start(self) -> None:
        """Called once, before the first bar."""

    def on_bars(self, bars: Mapping[str, Bar]) -> None:
        """Called after the bars of each time have closed, with those that there are, by symbol."""
        raise StrategyFault(
            "no_on_bar", f"{type(self).__name__} has no on_bars", "define on_bars(self, bars)"
        )

    def on_fill(self, fill: PortfolioFill) -> None:
        """Called after each fill."""

    @property
    def symbols(self) -> list[str]:
        """Every symbol of this run, by name; one that had no bar yet cannot be ordered."""
        return list(self._floor.symbols)

    @property
    def bars(self) -> Mapping[str, Bars]:
        """Prices of each symbol up to and including its last bar: `self.bars["AAPL"].close[-1]`."""
        desks = self._floor.desks
        return BySymbol(self._floor, lambda number: desks[number].bars)

    @property
    def positions(self) -> Mapping[str, Position]:
        """What is held of each symbol."""
        return BySymbol(self._floor, self._floor.held)

    @property
    def cash(self) -> float:
        """Cash, in the currency of the bars."""
        return self._floor.cash

    @property
    def equity(self) -> float:
        """Cash and every position at its last close."""
        return self._floor.equity

    @property
    def orders(self) -> Mapping[str, list[Order]]:
        """Orders that are waiting to be filled, by symbol; an empty list where there are none."""
        if self._told != self._floor.version:
            self._told, self._found = self._floor.version, defaultdict[str, list[Order]](list)
            for row in self._floor.working():
                self._found[self._floor.symbols[self._floor.symbol_of(row)]].append(self._placed[row])
        return self._found

    def feature(self, symbol: str, expression: str, interval: str | None = None) -> Floats:
        """Returns a feature of one symbol up to and including its last bar; see `Strategy.feature`."""
        return self._floor.feature(self._floor.number_of(symbol), expression, interval)

    def buy(self, symbol: str, **order: Any) -> Order:
        """Buys; everything after the symbol is as in `Strategy.buy`. A fraction is of the whole equity."""
        return self._keep(self._hand(symbol).buy(**order))

    def sell(self, symbol: str, **order: Any) -> Order:
        """Sells, and goes short beyond what is held; arguments as in `buy`, mirrored."""
        return self._keep(self._hand(symbol).sell(**order))

    def target(self, symbol: str, exposure: float) -> None:
        """Moves one position to `exposure` x equity; trades when the target changes."""
        self._hand(symbol).target(exposure)

    def close(self, symbol: str) -> None:
        """Closes the whole position of one symbol; orders that wait keep waiting."""
        self._hand(symbol).close()

    def cancel(self, order: Order) -> None:
        """Cancels an order, or what is left of it: its take-profit and stop-loss once it has filled."""
        self._hands[self._floor.symbol_of(order.order_id)].cancel(order)

    def rebalance(self, weights: Mapping[str, float]) -> None:
        """Moves the symbols named to parts of equity, all together at the next open; NaN keeps.

        The absolute weights sum to 1 at most, with leverage to 1 / margin. Symbols that are not named are
        left alone. The same weight again restores what prices have moved.
        """
        found: dict[int, float] = {}
        for symbol, weight in weights.items():
            number, value = self._floor.number_of(symbol), float(weight)
            if value == value:  # not NaN
                found[number] = value
                self._hands[number].__dict__["_last_target"] = None
        if found:
            self._floor.rebalance(found)

    def _hand(self, symbol: str) -> Strategy:
        return self._hands[self._floor.number_of(symbol)]

    def _keep(self, order: Order) -> Order:
        self._placed[order.order_id] = order
        return order


def configure_portfolio(cls: type[Portfolio], params: Mapping[str, Any], floor: "Floor") -> Portfolio:
    """Returns an instance with its parameters set, attached to a floor.

    Raises:
        StrategyFault: `unknown_parameter`, `invalid_parameter` or `missing_parameter`.
    """
    values = bind(class_parameters(cls, Portfolio), params)
    strategy = cls()
    for name, value in values.items():
        setattr(strategy, name, value)
    attach: Callable[[str, Any], None] = strategy.__setattr__
    attach("_floor", floor)
    attach("_hands", [configure(Strategy, {}, cast("Any", desk)) for desk in floor.desks])
    attach("_placed", {})
    attach("_told", (-2, 0))
    return strategy
