"""The cache: right by its key, bounded in memory, and good for an hour."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from neural_trader_governance.terms.clocks import SimulatedClock
from neural_trader_tools.features import compute
from neural_trader_tools.features.cache import FeatureCache, Key
from neural_trader_tools.features.compute import feature_frame
from neural_trader_tools.market.archive import Archive
from neural_trader_tools.market.providers.sample import fetch_sample
from neural_trader_tools.market.windows import ReadWindow

KEY = Key("v1", "AAPL", "1d", None, None, "rsi(14)")
COLUMN = pl.DataFrame({"x": [1.0, 2.0]})
ALL = ReadWindow(None, None, None)


def test_a_column_is_good_for_the_time_to_live() -> None:
    now = [0.0]
    cache = FeatureCache(ttl_s=10, now_s=lambda: now[0])
    cache.put(KEY, COLUMN)
    now[0] = 9.9
    assert cache.get(KEY) is COLUMN
    now[0] = 10.0
    assert cache.get(KEY) is None
    assert cache.held_bytes == 0


@pytest.mark.parametrize(
    "other",
    [
        {"data_version": "v2"},
        {"symbol": "IBM"},
        {"interval": "1h"},
        {"end": datetime(2010, 1, 1, tzinfo=UTC)},
        {"as_of": datetime(2010, 1, 1, tzinfo=UTC)},
        {"expression": "rsi(15)"},
    ],
)
def test_whatever_the_values_depend_on_is_in_the_key(other: dict[str, Any]) -> None:
    cache = FeatureCache()
    cache.put(KEY, COLUMN)
    assert cache.get(replace(KEY, **other)) is None


def test_the_least_lately_used_is_dropped_and_giants_are_not_kept() -> None:
    size = int(COLUMN.estimated_size())
    cache = FeatureCache(bytes_max=4 * size)
    keys = [replace(KEY, symbol=str(number)) for number in range(5)]
    for key in keys[:4]:
        cache.put(key, COLUMN)
    assert cache.get(keys[0]) is not None
    cache.put(keys[4], COLUMN)
    assert [cache.get(key) is not None for key in keys] == [True, False, True, True, True]
    assert cache.held_bytes == 4 * size
    cache.put(KEY, pl.concat([COLUMN, COLUMN]))
    assert cache.get(KEY) is None


def test_values_from_the_cache_are_those_computed(sample: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = FeatureCache()
    asked = ["rsi(14)", "bbands.upper", " RSI "]
    first = feature_frame(sample, "AAPL", asked, "1d", ALL, cache)
    assert cache.held_bytes > 0

    def never(*_: object) -> dict[str, Any]:
        raise AssertionError("computed again")

    monkeypatch.setattr(compute, "evaluate_all", never)
    again = feature_frame(sample, "AAPL", ["RSI", "rsi(14)", "bbands.upper"], "1d", ALL, cache)
    assert again["rsi(14)"].equals(first["rsi(14)"])
    assert again["bbands.upper"].equals(first["bbands.upper"])
    late = ReadWindow(datetime(2012, 1, 1, tzinfo=UTC), None, None)
    assert feature_frame(sample, "AAPL", ["rsi"], "1d", late, cache).height < again.height
    with pytest.raises(AssertionError, match="computed again"):
        feature_frame(sample, "AAPL", ["rsi"], "1d", ReadWindow(None, late.start, None), cache)


def test_a_write_between_reading_and_computing_keeps_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = Archive(tmp_path)
    fetch_sample(archive, SimulatedClock(datetime(2020, 1, 1, tzinfo=UTC)))
    versions = iter(["before", "after"])

    def changing(*_: object) -> str:
        return next(versions)

    monkeypatch.setattr(archive, "data_version", changing)
    cache = FeatureCache()
    feature_frame(archive, "AAPL", ["rsi"], "1d", ALL, cache)
    assert cache.held_bytes == 0
