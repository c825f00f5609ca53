"""Backfill: what a feed missed while it was away, as far as a service's history still has it.

History has minute bars, no ticks. They are asked for a little after the last minute is over, since services
publish them late, and go the way of everything that arrives: what came already is dropped as a repeat, what
is new is known from now on. The span itself is recorded as a gap, with what became of it.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing

from neural_trader_governance.errors import DataError, NeuralTraderError
from neural_trader_governance.terms.clocks import from_epoch_us
from neural_trader_tools.market.feed.pipeline import Pipeline
from neural_trader_tools.market.feed.segments import Quarantined
from neural_trader_tools.market.feed.ticks import SECOND_NS, BarTick, Event, Gap, parse_ns
from neural_trader_tools.market.providers.port import HistoryProvider, HistoryRequest, RawBar
from neural_trader_tools.market.providers.stream import StreamRequest

INTERVAL = "1m"
MINUTE_NS = 60 * SECOND_NS
SETTLE_NS = 20 * SECOND_NS
"""So long after its end a minute's bar is in the history."""
SPAN_NS_MAX = 7 * 86_400 * SECOND_NS
SYMBOLS_MAX = 1_000


class Backfill:
    """Fills the gaps of one feed.

    Args:
        history: Where bars come from.
        request: What the feed is subscribed to.
        pipeline: Where they go.
        now_ns: The feed's clock.
        sleep: Waits so many seconds.
    """

    def __init__(
        self,
        history: HistoryProvider,
        request: StreamRequest,
        pipeline: Pipeline,
        *,
        now_ns: Callable[[], int],
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self._history = history
        self._request = request
        self._pipeline = pipeline
        self._now_ns = now_ns
        self._sleep = sleep
        self.bars = 0
        """Bars that history had, over all gaps."""

    async def fill(self, from_ns: int, to_ns: int, why: str) -> Gap:
        """Fills a span and records it.

        Args:
            from_ns: When the feed was last heard.
            to_ns: When it was subscribed again.
            why: It was away.

        Returns:
            The gap as it was recorded.

        Raises:
            StorageError: too many events wait for a disk that refuses them.
        """
        first_ns = max(from_ns, to_ns - SPAN_NS_MAX)
        first_ns -= first_ns % MINUTE_NS
        last_ns = to_ns - to_ns % MINUTE_NS
        if last_ns <= first_ns:
            outcome = "no minute was over"
        else:
            try:
                count = await self._bars_between(first_ns, last_ns)
                outcome = f"{count} minute bars backfilled"
                if first_ns > from_ns:
                    outcome += f", none from before {SPAN_NS_MAX // (86_400 * SECOND_NS)} days"
            except NeuralTraderError as error:
                outcome = f"not backfilled: {error.code}: {error.what}"
        gap = Gap("", from_ns, to_ns, f"{why}; {outcome}; trades and quotes of that time are missing"[:400])
        await self._pipeline.take([gap])
        return gap

    async def _bars_between(self, first_ns: int, last_ns: int) -> int:
        symbols = self._pipeline.last.symbols() if self._request.is_everything else self._request.symbols
        if not symbols:
            return 0
        early_ns = last_ns + SETTLE_NS - self._now_ns()
        if early_ns > 0:
            await self._sleep(early_ns / SECOND_NS)
        count = 0
        start, end = (from_epoch_us(each // 1_000) for each in (first_ns, last_ns))
        wanted = tuple(sorted(symbols))
        for place in range(0, len(wanted), SYMBOLS_MAX):
            request = HistoryRequest(wanted[place : place + SYMBOLS_MAX], INTERVAL, start, end)
            async with aclosing(self._history.history(request)) as pages:
                async for page in pages:
                    recv_ns = self._now_ns()
                    events = _ticks(page.bars, recv_ns)
                    await self._pipeline.take(events)
                    count += sum(isinstance(event, BarTick) for event in events)
        self.bars += count
        return count


def _ticks(bars: Sequence[RawBar], recv_ns: int) -> list[Event | Quarantined]:
    events: list[Event | Quarantined] = []
    for bar in bars:
        try:
            prices = (float(bar.open), float(bar.high), float(bar.low), float(bar.close))
            volume, event_ns = float(bar.volume), _ns(bar.time)
            events.append(BarTick(bar.symbol, INTERVAL, *prices, volume, event_ns, recv_ns))
        except (ValueError, DataError) as error:
            content, reason = repr(bar).encode("utf-8", "replace"), f"unreadable: {error}"[:400]
            events.append(Quarantined(bar.symbol[:40], reason, content, recv_ns, recv_ns))
    return events


def _ns(time: str) -> int:
    """Returns a bar's time: Alpaca writes RFC 3339, Massive milliseconds.

    Raises:
        DataError: it is neither.
    """
    return int(time) * 1_000_000 if time.isdecimal() and time.isascii() else parse_ns(time)
