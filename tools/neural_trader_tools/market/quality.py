"""Data quality: which rows of a price table become bars, and the reason for each that does not.

Refused (quarantined): cells that are no finite number, prices at or below 0, negative volume, a high or
low that does not enclose open and close, times that cannot be read or lie in the future, a known_time
before the bar's open, and a second row for the same bar that contradicts the first. An exact repeat is
counted and dropped. Rows out of order are sorted and counted. A jump of more than 10 % is a warning.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime

import polars as pl

from neural_trader_governance.terms.clocks import format_time
from neural_trader_tools.market.files import CELL_LENGTH_MAX, PriceTable, Rejected
from neural_trader_tools.market.frames import PRICE_COLUMNS, VALUE_COLUMNS

JUMP_MAX = 0.10
WARNED_JUMPS = 5
EARLIEST = datetime(1800, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Checked:
    """The rows that passed, ascending, with what was found on the way."""

    rows: pl.DataFrame
    """`line, event_time, known_time`, then the values."""
    rejected: list[Rejected]
    duplicates: int
    out_of_order: int
    warnings: list[str] = field(default_factory=list[str])


def checked_rows(table: PriceTable, times: pl.DataFrame, now: datetime) -> Checked:
    """Sorts a table's rows into bars and rejects.

    Args:
        table: As the file had it.
        times: `event_time` and `known_time` of each row, null where they could not be read.
        now: Rows later than this claim to come from the future.
    """
    cells = table.cells
    text = [column for column in cells.columns if column != "line"]
    numbers = [cells.get_column(name).cast(pl.Float64, strict=False).alias(name) for name in VALUE_COLUMNS]
    content = cells.select(pl.concat_str(text, separator=",", ignore_nulls=True).alias("content"))
    rows = pl.DataFrame([cells.get_column("line"), content.get_column("content"), *times, *numbers])
    rows = rows.with_columns(_problem(now).alias("reason"))
    out_of_order = _out_of_order(rows)
    good = rows.filter(pl.col("reason").is_null()).sort("event_time", "known_time", "line")
    key = ["event_time", "known_time"]
    repeated = good.is_duplicated() if good.is_empty() else good.select(*key, *VALUE_COLUMNS).is_duplicated()
    firsts = good.unique(subset=[*key, *VALUE_COLUMNS], keep="first", maintain_order=True)
    duplicates = good.height - firsts.height if repeated.any() else 0
    kept = firsts.unique(subset=key, keep="first", maintain_order=True)
    conflicting = firsts.join(kept.select("line"), on="line", how="anti").with_columns(
        pl.lit("contradicts an earlier row for the same time").alias("reason")
    )
    bad = pl.concat([rows.filter(pl.col("reason").is_not_null()), conflicting]).sort("line")
    rejected = [
        Rejected(line, reason, text[:CELL_LENGTH_MAX])
        for line, reason, text in bad.select("line", "reason", "content").iter_rows()
    ]
    return Checked(
        rows=kept.select("line", *key, *VALUE_COLUMNS),
        rejected=sorted([*table.rejected, *rejected], key=lambda one: one.line),
        duplicates=duplicates,
        out_of_order=out_of_order,
        warnings=_jumps(kept),
    )


def _problem(now: datetime) -> pl.Expr:
    """The first thing wrong with a row, as text; null where nothing is."""
    event, known = pl.col("event_time"), pl.col("known_time")
    low, high = pl.col("low"), pl.col("high")
    checks = [
        (event.is_null(), "the time cannot be read, or does not exist in its time zone"),
        (event < EARLIEST, "the time is before 1800"),
        *(
            (~pl.col(name).is_finite().fill_null(value=False), f"{name} is no finite number")
            for name in VALUE_COLUMNS
        ),
        *((pl.col(name) <= 0, f"{name} is not above 0") for name in PRICE_COLUMNS),
        (pl.col("volume") < 0, "volume is negative"),
        (high < low, "high is below low"),
        (high < pl.max_horizontal("open", "close"), "high is below open or close"),
        (low > pl.min_horizontal("open", "close"), "low is above open or close"),
        (known.is_null(), "known_time cannot be read"),
        (known < event, "known_time is before the bar's open"),
        (known > now, "the bar was not complete yet when it was imported"),
    ]
    return pl.coalesce(*(pl.when(is_wrong).then(pl.lit(reason)) for is_wrong, reason in checks))


def _out_of_order(rows: pl.DataFrame) -> int:
    """Counts rows that come after a later one in the file."""
    return rows.select((pl.col("event_time") < pl.col("event_time").cum_max()).sum()).item()


def _jumps(rows: pl.DataFrame) -> list[str]:
    change = (pl.col("close") / pl.col("close").shift(1) - 1).alias("change")
    jumps = rows.select("line", "event_time", change).filter(pl.col("change").abs() > JUMP_MAX)
    shown = [
        f"close moves {change:+.1%} at {format_time(moment)} (line {line})"
        for line, moment, change in jumps.head(WARNED_JUMPS).iter_rows()
    ]
    if jumps.height > len(shown):
        shown.append(f"{jumps.height - len(shown)} more moves above {JUMP_MAX:.0%}; is a split missing?")
    return shown
