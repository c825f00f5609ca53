"""Importing corporate actions: `data actions import FILE`, rows of splits, dividends and symbol changes.

| kind | value |
|---|---|
| `split` | new shares per old share: 2 for 2:1, 0.1 for a reverse split 1:10 |
| `dividend` | cash per share, on the basis of the ex-date |
| `rename` | the new symbol; `symbol` is the old one and `date` the first day of the new one |

An action takes effect at the start of its date. It is known from then on, or from the row's own `known_time`
where that is given: one announced earlier is listed as upcoming from then, but changes no price before its
date. A row that changes a stored one is a revision; a split of 1, a dividend of 0 or a rename to the same
symbol withdraws one.
"""

import hashlib
import math
import re
from collections import Counter
from datetime import datetime
from pathlib import Path

import polars as pl
from pydantic import Field

from neural_trader_governance.errors import InputError
from neural_trader_governance.terms.clocks import Clock, WallClock
from neural_trader_governance.terms.instruments import SYMBOL_PATTERN
from neural_trader_governance.terms.term import Term
from neural_trader_tools.market import frames
from neural_trader_tools.market.archive import Archive
from neural_trader_tools.market.batches import Batch
from neural_trader_tools.market.files import CELL_LENGTH_MAX, Layout, Rejected, read_table
from neural_trader_tools.market.ingest import SHOWN_MAX, QuarantinedRow, listed_instrument, write_quarantine
from neural_trader_tools.market.manifest import DataSet
from neural_trader_tools.market.renames import Rename
from neural_trader_tools.market.sessions import start_of_day
from neural_trader_tools.market.times import check_zone, parse_times

ACTIONS = Layout(
    {
        "symbol": ("symbol", "ticker", "old_symbol"),
        "date": ("date", "ex_date", "ex-date", "effective_date"),
        "kind": ("kind", "type", "action"),
        "value": ("value", "ratio", "amount", "new_symbol"),
        "known_time": ("known_time", "known time", "announced"),
    },
    frozenset({"known_time"}),
    "symbol, date, kind (split, dividend, rename), value (ratio, cash per share, new symbol)",
)
KINDS = ("split", "dividend", "rename")


class ActionsReport(Term):
    """What an import of corporate actions read, kept and refused."""

    file_name: str
    rows_read: int
    rows_accepted: int
    rows_new: int
    rows_revised: int
    rows_unchanged: int
    rows_quarantined: int
    duplicates: int = Field(description="Exact repeats within the file")
    symbols: list[str]
    quarantine_file: str | None
    quarantined: list[QuarantinedRow] = Field(description="The first 20")
    reasons: dict[str, int]


