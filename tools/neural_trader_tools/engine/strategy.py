"""`Strategy`: the class that users extend; the same object they read their account from.

A strategy sees bars up to and including the one that just closed. What it asks for becomes a row of the
order stream; what is filled is decided by the kernel, in the sandbox as outside.
"""

import math
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from neural_trader_tools.engine import orders as o
from neural_trader_tools.engine.faults import StrategyFault
from neural_trader_tools.engine.parameters import bind, class_parameters
from neural_trader_tools.engine.surroundings import EPOCH

Floats = NDArray[np.float64]
Command = tuple[float, ...]
"""One row of the order stream, see `orders.COLUMNS`; the desk fills the bar in."""
NAN, INF = math.nan, math.inf
_SIZE_MIN, _SIZE_MAX = o.SIZE_MIN, o.SIZE_MAX
_GTC, _DAY, _DISTANCE, _PART = o.GTC, o.DAY, o.DISTANCE, o.PART
new_tuple: Final = cast("Callable[[type, Any], Any]", tuple.__new__)  # pyright: ignore[reportUnknownMemberType]
"""Makes a named tuple of a tuple without a call of Python code; it must have the right length."""


class _Bar(NamedTuple):
    number: int
    time_us: int
    open: float
    high: float
    low: float
    close: float
    volume: float


class Bar(_Bar):
    """One finished bar. `time` is its open (UTC), `number` counts from 0."""

    __slots__ = ()

    @property
    def time(self) -> datetime:
        """The open, made of `time_us` (microseconds since 1970) when it is asked for."""
        return EPOCH + timedelta(microseconds=self.time_us)


class Fill(NamedTuple):
    """One execution. `quantity` is signed: negative sells; `reason` is one of `orders.REASONS`."""

    order_id: int
    bar: int
    quantity: float
    price: float
    commission: float
    reason: str
    position: float


class Position(NamedTuple):
    """What is held; negative when short."""

    quantity: float


class Order(NamedTuple):
    """One order: its row in the stream, and what it asked for."""

    order_id: int
    side: str
    quantity: float | None
    fraction: float | None
    limit: float | None
    stop: float | None
    trail: float | None
    group: int = -1


class Bars:
    """Columns up to and including the current bar: `self.bars.close[-1]` is the latest close."""

    def __init__(self, columns: Mapping[str, NDArray[Any]]) -> None:
        self._columns = columns
        self.count = 0
        """Bars so far; set by the desk."""

    def __len__(self) -> int:
        return self.count

    @property
    def time(self) -> NDArray[np.datetime64]:
        """Opens of the bars in time, `datetime64[us]`, UTC."""
        return self._columns["time"][: self.count]

    @property
    def open(self) -> Floats:
        """Opening prices."""
        return self._columns["open"][: self.count]

    @property
    def high(self) -> Floats:
        """Highest prices."""
        return self._columns["high"][: self.count]

    @property
    def low(self) -> Floats:
        """Lowest prices."""
        return self._columns["low"][: self.count]

    @property
    def close(self) -> Floats:
        """Closing prices."""
        return self._columns["close"][: self.count]

    @property
    def volume(self) -> Floats:
        """Volumes, in units."""
        return self._columns["volume"][: self.count]


class Desk(Protocol):
    """What a running strategy talks to; `session.Session` is the one there is."""

    bars: Bars
    exposure_max: float
    cash: float
    position: Position

    @property
    def equity_now(self) -> float:
        """Cash plus position at the current bar's close."""
        ...

    def submit(self, command: Command) -> int:
        """Puts a row into the order stream and returns its number."""
        ...

    def working(self) -> list[int]:
        """Returns the rows of the orders that are waiting."""
        ...

    def feature(self, expression: str, interval: str | None = None) -> Floats:
        """Returns a feature's values up to and including the current bar."""
        ...


