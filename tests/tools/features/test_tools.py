"""The feature tools as an agent calls them."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from neural_trader_governance.errors import DataError, InputError
from neural_trader_tools.artifacts import Artifacts
from neural_trader_tools.features import catalogue
from neural_trader_tools.features.compute import features_compute
from neural_trader_tools.features.definitions import DEFINITIONS, USUAL
from neural_trader_tools.features.search import features_search
from neural_trader_tools.market.archive import Archive
from neural_trader_tools.market.replay import ReplayClock

pytestmark = pytest.mark.anyio


@pytest.fixture
def artifacts(tmp_path: Path) -> Artifacts:
    return Artifacts(tmp_path / "artifacts")


@pytest.fixture
def replay(sample: Archive, replay_path: Path) -> ReplayClock:
    return ReplayClock(sample, replay_path)


async def test_the_latest_values_are_inline_and_all_rows_behind_the_handle(
    sample: Archive, artifacts: Artifacts, replay: ReplayClock, apple: pl.DataFrame
) -> None:
    asked = ["rsi(14)", "macd(12,26,9).signal", "sma(5000)"]
    result = await features_compute(sample, artifacts, replay, symbol="AAPL", features=asked)
    assert list(result.latest) == asked
    assert result.latest["rsi(14)"] == catalogue.evaluate("rsi(14)", apple)[-1]
    assert result.latest["sma(5000)"] is None
    assert result.note is not None
    assert (result.row_count, result.latest_time) == (3270, datetime(2013, 3, 1, 14, 30, tzinfo=UTC))
    assert result.handle is not None
    frame = artifacts.get(result.handle)
    assert frame.columns == ["event_time", "known_time", *asked]
    np.testing.assert_array_equal(
        frame["rsi(14)"].fill_null(np.nan).to_numpy(), catalogue.evaluate("rsi(14)", apple)
    )


async def test_a_value_does_not_depend_on_where_the_window_starts(
    sample: Archive, artifacts: Artifacts, replay: ReplayClock
) -> None:
    asked = ["rsi(14)", "ema(50)", "obv"]
    late, whole = [
        await features_compute(
            sample, artifacts, replay, symbol="IBM", features=asked, start=start, end="2010-01-01"
        )
        for start in ("2009-12-28", None)
    ]
    assert late.row_count == 4
    assert late.latest == whole.latest


async def test_features_as_of_a_moment_see_only_what_was_known(
    sample: Archive, artifacts: Artifacts, replay: ReplayClock
) -> None:
    then = await features_compute(
        sample, artifacts, replay, symbol="AAPL", features=["sma(2)"], as_of="2005-02-26", format="detailed"
    )
    assert then.latest_time == datetime(2005, 2, 25, 14, 30, tzinfo=UTC)
    assert then.recent is not None
    assert len(then.recent["time"]) == 10
    now = await features_compute(
        sample, artifacts, replay, symbol="AAPL", features=["sma(2)"], end="2005-02-26"
    )
    assert then.latest["sma(2)"] == pytest.approx(2 * (now.latest["sma(2)"] or 0))  # the split was not known
    replay.set(datetime(2005, 2, 25, 21, tzinfo=UTC))
    capped = await features_compute(sample, artifacts, replay, symbol="AAPL", features=["sma(2)"])
    assert capped.latest == then.latest


async def test_a_range_without_bars_has_no_handle(
    sample: Archive, artifacts: Artifacts, replay: ReplayClock
) -> None:
    result = await features_compute(
        sample, artifacts, replay, symbol="FB", features=["sma(2)"], start="2014-01-01"
    )
    assert (result.row_count, result.handle, result.latest) == (0, None, {"sma(2)": None})


async def test_wrong_arguments_end_in_an_error_that_says_what_to_do(
    sample: Archive, artifacts: Artifacts, replay: ReplayClock
) -> None:
    with pytest.raises(InputError, match=r"unknown_feature.*did you mean rsi") as raised:
        await features_compute(sample, artifacts, replay, symbol="AAPL", features=["rsj(14)"])
    assert raised.value.code == "unknown_feature"
    assert raised.value.next_step.startswith("did you mean")
    for features in ([], ["rsi"] * 31):
        with pytest.raises(InputError, match="invalid_features"):
            await features_compute(sample, artifacts, replay, symbol="AAPL", features=features)
    with pytest.raises(DataError, match="unknown_symbol"):
        await features_compute(sample, artifacts, replay, symbol="ÄÄ", features=["rsi"])
    with pytest.raises(InputError, match="unknown_format"):
        await features_compute(sample, artifacts, replay, symbol="AAPL", features=["rsi"], format="csv")


async def test_search_lists_all_and_finds_by_words_and_typos() -> None:
    usual = await features_search()
    assert {one.name for one in usual.features} >= set(USUAL)
    assert usual.note is not None
    assert all(name in usual.note for name in set(DEFINITIONS) - {one.name for one in usual.features})
    assert len(usual.model_dump_json()) < 9 << 10
    everything = await features_search(limit=200)
    assert {one.name for one in everything.features} == set(DEFINITIONS)
    assert len(everything.features) >= 60
    assert (await features_search(query="volatilty")).features[0].name == "volatility"
    assert "bbands" in [one.name for one in (await features_search(query="bollinger")).features]
    nothing = await features_search(query="zzz")
    assert nothing.features == []
    assert nothing.note is not None
    with pytest.raises(InputError, match="query_too_long"):
        await features_search(query="x" * 200)
