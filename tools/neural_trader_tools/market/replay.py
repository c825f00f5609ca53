"""The replay clock: what time it is on the paper desk when there is no live feed.

It stands at the instant at which the newest bar of a tradable instrument became known ("auto"), until it
is set. Once set it moves only when told, session by session or to a moment, and never backwards: orders
were placed on what was known. Its place is kept in `replay.db` in the archive's folder and read at every
use, so the processes that share an archive share the time.
"""

import os
import sqlite3
import threading
import weakref
from collections.abc import Generator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Literal

import polars as pl

from neural_trader_governance.errors import DataError, InputError, StorageError
from neural_trader_governance.terms.clocks import format_time, to_utc
from neural_trader_governance.terms.market import Quote, interval_duration
from neural_trader_governance.terms.money import price_tick, round_to_tick
from neural_trader_tools.market.archive import Archive, ListedInstrument

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
BUSY_TIMEOUT_S = 10.0
SCHEMA = "CREATE TABLE IF NOT EXISTS replay (id INTEGER PRIMARY KEY CHECK (id = 1), now_us INTEGER NOT NULL)"


class ReplayClock:
    """A `Clock` over an archive; safe to share between threads and between processes.

    Args:
        archive: Whose known times it walks along.
        path: Where its place is kept; `replay.db` in the archive's folder by default.
    """

    kind: Literal["replay", "wall"] = "replay"

    def __init__(self, archive: Archive, path: Path | None = None) -> None:
        self._archive = archive
        self._path = path or archive.root / "replay.db"
        self._reading = threading.Lock()
        self._reader: tuple[tuple[int, int, int], sqlite3.Connection] | None = None

    def now(self) -> datetime:
        """Returns the desk's time, in UTC.

        Raises:
            DataError: `archive_empty`, the clock was never set and nothing tradable is in the archive.
            StorageError: its file cannot be read.
        """
        moment = self.horizon() or self._archive.newest_known_time()
        if moment is None:
            raise DataError(
                "archive_empty",
                "the replay clock has no price to stand at",
                "run `neural-trader data fetch sample` or `neural-trader data import`",
            )
        return moment

    def horizon(self) -> datetime | None:
        """Returns the moment that the clock was set to, or None in auto: what no agent may look beyond."""
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._unreadable(error) from error
        # Another file under the name is another place, and SQLite must not be used across a fork.
        file = (os.getpid(), status.st_dev, status.st_ino)
        with self._reading:
            try:
                rows = self._open_reader(file).execute("SELECT now_us FROM replay").fetchall()
            except sqlite3.Error as error:
                raise self._unreadable(error) from error
        return EPOCH + timedelta(microseconds=rows[0][0]) if rows else None

    def set(self, moment: datetime) -> datetime:
        """Sets the clock, which ends auto, and returns the moment in UTC.

        Raises:
            InputError: `clock_backwards`, it was set before and stands later; or no time zone.
            StorageError: its file cannot be written.
        """
        moment = to_utc(moment)
        micros = (moment - EPOCH) // timedelta(microseconds=1)
        with self._database() as database:
            database.execute("BEGIN IMMEDIATE")
            row: tuple[int] | None = database.execute("SELECT now_us FROM replay").fetchone()
            if row is not None and micros < row[0]:
                stands = EPOCH + timedelta(microseconds=row[0])
                raise InputError(
                    "clock_backwards",
                    f"the replay clock stands at {format_time(stands)} and cannot go back to"
                    f" {format_time(moment)}",
                    "step forward, or start a fresh home for another replay",
                )
            database.execute("INSERT OR REPLACE INTO replay VALUES (1, ?)", (micros,))
            database.execute("COMMIT")
        return moment

    def step(self, sessions: int = 1) -> list[tuple[str, pl.DataFrame]]:
        """Moves to the end of the next session, or of the one `sessions` further, as far as there are any.

        A session ends when a daily bar of a tradable instrument becomes known (for a symbol without daily
        bars, when the last bar of a UTC day does).

        Returns:
            Per tradable symbol the raw bars (`Archive.bars` columns, daily where it has any) that became
            known on the way; symbols without new bars are absent.

        Raises:
            InputError: `sessions` is below 1.
            DataError: `replay_at_end`, nothing becomes known later.
        """
        if sessions < 1:
            raise InputError("invalid_sessions", f"cannot step {sessions} sessions", "step 1 or more")
        now = self.now()
        bars = {
            instrument.symbol: self._archive.bars(
                instrument.symbol, _main_interval(instrument), adjust="none"
            )
            for instrument in self._archive.instruments()
            if instrument.tradable and instrument.intervals
        }
        fresh = {symbol: rows.filter(pl.col("known_time") > now) for symbol, rows in bars.items()}
        ends = sorted({end for rows in fresh.values() for end in _session_ends(rows)})
        if not ends:
            raise DataError(
                "replay_at_end",
                f"no session ends after {format_time(now)}, where the replay clock stands",
                "import newer bars, or set the clock of a fresh home to an earlier time first",
            )
        moment = self.set(ends[min(sessions, len(ends)) - 1])
        known = {symbol: rows.filter(pl.col("known_time") <= moment) for symbol, rows in fresh.items()}
        return [(symbol, rows) for symbol, rows in known.items() if not rows.is_empty()]

    def quote(self, symbol: str) -> Quote:
        """Returns the last price known at the clock's time, on that day's share basis and tick grid.

        Bid and ask are None: bars have none.

        Raises:
            DataError: unknown symbol, or no bar of it was known yet.
        """
        now = self.now()
        newest = newest_bar(self._archive, symbol, as_of=now)
        if newest is None:
            raise DataError(
                "no_price",
                f"no price of {symbol} was known at {format_time(now)}, where the replay clock stands",
                "step the clock forward, or choose a symbol that traded then (market_search)",
            )
        made, interval, last = newest
        close = Decimal(repr(last.item(0, "close")))
        source = f"archive {self._archive.dataset_of(symbol, interval)} {interval} close"
        last_price = round_to_tick(close, price_tick(close), "nearest")
        if last_price <= 0:
            raise DataError(
                "no_price", f"{symbol} closed at {close}, below the smallest tick", "choose another symbol"
            )
        return Quote(
            symbol=symbol,
            last=last_price,
            event_time=made,
            known_time=last.item(0, "known_time"),
            source=source[:80],
        )

    @contextmanager
    def _database(self) -> Generator[sqlite3.Connection]:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with closing(
                sqlite3.connect(self._path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
            ) as database:
                database.execute(SCHEMA)
                yield database
        except (sqlite3.Error, OSError) as error:
            raise self._unreadable(error) from error

    def _open_reader(self, file: tuple[int, int, int]) -> sqlite3.Connection:
        """Returns the connection that `horizon` reads by: the clock is asked several times an order."""
        if self._reader is not None and self._reader[0] == file:
            return self._reader[1]
        reader = sqlite3.connect(
            self._path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
        )
        weakref.finalize(self, reader.close).atexit = False
        if self._reader is not None and self._reader[0][0] == file[0]:
            self._reader[1].close()
        reader.execute(SCHEMA)
        self._reader = (file, reader)
        return reader

    def _unreadable(self, error: Exception) -> StorageError:
        return StorageError(
            "replay_clock_unreadable",
            f"{self._path.name} cannot be used ({error})",
            "check the archive folder's permissions and free space",
        )


def newest_bar(
    archive: Archive, symbol: str, *, as_of: datetime, end: datetime | None = None
) -> tuple[datetime, str, pl.DataFrame] | None:
    """Returns when the newest price was made, its interval (the finer of two as new) and its bar's row.

    Args:
        archive: Where to look.
        symbol: As the archive spells it.
        as_of: What was known later is invisible; splits known by then are applied.
        end: End of the event_times wanted, exclusive.

    Raises:
        DataError: unknown symbol.
    """
    newest: tuple[datetime, str, pl.DataFrame] | None = None
    for interval in archive.instrument(symbol).intervals:
        last = archive.bars(symbol, interval, end=end, as_of=as_of).tail(1)
        if last.is_empty():
            continue
        # The price was made when the bar ended, though it may have been published later.
        made: datetime = min(
            last.item(0, "known_time"), last.item(0, "event_time") + interval_duration(interval)
        )
        if newest is None or made > newest[0]:
            newest = (made, interval, last)
    return newest


def _main_interval(instrument: ListedInstrument) -> str:
    """Daily where there is any, else the finest."""
    return "1d" if "1d" in instrument.intervals else instrument.intervals[0]


def _session_ends(rows: pl.DataFrame) -> list[datetime]:
    return (
        rows.group_by(pl.col("event_time").dt.date()).agg(pl.col("known_time").max())["known_time"].to_list()
    )
