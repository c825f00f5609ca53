"""What a feed publishes: best effort, for the feed's own record is the truth (`market/feed/journal.py`).

    await feed.run(source, publish=FeedPublisher(bus, "bars"))

It never fails the feed, and never holds it up: while the bus is away or full, the feed's channel drops the
oldest and counts them. Ids are made of the content, so that what is published again is a duplicate.
"""

from collections.abc import Sequence
from typing import Literal

import anyio
import structlog

from neural_trader_governance.errors import InputError, NeuralTraderError
from neural_trader_tools.bus.events import BusEvent, content_id, encode, subject_of
from neural_trader_tools.bus.port import Bus, Message
from neural_trader_tools.market.feed.ticks import BarTick, Gap

Published = Literal["bars", "all"]
RETRY_S_MIN, RETRY_S_MAX = 0.1, 5.0

_log = structlog.get_logger(__name__)


class FeedPublisher:
    """Publishes a feed's events.

    Args:
        bus: Where to.
        what: `bars` (and gaps), or `all`: trades, quotes and amendments too.
    """

    def __init__(self, bus: Bus, what: Published = "bars") -> None:
        self._bus = bus
        self._all = what == "all"
        self.published = self.duplicates = self.refused = 0

    async def __call__(self, events: Sequence[BusEvent]) -> None:
        """Publishes events in order, however long the bus is away."""
        messages: list[Message] = []
        for event in events:
            if self._all or isinstance(event, BarTick | Gap):
                try:
                    messages.append(Message(subject_of(event), event, content_id(encode(event))))
                except InputError as error:  # such as a symbol of a hundred characters
                    self.refused += 1
                    _log.warning("event_not_published", error=str(error))
        pause_s = RETRY_S_MIN
        while messages:
            try:
                done = await self._bus.publish_all(messages)
            except NeuralTraderError as error:
                if pause_s == RETRY_S_MIN:
                    _log.warning("bus_waits", error=str(error))
                await anyio.sleep(pause_s)
                pause_s = min(RETRY_S_MAX, 2 * pause_s)
                continue
            self.published += len(done)
            self.duplicates += sum(one.duplicate for one in done)
            return
