"""Features over the archive, and the tool `features_compute`."""

from typing import Annotated, Final

import anyio.to_thread
import polars as pl
from pydantic import Field

from neural_trader_governance.errors import InputError
from neural_trader_governance.terms.clocks import UtcTime, format_time
from neural_trader_governance.terms.term import Term
from neural_trader_tools.artifacts import Artifacts
from neural_trader_tools.features import catalogue
from neural_trader_tools.features.cache import CACHE, FeatureCache, Key
from neural_trader_tools.features.frames import evaluate_all
from neural_trader_tools.market.archive import Archive
from neural_trader_tools.market.replay import ReplayClock
from neural_trader_tools.market.windows import ReadWindow, read_window

FEATURES_MAX = 30
TIMES: Final = ""
"""The cache's expression for the bars' times."""
RECENT_ROWS = 10


class ComputedFeatures(Term):
    """The latest values inline, every row behind the handle."""

    symbol: str
    interval: str
    handle: str | None = Field(description="For artifact_read; null where no bar matched")
    latest: dict[str, float | None] = Field(description="By feature, at latest_time; null where undefined")
    latest_time: UtcTime | None = Field(description="Open of the newest bar")
    row_count: int
    as_of: UtcTime | None
    recent: dict[str, list[str | float | None]] | None = Field(
        default=None, description="The newest rows (detailed)"
    )
    note: str | None = None


async def features_compute(
    archive: Archive,
    artifacts: Artifacts,
    clock: ReplayClock,
    *,
    symbol: Annotated[str, Field(description="Ticker as market_search spells it")],
    features: Annotated[list[str], Field(description="1-30, such as rsi(14), bbands(20,2).upper")],
    interval: Annotated[str, Field(description="Bar length: 1d, 1h, …")] = "1d",
    start: Annotated[str | None, Field(description="First bar's open, inclusive")] = None,
    end: Annotated[str | None, Field(description="Exclusive")] = None,
    as_of: Annotated[str | None, Field(description="Only what was known at this time")] = None,
    format: Annotated[  # noqa: A002 (the contract's name)
        str, Field(description="concise, or detailed: adds the newest 10 rows")
    ] = "concise",
) -> ComputedFeatures:
    """Computes technical features without look-ahead: the latest values, and all rows behind `handle`."""
    if format not in {"concise", "detailed"}:
        raise InputError("unknown_format", f"format {format!r:.20} is unknown", "use concise or detailed")
    window = read_window(start, end, as_of, clock.horizon())

    def compute() -> ComputedFeatures:
        frame = feature_frame(archive, symbol, features, interval, window)
        names = frame.columns[2:]
        newest = frame.row(-1, named=True) if frame.height else {}
        undefined = sum(newest.get(name) is None for name in names) if frame.height else 0
        note = None
        if not frame.height:
            note = "no bar in that range; market_search says what the archive holds"
        elif undefined:
            note = f"{undefined} of {len(names)} features have no value yet: too few bars before"
        return ComputedFeatures(
            symbol=symbol,
            interval=interval,
            handle=artifacts.put(frame, "features") if frame.height else None,
            latest={name: newest.get(name) for name in names},
            latest_time=newest.get("event_time"),
            row_count=frame.height,
            as_of=window.as_of,
            recent=_recent(frame.tail(RECENT_ROWS)) if format == "detailed" else None,
            note=note,
        )

    return await anyio.to_thread.run_sync(compute)


def feature_frame(
    archive: Archive,
    symbol: str,
    features: list[str],
    interval: str,
    window: ReadWindow,
    cache: FeatureCache = CACHE,
) -> pl.DataFrame:
    """Computes features over split-adjusted bars, as known at the window's `as_of`.

    Every bar before the window counts as warm-up, so a value does not depend on where the window starts.

    Returns:
        `event_time, known_time` and one Float64 column per feature, named as it was asked for; null where
        undefined.

    Raises:
        InputError: a feature expression is wrong, or there are none or too many.
        DataError: unknown symbol or interval.
    """
    wanted = [text.strip() for text in features]
    if not 1 <= len(wanted) <= FEATURES_MAX:
        raise InputError(
            "invalid_features", f"{len(wanted)} features were given", f"give from 1 to {FEATURES_MAX}"
        )
    try:
        parsed = {text: catalogue.parse(text).expression for text in wanted}
    except ValueError as error:
        raise _as_input_error(error) from None
    columns = _columns(archive, symbol, list(dict.fromkeys(parsed.values())), interval, window, cache)
    frame = columns[TIMES].with_columns(
        columns[expression].to_series().alias(text) for text, expression in parsed.items()
    )
    return frame if window.start is None else frame.filter(pl.col("event_time") >= window.start)


def _columns(
    archive: Archive,
    symbol: str,
    expressions: list[str],
    interval: str,
    window: ReadWindow,
    cache: FeatureCache,
) -> dict[str, pl.DataFrame]:
    """Returns the bars' times and each expression's values, from the cache as far as it has them.

    The version is read before the bars and again after them: only where the two agree, the bars are of that
    version, and what was computed from them may be kept under it.
    """
    version = archive.data_version(symbol, interval)
    keys = {
        name: Key(version, symbol, interval, window.end, window.as_of, name) for name in (TIMES, *expressions)
    }
    found = {name: columns for name, key in keys.items() if (columns := cache.get(key)) is not None}
    if len(found) == len(keys):
        return found
    bars = archive.bars(symbol, interval, end=window.end, as_of=window.as_of)
    is_known = archive.data_version(symbol, interval) == version
    if not is_known:
        found.clear()
    missing = [name for name in expressions if name not in found]
    values = evaluate_all(missing, bars)
    fresh = {
        TIMES: bars.select("event_time", "known_time"),
        **{name: pl.DataFrame({name: pl.Series(values[name], nan_to_null=True)}) for name in missing},
    }
    if is_known:
        for name, columns in fresh.items():
            cache.put(keys[name], columns)
    return {**found, **fresh}


def _recent(frame: pl.DataFrame) -> dict[str, list[str | float | None]]:
    times: list[str | float | None] = [format_time(moment) for moment in frame.get_column("event_time")]
    return {"time": times, **{name: frame.get_column(name).to_list() for name in frame.columns[2:]}}


def _as_input_error(error: ValueError) -> InputError:
    """Turns the catalogue's text `code: what; next step` into the error that carries the three."""
    code, _, rest = str(error).partition(": ")
    what, _, next_step = rest.rpartition("; ")
    return InputError(code, what, next_step)
