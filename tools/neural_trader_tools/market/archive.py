"""The archive: every bar and corporate action we hold, readable as of any moment.

    root/manifest.json                     what counts, replaced atomically (the commit point)
    root/bars/INTERVAL/SYMBOL.DIGEST.parquet
    root/actions/SYMBOL.DIGEST.parquet     splits and dividends
    root/quarantine/…                      rows that an import refused, with the reasons
    root/replay.db                         where the replay clock stands

Files are immutable and named by their content's digest. An import writes new files, then the manifest;
a process killed in between leaves the archive as it was, and the next import sweeps the leftovers.
"""

import difflib
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

import polars as pl
from pydantic import Field

from neural_trader_governance.errors import DataError, IntegrityError
from neural_trader_governance.terms.clocks import Clock, UtcTime, WallClock, to_utc
from neural_trader_governance.terms.instruments import Instrument
from neural_trader_governance.terms.market import Bar, interval_duration
from neural_trader_tools.market import frames
from neural_trader_tools.market.adjustment import Adjust, adjusted
from neural_trader_tools.market.batches import Batch, Written, merged_listing
from neural_trader_tools.market.durable import exclusive
from neural_trader_tools.market.manifest import DataSet, Listing, Manifest, ManifestFile, Series
from neural_trader_tools.market.parquet import ParquetFolder


class ListedInstrument(Instrument):
    """An instrument of the archive, with the span and the intervals of its bars."""

    first: UtcTime | None = Field(default=None, description="event_time of its oldest bar")
    last: UtcTime | None = Field(default=None, description="event_time of its newest bar")
    intervals: tuple[str, ...] = ()


