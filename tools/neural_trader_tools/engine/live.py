"""A live session: one bar a message, and the account as the desk tells it. The stream's side in the sandbox.

A message is `{"bar": {number, time_us, open, high, low, close, volume}, "fills": [{order_id, bar, quantity,
price, commission, reason, position}], "cash", "position", "working": [order_id]}`; the answer is
`{"kind": "orders", "commands": [...]}` or `{"kind": "signals", "target": number or null}`. The models of
both are in `backtest/live.py`, which validates them on the trusted side.

The arrays grow as bars arrive, so a strategy cannot look at what was not sent, by whatever trick.
"""

import math
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from neural_trader_tools.engine import orders as o
from neural_trader_tools.engine.faults import StrategyFault
from neural_trader_tools.engine.feature import feature_values
from neural_trader_tools.engine.strategy import Bar, Bars, Command, Fill, Position, Strategy
from neural_trader_tools.engine.surroundings import EPOCH, Surroundings

Floats = NDArray[np.float64]
Message = dict[str, Any]
VALUES: Final = ("open", "high", "low", "close", "volume")
ACTIONS: Final = ("order", "target", "cancel")
PRICES: Final = o.COLUMNS[o.LIMIT : o.STOP_LOSS + 1]
EXPOSURE_MAX: Final = 1.0


class LiveSession:
    """The `Desk` of a strategy that is fed bar by bar.

    Args:
        history: Bars that closed before the first message; `on_bar` is not called for them.
        evaluate: Computes a feature over the bars so far, once a bar: windows should stay bounded.
        surroundings: Is told the time of each bar.
    """

    def __init__(
        self,
        history: pl.DataFrame,
        evaluate: Callable[[str, pl.DataFrame], Floats],
        surroundings: Surroundings,
    ) -> None:
        self._evaluate = evaluate
        self._surroundings = surroundings
        times = history["time"].dt.cast_time_unit("us").to_physical().to_numpy()
        self._grown: dict[str, NDArray[Any]] = {"time": times.astype("datetime64[us]")}
        for name in VALUES:
            self._grown[name] = history[name].cast(pl.Float64).to_numpy()
        self._count = history.height
        self.bars = Bars({})
        self._grow(max(64, 2 * self._count))
        self._features: dict[str, Floats] = {}
        self.cash, self.position, self.equity_now = 0.0, Position(0.0), 0.0
        self._working: list[int] = []
        self._commands: list[Message] = []
        self._rows = 0
        self.exposure_max = EXPOSURE_MAX
        self._is_open = False

    def answers_of(self, strategy: Strategy) -> Callable[[Message], Message]:
        """Returns the handler of a `Strategy`; its `on_start` is called here."""
        strategy.on_start()

        def handle(message: Message) -> Message:
            bar = self._take(message)
            for fill in message["fills"]:
                strategy.on_fill(Fill(**fill))
            strategy.on_bar(bar)
            self._is_open = False
            return {"kind": "orders", "commands": self._commands}

        return handle

    def targets_of(self, decide: Callable[[pl.DataFrame], float]) -> Callable[[Message], Message]:
        """Returns the handler of a `signals` function: only the target of the newest bar counts."""

        def handle(message: Message) -> Message:
            self._take(message)
            target = decide(self._frame())
            return {"kind": "signals", "target": None if math.isnan(target) else target}

        return handle

    def submit(self, command: Command) -> int:
        """Puts a command into the answer; returns the number that its order has from now on."""
        if not self._is_open:
            raise StrategyFault("no_bar_yet", "on_start cannot trade: no bar was seen", "trade in on_bar")
        if len(self._commands) >= o.ORDERS_PER_BAR_MAX:
            raise StrategyFault(
                "too_many_orders",
                f"more than {o.ORDERS_PER_BAR_MAX} orders on bar {self._count - 1}",
                "place fewer orders on one bar",
            )
        action, size = int(command[o.ACTION]), float(command[o.SIZE])
        said: Message = {"action": ACTIONS[action], "size": size}
        if action == o.ORDER:
            said["side"] = "buy" if command[o.SIDE] > 0 else "sell"
            said["sized_by"] = "fraction" if command[o.SIZED_BY] == o.FRACTION else "quantity"
            said["time_in_force"] = "day" if command[o.TIME_IN_FORCE] == o.DAY else "gtc"
            prices = zip(PRICES, command[o.LIMIT : o.STOP_LOSS + 1], strict=True)
            said |= {name: price for name, price in prices if not math.isnan(price)}
            if not math.isnan(command[o.OCO]):
                said["oco"] = int(command[o.OCO])
            if not math.isnan(command[o.TRAIL_LOSS]):
                said["trail_loss"] = float(command[o.TRAIL_LOSS])
            if command[o.TRAIL_BY] == o.PART:
                said["trail_by"] = "part"
            self._working.append(self._rows)
        elif action == o.CANCEL and int(size) in self._working:
            self._working.remove(int(size))
        self._commands.append(said)
        self._rows += 1
        return self._rows - 1

    def working(self) -> list[int]:
        """Returns the numbers of waiting orders, those of this bar included."""
        return list(self._working)

    def feature(self, expression: str, interval: str | None = None) -> Floats:
        """Returns a feature's values over the bars so far."""
        key = expression if interval is None else f"{expression}@{interval}"
        values = self._features.get(key)
        if values is None:
            values = self._features[key] = feature_values(self._evaluate, expression, self._frame(), interval)
        return values if self._is_open else values[:0]

    def _take(self, message: Message) -> Bar:
        """Appends the message's bar and takes the account over."""
        told = message["bar"]
        moment = EPOCH + timedelta(microseconds=told["time_us"])
        bar = Bar(told["number"], told["time_us"], *(float(told[name]) for name in VALUES))
        if self._count == len(self._grown["time"]):
            self._grow(2 * self._count)
        self._grown["time"][self._count] = np.datetime64(told["time_us"], "us")
        for name in VALUES:
            self._grown[name][self._count] = told[name]
        self._count += 1
        self.bars.count = self._count
        self._surroundings.now = moment
        self._features.clear()
        cash, position = float(message["cash"]), float(message["position"])
        self.cash, self.position, self.equity_now = cash, Position(position), cash + position * bar.close
        self._working = list(message["working"])
        self._commands = []
        self._is_open = True
        return bar

    def _grow(self, capacity: int) -> None:
        shown: dict[str, NDArray[Any]] = {}
        for name, values in self._grown.items():
            grown = np.zeros(capacity, dtype=values.dtype)
            grown[: self._count] = values[: self._count]
            self._grown[name] = grown
            shown[name] = grown.view()
            shown[name].flags.writeable = False  # what was known stays as it was
        self.bars._columns = shown  # pyright: ignore[reportPrivateUsage]  # the session owns its bars
        self.bars.count = self._count

    def _frame(self) -> pl.DataFrame:
        known = {name: values[: self._count].copy() for name, values in self._grown.items()}
        time = pl.Series(known.pop("time").astype(np.int64)).cast(pl.Datetime("us", "UTC"))
        return pl.DataFrame({"time": time, **known})
