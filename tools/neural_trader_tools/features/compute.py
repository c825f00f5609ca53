"""Features over the archive, and the tool `features_compute`."""

from typing import Annotated

import anyio.to_thread
import polars as pl
from pydantic import Field

from neural_trader_governance.errors import InputError
from neural_trader_governance.terms.clocks import UtcTime, format_time
from neural_trader_governance.terms.term import Term
from neural_trader_tools.artifacts import Artifacts
from neural_trader_tools.features import catalogue
from neural_trader_tools.market.archive import Archive
from neural_trader_tools.market.replay import ReplayClock
from neural_trader_tools.market.windows import ReadWindow, read_window

FEATURES_MAX = 30
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
    archive: Archive, symbol: str, features: list[str], interval: str, window: ReadWindow
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
        parsed = {text: catalogue.parse(text) for text in wanted}
    except ValueError as error:
        raise _as_input_error(error) from None
    bars = archive.bars(symbol, interval, end=window.end, as_of=window.as_of)
    columns = {text: pl.Series(text, one.compute(bars)).fill_nan(None) for text, one in parsed.items()}
    frame = bars.select("event_time", "known_time").with_columns(*columns.values())
    return frame if window.start is None else frame.filter(pl.col("event_time") >= window.start)


def _recent(frame: pl.DataFrame) -> dict[str, list[str | float | None]]:
    times: list[str | float | None] = [format_time(moment) for moment in frame.get_column("event_time")]
    return {"time": times, **{name: frame.get_column(name).to_list() for name in frame.columns[2:]}}


def _as_input_error(error: ValueError) -> InputError:
    """Turns the catalogue's text `code: what; next step` into the error that carries the three."""
    code, _, rest = str(error).partition(": ")
    what, _, next_step = rest.rpartition("; ")
    return InputError(code, what, next_step)
