"""Prices as they are loaded: copied, checked, and where they are many, laid where a guest can read them."""

import io
import os

import numpy as np
import polars as pl
import pytest

from neural_trader_tools.backtest.prices import SHARED_BARS_MIN, VALUES, Prices


def bars(count: int) -> pl.DataFrame:
    close = 100.0 + np.arange(count) % 7
    return pl.DataFrame(
        {
            "event_time": pl.Series(np.arange(count) * 60_000_000).cast(pl.Datetime("us", "UTC")),
            "open": close,
            "high": close + 1,
            "low": close - 1,
            "close": close,
            "volume": np.ones(count),
        }
    )


@pytest.mark.parametrize("count", [2, SHARED_BARS_MIN - 1, SHARED_BARS_MIN])
@pytest.mark.parametrize("pays", [False, True])
def test_loaded_prices_are_the_same_whether_they_are_few_or_many(count: int, pays: bool) -> None:
    frame = bars(count)
    dividends = np.where(np.arange(count) == 1, 0.5, 0.0) if pays else None
    loaded = Prices.from_frame("X", frame, dividends=dividends)
    arrays = [frame[name].to_numpy() for name in VALUES]
    times = frame["event_time"].to_physical().to_numpy()
    made = Prices("X", times, *arrays, dividends=np.empty(0) if dividends is None else dividends)
    assert loaded.digest() == made.digest()
    assert loaded.frame().equals(made.frame())
    assert pl.read_ipc_stream(io.BytesIO(bytes(loaded.table()))).equals(made.frame())
    for name in ("times", *VALUES):
        array = getattr(loaded, name)
        assert array.flags.writeable, "the engine's kernels are compiled for arrays of this kind"
        assert array.flags.c_contiguous


def test_many_bars_are_written_once_when_they_are_loaded_and_few_hold_no_descriptor() -> None:
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    few = [Prices.from_frame("X", bars(100)) for _ in range(20)]
    many = Prices.from_frame("X", bars(SHARED_BARS_MIN))
    if before:
        assert len(os.listdir("/proc/self/fd")) == before + 1
    content = bytes(many.table())
    many.close[0] = -1.0
    assert bytes(many.table()) == content, "a guest's bars do not change under it"
    assert len(few) == 20
    del many
    if before:
        assert len(os.listdir("/proc/self/fd")) == before
