"""The lander: bars of a feed become rows of the archive while it runs.

They enter with the time at which they were received, so that a read `as_of` a moment sees what this desk
could see then. Bars shorter than a minute stay in the feed's own records. What a feed that was killed did not
land is found in its records by the next one; a bar that is there already changes nothing.
"""

import hashlib
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import polars as pl

from neural_trader_governance.terms.clocks import from_epoch_us
from neural_trader_governance.terms.market import interval_duration
from neural_trader_tools.market import frames
from neural_trader_tools.market.archive import Archive
from neural_trader_tools.market.batches import Batch
from neural_trader_tools.market.feed.recorded import recorded
from neural_trader_tools.market.feed.ticks import SECOND_NS, BarTick
from neural_trader_tools.market.ingest import listed_instrument
from neural_trader_tools.market.manifest import DataSet

OLDEST_NS = 8 * 86_400 * SECOND_NS
"""How old a bar may be when it is received: a backfill reaches back for a week."""
SHORTEST = timedelta(minutes=1)
MARGIN_NS = 3600 * SECOND_NS
"""Bars are looked for from so long before the last landing: received in another order than they were made."""


class Lander:
    """Puts bars into an archive; not for several threads at once.

    Args:
        archive: Where they go.
        dataset_id: Of the feed.
        source: In words.
        licence: The terms.
        landed_ns: Bars received until then are there.
    """

    def __init__(
        self, archive: Archive, dataset_id: str, source: str, licence: str, landed_ns: int = 0
    ) -> None:
        self.bars = 0
        """New rows and revisions."""
        self.landed_ns = landed_ns
        self._archive = archive
        self._dataset_id = dataset_id
        self._source = source
        self._licence = licence

    def catch_up(self, root: Path) -> int:
        """Lands what the feed's records hold and the archive does not; returns rows and revisions added.

        Args:
            root: The feed's folder.

        Raises:
            StorageError: the disk refused; nothing was added.
            IntegrityError: the records do not parse.
        """
        first_ns = max(0, self.landed_ns - OLDEST_NS)
        rows = recorded(root, "bar", start_ns=first_ns).drop("flags")
        rows = rows.with_columns(pl.col("event_time", "known_time").to_physical())
        rows = rows.filter(pl.col("known_time") > self.landed_ns - MARGIN_NS).sort(
            "known_time", maintain_order=True
        )
        return self.land([BarTick(*row) for row in rows.iter_rows()])

    def land(self, bars: Sequence[BarTick]) -> int:
        """Lands bars, in the order of their receipt, in one commit; returns rows and revisions added.

        Raises:
            StorageError: the disk refused; nothing was added.
        """
        series: dict[tuple[str, str], list[dict[int, BarTick]]] = {}
        for bar in bars:
            if interval_duration(bar.interval) < SHORTEST:
                continue
            versions = series.setdefault((bar.symbol, bar.interval), [{}])
            # A batch has one row per bar; a revision goes into the next one.
            place = next((one for one in versions if bar.ts_event_ns not in one), None)
            if place is None:
                versions.append(place := {})
            place[bar.ts_event_ns] = bar
        if not series:
            return 0
        newest_ns = max(bar.ts_recv_ns for bar in bars)
        dataset = DataSet(
            dataset_id=f"{self._dataset_id}-live",
            source=self._source,
            licence=self._licence,
            note="bars of a live feed, known from their receipt",
            imported_at=from_epoch_us(newest_ns // 1_000),
            file_digest=hashlib.sha256(repr(bars).encode("utf-8", "replace")).hexdigest(),
            known_time_assumed=False,
            rows_read=len(bars),
            rows_added=0,
        )
        batches = [
            Batch(
                listed_instrument(self._archive, symbol, "", "equity"),
                interval,
                _frame(tuple(one.values())),
                dataset,
                known_time_given=True,
            )
            for (symbol, interval), versions in sorted(series.items())
            for one in versions
        ]
        written = self._archive.write(batches)
        added = sum(one.rows_new + one.rows_revised for one in written)
        self.bars += added
        self.landed_ns = max(self.landed_ns, newest_ns)
        return added


def _frame(bars: Sequence[BarTick]) -> pl.DataFrame:
    """Returns `frames.BAR_SCHEMA`: a bar is not known before the microsecond of its receipt is over."""
    times = {
        "event_time": [bar.ts_event_ns // 1_000 for bar in bars],
        "known_time": [-(-bar.ts_recv_ns // 1_000) for bar in bars],
    }
    values = {name: [float(getattr(bar, name)) for bar in bars] for name in frames.VALUE_COLUMNS}
    return pl.DataFrame({**times, **values}).cast(dict.fromkeys(times, frames.UTC_MICROSECONDS))
