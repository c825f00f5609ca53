"""A view: what one symbol's bars and actions look like as of a moment.

Stored rows become what a reader gets in this order: the pieces that symbol changes join (`renames`), the
newest revision known, resampling where the interval is not stored (`resampling`), and last the adjustment
for splits and dividends, so that a derived bar is adjusted as a stored one would be. Weeks are the exception:
a split may fall inside one, so they are made of daily bars that are adjusted already.
"""

from datetime import UTC, datetime, timedelta
from hashlib import sha256

import polars as pl

from neural_trader_governance.errors import DataError
from neural_trader_governance.terms.market import interval_duration
from neural_trader_tools.market import frames
from neural_trader_tools.market.adjustment import Adjust, adjusted
from neural_trader_tools.market.manifest import Listing, Manifest, Series
from neural_trader_tools.market.parquet import ParquetFolder
from neural_trader_tools.market.renames import Piece, Rename, holder, in_force, pieces
from neural_trader_tools.market.resampling import DAY, WEEK, Span, derivable, resampled, source_of
from neural_trader_tools.market.sessions import CONTINUOUS, SessionBook, calendar_of

_MARGIN = {False: timedelta(days=2), True: timedelta(days=9)}
"""How far around a window its derived bars' constituents lie: a session, or a week."""


