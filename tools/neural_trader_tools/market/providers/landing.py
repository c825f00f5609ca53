"""Landing: pages of a provider become rows of the archive, by the same rules as an imported file.

A fetched bar is taken as known when its interval was over (a daily one at its session's close), although it
was fetched later: that is when whoever watched the market knew it. What the service corrects afterwards is a
revision, known from the fetch that found it. A split or dividend is taken as known when its ex-date starts.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import polars as pl

from neural_trader_governance.terms.instruments import AssetClass, Instrument
from neural_trader_tools.market import frames
from neural_trader_tools.market.archive import Archive
from neural_trader_tools.market.batches import Batch
from neural_trader_tools.market.files import PriceTable, Rejected
from neural_trader_tools.market.ingest import listed_instrument, row_times, versions, write_quarantine
from neural_trader_tools.market.manifest import DataSet
from neural_trader_tools.market.providers.port import HistoryProvider, Page, RawAction, RawBar
from neural_trader_tools.market.quality import checked_rows
from neural_trader_tools.market.sessions import CONTINUOUS, NEW_YORK, start_of_day

_CELLS = ("time", *frames.VALUE_COLUMNS)


@dataclass(slots=True)
class Landed:
    """What became of pages of one symbol."""

    rows_read: int = 0
    rows_new: int = 0
    rows_revised: int = 0
    rows_unchanged: int = 0
    rows_quarantined: int = 0
    duplicates: int = 0
    actions_read: int = 0
    quarantine_files: list[str] = field(default_factory=list[str])
    reasons: Counter[str] = field(default_factory=Counter[str])


def land(
    archive: Archive, provider: HistoryProvider, interval: str, pages: Sequence[Page], now: datetime
) -> dict[str, Landed]:
    """Puts pages into the archive, in one commit.

    Args:
        archive: Where they go.
        provider: Where they come from.
        interval: Of the bars.
        pages: In the order in which they came.
        now: The import's time.

    Returns:
        Per symbol (empty for what names none) what became of its rows.

    Raises:
        StorageError: the disk refused; the archive is unchanged.
    """
    bars: dict[str, list[RawBar]] = {}
    actions: dict[str, list[RawAction]] = {}
    refused: dict[str, list[Rejected]] = {}
    for number, page in enumerate(pages, start=1):
        for bar in page.bars:
            bars.setdefault(bar.symbol, []).append(bar)
        for action in page.actions:
            actions.setdefault(action.symbol, []).append(action)
        for one in page.refused:
            refused.setdefault(one.symbol, []).append(Rejected(number, one.reason, one.content))
    digest = hashlib.sha256("".join(page.digest for page in pages).encode()).hexdigest()
    asset_class = provider.capabilities.asset_classes[0]
    calendar = CONTINUOUS if asset_class == "crypto" else NEW_YORK
    landed: dict[str, Landed] = {}
    batches: list[Batch] = []
    for symbol in sorted({*bars, *actions, *refused}):
        own = landed[symbol] = Landed(actions_read=len(actions.get(symbol, [])))
        rejected = refused.get(symbol, [])
        rows = frames.empty(frames.BAR_SCHEMA)
        note = "raw prices"
        if symbol in bars:
            table = PriceTable(_cells(bars[symbol]), rejected)
            times, _, notes = row_times(table, interval, calendar, "UTC")
            checked = checked_rows(table, times, now)
            rows, rejected, own.duplicates = checked.rows, checked.rejected, checked.duplicates
            note = "; ".join([note, *notes])
        own.rows_read = len(bars.get(symbol, [])) + len(refused.get(symbol, []))
        own.rows_quarantined = len(rejected)
        own.reasons.update(one.reason for one in rejected)
        name = f"{provider.name}:{symbol}" if symbol else provider.name
        if file := write_quarantine(archive.root, name, interval, digest, rejected):
            own.quarantine_files.append(file)
        if rows.is_empty() and symbol not in actions:
            continue
        dataset = DataSet(
            dataset_id=provider.dataset_id,
            source=provider.source,
            licence=provider.licence,
            note=note,
            imported_at=now,
            file_digest=digest,
            known_time_assumed=True,
            rows_read=own.rows_read,
            rows_added=0,
            rows_quarantined=own.rows_quarantined,
        )
        instrument = _instrument(archive, symbol, asset_class)
        parts = versions(rows) if rows.height else [rows]
        takes_effect = _actions(actions.get(symbol, ()))
        batches += [Batch(instrument, interval, part, dataset, takes_effect) for part in parts]
    for written in archive.write(batches) if batches else ():
        own = landed[written.symbol]
        own.rows_new += written.rows_new
        own.rows_revised += written.rows_revised
        own.rows_unchanged += written.rows_unchanged
    return landed


def _instrument(archive: Archive, symbol: str, asset_class: AssetClass) -> Instrument:
    """What a symbol stands for: as it is listed, else as its provider says.

    Money is counted in currencies, so a coin that is quoted in another coin can be looked at, not traded.
    """
    one = listed_instrument(archive, symbol, "", asset_class)
    quote = symbol.partition("/")[2]
    if (
        asset_class != "crypto"
        or quote == one.currency
        or any(each.symbol == symbol for each in archive.instruments())
    ):
        return one
    known = {"currency": quote} if len(quote) == len(one.currency) else {"tradable": False}
    return one.model_copy(update=known)


def _cells(bars: list[RawBar]) -> pl.DataFrame:
    columns = {name: [getattr(bar, name) for bar in bars] for name in _CELLS}
    schema = {"line": pl.Int64, **dict.fromkeys(_CELLS, pl.String)}
    return pl.DataFrame({"line": range(1, len(bars) + 1), **columns}, schema=schema)


def _actions(found: Iterable[RawAction]) -> pl.DataFrame:
    """Returns `frames.ACTION_SCHEMA`: a special dividend beside the regular one of a day is one sum."""
    distinct: dict[tuple[datetime, str], float] = {}
    for one in dict.fromkeys(found):  # the same record on two pages counts once
        key = (start_of_day(one.ex_date), one.kind)
        if one.kind == "split":
            distinct[key] = distinct.get(key, 1.0) * one.value
        else:
            distinct[key] = distinct.get(key, 0.0) + one.value
    times = [moment for moment, _ in distinct]
    return pl.DataFrame(
        {
            "event_time": times,
            "known_time": times,
            "kind": [kind for _, kind in distinct],
            "value": list(distinct.values()),
        },
        schema=frames.ACTION_SCHEMA,
    )
