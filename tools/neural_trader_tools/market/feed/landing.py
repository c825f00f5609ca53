"""Landing: the bars of a running feed go into the archive, some seconds after they came."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import anyio.to_thread
import structlog

from neural_trader_governance.errors import NeuralTraderError
from neural_trader_tools.market.feed.channels import Channel
from neural_trader_tools.market.feed.lander import Lander
from neural_trader_tools.market.feed.ticks import BarTick, Event

GATHER_S = 2.0
"""Bars that arrive together land together: a series' file is written anew with each landing."""
RETRY_S = 5.0
BARS_WAITING_MAX = 100_000

_log = structlog.get_logger("neural_trader.market.feed")


class Landing:
    """Lands what comes through a channel of bars; what the channel had to drop is found in the records.

    Args:
        lander: Puts bars into the archive.
        channel: Gets every bar of the feed.
        root: The feed's folder.
        sleep: Waits so many seconds.
    """

    def __init__(
        self,
        lander: Lander,
        channel: Channel[Event],
        root: Path,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        self.problem = ""
        """Why bars could not be landed the last time, empty where they could."""
        self._lander = lander
        self._channel = channel
        self._root = root
        self._sleep = sleep
        self._waiting: list[BarTick] = []

    async def run(self) -> None:
        """Lands until it is cancelled; begins with what an earlier process did not land."""
        await self._guarded(self._lander.catch_up, self._root)
        lost = 0
        while True:
            await self._gather()
            await self._sleep(GATHER_S)
            if self._channel.report().depth:
                await self._gather()
            while not await self._land():
                await self._sleep(RETRY_S)
            if (dropped := self._channel.report().dropped) > lost:
                lost = dropped
                await self._guarded(self._lander.catch_up, self._root)

    async def finish(self) -> None:
        """Lands what waits still, after `run` has ended."""
        if self._channel.report().depth:
            await self._gather()
        await self._land()

    async def _gather(self) -> None:
        bars = await self._channel.receive_all(BARS_WAITING_MAX)
        self._waiting += [bar for bar in bars if isinstance(bar, BarTick)]

    async def _land(self) -> bool:
        """Lands the bars that wait; false where the disk refused, and they go on waiting."""
        done = await self._guarded(self._lander.land, tuple(self._waiting))
        if done:
            self._waiting.clear()
        return done

    async def _guarded(self, work: Callable[..., object], *arguments: object) -> bool:
        """Does something in a thread; a failure is shown, and tried again later."""
        try:
            await anyio.to_thread.run_sync(work, *arguments)
        except NeuralTraderError as error:
            self.problem = str(error)
            _log.warning("feed_bars_wait", error=str(error))
            return False
        self.problem = ""
        return True
