"""Real sample data from installed packages: `data fetch sample`.

The files are resources of `bokeh_sampledata` and `arch`; they are read where pip put them and the
packages are never imported (they would bring pandas). Nothing is copied into this project or its wheel:
a package's licence does not prove the vendor's rights to the quotes. See docs/data.md.
"""

import gzip
import hashlib
import importlib.util
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl

from neural_trader_governance.errors import ConfigurationError, DataError
from neural_trader_governance.terms.clocks import Clock, WallClock
from neural_trader_governance.terms.instruments import AssetClass, Instrument
from neural_trader_tools.market import frames
from neural_trader_tools.market.archive import Archive
from neural_trader_tools.market.batches import Batch, Written
from neural_trader_tools.market.manifest import DataSet
from neural_trader_tools.market.sessions import session_times, start_of_day

SPLIT_MIN = 1.2
"""A one-day change of the adjustment factor from here on is a split, below it a dividend."""

STOCKS = {
    "AAPL": ("Apple Inc.", "XNAS"),
    "FB": ("Facebook, Inc. Class A", "XNAS"),
    "GOOG": ("Google Inc. Class A", "XNAS"),
    "IBM": ("International Business Machines Corporation", "XNYS"),
    "MSFT": ("Microsoft Corporation", "XNAS"),
}


@dataclass(frozen=True, slots=True)
class Gauge:
    """An index or a rate in `arch`: data to look at, nothing to trade."""

    symbol: str
    name: str
    file: str
    asset_class: AssetClass
    value_column: str | None = None
    """Where the source publishes one value a day; it stands for open, high, low and close."""
    published_after: timedelta = timedelta()
    """How long after the session's close the value appears, as a cautious assumption."""
    note: str = ""


GAUGES = (
    Gauge("^GSPC", "S&P 500 Index", "data/sp500/sp500.csv.gz", "index"),
    Gauge("^IXIC", "NASDAQ Composite Index", "data/nasdaq/nasdaq.csv.gz", "index"),
    Gauge(
        "^VIX",
        "CBOE Volatility Index",
        "data/vix/vix.csv.gz",
        "index",
        value_column="vix",
        note="one value a day: open = high = low = close, volume 0",
    ),
    Gauge(
        "WTI",
        "West Texas Intermediate crude oil, Cushing spot",
        "data/wti/wti.csv.gz",
        "rate",
        value_column="DCOILWTICO",
        published_after=timedelta(days=7),
        note="one value a day: open = high = low = close, volume 0; published weekly, so known 7 days later",
    ),
)


def fetch_sample(archive: Archive, clock: Clock | None = None) -> list[Written]:
    """Reads the sample prices into the archive, in one commit; a second time adds nothing.

    Raises:
        ConfigurationError: `sample_data_missing`, the packages are not installed.
        DataError: a package's file is not what it was when this was written.
        StorageError: the disk refused; the archive is unchanged.
    """
    now = (clock or WallClock()).now()
    return archive.write([*_stocks(now), *(_gauge(gauge, now) for gauge in GAUGES)])


def _stocks(now: datetime) -> list[Batch]:
    content, digest = _resource("bokeh_sampledata", "_data/stocks.csv.gz")
    table = _table(
        content, {"Ticker", "Date", "Open", "High", "Low", "Close", "Volume", "Adj Close"}, "%Y-%m-%d"
    )
    dataset = DataSet(
        dataset_id="bokeh-stocks",
        source="Quandl WIKI Prices, as resource _data/stocks.csv.gz of the package bokeh_sampledata",
        licence="public domain as declared by the publisher; package BSD-3-Clause",
        note="Raw daily prices; splits and dividends recovered from close / adjusted close. GOOG is the"
        " pre-2014 Google history.",
        imported_at=now,
        file_name="stocks.csv.gz",
        file_digest=digest,
        known_time_assumed=True,
        rows_read=table.height,
        rows_added=0,
    )
    batches: list[Batch] = []
    for symbol, (name, venue) in STOCKS.items():
        rows = table.filter(pl.col("Ticker") == symbol).sort("Date")
        instrument = Instrument(symbol=symbol, name=name, venue=venue)
        batches.append(Batch(instrument, "1d", _bars(rows), dataset, actions=recovered_actions(rows)))
    return batches


