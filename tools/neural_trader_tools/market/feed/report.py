"""A feed's report: what its pipeline counted."""

import msgspec

from neural_trader_tools.market.feed.channels import ChannelReport


class FeedReport(msgspec.Struct, frozen=True):
    """The counts of a pipeline since it was made."""

    frames: int
    frames_refused: int
    messages_refused: int
    """Messages that could not be read, in frames that could."""
    events: int
    appended: int
    acknowledged: int
    actions: dict[str, int]
    """Ticks flagged, dropped and quarantined."""
    reasons: dict[str, int]
    bars: dict[str, int]
    """Bars made, revisions included, by interval."""
    trades_late: int
    trades_outside: int
    channels: tuple[ChannelReport, ...]
    amendments: int
    """Corrections and cancellations of trades."""
    gaps: int
    """Spans of which something may be missing."""
    problem: str
    """Why the journal could not be written the last time, empty where it could."""

    @property
    def quarantined(self) -> int:
        """Ticks, messages and frames that were kept apart."""
        return self.actions.get("quarantine", 0) + self.frames_refused + self.messages_refused

    @property
    def dropped(self) -> int:
        """Events that subscribers were too slow for."""
        return sum(channel.dropped for channel in self.channels)
