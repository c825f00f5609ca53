"""The present: the market's time where orders meet a market of now, and its newest prices.

It stands in for the replay clock (`replay.py`) and cannot be set or stepped. A price is the live feed's where
that has a newer one, else the archive's newest bar; policy refuses one that is too old.
"""

from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Literal

import polars as pl

from neural_trader_governance.errors import DataError, InputError
from neural_trader_governance.terms.clocks import Clock
from neural_trader_governance.terms.market import Quote
from neural_trader_governance.terms.money import price_tick, round_to_tick
from neural_trader_tools.market.archive import Archive
from neural_trader_tools.market.feed.board import last_prices, moment_of
from neural_trader_tools.market.replay import ReplayClock


class PresentClock(ReplayClock):
    """The machine's time, over an archive and its live feeds.

    Args:
        archive: Where prices are.
        clock: The machine's.
    """

    kind: Literal["replay", "wall"] = "wall"

    def __init__(self, archive: Archive, clock: Clock, path: Path | None = None) -> None:
        super().__init__(archive, path)
        self._clock = clock
        self._root = archive.root

    def now(self) -> datetime:
        """Returns the machine's time, in UTC."""
        return self._clock.now()

    def horizon(self) -> datetime | None:
        """Returns None: research may look at all that is known."""
        return None

    def set(self, moment: datetime) -> datetime:
        """Refuses.

        Raises:
            InputError: `clock_is_real`.
        """
        raise _is_real()

    def step(self, sessions: int = 1) -> list[tuple[str, pl.DataFrame]]:
        """Refuses.

        Raises:
            InputError: `clock_is_real`.
        """
        raise _is_real()

    def quote(self, symbol: str) -> Quote:
        """Returns the newest price: the live feed's, or the archive's.

        Raises:
            DataError: unknown symbol, or neither has one.
        """
        live = last_prices(self._root, [symbol]).get(symbol)
        try:
            quote = super().quote(symbol)
        except DataError:
            if live is None:
                raise
            quote = None
        if live is None:
            assert quote is not None  # noqa: S101 - it was raised otherwise
            return quote
        price, standing = live
        made = moment_of(price.price_ns)
        if quote is not None and quote.event_time >= made:
            return quote
        exact = Decimal(repr(price.price))
        return Quote(
            symbol=symbol,
            last=round_to_tick(exact, price_tick(exact), "nearest"),
            event_time=made,
            known_time=moment_of(price.recv_ns),
            source=f"feed {standing.feed}"[:80],
        )


def _is_real() -> InputError:
    return InputError(
        "clock_is_real",
        "orders of this desk meet a market of now, whose time nobody sets",
        "replay on a home whose setting `broker` is paper",
    )
