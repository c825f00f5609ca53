"""The archive: every bar and corporate action we hold, readable as of any moment.

    root/manifest.json                     what counts, replaced atomically (the commit point)
    root/bars/INTERVAL/SYMBOL.DIGEST.parquet            a series of its own
    root/bars/INTERVAL/imports/DIGEST.parquet           many symbols, as one import brought them
    root/bars/INTERVAL/date=2019/DIGEST.parquet         many symbols, a year or a month: `compaction`
    root/actions/SYMBOL.DIGEST.parquet     splits and dividends
    root/calendars/…                       sessions of exchanges, computed once
    root/quarantine/…                      rows that an import refused, with the reasons
    root/replay.db                         where the replay clock stands

Files are immutable and named by their content's digest. An import writes new files, then the manifest;
a process killed in between leaves the archive as it was, and the next import sweeps the leftovers.
"""

import difflib
from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import TypeVar, cast

import polars as pl
from pydantic import Field

from neural_trader_governance.errors import DataError, IntegrityError
from neural_trader_governance.terms.clocks import Clock, UtcTime, WallClock, to_utc
from neural_trader_governance.terms.instruments import Instrument
from neural_trader_governance.terms.market import Bar, interval_duration
from neural_trader_tools.market.adjustment import Adjust
from neural_trader_tools.market.batches import Batch, Gathered, Written, merged_listing
from neural_trader_tools.market.compaction import Compacted, compact
from neural_trader_tools.market.durable import exclusive
from neural_trader_tools.market.manifest import DataSet, Listing, Manifest, ManifestFile, Part
from neural_trader_tools.market.parquet import ParquetFolder
from neural_trader_tools.market.renames import ActionCounts, Rename, in_force, merged_renames
from neural_trader_tools.market.resampling import Span, derivable
from neural_trader_tools.market.sessions import SessionBook
from neural_trader_tools.market.tiers import checked_uri, location_of, upload
from neural_trader_tools.market.views import View

GATHERED_SERIES_MIN = 64
"""A commit of at least so many series writes one part, not a file of each: syncs alone would take longer."""


