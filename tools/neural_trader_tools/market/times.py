"""Times in price files: text of many spellings becomes dates and instants, or a reason why not.

Understood: ISO 8601 dates and times, with or without offset; `YYYYMMDD`; `MM/DD/YYYY`; Unix epochs in
seconds, milliseconds, microseconds or nanoseconds. Times without an offset are taken in a stated zone.
"""

from zoneinfo import ZoneInfo

import polars as pl

from neural_trader_governance.errors import InputError
from neural_trader_tools.market.frames import UTC_MICROSECONDS

AWARE = ("%Y-%m-%dT%H:%M:%S%.f%z", "%Y-%m-%dT%H:%M%z")
NAIVE = ("%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M")
EPOCH_DIGITS = ((9, 10, 1_000_000), (12, 13, 1_000), (15, 16, 1))


def check_zone(zone: str) -> str:
    """Returns the zone's name.

    Raises:
        InputError: it is no IANA time zone.
    """
    try:
        ZoneInfo(zone)
    except (KeyError, ValueError, OSError):
        raise InputError(
            "unknown_time_zone", f"{zone!r:.40} is no time zone", "use an IANA name such as America/New_York"
        ) from None
    return zone


def parse_times(texts: pl.Series, zone: str = "UTC") -> pl.DataFrame:
    """Parses time cells.

    Args:
        texts: String cells.
        zone: IANA zone of the times without an offset.

    Returns:
        One row per cell: `date` (where the cell says a day, or midnight as written), `instant` (UTC; where
        it says a time of day), both null where it cannot be read.

    Raises:
        InputError: `dates_ambiguous`, slashed dates that only make sense day first.
    """
    text = pl.col("text")
    cells = pl.DataFrame({"text": texts.cast(pl.String).str.strip_chars()}).with_columns(
        text.str.replace(r"Z$", "+00:00")
        .str.replace(r"^(\S{10}) +", "${1}T")
        .str.replace(r"(T.*[+-]\d\d)$", "${1}:00")
        .alias("iso")
    )
    iso = pl.col("iso")
    compact = text.str.contains(r"^\d{8}$")
    slashed = text.str.contains(r"^\d{1,2}/\d{1,2}/\d{4}$")
    offset = iso.str.contains(r"T.*[+-]\d\d:?\d\d$")
    naive = pl.coalesce(*(iso.str.to_datetime(form, time_unit="us", strict=False) for form in NAIVE))
    aware = pl.coalesce(
        *(iso.str.to_datetime(form, time_unit="us", time_zone="UTC", strict=False) for form in AWARE)
    )
    digits = text.str.len_chars()
    number = text.cast(pl.Int64, strict=False)
    is_epoch = text.str.contains(r"^\d{9,19}$")
    epoch = pl.coalesce(
        *(
            pl.when(is_epoch & digits.is_between(low, high)).then(number * scale)
            for low, high, scale in EPOCH_DIGITS
        ),
        pl.when(is_epoch & digits.is_between(18, 19)).then(number // 1000),
    ).cast(UTC_MICROSECONDS)
    parsed = cells.select(
        pl.coalesce(
            iso.str.to_date("%Y-%m-%d", strict=False, exact=True),
            pl.when(compact).then(text).str.to_date("%Y%m%d", strict=False),
            pl.when(slashed).then(text).str.to_date("%m/%d/%Y", strict=False),
        ).alias("day"),
        pl.when(slashed).then(text).str.to_date("%d/%m/%Y", strict=False).alias("day_first"),
        pl.when(~offset).then(naive).alias("naive"),
        pl.coalesce(pl.when(offset).then(aware), epoch).alias("aware"),
    )
    confused = parsed.filter(pl.col("day").is_null() & pl.col("day_first").is_not_null()).height
    if confused:
        raise InputError(
            "dates_ambiguous",
            f"{confused} dates with slashes only make sense day first, others would be read month first",
            "write the dates as YYYY-MM-DD",
        )
    midnight = pl.coalesce("naive", pl.col("aware").dt.replace_time_zone(None))
    local = pl.col("naive").dt.replace_time_zone(zone, ambiguous="null", non_existent="null")
    return parsed.select(
        pl.coalesce("day", pl.when(midnight.dt.time() == pl.time()).then(midnight.dt.date())).alias("date"),
        pl.coalesce("aware", local.dt.convert_time_zone("UTC")).alias("instant"),
    )
