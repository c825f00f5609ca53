"""`chart_render`: a line over time, drawn by the client's app, else as a PNG, and always told in words."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

import anyio.to_thread
from pydantic import BaseModel, Field, JsonValue, PrivateAttr

from neural_trader_governance.errors import HostError, InputError
from neural_trader_governance.identity import Caller
from neural_trader_governance.terms.clocks import format_time
from neural_trader_tools.artifacts import Artifacts
from neural_trader_tools.backtest.get import backtest_get
from neural_trader_tools.backtest.run import Backtests
from neural_trader_tools.chart.showing import client_has_apps
from neural_trader_tools.market.archive import Archive
from neural_trader_tools.market.get_bars import market_get_bars
from neural_trader_tools.market.replay import ReplayClock

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

COLUMNS: Final = 45
"""Of the thinned line, up to four points each: an answer stays below 8 kB."""
_VALUES: Final = ("equity", "close", "value", "price")
"""What of a frame is drawn, the first that it has; else its first column of numbers."""


class Chart(BaseModel):
    """What was drawn. The picture itself is beside the facts, as an image."""

    title: str
    summary: str = Field(description="The line in words")
    columns: dict[str, list[JsonValue]] = Field(description="time, value: the line, thinned to its shape")
    row_count: int = Field(description="Points before thinning")
    _png: bytes | None = PrivateAttr(default=None)

    @property
    def png(self) -> bytes | None:
        """The picture, where the client does not draw it."""
        return self._png


@dataclass(frozen=True, slots=True, eq=False)
class _Line:
    title: str
    name: str
    times: "Ints"
    values: "Floats"


async def chart_render(
    artifacts: Artifacts,
    backtests: Backtests,
    archive: Archive,
    clock: ReplayClock,
    caller: Caller,
    *,
    handle: Annotated[str | None, Field(description="Of rows with times; or give symbol or run_id")] = None,
    symbol: Annotated[str | None, Field(description="Draws its closes")] = None,
    run_id: Annotated[str | None, Field(description="Draws a backtest's equity")] = None,
    interval: Annotated[str, Field(description="Of the symbol's bars")] = "1d",
) -> Chart:
    """Draws prices, equity or any series behind a handle, for people to look at; the shape also in words."""
    given = [one for one in (handle, symbol, run_id) if one is not None]
    if len(given) != 1:
        raise InputError(
            "invalid_chart", f"{len(given)} of handle, symbol and run_id are given", "give exactly one"
        )
    title = given[0]
    if symbol is not None:
        bars = await market_get_bars(archive, artifacts, clock, symbol=symbol, interval=interval, limit=1)
        handle, title = bars.handle, f"{bars.symbol} {interval}"
    elif run_id is not None:
        run = await backtest_get(backtests, caller, run_id=run_id)
        if run.handles is None:
            raise InputError(
                "run_not_completed",
                f"{run_id} is {run.state} and has no equity",
                "wait for it with backtest_get",
            )
        handle, title = run.handles.equity, f"Equity of {run_id}"
    if handle is None:
        raise InputError("nothing_to_draw", f"no bar of {title:.40} is known yet", "choose another symbol")
    line = await anyio.to_thread.run_sync(_line, artifacts, handle, title)
    return await anyio.to_thread.run_sync(_drawn, line, not client_has_apps())


def _line(artifacts: Artifacts, handle: str, title: str) -> _Line:
    frame = artifacts.get(handle)
    when = next((name for name in frame.columns if frame[name].dtype.is_temporal()), None)
    numbers = [name for name in frame.columns if frame[name].dtype.is_numeric()]
    value = next((name for name in (*_VALUES, *numbers) if name in numbers), None)
    if when is None or value is None or frame.height < 2:
        raise InputError(
            "nothing_to_draw",
            f"{handle} has {frame.height} rows of {', '.join(frame.columns)}",
            "a chart needs two rows with a time and a number; artifact_read shows them",
        )
    return _Line(title, value, _microseconds(frame[when]), frame[value].to_numpy().astype("float64"))


def _microseconds(column: "pl.Series") -> "Ints":
    import polars as pl

    return column.cast(pl.Datetime("us")).to_physical().to_numpy()


def _drawn(line: _Line, with_picture: bool) -> Chart:
    import numpy as np

    from neural_trader_tools.backtest.report.thinning import thin

    known = np.flatnonzero(np.isfinite(line.values))
    if len(known) < 2:
        raise InputError("nothing_to_draw", f"{line.name} has fewer than two numbers", "choose other rows")
    times, values = line.times[known], line.values[known]
    rows = thin(values, COLUMNS)
    columns: dict[str, Any] = {
        "time": [_moment(time) for time in times[rows].tolist()],
        "value": [float(f"{value:.7g}") for value in values[rows].tolist()],
    }
    summary = _words(line.name, times, values)
    png: bytes | None = None
    if with_picture:
        try:
            png = _picture(f"{line.title}: {line.name}", times, values)
        except HostError as error:
            summary = f"{summary} No picture: {error}"
    chart = Chart(title=line.title, summary=summary, columns=columns, row_count=len(line.values))
    chart._png = png  # pyright: ignore[reportPrivateUsage]  # its own module
    return chart


def _picture(title: str, times: "Ints", values: "Floats") -> bytes:
    from neural_trader_tools.backtest.report.drawing import draw_line

    return draw_line(title, times, values)


def _moment(time: int) -> str:
    from datetime import UTC, datetime

    return format_time(datetime.fromtimestamp(time / 1e6, UTC))


def _words(name: str, times: "Ints", values: "Floats") -> str:
    """Returns the line in words: from, to, extremes, the deepest fall."""
    import numpy as np

    first, last = float(values[0]), float(values[-1])
    low, high = int(np.argmin(values)), int(np.argmax(values))
    words = [
        f"{name}, {len(values):,} points from {_moment(int(times[0]))} to {_moment(int(times[-1]))}:",
        f"{first:.6g} to {last:.6g}" + (f" ({last / first - 1.0:+.2%})," if first > 0.0 else ","),
        f"low {values[low]:.6g} at {_moment(int(times[low]))},",
        f"high {values[high]:.6g} at {_moment(int(times[high]))}",
    ]
    if values.min() > 0.0:
        peaks = np.maximum.accumulate(values)
        deepest = int(np.argmin(values / peaks))
        fall = 1.0 - float(values[deepest] / peaks[deepest])
        words[-1] += f", deepest fall {fall:.2%} at {_moment(int(times[deepest]))}"
    return " ".join(words) + "." if math.isfinite(last) else " ".join(words)
