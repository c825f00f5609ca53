"""Prices: the bars that a backtest plays over, checked, as the kernel wants them."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from neural_trader_governance.errors import DataError, InputError
from neural_trader_sandbox.tables import Table

Floats = NDArray[np.float64]
VALUES: Final = ("open", "high", "low", "close", "volume")
BARS_MIN: Final = 2
CSV_MAX_BYTES: Final = 512 * 1024 * 1024
DAY_US: Final = 86_400_000_000
SHARED_BARS_MIN: Final = 1 << 16
"""From so many bars on, prices are copied into a table's memory at once: a run then hands them over as they
lie. Fewer are copied when they are handed over; that is quick, and a table costs a descriptor."""


@dataclass(frozen=True, slots=True, eq=False)
class Prices:
    """Bars of one symbol: sorted, unique in time, finite, above zero, low <= open, close <= high.

    Attributes:
        symbol: Its ticker, or the file's name.
        times: Opens of the bars, microseconds since 1970-01-01 UTC, int64.
        open: Float64, one a bar; so are the following.
        high: See open.
        low: See open.
        close: See open.
        volume: See open; zero or more.
        dividends: Cash for each unit, on the first bar of each ex-date, 0 on others, on the prices' basis for
            splits; empty where none is known.
    """

    symbol: str
    times: NDArray[np.int64]
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    dividends: Floats = field(default_factory=lambda: np.empty(0))
    _table: list[Table] = field(default_factory=list[Table], init=False, repr=False)

    @classmethod
    def from_frame(
        cls,
        symbol: str,
        frame: pl.DataFrame,
        time: str = "event_time",
        *,
        dividends: Floats | None = None,
    ) -> "Prices":
        """Takes a frame with a datetime column and open, high, low, close, volume.

        Raises:
            DataError: too few bars (`no_bars`, `too_few_bars`), or one that breaks the rules above
                (`bad_bars`, naming it).
        """
        if frame.height < BARS_MIN:
            raise DataError(
                "too_few_bars" if frame.height else "no_bars",
                f"{symbol} has {frame.height} bars in this period",
                "choose a longer period; market_search shows the first and last bar",
            )
        times = frame[time].dt.cast_time_unit("us").to_physical().to_numpy().astype(np.int64, copy=False)
        columns: dict[str, Floats] = {name: frame[name].cast(pl.Float64).to_numpy() for name in VALUES}
        if dividends is not None and dividends.any():
            columns["dividend"] = dividends.astype(np.float64, copy=False)
        # copied, so that they are contiguous and writable: numba compiles once for each kind of array
        table = _laid_out(times, columns) if frame.height >= SHARED_BARS_MIN else None
        copies: dict[str, NDArray[Any]] | None = None if table is None else table.arrays()
        if copies is None:
            copies = {"time": np.array(times), **{name: np.array(column) for name, column in columns.items()}}
        paid = copies.pop("dividend", np.empty(0))
        prices = cls(symbol, copies.pop("time"), **copies, dividends=paid)
        if table is not None:
            prices._table.append(table)
        prices._check()
        return prices

    def __len__(self) -> int:
        return len(self.times)

    @property
    def days(self) -> NDArray[np.int64]:
        """UTC day of each bar, counted from 1970-01-01."""
        return self.times // DAY_US

    def head(self, count: int) -> "Prices":
        """Returns the first `count` bars."""
        return Prices(
            self.symbol,
            self.times[:count].copy(),
            *(getattr(self, name)[:count].copy() for name in (*VALUES, "dividends")),
        )

    def tail(self, count: int) -> "Prices":
        """Returns the last `count` bars."""
        return Prices(
            self.symbol,
            self.times[-count:].copy(),
            *(getattr(self, name)[-count:].copy() for name in (*VALUES, "dividends")),
        )

    def frame(self) -> pl.DataFrame:
        """Returns the bars as strategies see them: time, open … volume, and dividend where it is paid."""
        return pl.DataFrame(
            {
                "time": pl.Series(self.times).cast(pl.Datetime("us", "UTC")),
                **{name: getattr(self, name) for name in VALUES},
                **({"dividend": self.dividends} if len(self.dividends) else {}),
            }
        )

    def table(self) -> Table:
        """Returns the frame as tables enter a sandbox: written once, for every run over these bars."""
        if not self._table:
            values = {name: getattr(self, name) for name in VALUES}
            if len(self.dividends):
                values["dividend"] = self.dividends
            self._table.append(_laid_out(self.times, values))
        return self._table[0]

    def digest(self) -> str:
        """Returns the SHA-256 of symbol, times and values as raw little-endian bytes."""
        hasher = hashlib.sha256()
        hasher.update(self.symbol.encode() + b"\0" + len(self).to_bytes(8, "little"))
        hasher.update(np.ascontiguousarray(self.times, dtype="<i8").data)
        for name in VALUES:
            hasher.update(np.ascontiguousarray(getattr(self, name), dtype="<f8").data)
        hasher.update(np.ascontiguousarray(self.dividends, dtype="<f8").data)  # nothing, where none are paid
        return hasher.hexdigest()

    def _check(self) -> None:
        problems: dict[str, NDArray[Any]] = {
            "its time is not after the bar before it": np.diff(self.times, prepend=self.times[0] - 1) <= 0,
            "a price is not a finite number above 0": ~np.logical_and.reduce(
                [np.isfinite(getattr(self, name)) & (getattr(self, name) > 0) for name in VALUES[:4]]
            ),
            "low <= open, close <= high does not hold": (self.low > np.minimum(self.open, self.close))
            | (self.high < np.maximum(self.open, self.close)),
            "its volume is not a finite number of 0 or more": ~(
                np.isfinite(self.volume) & (self.volume >= 0)
            ),
        }
        for problem, bad in problems.items():
            if bad.any():
                bar = int(bad.argmax())
                moment = np.datetime64(int(self.times[bar]), "us")
                raise DataError(
                    "bad_bars",
                    f"{symbol_text(self.symbol)} bar {bar} ({moment}Z): {problem}; {int(bad.sum())} in all",
                    "correct the data and import it again",
                )


def _laid_out(times: NDArray[np.int64], values: dict[str, Floats]) -> Table:
    return Table.of_columns({"time": times.view("datetime64[us]"), **values})


def symbol_text(symbol: str) -> str:
    """Returns a symbol for a message, cut to a decent length."""
    return symbol if len(symbol) <= 40 else symbol[:37] + "..."


def read_csv(path: Path) -> pl.DataFrame:
    """Reads prices from a CSV file: a column time, date or datetime, and open, high, low, close, volume.

    Names are taken in any case; a missing volume is 0. Times without an offset are UTC.

    Returns:
        Columns event_time (Datetime us UTC) and open … volume, sorted by time.

    Raises:
        InputError: there is no such file (`file_missing`), it is too large, or columns are missing.
        DataError: a cell cannot be read (`bad_bars`).
    """
    if not path.is_file():
        raise InputError("file_missing", f"there is no file {path.name!r:.80}", "check the path")
    if path.stat().st_size > CSV_MAX_BYTES:
        raise InputError(
            "file_too_large", f"{path.name} exceeds 512 MiB", "import it: neural-trader data import"
        )
    try:
        raw = pl.read_csv(path, infer_schema=False)
    except (pl.exceptions.PolarsError, UnicodeDecodeError, OSError) as error:
        raise InputError(
            "file_unreadable", f"{path.name}: {str(error)[:200]}", "give a CSV file in UTF-8"
        ) from error
    names = {name.strip().lower(): name for name in raw.columns}
    time = next((names[name] for name in ("time", "datetime", "date", "timestamp") if name in names), None)
    missing = [name for name in VALUES[:4] if name not in names] + ([] if time else ["time"])
    if time is None or missing:
        raise InputError(
            "columns_missing",
            f"{path.name} lacks {', '.join(missing)}",
            "name its columns time, open, high, low, close, volume",
        )
    text = pl.col(time).str.strip_chars().str.strip_suffix("Z").str.replace("T", " ")
    frame = raw.select(
        pl.coalesce(
            text.str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit="us", strict=False),
            text.str.to_datetime("%Y-%m-%d %H:%M", time_unit="us", strict=False),
            text.str.to_date("%Y-%m-%d", strict=False).cast(pl.Datetime("us")),
            text.str.to_datetime(
                "%Y-%m-%d %H:%M:%S%.f%:z", time_unit="us", strict=False
            ).dt.replace_time_zone(None),
        )
        .dt.replace_time_zone("UTC")
        .alias("event_time"),
        *(
            (
                pl.col(names[name]).str.strip_chars().cast(pl.Float64, strict=False)
                if name in names
                else pl.lit(0.0)
            ).alias(name)
            for name in VALUES
        ),
    )
    broken = frame.select(pl.any_horizontal(pl.all().is_null())).to_series()
    if broken.any():
        line = broken.arg_true()[0] + 2
        raise DataError(
            "bad_bars",
            f"{path.name} line {line} has a cell that is no time or number; {broken.sum()} lines in all",
            "correct these lines",
        )
    return frame.sort("event_time")
