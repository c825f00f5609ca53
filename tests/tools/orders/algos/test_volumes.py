"""Profiles of the day's volume from intraday bars, and what the market traded between two moments."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from neural_trader_governance.errors import InputError
from neural_trader_governance.terms.instruments import Instrument
from neural_trader_tools.market.archive import Archive
from neural_trader_tools.market.batches import Batch
from neural_trader_tools.market.frames import BAR_SCHEMA
from neural_trader_tools.market.manifest import DataSet
from neural_trader_tools.orders.algos.volumes import day_profile, traded_between

HOUR = timedelta(hours=1)
OPEN = datetime(2024, 3, 7, 14, 30, tzinfo=UTC)  # 9:30 in New York; from 11 March on that is 13:30 UTC
TODAY = datetime(2024, 3, 12, 13, 30, tzinfo=UTC)


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    """Hours of Thursday, Friday and Monday, the clocks changing in between; 4, 1, 1, 2 times a hundred."""
    opens = [OPEN, OPEN + timedelta(days=1), OPEN + timedelta(days=4) - HOUR, TODAY]
    rows = [
        {
            "event_time": day + number * HOUR,
            "known_time": day + (number + 1) * HOUR,
            "open": 10.0,
            "high": 10.0,
            "low": 10.0,
            "close": 10.0,
            "volume": volume * 100.0 * (1_000 if day == TODAY else 1),
        }
        for day in opens
        for number, volume in enumerate((4, 1, 1, 2))
    ]
    dataset = DataSet(
        dataset_id="test", source="made here", licence="none", imported_at=TODAY, file_digest="0" * 64,
        known_time_assumed=False, rows_read=len(rows), rows_added=0,
    )  # fmt: skip
    archive = Archive(tmp_path)
    bars = pl.DataFrame(rows, schema=BAR_SCHEMA)
    archive.write([Batch(Instrument(symbol="XYZ", name="X"), "1h", bars, dataset, known_time_given=True)])
    return archive


def test_a_profile_is_of_the_time_of_day_in_new_york_and_of_earlier_days(archive: Archive) -> None:
    weights = day_profile(archive, "XYZ", start=TODAY, end=TODAY + 4 * HOUR, slices=4, as_of=TODAY + HOUR)
    assert weights == (1_200, 300, 300, 600), "of three days; today's tall bars are not looked at"
    half = day_profile(archive, "XYZ", start=TODAY, end=TODAY + 4 * HOUR, slices=2, as_of=TODAY)
    assert half == (1_500, 900)


def test_there_is_no_profile_of_two_days_or_of_the_night(archive: Archive) -> None:
    for start, end, why in (
        (TODAY, TODAY + timedelta(days=1), "more than one day"),
        (TODAY + 8 * HOUR, TODAY + 9 * HOUR, "no bar of the last sessions"),
    ):
        with pytest.raises(InputError, match=why):
            day_profile(archive, "XYZ", start=start, end=end, slices=2, as_of=TODAY)


def test_what_was_traded_counts_when_it_is_known(archive: Archive) -> None:
    assert traded_between(archive, "XYZ", OPEN, OPEN + HOUR) == 400
    assert traded_between(archive, "XYZ", OPEN, OPEN + HOUR - timedelta(seconds=1)) == 0
    assert traded_between(archive, "XYZ", OPEN + HOUR, OPEN + 4 * HOUR) == Decimal(400)
