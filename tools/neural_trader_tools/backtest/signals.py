"""Signals: what a strategy wants to hold, bar by bar as a feed finishes them, said on the event bus.

    async with await Signals.open(bus, sandbox, archive, clock, request, "trend", bars=1_000) as signals:
        async for said in signals:
            ...                              # it stands on the bus as `signal.trend.AAPL`

A signal is a wish, before policy and people decided whether it may: nothing here places an order. The
strategy runs in the sandbox and is told finished bars alone, each once, in the order of time.
"""

from collections.abc import AsyncIterator
from types import TracebackType
from typing import TYPE_CHECKING, Self

import anyio.to_thread
import structlog
from pydantic import ValidationError

from neural_trader_governance.errors import DataError, InputError, StrategyError
from neural_trader_governance.terms.clocks import Clock, to_epoch_us
from neural_trader_sandbox.port import Sandbox
from neural_trader_tools.backtest.live import BarMessage, LiveBar, LiveStrategy
from neural_trader_tools.backtest.prices import BARS_MIN, VALUES, Prices
from neural_trader_tools.backtest.settings import BacktestRequest
from neural_trader_tools.bus import subjects
from neural_trader_tools.bus.events import SignalEvent
from neural_trader_tools.bus.port import Bus, Subscription
from neural_trader_tools.market.feed.ticks import BarTick

if TYPE_CHECKING:
    from neural_trader_tools.market.archive import Archive

HISTORY_BARS = 1_000
CAUGHT_UP = 20_000
"""So many of the newest market events are read again at the start: bars that are over, not yet archived."""

_log = structlog.get_logger(__name__)


class Signals:
    """A strategy that follows the bars of one symbol; make it with `open`.

    Attributes:
        known: Bars of history that it began with.
        told: Bars that the strategy was told since the start.
        passed: Bars that it was not told: older than one it knows, or the same one again (a revision).
        refused: Bars that are none, such as one with a price of 0; somebody else may have published them.
    """

    def __init__(
        self,
        bus: Bus,
        bars: Subscription,
        live: LiveStrategy,
        clock: Clock,
        name: str,
        history: Prices | None,
    ) -> None:
        self._bus = bus
        self._bars = bars
        self._live = live
        self._clock = clock
        self._name = name
        self.known = self._number = 0 if history is None else len(history)
        self._newest_us = -1 if history is None else int(history.times[-1])
        self.told = self.passed = self.refused = 0

    @classmethod
    async def open(
        cls,
        bus: Bus,
        sandbox: Sandbox,
        archive: "Archive",
        clock: Clock,
        request: BacktestRequest,
        name: str,
        *,
        bars: int = HISTORY_BARS,
    ) -> Self:
        """Starts the strategy on what the archive knows by now, then follows the bus.

        Args:
            bus: Carries `market.bar.SYMBOL.INTERVAL`, and takes `signal.NAME.SYMBOL`.
            sandbox: Where the strategy runs.
            archive: Its history.
            clock: Says what is known by now.
            request: Source, params, seed, interval and the one symbol.
            name: Of the strategy, in the subject.
            bars: So many bars of history at most.

        Raises:
            InputError: not exactly one symbol, or a name that is no part of a subject.
            StrategyError: the strategy is invalid, or decides on many symbols at once.
            HostError: this host has no sandbox.
        """
        if len(request.symbols) != 1:
            raise InputError(
                "one_symbol",
                f"signals follow one symbol, {len(request.symbols)} were given",
                "start one for each",
            )
        (symbol,) = request.symbols
        subjects.signal(name, symbol)
        seen = await bus.span("market")
        subscription = await bus.subscribe(
            subjects.market_bar(symbol, request.interval), start=max(seen.first, seen.last - CAUGHT_UP)
        )
        try:
            history = await anyio.to_thread.run_sync(_history, archive, clock, symbol, request.interval, bars)
            live = await LiveStrategy.open(
                sandbox, request, history, start_us=to_epoch_us(clock.now()) if history is None else 0
            )
        except BaseException:
            with anyio.CancelScope(shield=True):
                await subscription.aclose()
            raise
        return cls(bus, subscription, live, clock, name, history)

    async def __aiter__(self) -> AsyncIterator[SignalEvent]:
        """Yields signals once they stand on the bus; a bar on which the strategy keeps its last one has none.

        A bar's signal is published under an id of its own, so a second start does not say it again.

        Raises:
            StrategyError: it failed, or gives orders (`orders_no_signals`).
            StorageError: the bus did not take a signal; it is not said to be one.
            NetworkError: the same, of a broker.
        """
        async for delivery in self._bars:
            said = None
            if isinstance(delivery.event, BarTick):
                said = await self._decided(delivery.event)
            if said is not None:
                identity = f"{said.symbol}/{said.ts_event_ns}/{delivery.subject.rpartition('.')[2]}"
                await self._bus.publish(
                    subjects.signal(self._name, said.symbol), said, f"signal/{self._name}/{identity}"
                )
            await delivery.ack()
            if said is not None:
                yield said

    async def _decided(self, bar: BarTick) -> SignalEvent | None:
        time_us = bar.ts_event_ns // 1_000
        if time_us <= self._newest_us:
            self.passed += 1
            return None
        values = (bar.open, bar.high, bar.low, bar.close, bar.volume)
        try:
            told = LiveBar(number=self._number, time_us=time_us, **dict(zip(VALUES, values, strict=True)))
        except ValidationError as error:
            self.refused += 1
            _log.warning("bar_refused", symbol=bar.symbol, error=error.errors(include_url=False)[0]["msg"])
            return None
        answer = await self._live.decide(BarMessage(bar=told, cash=0.0, position=0.0))
        self._number += 1
        self._newest_us = time_us
        self.told += 1
        if answer.kind == "orders":
            raise StrategyError(
                "orders_no_signals",
                "this strategy gives orders to an account of its own; a signal is a target exposure",
                "give it `signals(bars)` or a `rule`; backtest_start plays orders",
            )
        if answer.target is None:
            return None
        known_ns = to_epoch_us(self._clock.now()) * 1_000
        return SignalEvent(self._name, bar.symbol, answer.target, bar.ts_event_ns, known_ns)

    async def __aenter__(self) -> Self:
        """Returns the signals."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends the strategy and its subscription."""
        with anyio.CancelScope(shield=True):
            await self._bars.aclose()
            await self._live.aclose()


def _history(archive: "Archive", clock: Clock, symbol: str, interval: str, bars: int) -> Prices | None:
    """Returns the newest bars that are known by now; None where there are too few to be any."""
    try:
        known = archive.bars(symbol, interval, as_of=clock.now()).tail(bars)
    except DataError as error:
        if error.code in {"unknown_symbol", "no_bars"}:
            return None  # one that the feed alone has
        raise
    return Prices.from_frame(symbol, known) if known.height >= BARS_MIN else None
