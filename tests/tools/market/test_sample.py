"""The sample provider: real prices, with splits and dividends that match the public record."""

import importlib.util
import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from neural_trader_governance.errors import ConfigurationError, DataError
from neural_trader_tools.market.archive import Archive
from neural_trader_tools.market.providers import sample as provider

PUBLISHED_SPLITS = {
    ("AAPL", date(2000, 6, 21)): 2.0,
    ("AAPL", date(2005, 2, 28)): 2.0,
    ("MSFT", date(2003, 2, 18)): 2.0,
}
"""From the companies' investor pages; IBM, GOOG and FB had none in the sample's span."""

PUBLISHED_DIVIDENDS = {
    ("AAPL", date(2012, 8, 9)): 2.65,  # the first since 1995
    ("MSFT", date(2003, 2, 19)): 0.08,  # its first ever
    ("MSFT", date(2004, 11, 15)): 3.08,  # the special 3.00, with the regular 0.08
    ("IBM", date(2012, 5, 8)): 0.85,
}


def test_splits_are_those_that_happened(sample: Archive) -> None:
    recovered = {
        (symbol, row["event_time"].date()): row["value"]
        for symbol in provider.STOCKS
        for row in sample.actions(symbol).filter(pl.col("kind") == "split").iter_rows(named=True)
    }
    assert recovered == PUBLISHED_SPLITS


def test_dividends_are_those_that_were_paid(sample: Archive) -> None:
    for (symbol, day), cash in PUBLISHED_DIVIDENDS.items():
        dividends = sample.actions(symbol).filter(pl.col("kind") == "dividend")
        paid = dividends.filter(pl.col("event_time").dt.date() == day)
        assert paid["value"].to_list() == [cash]
    assert sample.actions("IBM").height == 52  # four a year for thirteen years


def test_total_adjustment_reproduces_the_vendors_adjusted_closes(sample: Archive) -> None:
    (folder,) = importlib.util.find_spec("bokeh_sampledata").submodule_search_locations or ()  # type: ignore[union-attr]
    table = pl.read_csv(Path(folder) / "_data" / "stocks.csv.gz")
    for symbol in provider.STOCKS:
        vendor = table.filter(pl.col("Ticker") == symbol).sort("Date")["Adj Close"].to_numpy()
        ours = sample.bars(symbol, adjust="total")["close"].to_numpy()
        np.testing.assert_allclose(ours / ours[-1], vendor / vendor[-1], rtol=1e-6)


def test_daily_bars_open_and_become_known_with_their_session(sample: Archive) -> None:
    bars = sample.bars(
        "AAPL", start=datetime(2012, 11, 21, tzinfo=UTC), end=datetime(2012, 11, 27, tzinfo=UTC)
    )
    assert bars.select("event_time", "known_time").rows() == [
        (datetime(2012, 11, 21, 14, 30, tzinfo=UTC), datetime(2012, 11, 21, 21, tzinfo=UTC)),
        (datetime(2012, 11, 23, 14, 30, tzinfo=UTC), datetime(2012, 11, 23, 18, tzinfo=UTC)),  # a half day
        (datetime(2012, 11, 26, 14, 30, tzinfo=UTC), datetime(2012, 11, 26, 21, tzinfo=UTC)),
    ]
    summer = sample.bars("AAPL", start=datetime(2012, 7, 2, tzinfo=UTC)).row(0)
    assert summer[0] == datetime(2012, 7, 2, 13, 30, tzinfo=UTC)


def test_every_data_set_states_its_source_and_licence(sample: Archive) -> None:
    assert {one.dataset_id for one in sample.datasets()} == {
        "bokeh-stocks",
        "arch-sp500",
        "arch-nasdaq",
        "arch-vix",
        "arch-wti",
    }
    for dataset in sample.datasets():
        assert dataset.known_time_assumed
        assert dataset.source
        assert dataset.licence
        assert dataset.rows_added > 0
        assert len(dataset.file_digest) == 64


def test_indices_are_data_only(sample: Archive) -> None:
    tradable = {one.symbol: one.tradable for one in sample.instruments()}
    assert [symbol for symbol, yes in tradable.items() if yes] == ["AAPL", "FB", "GOOG", "IBM", "MSFT"]
    assert sample.newest_known_time() == datetime(2013, 3, 1, 21, tzinfo=UTC)


def test_fetching_twice_adds_nothing(sample_copy: Archive) -> None:
    before = (sample_copy.root / "manifest.json").read_bytes()
    written = provider.fetch_sample(sample_copy)
    assert sum(one.rows_new + one.rows_revised for one in written) == 0
    assert (sample_copy.root / "manifest.json").read_bytes() == before


def test_a_missing_package_is_named_with_what_to_run(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find_nothing(name: str) -> None:
        assert name == "bokeh_sampledata"

    monkeypatch.setattr(importlib.util, "find_spec", find_nothing)
    with pytest.raises(ConfigurationError, match=r"sample_data_missing.*neural-trader setup"):
        provider.fetch_sample(archive)
    assert not archive.root.exists()


def test_a_step_of_the_factor_that_is_no_action_is_refused() -> None:
    rows = pl.DataFrame(
        {"Date": [date(2020, 1, 2), date(2020, 1, 3)], "Close": [10.0, 10.0], "Adj Close": [10.0, 7.0]}
    )
    with pytest.raises(DataError, match="adjustment_unexplained"):
        provider.recovered_actions(rows)


def test_the_packages_are_read_but_never_imported(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from neural_trader_tools.market.archive import Archive\n"
        "assert 'pandas' not in sys.modules and 'exchange_calendars' not in sys.modules\n"
        "from neural_trader_tools.market.providers.sample import fetch_sample\n"
        "fetch_sample(Archive(Path(sys.argv[1])))\n"
        "assert not {'arch', 'bokeh_sampledata'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "archive")], check=True)
