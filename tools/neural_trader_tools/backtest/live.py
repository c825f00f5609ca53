"""A strategy fed bar by bar: what paper and live trading use, and the strict look-ahead check.

The trusted end of a stream into the sandbox. What goes in is a `BarMessage`, what comes out is believed only
after its model and the stream's rules have read it: the desk gets commands that an honest strategy could
have given, about this bar, or an error.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

import anyio.to_thread
import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter, ValidationError

from neural_trader_governance.errors import StrategyError
from neural_trader_sandbox.port import Job, Limits, Sandbox, SandboxStream
from neural_trader_tools.backtest.prices import Prices
from neural_trader_tools.backtest.settings import BacktestRequest
from neural_trader_tools.backtest.simulation import FEATURES, raise_failure
from neural_trader_tools.backtest.stream import check_orders, forged
from neural_trader_tools.engine import orders as o
from neural_trader_tools.strategies.outline import is_portfolio

Floats = NDArray[np.float64]
ENTRY: Final = "neural_trader_tools.engine.guest:stream_strategy"
LIMITS: Final = Limits(wall_time_s=10.0, cpu_time_s=600)
ACTIONS: Final = ("order", "target", "cancel")


class _Told(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class LiveBar(_Told):
    """One finished bar. `number` counts from 0, the history before the stream included."""

    number: int = Field(ge=0)
    time_us: int = Field(description="Open of the bar, microseconds since 1970-01-01 UTC")
    open: float = Field(gt=0)
    high: float = Field(gt=0)
    low: float = Field(gt=0)
    close: float = Field(gt=0)
    volume: float = Field(ge=0)


class LiveFill(_Told):
    """One execution since the last bar; `quantity` is signed."""

    order_id: int = Field(ge=-1, description="Number of the command it carried out; -1: liquidation")
    bar: int = Field(ge=0)
    quantity: float
    price: float = Field(gt=0)
    commission: float = Field(ge=0)
    reason: Literal[
        "market", "limit", "stop", "stop_limit", "trail", "take_profit", "stop_loss", "target", "liquidation"
    ]
    position: float = Field(description="Units held after it")


class BarMessage(_Told):
    """What a strategy is told: the bar that closed, and its account as the desk knows it."""

    bar: LiveBar
    fills: tuple[LiveFill, ...] = ()
    cash: float
    position: float
    working: tuple[int, ...] = Field(default=(), description="Numbers of its orders that still wait")


class LiveCommand(_Told):
    """One thing that a strategy decided. `size` means what `action` and `sized_by` say.

    Of a target it is the exposure, of a cancellation the number of the order. Commands are numbered in the
    order in which they are given, from 0, over the whole stream.
    """

    action: Literal["order", "target", "cancel"]
    size: float
    side: Literal["buy", "sell"] | None = None
    sized_by: Literal["quantity", "fraction"] = "quantity"
    limit: float | None = None
    stop: float | None = None
    trail: float | None = None
    take_profit: float | None = None
    stop_loss: float | None = None
    time_in_force: Literal["gtc", "day"] = "gtc"
    oco: int | None = None
    trail_loss: float | None = None
    trail_by: Literal["distance", "part"] = "distance"

    def row(self, bar: int) -> list[float]:
        """Returns it as a row of the order stream, see `orders.COLUMNS`."""
        prices = (self.limit, self.stop, self.trail, self.take_profit, self.stop_loss)
        return [
            bar,
            ACTIONS.index(self.action),
            {"buy": 1.0, "sell": -1.0, None: 0.0}[self.side],
            self.size,
            o.FRACTION if self.sized_by == "fraction" else o.QUANTITY,
            *(float("nan") if price is None else price for price in prices),
            o.DAY if self.time_in_force == "day" else o.GTC,
            float("nan") if self.oco is None else self.oco,
            float("nan") if self.trail_loss is None else self.trail_loss,
            o.PART if self.trail_by == "part" else o.DISTANCE,
        ]


class OrdersAnswer(_Told):
    """The answer of a `Strategy` class."""

    kind: Literal["orders"]
    commands: Annotated[tuple[LiveCommand, ...], Field(max_length=o.ORDERS_PER_BAR_MAX)]


class TargetAnswer(_Told):
    """The answer of a `signals` function: the exposure of the newest bar; None keeps the last one."""

    kind: Literal["signals"]
    target: Annotated[float, Field(ge=-1, le=1)] | None


Answer = OrdersAnswer | TargetAnswer
_ANSWERS: Final[TypeAdapter[Answer]] = TypeAdapter(Annotated[Answer, Field(discriminator="kind")])


class LiveStrategy:
    """A strategy in the sandbox that decides on one bar at a time; make it with `open`, end it with `aclose`.

    Attributes:
        commands_count: Commands so far; the next one has this number.
    """

    def __init__(self, stream: SandboxStream, bars: int) -> None:
        self._stream = stream
        self._bars = bars
        self._kind: str | None = None
        self.commands_count = 0

    @classmethod
    async def open(
        cls,
        sandbox: Sandbox,
        request: BacktestRequest,
        history: Prices | None = None,
        *,
        start_us: int = 0,
        limits: Limits = LIMITS,
        features: str = FEATURES,
    ) -> "LiveStrategy":
        """Starts the strategy; `on_start` has run when this returns.

        Args:
            sandbox: Where it runs, in a child of its own until `aclose`.
            request: Source, params and seed; its settings play no part, the account is told with each bar.
            history: Bars before the first one that it decides on.
            start_us: Open of the first bar, which clocks say in `on_start`; history knows it better.
            limits: `wall_time_s` bounds each answer, the others the whole life.
            features: Module that evaluates `self.feature(...)`.

        Raises:
            StrategyError: it is invalid, failed or was late, or decides on many symbols at once
                (`portfolio_unsupported`).
            HostError: this host has no sandbox.
        """
        if is_portfolio(request.source):
            raise StrategyError(
                "portfolio_unsupported",
                "paper and live streams tell the bars of one symbol; this strategy decides on many",
                "give it on_bar or signals and start it for each symbol; backtest_start plays portfolios",
            )
        job = Job(
            ENTRY,
            {
                "source": request.source,
                "params": request.params,
                "features": features,
                "seed": request.seed,
                "start_us": start_us,
            },
            {"bars": _EMPTY if history is None else await anyio.to_thread.run_sync(history.table)},
        )
        return cls(await sandbox.open_stream(job, limits), 0 if history is None else len(history))

    async def decide(self, message: BarMessage) -> TargetAnswer | OrdersAnswer:
        """Tells it one bar and returns its checked decision.

        Raises:
            StrategyError: it failed, was late or was stopped (the stream is over then), or answered what no
                honest strategy answers (`forged_stream`; close it).
            ValueError: the bar is not the next one.
        """
        if message.bar.number != self._bars:
            raise ValueError(f"bar {message.bar.number} was told where {self._bars} is the next")
        self._bars += 1
        result = await self._stream.send(message.model_dump(mode="json"))
        if result.status != "ok":
            raise_failure(result)
        answer = read_answer(result.value)
        if self._kind not in (None, answer.kind):
            raise forged(f"it answered {self._kind} and then {answer.kind}")
        self._kind = answer.kind
        if isinstance(answer, OrdersAnswer):
            check_orders(
                rows_of(answer.commands, message.bar.number), self._bars, first_row=self.commands_count
            )
            self.commands_count += len(answer.commands)
        return answer

    async def aclose(self) -> None:
        """Ends it; harmless when it has ended."""
        await self._stream.aclose()


def read_answer(value: JsonValue) -> TargetAnswer | OrdersAnswer:
    """Returns an answer in its model.

    Raises:
        StrategyError: `forged_stream`.
    """
    try:
        return _ANSWERS.validate_python(_with_tuple(value))
    except ValidationError as error:
        first = error.errors()[0]
        raise forged(f"an answer is not valid ({first['msg'][:80]} at {first['loc']!s:.60})") from None


def rows_of(commands: Sequence[LiveCommand], bar: int) -> Floats:
    """Returns commands as rows of the order stream, all decided on `bar`."""
    return np.array([command.row(bar) for command in commands], dtype=np.float64).reshape(-1, len(o.COLUMNS))


def _with_tuple(value: JsonValue) -> dict[str, Any]:
    """Returns the answer with a tuple, as the frozen models have, in place of JSON's list."""
    if not isinstance(value, dict):
        return {}
    commands = value.get("commands")
    return {**value, "commands": tuple(commands)} if isinstance(commands, list) else {**value}


_EMPTY: Final = (
    pl.DataFrame(
        schema={
            "time": pl.Datetime("us", "UTC"),
            **dict.fromkeys(("open", "high", "low", "close", "volume"), pl.Float64),
        }
    )
    .write_ipc_stream(None)
    .getvalue()
)