class Strategy:
    """Base class of strategies. Annotated class attributes are the parameters.

    Overwrite `on_bar`, and `on_start` and `on_fill` where needed. `on_fill` is called before `on_bar`, for
    every fill since the last call.
    """

    _desk: Desk
    _orders: dict[int, Order]
    _last_target: float | None

    def on_start(self) -> None:
        """Called once, before the first bar."""

    def on_bar(self, bar: Bar) -> None:
        """Called after each bar has closed."""
        raise StrategyFault("no_on_bar", f"{type(self).__name__} has no on_bar", "define on_bar(self, bar)")

    def on_fill(self, fill: Fill) -> None:
        """Called after each fill."""

    @property
    def bars(self) -> Bars:
        """Prices up to and including the current bar."""
        return self._desk.bars

    @property
    def cash(self) -> float:
        """Cash, in the currency of the bars."""
        return self._desk.cash

    @property
    def position(self) -> Position:
        """What is held."""
        return self._desk.position

    @property
    def equity(self) -> float:
        """Cash plus position at the current bar's close."""
        return self._desk.equity_now

    @property
    def orders(self) -> list[Order]:
        """Orders that are waiting to be filled."""
        return [self._orders[row] for row in self._desk.working()]

    def feature(self, expression: str, interval: str | None = None) -> Floats:
        """Returns a feature such as `sma(20)` up to and including the current bar; NaN while it warms up.

        In `on_start` it declares what `on_bar` will read (and computes it); the array is empty there. With an
        interval such as `1d` it is that of longer bars: one value for each bar, of the last longer bar that
        was over before it (`engine/interval.py`).
        """
        return self._desk.feature(expression, interval)

    def buy(
        self,
        *,
        quantity: float | None = None,
        fraction: float | None = None,
        limit: float | None = None,
        stop: float | None = None,
        trail: float | None = None,
        take_profit: float | None = None,
        stop_loss: float | None = None,
        trail_loss: float | None = None,
        trail_by: str = "distance",
        oco: Order | None = None,
        time_in_force: str = "gtc",
    ) -> Order:
        """Buys units (`quantity`) or a part of equity (`fraction`, 0 … 1, commission included).

        Args:
            quantity: Units, > 0.
            fraction: Part of equity at the fill, in (0, 1]; up to 1 / margin where there is leverage.
            limit: Price not to exceed; fills at min(open, limit).
            stop: Price from which on to buy; with `limit` a stop-limit.
            trail: Distance of a trailing stop above the lowest price of finished bars; not with limit or
                stop. To protect what this order buys, use trail_loss.
            take_profit: Price at which the filled position is closed with profit.
            stop_loss: Price at which the filled position is closed with loss.
            trail_loss: Distance at which the stop-loss follows the highest price since the fill; together
                with stop_loss the tighter of both counts.
            trail_by: What trail and trail_loss are: a `distance` in price, or a `part` of it such as 0.05.
            oco: An order that waits: as soon as a part of one of the two is filled, the other is canceled.
                Further orders may join; they all cancel each other.
            time_in_force: `gtc`, or `day`: until the end of the first day on which it could fill.

        Raises:
            StrategyFault: `invalid_order`, `unsupported_order` or `too_many_orders`.
        """
        return self._order(
            1.0, quantity, fraction, limit, stop, trail, take_profit, stop_loss, trail_loss, trail_by, oco,
            time_in_force,
        )  # fmt: skip

    def sell(
        self,
        *,
        quantity: float | None = None,
        fraction: float | None = None,
        limit: float | None = None,
        stop: float | None = None,
        trail: float | None = None,
        take_profit: float | None = None,
        stop_loss: float | None = None,
        trail_loss: float | None = None,
        trail_by: str = "distance",
        oco: Order | None = None,
        time_in_force: str = "gtc",
    ) -> Order:
        """Sells, and goes short beyond what is held; arguments as in `buy`, mirrored."""
        return self._order(
            -1.0, quantity, fraction, limit, stop, trail, take_profit, stop_loss, trail_loss, trail_by, oco,
            time_in_force,
        )  # fmt: skip

    def target(self, exposure: float) -> None:
        """Moves the position to `exposure` x equity; NaN keeps. Trades when the target changes.

        The range is -1 … 1; with leverage -1 / margin … 1 / margin.
        """
        if math.isnan(exposure):
            return
        most = self._desk.exposure_max
        if not -most <= exposure <= most:
            raise StrategyFault(
                "target_out_of_range",
                f"target {exposure!r:.30} lies outside -{most:g} … {most:g}",
                "more needs a margin below 1",
            )
        exposure = 0.0 if abs(exposure) < o.SIZE_MIN else exposure
        if self._last_target is None or exposure != self._last_target:
            self._last_target = float(exposure)
            self._desk.submit((self._desk.bars.count - 1, o.TARGET, 0.0, float(exposure), *_NO_PRICES))

    def close(self) -> None:
        """Closes the whole position; orders that wait keep waiting."""
        if self._desk.position[0] != 0.0 or self._last_target != 0.0:
            self._desk.submit((self._desk.bars.count - 1, o.TARGET, 0.0, 0.0, *_NO_PRICES))
        self._last_target = 0.0

    def cancel(self, order: Order) -> None:
        """Cancels an order, or what is left of it: its take-profit and stop-loss once it has filled."""
        self._desk.submit((self._desk.bars.count - 1, o.CANCEL, 0.0, float(order.order_id), *_NO_PRICES))

    def _order(
        self,
        side: float,
        quantity: float | None,
        fraction: float | None,
        limit: float | None,
        stop: float | None,
        trail: float | None,
        take_profit: float | None,
        stop_loss: float | None,
        trail_loss: float | None,
        trail_by: str,
        oco: Order | None,
        time_in_force: str,
    ) -> Order:
        if (quantity is None) == (fraction is None):
            raise _invalid("give either quantity= (units) or fraction= (of equity)")
        if fraction is None:
            size = _positive("quantity", quantity)
            if size > _SIZE_MAX:
                raise _invalid(f"quantity {size:.6g} exceeds {o.SIZE_MAX:g}")
        else:
            size, most = _positive("fraction", fraction), self._desk.exposure_max
            if size > most:
                raise _invalid(f"fraction {size} exceeds {most:g}; leverage needs a margin below 1")
        if size < _SIZE_MIN:
            raise _invalid(f"size {size:.6g} is below {o.SIZE_MIN:g}")
        at_limit = at_stop = profit = loss = NAN
        if limit is not None:
            at_limit = limit if type(limit) is float and 0.0 < limit < INF else _positive("limit", limit)
        if stop is not None:
            at_stop = stop if type(stop) is float and 0.0 < stop < INF else _positive("stop", stop)
        if take_profit is not None:
            is_plain = type(take_profit) is float and 0.0 < take_profit < INF
            profit = take_profit if is_plain else _positive("take_profit", take_profit)
        if stop_loss is not None:
            is_plain = type(stop_loss) is float and 0.0 < stop_loss < INF
            loss = stop_loss if is_plain else _positive("stop_loss", stop_loss)
        behind = loss_behind = NAN
        if trail is not None or trail_loss is not None or trail_by != "distance":
            behind = NAN if trail is None else _positive("trail", trail)
            loss_behind = NAN if trail_loss is None else _positive("trail_loss", trail_loss)
            _check_trails(trail, trail_loss, trail_by, has_price=limit is not None or stop is not None)
        # NaN compares false, so that only levels that are given can be in the wrong order
        if (
            (loss >= at_limit or at_limit >= profit or loss >= profit)
            if side > 0.0
            else (loss <= at_limit or at_limit <= profit or loss <= profit)
        ):
            levels = [price for price in (stop_loss, limit, take_profit) if price is not None]
            rising = "stop_loss < limit < take_profit" if side > 0 else "take_profit < limit < stop_loss"
            raise _invalid(f"levels {levels} do not satisfy {rising}")
        if time_in_force not in ("gtc", "day"):
            raise _invalid(f"time_in_force {time_in_force!r:.20} is neither 'gtc' nor 'day'")
        self._last_target = None
        desk = self._desk
        number = desk.submit(
            (
                desk.bars.count - 1, 0.0, side, size, 0.0 if fraction is None else 1.0,
                at_limit, at_stop, behind, profit, loss,
                _GTC if time_in_force == "gtc" else _DAY,
                NAN if oco is None else oco.group,
                loss_behind,
                _DISTANCE if trail_by == "distance" else _PART,
            )
        )  # fmt: skip
        group = number if oco is None else oco.group
        cells = (number, "buy" if side > 0 else "sell", quantity, fraction, limit, stop, trail, group)
        order: Order = new_tuple(Order, cells)
        self._orders[number] = order
        return order