def _gauge(gauge: Gauge, now: datetime) -> Batch:
    content, digest = _resource("arch", gauge.file)
    value = gauge.value_column
    wanted = {"Date", value} if value else {"Date", "Open", "High", "Low", "Close", "Volume"}
    table = _table(content, wanted, "%m/%d/%Y").sort("Date")
    if value:
        # FRED writes a dot on its holidays.
        table = table.drop_nulls(value).with_columns(
            *(pl.col(value).alias(name) for name in ("Open", "High", "Low", "Close")),
            pl.lit(0.0).alias("Volume"),
        )
    dataset = DataSet(
        dataset_id=f"arch-{Path(gauge.file).parent.name}",
        source=f"resource {gauge.file} of the package arch",
        licence="package NCSA; the quotes belong to their publishers: for research on your own machine",
        note=gauge.note,
        imported_at=now,
        file_name=Path(gauge.file).name,
        file_digest=digest,
        known_time_assumed=True,
        rows_read=table.height,
        rows_added=0,
    )
    instrument = Instrument(
        symbol=gauge.symbol, name=gauge.name, asset_class=gauge.asset_class, tradable=False
    )
    return Batch(instrument, "1d", _bars(table, gauge.published_after), dataset)


def recovered_actions(rows: pl.DataFrame) -> pl.DataFrame:
    """Recovers splits and dividends from raw and adjusted closes.

    With f = close / adjusted close, the ratio s = f(previous day) / f(day) is 1 on a plain day, the split
    ratio on a split's first day, and 1 + dividend / close on an ex-date (the vendor's definition).

    Args:
        rows: One symbol, ascending: `Date, Close, Adj Close`.

    Returns:
        `frames.ACTION_SCHEMA`; known at the start of the day on which they take effect (assumed: they are
        announced earlier, but the source does not say when).

    Raises:
        DataError: a change that is neither.
    """
    factor = pl.col("Close") / pl.col("Adj Close")
    steps = rows.select("Date", "Close", (factor.shift(1) / factor).alias("step")).filter(
        (pl.col("step") - 1).abs() > 1e-6  # noise is 1e-13, the smallest dividend 1e-3
    )
    kinds: list[str] = []
    values: list[float] = []
    times: list[datetime] = []
    for day, close, step in steps.iter_rows():
        halves = round(step * 2) / 2
        if step >= SPLIT_MIN and abs(step - halves) < 1e-6:
            kind, amount = "split", halves
        elif 1 < step < SPLIT_MIN:
            kind, amount = "dividend", round((step - 1) * close, 6)
        else:
            raise DataError(
                "adjustment_unexplained",
                f"the adjustment factor changes by {step:.6f} on {day}, which is no split and no dividend",
                "install the package version in constraints.txt",
            )
        kinds.append(kind)
        values.append(amount)
        times.append(start_of_day(day))
    return pl.DataFrame(
        {"event_time": times, "known_time": times, "kind": kinds, "value": values},
        schema=frames.ACTION_SCHEMA,
    )


def _bars(rows: pl.DataFrame, published_after: timedelta = timedelta()) -> pl.DataFrame:
    times = session_times(rows.get_column("Date"))
    return pl.DataFrame(
        {
            "event_time": times.get_column("event_time"),
            "known_time": times.get_column("known_time") + published_after,
            **{name: rows.get_column(name.capitalize()).cast(pl.Float64) for name in frames.VALUE_COLUMNS},
        },
        schema=frames.BAR_SCHEMA,
    )


def _resource(package: str, path: str) -> tuple[bytes, str]:
    """Returns a package resource's unpacked content and the SHA-256 of the file as installed."""
    spec = importlib.util.find_spec(package)
    folders = spec.submodule_search_locations if spec else None
    for folder in folders or ():
        file = Path(folder) / path
        if file.is_file():
            packed = file.read_bytes()
            return gzip.decompress(packed), hashlib.sha256(packed).hexdigest()
    raise ConfigurationError(
        "sample_data_missing",
        f"the package {package}, which holds {path}, is not installed",
        "run `neural-trader setup`, or `pip install 'neural-trader[sample]'`",
        package=package,
    )


def _table(content: bytes, wanted: set[str], date_format: str) -> pl.DataFrame:
    table = pl.read_csv(content, infer_schema_length=None, null_values=["."])
    missing = sorted(wanted - set(table.columns))
    if missing:
        raise DataError(
            "sample_data_changed",
            f"the packaged file lacks the columns {', '.join(missing)}",
            "install the package versions in constraints.txt",
        )
    return table.with_columns(pl.col("Date").str.to_date(date_format))
