"""Mute streams: a connection that stands and says nothing, which no ping of the transport notices.

In session a stream that is silent for longer than its bound counts as mute; out of hours silence is what a
market does. A symbol may be quiet, so the bound doubles with every connection that stays mute, up to an hour.
"""

from neural_trader_tools.market.feed.hours import SessionHours
from neural_trader_tools.market.feed.ticks import SECOND_NS

BOUND_S_MAX = 3600.0


class MuteWatch:
    """Watches one feed.

    Args:
        bound_s: The silence that is too long.
        hours: The sessions; without them the feed is expected to speak at all hours.
    """

    def __init__(self, bound_s: float, hours: SessionHours | None = None) -> None:
        self._first_ns = self._bound_ns = round(bound_s * SECOND_NS)
        self._hours = hours if hours is not None and hours.opens_ns else None
        self._since_ns = 0

    @property
    def bound_s(self) -> float:
        """The silence that is too long now."""
        return self._bound_ns / SECOND_NS

    def opened(self, now_ns: int) -> None:
        """A connection begins to be listened to."""
        self._since_ns = now_ns

    def heard(self, now_ns: int) -> None:
        """Market data came; what a service says about the connection is none."""
        self._since_ns = now_ns
        self._bound_ns = self._first_ns

    def is_mute(self, now_ns: int) -> bool:
        """Tells whether the silence is too long; where it is, the next may be twice as long."""
        since_ns = self._since_ns
        if self._hours is not None:
            session = self._hours.around(now_ns)
            if session is None:
                return False
            since_ns = max(since_ns, session[0])
        if now_ns - since_ns <= self._bound_ns:
            return False
        self._bound_ns = min(self._bound_ns * 2, max(round(BOUND_S_MAX * SECOND_NS), self._first_ns))
        return True
