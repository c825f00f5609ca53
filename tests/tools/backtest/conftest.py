"""Real daily prices, a real sandbox, a real archive: what the backtest tests run on."""

import gzip
from collections.abc import AsyncGenerator, Callable
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import NoReturn

import polars as pl
import pytest

from neural_trader_governance.terms.clocks import SimulatedClock
from neural_trader_sandbox.local.sandbox import LocalSandbox
from neural_trader_tools.backtest.prices import Prices
from neural_trader_tools.market.archive import Archive
from neural_trader_tools.market.providers.sample import fetch_sample

PRELOAD = [
    "numpy",
    "polars",
    "neural_trader_tools.engine.guest",
    "neural_trader_tools.engine.floor",
    "neural_trader_tools.engine.sweep",
    "neural_trader_tools.engine.weights",
    "neural_trader_tools.features.kernels",
    "neural_trader_tools.features.catalogue",
]


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Session-wide, so that one sandbox serves all of these tests."""
    return "asyncio"


@pytest.fixture(scope="session")
async def sandbox(lacking: Callable[[str], NoReturn]) -> AsyncGenerator[LocalSandbox]:
    """The local sandbox; a host that lacks a layer skips visibly."""
    local = LocalSandbox(PRELOAD)
    report = await local.probe()
    if not report.ok:
        missing = ", ".join(f"{layer.name}: {layer.detail}" for layer in report.layers if not layer.holds)
        lacking(f"no sandbox on this host ({missing})")
    yield local
    await local.aclose()


@pytest.fixture(scope="session")
def daily() -> Callable[[str], pl.DataFrame]:
    """Returns real daily bars of AAPL, FB, GOOG, IBM or MSFT as the archive gives them."""
    packed = resources.files("bokeh_sampledata").joinpath("_data", "stocks.csv.gz").read_bytes()
    stocks = pl.read_csv(gzip.decompress(packed))

    def read(symbol: str) -> pl.DataFrame:
        return stocks.filter(pl.col("Ticker") == symbol).select(
            pl.col("Date").str.to_datetime(time_unit="us", time_zone="UTC").alias("event_time"),
            *(
                pl.col(name).cast(pl.Float64).alias(name.lower())
                for name in ("Open", "High", "Low", "Close", "Volume")
            ),
        )

    return read


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    """The archive of the sample prices; read only."""
    archive = Archive(tmp_path_factory.mktemp("archive"))
    fetch_sample(archive, SimulatedClock(datetime(2020, 1, 1, tzinfo=UTC)))
    return archive


@pytest.fixture(scope="session")
def msft(daily: Callable[[str], pl.DataFrame]) -> Prices:
    return Prices.from_frame("MSFT", daily("MSFT"))


@pytest.fixture(scope="session")
def example() -> Callable[[str], str]:
    """Returns the source of an example strategy."""
    folder = Path(__file__).parents[3] / "examples" / "strategies"
    return lambda name: (folder / f"{name}.py").read_text(encoding="utf-8")
