"""The board: what a feed shows to other processes: its newest prices, and how it stands.

A SQLite file in the feed's folder, written a few times a second by the one process that runs the feed and
read by any other. It holds nothing that the journal does not, but where the feed stopped.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import msgspec
from pydantic import Field, ValidationError

from neural_trader_governance.errors import StorageError
from neural_trader_governance.terms.clocks import UtcTime, from_epoch_us
from neural_trader_governance.terms.term import Term

FEEDS = "feeds"
"""The folder of all feeds, in the archive's."""
BOARD = "board.db"
SILENT_S = 15.0
"""A feed that has not written for so long does not run any more."""
_BUSY_S = 2.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS standing (id INTEGER PRIMARY KEY CHECK (id = 1), document TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS last (
    symbol TEXT PRIMARY KEY, price REAL NOT NULL, price_ns INTEGER NOT NULL, bid REAL, ask REAL,
    quote_ns INTEGER NOT NULL, recv_ns INTEGER NOT NULL
) WITHOUT ROWID;
"""

FeedState = Literal["connecting", "live", "waiting", "ended", "failed"]


class FeedStanding(Term):
    """How one feed stands, or stood when it was written."""

    feed: str
    kind: Literal["live", "replay"]
    state: FeedState
    started_time: UtcTime
    written_time: UtcTime
    last_tick_time: UtcTime | None = Field(default=None, description="When market data last came")
    events: int = 0
    acknowledged: int = Field(default=0, description="On disk and synced")
    events_per_s: float = 0.0
    bars_landed: int = Field(default=0, description="In the archive, revisions included")
    gaps: int = 0
    connections: int = 0
    dropped: int = Field(default=0, description="By subscribers that were too slow")
    quarantined: int = 0
    problem: str = Field(default="", max_length=500)
    heard_ns: int = 0
    missing_from_ns: int = Field(default=0, description="What is not backfilled yet begins here; 0: nothing")
    landed_ns: int = Field(default=0, description="Bars received until then are in the archive")

    def is_running(self, now: datetime) -> bool:
        """Tells whether a process runs the feed."""
        silent_s = (now - self.written_time).total_seconds()
        return self.state not in {"ended", "failed"} and silent_s <= SILENT_S

    def said(self, now: datetime) -> str:
        """Returns it in a line."""
        if self.is_running(now):
            state = self.state
        elif self.state in {"ended", "failed"}:
            state = f"{self.state} at {self.written_time:%Y-%m-%d %H:%M:%S}Z"
        else:
            state = f"not running; last seen {self.written_time:%Y-%m-%d %H:%M:%S}Z"
        heard = (
            f"last tick {max(0.0, (now - self.last_tick_time).total_seconds()):.1f} s ago"
            if self.last_tick_time is not None and self.kind == "live"
            else "no tick yet"
            if self.last_tick_time is None
            else f"at {self.last_tick_time:%Y-%m-%d %H:%M:%S}Z"
        )
        problem = f"; {self.problem}" if self.problem else ""
        return (
            f"{state}; {heard}, {self.events_per_s:,.0f} events/s, {self.gaps} gaps, {self.dropped} dropped,"
            f" {self.quarantined} quarantined{problem}"
        )


class LastPrice(msgspec.Struct, frozen=True):
    """The newest prices of a symbol."""

    symbol: str
    price: float
    price_ns: int
    bid: float | None
    ask: float | None
    quote_ns: int
    """0 where there was no quote."""
    recv_ns: int


class Board:
    """Writes one feed's board; not for several threads at once.

    Args:
        root: The feed's folder.

    Raises:
        StorageError: the file cannot be written.
    """

    def __init__(self, root: Path) -> None:
        try:
            root.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(
                root / BOARD, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
            )
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=NORMAL")
            self._database.executescript(_SCHEMA)
        except (sqlite3.Error, OSError) as error:
            raise _unwritable(error) from error

    def write(self, standing: FeedStanding, prices: Sequence[LastPrice]) -> None:
        """Shows how the feed stands now, and the prices that changed.

        Raises:
            StorageError: the disk refused.
        """
        rows = [msgspec.structs.astuple(price) for price in prices]
        try:
            self._database.execute("BEGIN IMMEDIATE")
            self._database.executemany("INSERT OR REPLACE INTO last VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
            self._database.execute(
                "INSERT OR REPLACE INTO standing VALUES (1, ?)", (standing.model_dump_json(),)
            )
            self._database.execute("COMMIT")
        except sqlite3.Error as error:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise _unwritable(error) from error

    def close(self) -> None:
        """Closes the file."""
        self._database.close()


def standing_of(root: Path) -> FeedStanding | None:
    """Returns how the feed in a folder stood when it last wrote; None where it never did."""
    rows = _rows(root, "SELECT document FROM standing", ())
    try:
        return FeedStanding.model_validate_json(rows[0][0]) if rows else None
    except ValidationError:
        return None


def feed_standings(archive_root: Path) -> list[FeedStanding]:
    """Returns every feed of an archive, by name."""
    found = (standing_of(path.parent) for path in sorted((archive_root / FEEDS).glob(f"*/{BOARD}")))
    return [one for one in found if one is not None]


def last_prices(archive_root: Path, symbols: Iterable[str]) -> dict[str, tuple[LastPrice, FeedStanding]]:
    """Returns the newest live price of each symbol that has one, and the feed that it came from.

    Args:
        archive_root: The archive's folder.
        symbols: Which.
    """
    wanted = list(dict.fromkeys(symbols))
    newest: dict[str, tuple[LastPrice, FeedStanding]] = {}
    marks = ",".join("?" * len(wanted))
    for standing in feed_standings(archive_root):
        if standing.kind != "live":
            continue
        query = f"SELECT * FROM last WHERE symbol IN ({marks})"  # noqa: S608 (question marks only)
        for row in _rows(archive_root / FEEDS / standing.feed, query, wanted):
            price = LastPrice(*row)
            known = newest.get(price.symbol)
            if known is None or price.price_ns > known[0].price_ns:
                newest[price.symbol] = (price, standing)
    return newest


def moment_of(ns: int) -> datetime:
    """Returns a time in nanoseconds, to the microsecond."""
    return from_epoch_us(ns // 1_000)


def _rows(root: Path, query: str, values: Sequence[str]) -> list[tuple[Any, ...]]:
    if not (root / BOARD).is_file():
        return []
    try:
        with closing(sqlite3.connect(root / BOARD, timeout=_BUSY_S)) as database:
            return database.execute(query, values).fetchall()
    except sqlite3.Error:  # what cannot be read is not there: the archive answers instead
        return []


def _unwritable(error: Exception) -> StorageError:
    return StorageError(
        "feed_board_unwritable",
        f"the feed's {BOARD} cannot be written ({error})",
        "free some disk space or check the folder's permissions",
    )
