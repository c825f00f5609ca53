"""What a replay leaves to read: equity with exposure, and its fills."""

import numpy as np
import polars as pl
import pytest

from neural_trader_tools.backtest.prices import Prices
from neural_trader_tools.backtest.records import equity_frame, fills_frame, orders_frame
from neural_trader_tools.backtest.replay import Replay, replay_symbol
from neural_trader_tools.backtest.settings import Settings

DAY_US = 86_400_000_000


def prices(symbol: str, closes: list[float], first_day: int = 0) -> Prices:
    close = np.array(closes)
    times = (np.arange(len(closes), dtype=np.int64) + first_day) * DAY_US
    return Prices(symbol, times, close, close, close, close, np.ones(len(closes)))


def test_exposure_is_what_is_held_over_equity_and_shorts_count_against_it() -> None:
    longs = replay_symbol(
        "signals",
        np.array([0.5, np.nan, np.nan, np.nan]),
        prices("A", [10.0, 10.0, 20.0, 20.0]),
        Settings(),
        100.0,
    )
    shorts = replay_symbol("signals", np.array([-1.0, np.nan]), prices("B", [5.0, 5.0], 1), Settings(), 100.0)
    frame = equity_frame(Replay.combine([longs, shorts], 200.0))
    # A buys 5 units at 10 on day 1; B, listed from day 1 on, sells 20 units at 5 on day 2.
    assert frame["equity"].to_list() == [200.0, 200.0, 250.0, 250.0]
    assert frame["exposure"].to_list() == pytest.approx([0.0, 50 / 200, 0.0, 0.0])
    assert frame["gross_exposure"].to_list() == pytest.approx([0.0, 50 / 200, 200 / 250, 200 / 250])


def test_exposure_of_what_is_ruined_is_null() -> None:
    ruined = replay_symbol(
        "signals", np.array([-1.0, np.nan, np.nan]), prices("A", [10.0, 10.0, 30.0]), Settings(), 100.0
    )
    frame = equity_frame(Replay.combine([ruined], 100.0))
    assert frame["equity"][2] <= 0.0
    assert frame["exposure"].to_list() == [0.0, -1.0, None]


def test_fills_name_their_order_and_a_liquidation_has_none() -> None:
    ruined = replay_symbol(
        "signals",
        np.array([0.5, -1.0, np.nan, np.nan]),
        prices("A", [10.0, 10.0, 10.0, 30.0]),
        Settings(),
        100.0,
    )
    replay = Replay.combine([ruined], 100.0)
    fills = fills_frame(replay)
    assert fills["reason"].to_list() == ["target", "target", "liquidation"]
    assert fills["order"].to_list() == [0, 1, None]
    assert fills["quantity"].to_list() == [5.0, -15.0, 10.0]
    assert fills["position"].to_list() == [5.0, -10.0, 0.0]
    assert fills["time"].dt.epoch("d").to_list() == [1, 2, 3]
    assert orders_frame(replay)["filled_price"].to_list() == fills["price"].to_list()[:2]


def test_without_a_fill_the_columns_keep_their_types() -> None:
    still = Replay.combine(
        [replay_symbol("signals", np.zeros(2), prices("A", [1.0, 1.0]), Settings(), 1.0)], 1.0
    )
    numbers = dict.fromkeys(("quantity", "price", "commission", "position"), pl.Float64())
    words = {
        "symbol": pl.String(),
        "time": pl.Datetime("us", "UTC"),
        "order": pl.Int64(),
        "reason": pl.String(),
    }
    assert fills_frame(still).schema == {**words, **numbers}
    assert fills_frame(still).is_empty()
