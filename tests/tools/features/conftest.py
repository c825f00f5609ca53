"""Fixtures of the feature tests: an archive of the real sample prices, and its bars."""

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from neural_trader_governance.terms.clocks import SimulatedClock
from neural_trader_tools.market.archive import Archive
from neural_trader_tools.market.providers.sample import fetch_sample


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    """The sample archive; read only."""
    archive = Archive(tmp_path_factory.mktemp("sample"))
    fetch_sample(archive, SimulatedClock(datetime(2020, 1, 1, tzinfo=UTC)))
    return archive


@pytest.fixture(scope="session")
def apple(sample: Archive) -> pl.DataFrame:
    """Apple's daily bars of 2000 to 2013, adjusted for splits."""
    return sample.bars("AAPL")


@pytest.fixture
def replay_path(tmp_path: Path) -> Path:
    """Where a test's replay clock keeps its place, beside no other's."""
    return tmp_path / "replay.db"