class View:
    """One symbol as of a moment, over one state of the manifest.

    Args:
        manifest: The archive's state.
        files: Where its rows are.
        book: Sessions of exchange calendars.
        symbol: A stored one, or the old or new name in a symbol change.
        as_of: Rows, actions and symbol changes known later are invisible; None sees everything.
        now: Where `as_of` is None: splits and dividends of later dates change no price yet.
    """

    def __init__(
        self,
        manifest: Manifest,
        files: ParquetFolder,
        book: SessionBook,
        symbol: str,
        as_of: datetime | None,
        now: datetime,
    ) -> None:
        self._effective = as_of or now
        self._listings, self._files, self._book = manifest.listings, files, book
        self._parts = manifest.parts_by_interval
        self._symbol, self._as_of = symbol, as_of
        self._renames = manifest.renames_of(symbol)
        self._in_force = in_force(self._renames, self._effective)
        self.holder = symbol
        if self._in_force:
            self.holder = holder(symbol, self._in_force, self._has_rows_from)
        elif symbol not in self._listings and self._renames:
            # Nobody stored the old symbol: its rows came under the new one.
            told = in_force(self._renames, datetime.max.replace(tzinfo=UTC))
            self.holder = holder(symbol, told, _nobody)

    @property
    def changes(self) -> list[Rename]:
        """The symbol changes that this view follows, by time."""
        return list(self._in_force)

    def intervals(self) -> dict[str, Span]:
        """Returns the stored intervals of the joined series, with how far they reach."""
        spans: dict[str, Span] = {}
        for interval in dict.fromkeys(each for one in self._joined() for each in one.series):
            stored = [self._listings[piece.symbol].series[interval] for piece in self._pieces(interval)]
            if not stored:
                continue
            spans[interval] = Span(min(one.first for one in stored), max(one.last for one in stored))
        return spans

    def source(self, interval: str) -> str:
        """Returns the stored interval that `interval` is read or made from.

        Raises:
            InputError: it is no interval.
            DataError: `no_bars`, there is none of it and none that it could be made of.
        """
        stored = self.intervals()
        found = source_of(stored, interval)
        if found is None:
            also = derivable(stored)
            made = f" ({', '.join(also)} can be made of them)" if also else ""
            raise DataError(
                "no_bars",
                f"{self._symbol} has no bars of {interval!r}, and none that they could be made of",
                f"use one of: {', '.join(stored)}{made}"
                if stored
                else "have a person import prices: neural-trader data import",
            )
        return found

    def bars(
        self, interval: str, start: datetime | None, end: datetime | None, adjust: Adjust
    ) -> pl.DataFrame:
        """Returns bars as `Archive.bars` promises them."""
        source = self.source(interval)
        part, whole = interval_duration(source), interval_duration(interval)
        # A dividend's factor needs the close on its ex-date, which may lie outside the window.
        window = (None, None) if adjust == "total" else (start, end)
        if part == whole:
            frame = adjusted(self._raw(source, *window), self.actions(), adjust)
        elif whole == WEEK:
            frame = self._weeks(interval, *window, adjust)
        else:
            frame = adjusted(self._derived(source, whole, *window), self.actions(), adjust)
        return _cut(frame, start, end)

    def actions(self, *, upcoming: bool = False) -> pl.DataFrame:
        """Returns the splits and dividends of the joined series, by ex-date, and upcoming ones if wanted."""
        found: list[pl.DataFrame] = []
        for piece in self._pieces(None):
            stored = self._listings[piece.symbol].actions if piece.symbol in self._listings else None
            if stored is not None:
                rows = self._files.rows(stored.file, stored.rows, self._known_rows)
                found.append(_cut(frames.known_at(rows, None, frames.ACTION_KEY), piece.start, piece.end))
        joined = pl.concat(found) if found else frames.empty(frames.ACTION_SCHEMA)
        return joined if upcoming else joined.filter(pl.col("event_time") <= self._effective)

    def calendar(self, source: str) -> str:
        """Returns the calendar by which bars of a stored interval are cut."""
        series, listing = self._newest(source), self._listings[self._newest_symbol(source)]
        instrument = listing.instrument
        key = f"{instrument.asset_class} {instrument.venue} {series.digest}"
        if key not in self._book.chosen:
            times = self._stored(self._newest_symbol(source), source)
            self._book.chosen[key] = calendar_of(
                instrument.asset_class, instrument.venue, times.get_column("event_time")
            )
        return self._book.chosen[key]

    def dataset(self, interval: str) -> str:
        """Returns the data set that last added bars to what `interval` is read from."""
        return self._newest(self.source(interval)).dataset_id

    def version(self, interval: str) -> str:
        """Returns a SHA-256 over everything that the bars of an interval depend on."""
        source = self.source(interval)
        parts = self._pieces(source)
        if not self._renames and interval_duration(source) == interval_duration(interval):
            listing = self._listings[self._symbol]
            actions = listing.actions.digest if listing.actions else ""
            content = f"{self._symbol}\n{interval}\n{listing.series[source].digest}\n{actions}"
        else:
            lines = [self._symbol, interval, source]
            if source != interval:
                lines.append(self._book.edition)
            # Every listing that a change names: as of an earlier moment other pieces are read.
            names = {piece.symbol for piece in parts} | {
                name for one in self._renames for name in (one.old, one.new)
            }
            for name in sorted(names & set(self._listings)):
                listing = self._listings[name]
                series = listing.series[source].digest if source in listing.series else ""
                lines.append(f"{name} {series} {listing.actions.digest if listing.actions else ''}")
            lines += [
                f"{one.old} {one.new} {one.event_time.isoformat()} {one.known_time.isoformat()}"
                for one in self._renames
            ]
            content = "\n".join(lines)
        return sha256(content.encode()).hexdigest()

    def _weeks(
        self, interval: str, start: datetime | None, end: datetime | None, adjust: Adjust
    ) -> pl.DataFrame:
        margin = _MARGIN[True]
        first = start - margin if start else None
        until = end + margin if end else None
        days = self.bars("1d", first, until, adjust)
        following = None
        if until is not None:
            later = self.bars("1d", until, None, "none")
            following = later.item(0, "known_time") if later.height else None
        calendar = self.calendar(self.source(interval))
        made = resampled(days, DAY, WEEK, self._sessions(calendar, days), following)
        return self._known(made)

    def _derived(
        self, source: str, whole: timedelta, start: datetime | None, end: datetime | None
    ) -> pl.DataFrame:
        margin = _MARGIN[False]
        until = end + margin if end else None
        rows = self._raw(source, start - margin if start else None, until)
        following = None
        if until is not None:
            later = self._raw(source, until, None)
            following = later.item(0, "known_time") if later.height else None
        sessions = self._sessions(self.calendar(source), rows)
        made = resampled(rows, interval_duration(source), whole, sessions, following)
        return _cut(self._known(made), start, end)

    def _known_rows(self, rows: pl.LazyFrame) -> pl.LazyFrame:
        return rows if self._as_of is None else rows.filter(pl.col("known_time") <= self._as_of)

    def _known(self, rows: pl.DataFrame) -> pl.DataFrame:
        return rows if self._as_of is None else rows.filter(pl.col("known_time") <= self._as_of)

    def _sessions(self, calendar: str, bars: pl.DataFrame) -> pl.DataFrame | None:
        if calendar == CONTINUOUS:
            return None
        if bars.is_empty():
            return pl.DataFrame(
                schema={"date": pl.Date, "open": frames.UTC_MICROSECONDS, "close": frames.UTC_MICROSECONDS}
            )
        margin = _MARGIN[True]
        first, last = bars.item(0, "event_time") - margin, bars.item(-1, "event_time") + margin
        return self._book.sessions(calendar, first.date(), last.date())

    def _raw(self, interval: str, start: datetime | None, end: datetime | None) -> pl.DataFrame:
        """Stored rows of the joined series, ascending, one per event_time."""
        found: list[pl.DataFrame] = []
        for piece in self._pieces(interval):
            low = max((one for one in (start, piece.start) if one is not None), default=None)
            high = min((one for one in (end, piece.end) if one is not None), default=None)
            found.append(self._stored(piece.symbol, interval, low, high, self._as_of))
        return found[0] if len(found) == 1 else pl.concat(found)

    def _stored(
        self,
        symbol: str,
        interval: str,
        start: datetime | None = None,
        end: datetime | None = None,
        as_of: datetime | None = None,
    ) -> pl.DataFrame:
        series = self._listings[symbol].series[interval]
        return self._files.series(symbol, series, self._parts.get(interval, []), start, end, as_of)

    def _pieces(self, interval: str | None) -> list[Piece]:
        """The stored symbols that make up the series of an interval (or the actions); never empty."""

        def has_rows_before(symbol: str, moment: datetime) -> bool:
            listing = self._listings.get(symbol)
            if listing is None:
                return False
            series = listing.series.values() if interval is None else [listing.series.get(interval)]
            return any(one is not None and one.first < moment for one in series)

        found = pieces(self.holder, self._in_force, has_rows_before)
        if interval is None:
            return found
        return [one for one in found if self._has(one.symbol, interval)]

    def _has(self, symbol: str, interval: str) -> bool:
        return symbol in self._listings and interval in self._listings[symbol].series

    def _joined(self) -> list[Listing]:
        """The listings whose rows the series may hold, newest first."""
        names = dict.fromkeys([self.holder, *(piece.symbol for piece in reversed(self._pieces(None)))])
        return [self._listings[name] for name in names if name in self._listings]

    def _newest_symbol(self, source: str) -> str:
        return self._pieces(source)[-1].symbol

    def _newest(self, source: str) -> Series:
        return self._listings[self._newest_symbol(source)].series[source]

    def _has_rows_from(self, symbol: str, moment: datetime) -> bool:
        """Says whether rows of a symbol from a moment on are known: by a next holder of it."""
        listing = self._listings.get(symbol)
        if listing is None:
            return False
        for interval, series in listing.series.items():
            if series.last < moment:
                continue
            if self._as_of is None:
                return True
            if self._stored(symbol, interval, moment, None, self._as_of).height:
                return True
        return False


def _nobody(_symbol: str, _moment: datetime) -> bool:
    return False


def _cut(frame: pl.DataFrame, start: datetime | None, end: datetime | None) -> pl.DataFrame:
    if start is not None:
        frame = frame.filter(pl.col("event_time") >= start)
    if end is not None:
        frame = frame.filter(pl.col("event_time") < end)
    return frame