def configure(cls: type[Strategy], params: Mapping[str, Any], desk: Desk) -> Strategy:
    """Returns an instance with its parameters set, attached to a desk.

    Raises:
        StrategyFault: `unknown_parameter`, `invalid_parameter` or `missing_parameter`.
    """
    values = bind(class_parameters(cls, Strategy), params)
    strategy = cls()
    for name, value in values.items():
        setattr(strategy, name, value)
    attach: Callable[[str, Any], None] = strategy.__setattr__
    attach("_desk", desk)
    attach("_orders", {})
    attach("_last_target", 0.0)
    return strategy


_NO_PRICES: Final = (o.QUANTITY, NAN, NAN, NAN, NAN, NAN, o.GTC, NAN, NAN, o.DISTANCE)
"""What follows the size in the row of a target or a cancellation."""


def _check_trails(trail: float | None, trail_loss: float | None, trail_by: str, *, has_price: bool) -> None:
    if trail_by not in ("distance", "part"):
        raise _invalid(f"trail_by {trail_by!r:.20} is neither 'distance' nor 'part'")
    if trail_by == "part" and max(trail or 0.0, trail_loss or 0.0) >= 1.0:
        raise _invalid("with trail_by='part', trail and trail_loss are below 1, such as 0.05")
    if trail is not None and has_price:
        raise StrategyFault(
            "unsupported_order",
            "trail= is a trailing stop by itself and takes no limit= or stop=",
            "protect what a limit or stop order buys with trail_loss=, or place two orders with oco=",
        )


def _invalid(what: str) -> StrategyFault:
    return StrategyFault("invalid_order", what, "strategy_get_api topic 'orders' shows every form")


def _positive(name: str, value: float | None) -> float:
    if type(value) is float and 0.0 < value < INF:
        return value
    if type(value) is int and value > 0:
        return float(value)
    if value is None or isinstance(value, bool) or not 0.0 < float(value) < math.inf:
        raise _invalid(f"{name} {value!r:.30} is not a finite number above 0")
    return float(value)