def import_actions(
    archive: Archive,
    path: Path,
    *,
    time_zone: str = "America/New_York",
    source: str = "",
    licence: str = "unknown: the importer's own file",
    clock: Clock | None = None,
) -> ActionsReport:
    """Imports a CSV, Parquet or Arrow file of corporate actions, in one commit.

    Args:
        archive: Where they go; splits and dividends need a symbol that it has.
        path: The file: columns symbol, date, kind, value and perhaps known_time.
        time_zone: IANA zone in which a date starts.
        source: Where the file came from.
        licence: The terms it came under.
        clock: Says when the import happens.

    Raises:
        InputError: the zone is none; the file is missing, empty or malformed; or no row of it is good. The
            archive is unchanged.
        StorageError: the disk refused. The archive is unchanged.
    """
    check_zone(time_zone)
    now = (clock or WallClock()).now()
    table = read_table(path, ACTIONS)
    dates = parse_times(table.cells.get_column("date"), time_zone).get_column("date").to_list()
    given = [None] * len(dates)
    if "known_time" in table.cells.columns:
        given = parse_times(table.cells.get_column("known_time"), time_zone).get_column("instant").to_list()
    stored = {one.symbol for one in archive.instruments()}
    rejected = list(table.rejected)
    rows: dict[tuple[str, datetime, str], tuple[datetime, str]] = {}
    duplicates = 0
    for cells, day, told in zip(table.cells.iter_rows(named=True), dates, given, strict=True):
        kind, value = (cells["kind"] or "").strip().lower(), (cells["value"] or "").strip()
        symbol, has_time = (cells["symbol"] or "").strip(), bool((cells.get("known_time") or "").strip())
        event = start_of_day(day, time_zone) if day is not None else None
        reason = _problem(symbol, kind, value, stored)
        if event is None:
            reason = reason or "the date cannot be read"
        elif has_time and told is None:
            reason = reason or "known_time cannot be read"
        elif (known := told or event) > now:
            reason = (
                reason or "it was not known yet when it was imported: give known_time, or import it later"
            )
        elif not reason:
            key, fact = (symbol, event, kind), (known, value if kind == "rename" else repr(float(value)))
            if rows.get(key) == fact:
                duplicates += 1
                continue
            if key not in rows:
                rows[key] = fact
                continue
            reason = "contradicts an earlier row for the same date: sum up the dividends of a day"
        text = ",".join(str(cell) for name, cell in cells.items() if name != "line")
        rejected.append(Rejected(cells["line"], reason, text[:CELL_LENGTH_MAX]))
    rejected.sort(key=lambda one: one.line)
    if not rows:
        raise InputError(
            "no_good_rows",
            f"none of the {len(rejected)} rows of {path.name} is good; line {rejected[0].line}:"
            f" {rejected[0].reason}",
            f"check the columns: {ACTIONS.advice}; nothing was imported",
        )
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    dataset = DataSet(
        dataset_id=f"actions-{path.stem}"[:80].lower(),
        source=source or f"file {path.name}"[:400],
        licence=licence,
        note="corporate actions; known from the start of their date unless the file says when",
        imported_at=now,
        file_name=path.name[:255],
        file_digest=digest,
        known_time_assumed=all(one is None for one in given),
        rows_read=table.cells.height + len(table.rejected),
        rows_added=0,
        rows_quarantined=len(rejected),
    )
    quarantine_file = write_quarantine(archive.root, "actions", "1d", digest, rejected)
    told_when = "known_time" in table.cells.columns
    batches = [
        Batch(
            listed_instrument(archive, symbol, "", "equity"),
            "1d",
            frames.empty(frames.BAR_SCHEMA),
            dataset,
            _frame(symbol, rows),
            told_when,
        )
        for symbol in sorted({symbol for symbol, _, kind in rows if kind != "rename"})
    ]
    renames = [
        Rename(old=symbol, new=value, event_time=event, known_time=known, dataset_id=dataset.dataset_id)
        for (symbol, event, kind), (known, value) in rows.items()
        if kind == "rename"
    ]
    counts = archive.write_actions(batches, renames, dataset, known_time_given=told_when)
    return ActionsReport(
        file_name=path.name,
        rows_read=dataset.rows_read,
        rows_accepted=len(rows),
        rows_new=counts.rows_new,
        rows_revised=counts.rows_revised,
        rows_unchanged=counts.rows_unchanged,
        rows_quarantined=len(rejected),
        duplicates=duplicates,
        symbols=sorted({symbol for symbol, _, _ in rows}),
        quarantine_file=quarantine_file,
        quarantined=[QuarantinedRow(line=one.line, reason=one.reason) for one in rejected[:SHOWN_MAX]],
        reasons=dict(Counter(one.reason for one in rejected)),
    )


def _problem(symbol: str, kind: str, value: str, stored: set[str]) -> str:
    """The first thing wrong with a row, its date apart; empty where nothing is."""
    if not re.fullmatch(SYMBOL_PATTERN, symbol):
        return "the symbol is none (upper case, such as AAPL)"
    if kind not in KINDS:
        return "the kind is none of split, dividend, rename"
    if kind == "rename":
        if not re.fullmatch(SYMBOL_PATTERN, value):
            return "the new symbol is none (upper case, such as META)"
        return "" if {symbol, value} & stored else "neither symbol is in the archive"
    if symbol not in stored:
        return "the symbol is not in the archive: import its bars first"
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if kind == "split" and not (math.isfinite(number) and number > 0):
        return "the split's ratio is no finite number above 0"
    if kind == "dividend" and not (math.isfinite(number) and number >= 0):
        return "the dividend is no finite number of 0 or more"
    return ""


def _frame(symbol: str, rows: dict[tuple[str, datetime, str], tuple[datetime, str]]) -> pl.DataFrame:
    own = [
        (event, known, kind, float(value))
        for (name, event, kind), (known, value) in rows.items()
        if name == symbol and kind != "rename"
    ]
    return pl.DataFrame(own, schema=frames.ACTION_SCHEMA, orient="row")
