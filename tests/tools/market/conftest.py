"""Fixtures of the market tests: the real sample prices, imported once, copied for tests that write."""

import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from neural_trader_governance.terms.clocks import SimulatedClock
from neural_trader_governance.terms.instruments import Instrument
from neural_trader_tools.market import frames
from neural_trader_tools.market.archive import Archive
from neural_trader_tools.market.batches import Batch
from neural_trader_tools.market.manifest import DataSet
from neural_trader_tools.market.providers.sample import fetch_sample

IMPORT_TIME = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="session")
def sample_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an archive that holds the sample prices; read only."""
    root = tmp_path_factory.mktemp("sample")
    fetch_sample(Archive(root), SimulatedClock(IMPORT_TIME))
    return root


@pytest.fixture
def sample(sample_root: Path) -> Archive:
    """The sample archive, for tests that only read."""
    return Archive(sample_root)


@pytest.fixture
def sample_copy(sample_root: Path, tmp_path: Path) -> Archive:
    """A copy of the sample archive, for tests that write or set the replay clock."""
    root = tmp_path / "archive"
    shutil.copytree(sample_root, root)
    return Archive(root, SimulatedClock(IMPORT_TIME))


@pytest.fixture
def clock() -> SimulatedClock:
    """The import time of tests."""
    return SimulatedClock(IMPORT_TIME)


@pytest.fixture
def archive(tmp_path: Path, clock: SimulatedClock) -> Archive:
    """An empty archive."""
    return Archive(tmp_path / "archive", clock)


@pytest.fixture
def batch() -> Callable[..., Batch]:
    """Builds a batch of daily bars: `batch("ABC", [10.0, 11.0])` from 2019-01-01 on."""

    def build(
        symbol: str, closes: list[float], *, splits: dict[int, float] | None = None, first_day: int = 0
    ) -> Batch:
        opens = [
            datetime(2019, 1, 1, 14, 30, tzinfo=UTC) + timedelta(days=first_day + i)
            for i in range(len(closes))
        ]
        bars = pl.DataFrame(
            {
                "event_time": opens,
                "known_time": [moment + timedelta(hours=6.5) for moment in opens],
                "open": closes,
                "high": [close * 1.01 for close in closes],
                "low": [close * 0.99 for close in closes],
                "close": closes,
                "volume": [1000.0] * len(closes),
            },
            schema=frames.BAR_SCHEMA,
        )
        takes_effect = [opens[i] - timedelta(hours=9) for i in (splits or {})]
        actions = pl.DataFrame(
            {
                "event_time": takes_effect,
                "known_time": takes_effect,
                "kind": ["split"] * len(takes_effect),
                "value": list((splits or {}).values()),
            },
            schema=frames.ACTION_SCHEMA,
        )
        dataset = DataSet(
            dataset_id="test",
            source="a test",
            licence="none",
            imported_at=IMPORT_TIME,
            file_digest="",
            known_time_assumed=False,
            rows_read=len(closes),
            rows_added=0,
        )
        return Batch(Instrument(symbol=symbol, name=symbol), "1d", bars, dataset, actions)

    return build
