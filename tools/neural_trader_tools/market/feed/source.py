"""A feed's source: what brings its data, and what the feed is."""

from dataclasses import dataclass
from typing import Literal, Protocol

from neural_trader_tools.market.feed.board import FeedState
from neural_trader_tools.market.feed.hours import SessionHours


class Source(Protocol):
    """What brings a feed's data into its pipeline: a link, or a replay."""

    @property
    def state(self) -> FeedState:
        """How it stands."""
        ...

    @property
    def heard_ns(self) -> int:
        """When data last came; 0 where none did."""
        ...

    @property
    def missing_from_ns(self) -> int:
        """Since when something is missing that is not backfilled yet; 0 where nothing is."""
        ...

    @property
    def connections(self) -> int:
        """How many there were."""
        ...

    @property
    def problem(self) -> str:
        """What is wrong, empty where nothing is."""
        ...

    async def run(self) -> None:
        """Brings data until there are no more, or it is cancelled.

        Raises:
            NeuralTraderError: it cannot go on.
        """
        ...


@dataclass(frozen=True, slots=True)
class About:
    """What a feed is, and what is made of it.

    `make` are the intervals of bars that are made of its trades; `lands`: bars go into the archive.
    """

    name: str
    source: str
    licence: str
    kind: Literal["live", "replay"] = "live"
    make: tuple[str, ...] = ()
    hours: SessionHours | None = None
    lands: bool = True