class ListedInstrument(Instrument):
    """An instrument of the archive, with the span and the intervals of its bars."""

    first: UtcTime | None = Field(default=None, description="Oldest bar")
    last: UtcTime | None = Field(default=None, description="Newest bar")
    intervals: tuple[str, ...] = ()
    derived: tuple[str, ...] = Field(default=(), description="Made of those when read")


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
        self._book = SessionBook(root / "calendars")
        self._noted: tuple[Manifest, dict[tuple[str, str], object]] = (Manifest(), {})

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
            interval: One that the symbol has, such as `1d`, or one that is made of it (`resampling`).
            start: First event_time wanted, inclusive.
            end: End of the event_times wanted, exclusive.
            as_of: Rows and actions known later are invisible; None sees everything.
            adjust: `none` raw, `splits`, or `total` (splits and dividends); see `adjustment`.

        Returns:
            Columns `event_time, known_time` (Datetime us UTC), `open, high, low, close, volume` (Float64).

        Raises:
            DataError: unknown symbol, it has no bars that the interval could be made of, or none that can be
                cut at its sessions.
            InputError: `start`, `end` or `as_of` has no time zone.
        """
        start, end, as_of = (to_utc(moment) if moment else None for moment in (start, end, as_of))
        return _retried(lambda: self._view(symbol, as_of).bars(interval, start, end, adjust))

    def actions(self, symbol: str, as_of: datetime | None = None, *, upcoming: bool = False) -> pl.DataFrame:
        """Returns the splits and dividends known at `as_of`: `event_time, known_time, kind, value`.

        `event_time` is the start of the ex-date in the exchange's time zone. Those whose ex-date is still to
        come at `as_of` (at the archive's clock where it is None) are left out unless `upcoming`.

        Raises:
            DataError: unknown symbol.
        """
        as_of = to_utc(as_of) if as_of else None
        return _retried(lambda: self._view(symbol, as_of).actions(upcoming=upcoming))

    def action_moments(self, symbol: str) -> list[datetime] | None:
        """Returns, ascending, the only moments `as_of` which `actions` answers otherwise than just before.

        Who asks at many moments so reads once for all between two of them. None where a symbol change is
        told of: then whose actions they are may depend on any bar.

        Raises:
            DataError: unknown symbol.
        """

        def read() -> list[datetime] | None:
            stored = self._listing(symbol).actions
            if self._manifest.read().renames_of(symbol):
                return None
            if stored is None:
                return []
            rows = self._files.rows(stored.file, stored.rows, lambda rows: rows)
            return sorted({*rows["event_time"], *rows["known_time"]})

        return self._of_manifest("action moments", symbol, lambda: _retried(read))

    def renames(self, symbol: str, as_of: datetime | None = None, *, upcoming: bool = False) -> list[Rename]:
        """Returns the symbol changes known at `as_of` that lead to a symbol or away from it, by time.

        Those still to come are left out unless `upcoming`.
        """
        as_of = to_utc(as_of) if as_of else self._clock.now()
        return in_force(self._manifest.read().renames_of(symbol), as_of, upcoming=upcoming)

    def sessions(self, calendar: str, first: date, last: date) -> pl.DataFrame:
        """Returns an exchange's sessions; see `SessionBook.sessions`."""
        return self._book.sessions(calendar, first, last)

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
        listing = self._listing(symbol)
        return self._of_manifest("listed", symbol, lambda: _listed(listing))

    def datasets(self) -> list[DataSet]:
        """Returns the data sets' newest imports: source, licence, what was added."""
        datasets = self._manifest.read().datasets
        return [datasets[name] for name in sorted(datasets)]

    def dataset_of(self, symbol: str, interval: str = "1d") -> str:
        """Returns the id of the data set that last added bars to the series.

        Raises:
            DataError: unknown symbol or interval.
        """
        return _retried(lambda: self._view(symbol, None).dataset(interval))

    def spans(self, symbol: str) -> list[Span]:
        """Returns how far each stored interval of a symbol's series reaches.

        Raises:
            DataError: unknown symbol.
        """
        return list(_retried(lambda: self._view(symbol, None).intervals()).values())

    def source(self, symbol: str, interval: str) -> str:
        """Returns the stored interval that `interval` is read from: itself, or what it is made of.

        Raises:
            DataError: unknown symbol, or nothing stored that it could be made of.
        """
        return _retried(lambda: self._view(symbol, None).source(interval))

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

        def read() -> str:
            return _retried(lambda: self._view(symbol, None).version(interval))

        manifest = self._manifest.read()
        listing = manifest.listings.get(symbol)
        if listing is None or interval not in listing.series or manifest.renames_of(symbol):
            return read()  # it depends on the time, or on calendars, too
        return self._of_manifest(f"version {interval}", symbol, read)

    # Writing

    def write(self, batches: Sequence[Batch]) -> list[Written]:
        """Adds batches in one commit: after a crash at any instant all of them are there, or none.

        Raises:
            StorageError: the disk refused; the archive is unchanged.
            IntegrityError: the archive's own files do not parse.
        """
        written, _ = self._commit(batches, ())
        return written

    def write_actions(
        self,
        batches: Sequence[Batch],
        renames: Sequence[Rename],
        dataset: DataSet,
        *,
        known_time_given: bool = False,
    ) -> ActionCounts:
        """Adds splits, dividends and symbol changes in one commit; otherwise as `write`.

        Args:
            batches: Of the splits and dividends, without bars.
            renames: The symbol changes.
            dataset: That all of them belong to.
            known_time_given: The source says when each was known, so a revision keeps that time.
        """
        written, counts = self._commit(batches, renames, dataset, known_time_given)
        return ActionCounts(
            counts.rows_new + sum(one.actions_new for one in written),
            counts.rows_revised + sum(one.actions_revised for one in written),
            counts.rows_unchanged + sum(one.actions_unchanged for one in written),
        )

    def _commit(
        self,
        batches: Sequence[Batch],
        renames: Sequence[Rename],
        dataset: DataSet | None = None,
        known_time_given: bool = False,
    ) -> tuple[list[Written], ActionCounts]:
        with exclusive(self.root / ".lock"):
            before = self._manifest.read()
            self._files.sweep(before.files())
            listings, datasets = dict(before.listings), dict(before.datasets)
            written: list[Written] = []
            added: dict[str, int] = {}
            by_interval = before.parts_by_interval
            series = {(batch.instrument.symbol, batch.interval) for batch in batches if batch.bars.height}
            gathered = Gathered() if len(series) >= GATHERED_SERIES_MIN else None
            for batch in batches:
                listing, result = merged_listing(
                    self._files,
                    listings.get(batch.instrument.symbol),
                    batch,
                    self._clock.now(),
                    by_interval.get(batch.interval, []),
                    gathered,
                )
                listings[listing.instrument.symbol] = listing
                written.append(result)
                name = batch.dataset.dataset_id
                more = result.actions_new + result.actions_revised if dataset is not None else 0
                added[name] = added.get(name, 0) + result.rows_new + result.rows_revised + more
                if added[name] or name not in before.datasets:  # an import that adds nothing leaves no trace
                    datasets[name] = batch.dataset.model_copy(update={"rows_added": added[name]})
            revised_at = None if known_time_given else self._clock.now()
            changes, counts = merged_renames(before.renames, renames, revised_at)
            if dataset is not None and (changed := counts.rows_new + counts.rows_revised):
                name = dataset.dataset_id
                datasets[name] = dataset.model_copy(update={"rows_added": added.get(name, 0) + changed})
            parts = before.parts + tuple(gathered.store(self._files) if gathered else ())
            after = Manifest(listings=listings, datasets=datasets, renames=changes, parts=parts)
            if after != before:
                self._manifest.replace(after)
            return written, counts

    def compact(self, tell: Callable[[float], None] = lambda _: None) -> Compacted:
        """Rewrites the series of many symbols as parts of a year or a month each; see `compaction`.

        Raises:
            StorageError: the disk refused; the archive is unchanged.
        """
        with exclusive(self.root / ".compact.lock"):
            try:
                return compact(self.root, self._manifest, self._files, tell)
            except FileNotFoundError as error:
                raise _missing(error) from error

    def parts(self) -> list[Part]:
        """Returns what many symbols share on disk or in a store, by interval and time."""
        return sorted(self._manifest.read().parts, key=lambda one: (one.interval, one.first, one.file))

    def move_cold(
        self, uri: str, older_than: datetime, tell: Callable[[float], None] = lambda _: None
    ) -> list[Part]:
        """Moves the compacted parts whose newest bar is older than a moment to a store; see `tiers`.

        Returns:
            What was moved; the rest was cold already, is newer, or was never compacted.

        Raises:
            InputError: no store has that URI.
            NetworkError: the store cannot be reached; what was moved so far is, the rest stays here.
            IntegrityError: a part did not arrive as it is; it stays here.
        """
        uri, older_than = checked_uri(uri), to_utc(older_than)
        moved: list[Part] = []
        with exclusive(self.root / ".compact.lock"):
            due = [one for one in self.parts() if one.period and not one.location and one.last < older_than]
            for part in due:
                location = location_of(uri, part)
                upload(self.root / part.file, part, location)
                cold = part.model_copy(update={"location": location})
                with exclusive(self.root / ".lock"):
                    now = self._manifest.read()
                    parts = tuple(cold if one.file == part.file else one for one in now.parts)
                    self._manifest.replace(now.with_parts(parts))
                    (self.root / part.file).unlink(missing_ok=True)
                moved.append(cold)
                tell(len(moved) / len(due))
        return moved

    def preload(self, symbols: Sequence[str], interval: str) -> None:
        """Reads what parts hold of several symbols at once, before each is read."""
        manifest = self._manifest.read()
        parts = manifest.parts_by_interval.get(interval, [])
        listed = [manifest.listings.get(one) for one in symbols]
        wanted = [
            one.instrument.symbol
            for one in listed
            if one is not None and interval in one.series and one.series[interval].parted
        ]
        if parts and wanted:
            _retried(lambda: self._files.preload(wanted, parts))

    def scan(self, interval: str = "1d") -> pl.LazyFrame:
        """Returns every row of every symbol of an interval, to be filtered lazily.

        Predicates on `symbol`, `event_time` and `known_time` skip parts and row groups by their statistics.

        Returns:
            `symbol` and `frames.BAR_SCHEMA`: raw prices, each revision a row, in no order. A row may be there
            twice after an import that ran beside a compaction.

        Raises:
            DataError: `no_bars`, no symbol has that interval.
        """
        manifest = self._manifest.read()
        own = [
            self._files.scan_file(symbol, listing.series[interval].file)
            for symbol, listing in manifest.listings.items()
            if interval in listing.series and listing.series[interval].file
        ]
        parts = self._files.scan_parts(manifest.parts_by_interval.get(interval, []))
        if not own and not parts:
            raise DataError(
                "no_bars", f"no symbol has stored {interval} bars", "see `neural-trader data list`"
            )
        return pl.concat([*parts, *own])

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

    def _of_manifest(self, kind: str, symbol: str, make: Callable[[], "Result"]) -> "Result":
        """Returns what was made for the manifest in force before, else makes it."""
        manifest = self._manifest.read()
        if self._noted[0] is not manifest:
            self._noted = (manifest, {})
        of, notes = self._noted
        if of is not manifest:  # another thread saw another manifest meanwhile
            return make()
        key = (kind, symbol)
        if key not in notes:
            notes[key] = make()
        return cast("Result", notes[key])

    def _view(self, symbol: str, as_of: datetime | None) -> View:
        manifest = self._manifest.read()
        if symbol not in manifest.listings and not manifest.renames_of(symbol):
            self._listing(symbol)  # says what is near
        return View(manifest, self._files, self._book, symbol, as_of, self._clock.now())


Result = TypeVar("Result")


def _retried(read: Callable[[], Result], attempts: int = 3) -> Result:
    """Reads again from the new manifest where an import replaced a file under the reader's feet."""
    missing: FileNotFoundError | None = None
    for _ in range(attempts):
        try:
            return read()
        except FileNotFoundError as error:
            missing = error
    raise _missing(missing)


def _missing(error: FileNotFoundError | None) -> IntegrityError:
    return IntegrityError(
        "archive_file_missing",
        f"the manifest names a file that is not there ({error})",
        "restore the archive folder from a copy, or import the data into a fresh one",
    )


def _listed(listing: Listing) -> ListedInstrument:
    spans = listing.series.values()
    return ListedInstrument(
        **listing.instrument.model_dump(),
        first=min((span.first for span in spans), default=None),
        last=max((span.last for span in spans), default=None),
        intervals=tuple(sorted(listing.series, key=interval_duration)),
        derived=derivable(listing.series),
    )


def _nearest(symbol: str, symbols: Iterable[str]) -> str:
    near = difflib.get_close_matches(symbol.upper()[:40], list(symbols), n=3, cutoff=0.5)
    return f"did you mean {' or '.join(near)}" if near else "check the spelling"
