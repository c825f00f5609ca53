"""Subscriptions: who gets which events of a feed, each through a channel of its own."""

from collections.abc import Collection, Sequence

import anyio
import msgspec

from neural_trader_tools.market.feed.channels import Channel, ChannelReport
from neural_trader_tools.market.feed.ticks import Amendment, BarTick, Event, Gap, Quote, Trade

EventType = type[Trade] | type[Quote] | type[BarTick] | type[Amendment] | type[Gap]


class Subscription(msgspec.Struct, frozen=True):
    """One subscriber's channel, and what goes into it."""

    channel: Channel[Event]
    kinds: frozenset[EventType]
    symbols: frozenset[str]

    def wanted(self, events: Sequence[Event]) -> Sequence[Event]:
        """Returns the events that were subscribed to; a gap of every symbol concerns everybody."""
        kinds, symbols = self.kinds, self.symbols
        if kinds:
            events = [event for event in events if type(event) in kinds]
        if symbols:
            events = [
                event
                for event in events
                if event.symbol in symbols or (not event.symbol and type(event) is Gap)
            ]
        return events


class Subscriptions:
    """All subscribers of a feed; a closed channel is one that left."""

    def __init__(self) -> None:
        self._all: list[Subscription] = []

    def add(self, channel: Channel[Event], kinds: Collection[EventType], symbols: Collection[str]) -> None:
        """Has a channel get what is wanted from now on; no kinds or symbols mean all."""
        self._all.append(Subscription(channel, frozenset(kinds), frozenset(symbols)))

    def reports(self) -> tuple[ChannelReport, ...]:
        """Returns every channel's counts."""
        return tuple(each.channel.report() for each in self._all)

    async def publish(self, events: Sequence[Event]) -> None:
        """Hands events on, in order; waits for subscribers that block."""
        closed = False
        for subscription in self._all:
            try:
                await subscription.channel.send_all(subscription.wanted(events))
            except anyio.ClosedResourceError:
                closed = True
        if closed:
            self._all = [each for each in self._all if not each.channel.closed]

    def close(self) -> None:
        """Ends every subscription."""
        for each in self._all:
            each.channel.close()