class Archive:
    """Reads and writes one archive folder; safe to share between threads and between processes.

    Args:
        root: The folder; created by the first import.
        clock: Says when an import happens; the machine's clock by default.
    """

    def __init__(self, root: Path, clock: Clock | None = None) -> None:
        self.root = root
        self._clock = clock or WallClock()
        self._manifest = ManifestFile(root)
        self._files = ParquetFolder(root)

    # Reading

    def bars(
        self,
        symbol: str,
        interval: str = "1d",
        *,
        start: datetime | None = None,
        end: datetime | None = None,
        as_of: datetime | None = None,
        adjust: Adjust = "splits",
    ) -> pl.DataFrame:
        """Returns bars as they could be known at `as_of`, ascending by event_time.

        Args:
            symbol: As `instruments()` spells it.
            interval: One that the symbol has, such as `1d`.
            start: First event_time wanted, inclusive.
            end: End of the event_times wanted, exclusive.
            as_of: Rows and actions known later are invisible; None sees everything.
            adjust: `none` raw, `splits`, or `total` (splits and dividends); see `adjustment`.

        Returns:
            Columns `event_time, known_time` (Datetime us UTC), `open, high, low, close, volume` (Float64).

        Raises:
            DataError: unknown symbol, or it has no bars of that interval.
            InputError: `start`, `end` or `as_of` has no time zone.
        """
        start, end, as_of = (to_utc(moment) if moment else None for moment in (start, end, as_of))

        def read() -> pl.DataFrame:
            series = self._series(symbol, interval)
            # A dividend's factor needs the close on its ex-date, which may lie outside the window.
            early = (None, None) if adjust == "total" else (start, end)
            frame = self._files.rows(series.file, series.rows, lambda rows: _window(rows, *early, as_of))
            if series.revisions:
                frame = frames.known_at(frame, None, frames.BAR_KEY)
            if adjust != "none":
                frame = adjusted(frame, self.actions(symbol, as_of), adjust)
            return _window(frame.lazy(), start, end, None).collect() if adjust == "total" else frame

        return _retried(read)

    def actions(self, symbol: str, as_of: datetime | None = None) -> pl.DataFrame:
        """Returns the splits and dividends known at `as_of`: `event_time, known_time, kind, value`.

        `event_time` is the start of the ex-date in the exchange's time zone.

        Raises:
            DataError: unknown symbol.
        """
        as_of = to_utc(as_of) if as_of else None

        def read() -> pl.DataFrame:
            actions = self._listing(symbol).actions
            if actions is None:
                return frames.empty(frames.ACTION_SCHEMA)
            rows = self._files.rows(actions.file, actions.rows, lambda rows: _window(rows, None, None, as_of))
            return frames.known_at(rows, None, frames.ACTION_KEY)

        return _retried(read)

    def last_bar(self, symbol: str, as_of: datetime, interval: str = "1d") -> Bar | None:
        """Returns the newest raw (unadjusted) bar known at `as_of`, or None where none was known.

        Raises:
            DataError: unknown symbol or interval.
        """
        last = self.bars(symbol, interval, as_of=as_of, adjust="none").tail(1)
        if last.is_empty():
            return None
        return Bar(symbol=symbol, interval=interval, **last.row(0, named=True))

    def instruments(self) -> list[ListedInstrument]:
        """Returns everything that is listed, by symbol."""
        listings = self._manifest.read().listings
        return [_listed(listings[symbol]) for symbol in sorted(listings)]

    def instrument(self, symbol: str) -> ListedInstrument:
        """Returns one listed instrument.

        Raises:
            DataError: `unknown_symbol`, with the nearest symbols.
        """
        return _listed(self._listing(symbol))

    def datasets(self) -> list[DataSet]:
        """Returns the data sets' newest imports: source, licence, what was added."""
        datasets = self._manifest.read().datasets
        return [datasets[name] for name in sorted(datasets)]

    def dataset_of(self, symbol: str, interval: str = "1d") -> str:
        """Returns the id of the data set that last added bars to the series.

        Raises:
            DataError: unknown symbol or interval.
        """
        return self._series(symbol, interval).dataset_id

    def newest_known_time(self, *, tradable_only: bool = True) -> datetime | None:
        """Returns when the newest bar first became known, over all series; None of an empty archive.

        Later corrections of old bars do not count: they are known at their import.
        """
        return max(
            (
                series.newest_known_time
                for listing in self._manifest.read().listings.values()
                if listing.instrument.tradable or not tradable_only
                for series in listing.series.values()
            ),
            default=None,
        )

    def data_version(self, symbol: str, interval: str = "1d") -> str:
        """Returns a SHA-256 over the content of the bars and actions, every revision included.

        Raises:
            DataError: unknown symbol or interval.
        """
        actions = self._listing(symbol).actions
        bars = self._series(symbol, interval).digest
        return sha256(
            f"{symbol}\n{interval}\n{bars}\n{actions.digest if actions else ''}".encode()
        ).hexdigest()

    # Writing

    def write(self, batches: Sequence[Batch]) -> list[Written]:
        """Adds batches in one commit: after a crash at any instant all of them are there, or none.

        Raises:
            StorageError: the disk refused; the archive is unchanged.
            IntegrityError: the archive's own files do not parse.
        """
        with exclusive(self.root / ".lock"):
            before = self._manifest.read()
            self._files.sweep(before.files())
            listings, datasets = dict(before.listings), dict(before.datasets)
            written: list[Written] = []
            added: dict[str, int] = {}
            for batch in batches:
                listing, result = merged_listing(
                    self._files, listings.get(batch.instrument.symbol), batch, self._clock.now()
                )
                listings[listing.instrument.symbol] = listing
                written.append(result)
                name = batch.dataset.dataset_id
                added[name] = added.get(name, 0) + result.rows_new + result.rows_revised
                if added[name] or name not in before.datasets:  # an import that adds nothing leaves no trace
                    datasets[name] = batch.dataset.model_copy(update={"rows_added": added[name]})
            after = Manifest(listings=listings, datasets=datasets)
            if after != before:
                self._manifest.replace(after)
            return written

    def _listing(self, symbol: str) -> Listing:
        listings = self._manifest.read().listings
        if symbol in listings:
            return listings[symbol]
        if not listings:
            raise DataError(
                "unknown_symbol",
                f"{symbol!r:.40} is not in the archive, which is empty",
                "run `neural-trader data fetch sample` or `neural-trader data import`",
            )
        raise DataError(
            "unknown_symbol",
            f"{symbol!r:.40} is not in the archive",
            f"{_nearest(symbol, listings)}; find symbols with market_search",
        )

    def _series(self, symbol: str, interval: str) -> Series:
        listing = self._listing(symbol)
        interval_duration(interval)
        if interval not in listing.series:
            raise DataError(
                "no_bars",
                f"{symbol} has no {interval} bars",
                f"use one of {', '.join(listing.series) or 'none yet'}, or import a file with that interval",
            )
        return listing.series[interval]


Result = TypeVar("Result")


def _retried(read: Callable[[], Result], attempts: int = 3) -> Result:
    """Reads again from the new manifest where an import replaced a file under the reader's feet."""
    missing = ""
    for _ in range(attempts):
        try:
            return read()
        except FileNotFoundError as error:
            missing = str(error)
    raise IntegrityError(
        "archive_file_missing",
        f"the manifest names a file that is not there ({missing})",
        "restore the archive folder from a copy, or import the data into a fresh one",
    )


def _window(
    rows: pl.LazyFrame, start: datetime | None, end: datetime | None, as_of: datetime | None
) -> pl.LazyFrame:
    if as_of is not None:
        rows = rows.filter(pl.col("known_time") <= as_of)
    if start is not None:
        rows = rows.filter(pl.col("event_time") >= start)
    if end is not None:
        rows = rows.filter(pl.col("event_time") < end)
    return rows


def _listed(listing: Listing) -> ListedInstrument:
    spans = listing.series.values()
    return ListedInstrument(
        **listing.instrument.model_dump(),
        first=min((span.first for span in spans), default=None),
        last=max((span.last for span in spans), default=None),
        intervals=tuple(sorted(listing.series, key=interval_duration)),
    )


def _nearest(symbol: str, symbols: Iterable[str]) -> str:
    near = difflib.get_close_matches(symbol.upper()[:40], list(symbols), n=3, cutoff=0.5)
    return f"did you mean {' or '.join(near)}" if near else "check the spelling"
