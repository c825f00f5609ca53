"""Fills computed by hand, for every kind of order and every gap."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neural_trader_tools.engine import kernel
from neural_trader_tools.engine import orders as o

NAN = float("nan")
FLAT = (10.0, 10.0, 10.0, 10.0)


def test_a_market_order_fills_at_the_next_open(play: Any, row: Any) -> None:
    played = play([FLAT, (11, 12, 10, 12), FLAT], [row(0, 1, 5)])
    assert played.told == [(1, 5.0, 11.0, "market")]
    assert played.equity.tolist() == [1000.0, 1000 - 55 + 5 * 12, 1000 - 55 + 5 * 10]


def test_with_fill_close_it_fills_at_the_close_of_its_own_bar(play: Any, row: Any) -> None:
    played = play([(9, 11, 9, 10), (11, 12, 10, 12)], [row(0, 1, 5)], at_close=True)
    assert played.told == [(0, 5.0, 10.0, "market")]


def test_an_order_of_the_last_bar_never_fills(play: Any, row: Any) -> None:
    played = play([FLAT, FLAT], [row(1, 1, 5)])
    assert (played.told, played.states) == ([], ["working"])


@pytest.mark.parametrize(
    ("side", "bar", "price"),
    [
        (1, (10, 11, 8, 10), 9.0),  # touched inside the bar
        (1, (8.5, 9, 8, 8.5), 8.5),  # opened below: min(open, limit)
        (1, (10, 11, 9.01, 10), None),
        (1, (10, 11, 9.0, 10), 9.0),  # touched exactly
        (-1, (10, 12, 9, 10), 11.0),
        (-1, (11.5, 12, 11, 12), 11.5),
        (-1, (10, 10.99, 9, 10), None),
    ],
)
def test_a_limit_fills_at_its_level_or_at_a_better_open(
    play: Any, row: Any, side: int, bar: Any, price: float | None
) -> None:
    played = play([FLAT, bar], [row(0, side, 2, limit=9.0 if side > 0 else 11.0)], slippage=0.01)
    assert played.told == ([] if price is None else [(1, 2.0 * side, price, "limit")])


@pytest.mark.parametrize(
    ("side", "bar", "price"),
    [
        (1, (10, 11.5, 10, 11), 11.0),
        (1, (12, 13, 11, 12), 12.0),  # gap through: max(open, stop)
        (1, (10, 10.9, 10, 10), None),
        (-1, (10, 10, 8, 9), 9.0),
        (-1, (8, 9, 7, 8), 8.0),
        (-1, (10, 11, 9.1, 10), None),
    ],
)
def test_a_stop_fills_at_its_level_or_at_a_worse_open(
    play: Any, row: Any, side: int, bar: Any, price: float | None
) -> None:
    played = play([FLAT, bar], [row(0, side, 2, stop=11.0 if side > 0 else 9.0)])
    assert played.told == ([] if price is None else [(1, 2.0 * side, price, "stop")])


@pytest.mark.parametrize(
    ("bars", "told"),
    [
        ([(10, 11.2, 10, 11)], [(1, 2.0, 11.0, "stop_limit")]),  # triggered at 11 within the limit of 11.5
        ([(11.3, 12, 11, 12)], [(1, 2.0, 11.3, "stop_limit")]),  # the open triggers within the limit
        ([(12, 13, 11.2, 12)], [(1, 2.0, 11.5, "stop_limit")]),  # opened beyond, came back in the bar
        ([(12, 13, 11.8, 12), (12, 12, 11.4, 12)], [(2, 2.0, 11.5, "stop_limit")]),  # waits as a limit
        ([(10, 10.9, 10, 10)], []),
    ],
)
def test_a_stop_limit_triggers_then_respects_its_limit(play: Any, row: Any, bars: Any, told: Any) -> None:
    assert play([FLAT, *bars], [row(0, 1, 2, stop=11.0, limit=11.5)]).told == told


def test_a_stop_limit_triggered_inside_a_bar_beyond_its_limit_waits_for_the_next(play: Any, row: Any) -> None:
    bars = [FLAT, (10, 12, 9, 10), (10.4, 11, 10, 10)]
    assert play(bars, [row(0, 1, 2, stop=11.0, limit=10.5)]).told == [(2, 2.0, 10.4, "stop_limit")]


def test_a_trailing_stop_follows_finished_bars_only(play: Any, row: Any) -> None:
    bars = [FLAT, (10, 14, 9.5, 13), (13, 13.5, 12.5, 13), (13, 13, 11, 12)]
    # decided at close 10: level 8; after bar 1: 14 - 2 = 12; bar 3 falls through it
    played = play(bars, [row(0, 1, 3), row(0, -1, 3, trail=2.0)])
    assert played.told == [(1, 3.0, 10.0, "market"), (3, -3.0, 12.0, "trail")]


def test_a_trailing_stop_gaps_like_any_stop(play: Any, row: Any) -> None:
    bars = [FLAT, (10, 14, 10, 13), (11, 11, 10, 10)]
    played = play(bars, [row(0, 1, 3), row(0, -1, 3, trail=2.0)])
    assert played.told[1] == (2, -3.0, 11.0, "trail")


def test_a_trailing_buy_mirrors_it(play: Any, row: Any) -> None:
    bars = [FLAT, (10, 10.5, 7, 8), (8, 9.2, 8, 9)]
    assert play(bars, [row(0, 1, 3, trail=2.0)]).told == [(2, 3.0, 9.0, "trail")]


def test_a_bracket_hit_on_both_sides_in_one_bar_is_stopped_out(play: Any, row: Any) -> None:
    bars = [FLAT, FLAT, (10, 13, 7, 10)]
    played = play(bars, [row(0, 1, 2, take_profit=12, stop_loss=8)])
    assert played.told == [(1, 2.0, 10.0, "market"), (2, -2.0, 8.0, "stop_loss")]
    assert played.positions.tolist() == [0, 2, 0]


def test_the_bracket_counts_in_the_entry_bar_after_an_entry_at_the_open(play: Any, row: Any) -> None:
    profit = play([FLAT, (10, 13, 9, 10)], [row(0, 1, 2, take_profit=12, stop_loss=8)])
    assert profit.told[1] == (1, -2.0, 12.0, "take_profit")
    loss = play([FLAT, (10, 13, 7, 10)], [row(0, 1, 2, take_profit=12, stop_loss=8)])
    assert loss.told[1] == (1, -2.0, 8.0, "stop_loss")


def test_after_a_limit_entry_inside_the_bar_only_the_stop_loss_counts(play: Any, row: Any) -> None:
    order = row(0, 1, 2, limit=9, take_profit=12, stop_loss=8)
    assert play([FLAT, (10, 13, 8.5, 10), FLAT], [order]).told == [(1, 2.0, 9.0, "limit")]
    assert play([FLAT, (10, 13, 7, 10)], [order]).told[1] == (1, -2.0, 8.0, "stop_loss")


def test_after_a_stop_entry_inside_the_bar_the_stop_loss_comes_first(play: Any, row: Any) -> None:
    order = row(0, 1, 2, stop=11, take_profit=12, stop_loss=9.5)
    assert play([FLAT, (10, 13, 10, 12)], [order]).told[1] == (1, -2.0, 12.0, "take_profit")
    assert play([FLAT, (10, 13, 9, 12)], [order]).told[1] == (1, -2.0, 9.5, "stop_loss")


def test_an_entry_that_gaps_beyond_its_own_stop_loss_leaves_at_the_open(play: Any, row: Any) -> None:
    played = play([FLAT, (7, 9, 6, 8)], [row(0, 1, 2, limit=9.5, stop_loss=8)])
    assert played.told == [(1, 2.0, 7.0, "limit"), (1, -2.0, 7.0, "stop_loss")]


@pytest.mark.parametrize("entry", [{"stop": 11.0}, {"limit": 9.0}, {"trail": 1.0}, {}])
def test_a_stop_loss_on_the_wrong_side_of_the_entry_earns_nothing(play: Any, row: Any, entry: Any) -> None:
    """Found by hypothesis: the leg filled at its level, a price that was never traded."""
    played = play([FLAT, (10, 12, 8, 10), FLAT, FLAT], [row(0, 1, 2, stop_loss=1000.0, **entry)])
    assert len(played.fills) == 2
    assert played.fills[0, 3] == played.fills[1, 3]
    assert played.equity[-1] == 1000.0


@pytest.mark.parametrize("entry", [{"stop": 11.0}, {}])
def test_a_take_profit_below_the_entry_fills_at_the_entry(play: Any, row: Any, entry: Any) -> None:
    played = play([FLAT, (10, 12, 10, 10)], [row(0, 1, 2, take_profit=1.0, **entry)])
    assert played.fills[0, 3] == played.fills[1, 3]


def test_bracket_legs_gap_like_stops_and_limits(play: Any, row: Any) -> None:
    order = row(0, 1, 2, take_profit=12, stop_loss=8)
    assert play([FLAT, FLAT, (7, 7, 6, 7)], [order]).told[1] == (2, -2.0, 7.0, "stop_loss")
    assert play([FLAT, FLAT, (13, 14, 13, 13)], [order]).told[1] == (2, -2.0, 13.0, "take_profit")


def test_a_short_bracket_mirrors_it(play: Any, row: Any) -> None:
    order = row(0, -1, 2, take_profit=8, stop_loss=12)
    assert play([FLAT, FLAT, (10, 11, 7, 8)], [order]).told[1] == (2, 2.0, 8.0, "take_profit")
    assert play([FLAT, FLAT, (10, 13, 7, 8)], [order]).told[1] == (2, 2.0, 12.0, "stop_loss")


def test_closing_the_position_ends_its_bracket(play: Any, row: Any) -> None:
    rows = [row(0, 1, 2, take_profit=12, stop_loss=8), row(1, 0, 0, action=o.TARGET)]
    played = play([FLAT, FLAT, FLAT, (10, 13, 7, 10)], rows)
    assert [told[3] for told in played.told] == ["market", "target"]


def test_legs_never_trade_more_than_is_held(play: Any, row: Any) -> None:
    rows = [row(0, 1, 4, stop_loss=8), row(1, -1, 3)]
    played = play([FLAT, FLAT, FLAT, (10, 10, 7, 7)], rows)
    assert played.told[-1] == (3, -1.0, 8.0, "stop_loss")
    assert played.positions[-1] == 0.0


def test_canceling_a_filled_order_cancels_its_bracket(play: Any, row: Any) -> None:
    rows = [row(0, 1, 2, stop_loss=8), row(1, 0, 0, action=o.CANCEL)]
    played = play([FLAT, FLAT, (10, 10, 7, 9)], rows)
    assert len(played.told) == 1
    assert played.states == ["filled", "done"]


def test_a_day_order_expires_with_the_first_day_on_which_it_could_fill(play: Any, row: Any) -> None:
    bars = [FLAT, FLAT, (10, 10, 8, 9)]
    day = play(bars, [row(0, 1, 2, limit=9, tif=o.DAY)])
    assert (day.told, day.states) == ([], ["expired"])
    intraday = play(bars, [row(0, 1, 2, limit=9, tif=o.DAY)], days=[0, 1, 1])
    assert intraday.told == [(2, 2.0, 9.0, "limit")]
    assert play(bars, [row(0, 1, 2, limit=9)]).told == [(2, 2.0, 9.0, "limit")]


def test_slippage_worsens_market_and_stop_fills_and_commission_is_taken(play: Any, row: Any) -> None:
    played = play([FLAT, FLAT, FLAT], [row(0, 1, 10), row(1, -1, 10)], slippage=0.01, commission=0.001)
    assert played.told == [(1, 10.0, pytest.approx(10.1), "market"), (2, -10.0, pytest.approx(9.9), "market")]
    assert played.equity[-1] == pytest.approx(1000 - 101 - 0.101 + 99 - 0.099)
    stopped = play([FLAT, (10, 12, 10, 12)], [row(0, 1, 10, stop=11)], slippage=0.01)
    assert stopped.told == [(1, 10.0, pytest.approx(11.11), "stop")]


def test_what_equity_cannot_carry_is_rejected(play: Any, row: Any) -> None:
    played = play([FLAT, FLAT], [row(0, 1, 100.1), row(0, -1, 100.1), row(0, 1, 100)])
    assert played.states == ["rejected", "rejected", "filled"]
    assert played.account[kernel.REJECTIONS] == 2
    with_costs = play([FLAT, FLAT], [row(0, 1, 100)], commission=0.001)
    assert with_costs.states == ["rejected"]


def test_whole_lots_are_cut_down_and_cost_never_exceeds_the_target(play: Any) -> None:
    played = play([FLAT, (7, 7, 7, 7), FLAT], targets=[1, 1, 1], whole=True, commission=0.001)
    assert played.told == [(1, 142.0, 7.0, "target")]
    assert 142 * 7 * 1.001 <= 1000 < 143 * 7 * 1.001


def test_nan_keeps_the_target_and_an_unchanged_target_does_not_trade(play: Any) -> None:
    bars = [FLAT, (10, 10, 10, 10), (12, 12, 12, 12), (9, 9, 9, 9), FLAT]
    played = play(bars, targets=[0.5, NAN, 0.5, NAN, 0.0])
    assert played.told == [(1, 50.0, 10.0, "target")]


def test_a_reversal_is_one_fill_and_two_trades(play: Any) -> None:
    played = play([FLAT, FLAT, (12, 12, 12, 12), (12, 12, 12, 12)], targets=[1, -1, -1, -1], commission=0.001)
    assert len(played.fills) == 2
    assert played.trades.shape[0] == 2
    first, second = played.trades.tolist()
    assert (first[0], first[1], first[2]) == (1, 2, 1.0)
    assert (second[0], second[2]) == (2, -1.0)
    assert math.isnan(second[1])
    assert first[6] + second[6] == pytest.approx(played.fills[:, 4].sum())
    assert first[7] + second[7] == pytest.approx(played.equity[-1] - 1000)


def test_a_short_bought_back_beyond_its_equity_is_ruin_too(play: Any, row: Any) -> None:
    bars = [FLAT, FLAT, (25, 25, 25, 25), FLAT]
    rows = [row(0, -1, 100), row(0, 1, 100, stop=12.0), row(2, 1, 1, limit=9), row(3, 1, 1)]
    played = play(bars, rows)
    assert played.told == [(1, -100.0, 10.0, "market"), (2, 100.0, 25.0, "stop")]
    assert played.equity.tolist() == [1000, 1000, -500, -500]
    assert played.states == ["filled", "filled", "canceled", "rejected"]
    assert played.account[kernel.RUINED] == 1.0


def test_a_short_that_loses_everything_is_liquidated_and_trades_no_more(play: Any) -> None:
    bars = [FLAT, FLAT, (25, 25, 25, 25), FLAT, FLAT]
    played = play(bars, targets=[-1, -1, 0, 1, 1])
    assert played.told[1] == (2, 100.0, 25.0, "liquidation")
    assert played.equity.tolist()[2:] == [-500.0, -500.0, -500.0]
    assert played.account[kernel.RUINED] == 1
    assert played.states == ["filled", "canceled", "rejected"]


@given(
    target=st.floats(-1, 1).filter(lambda x: abs(x) > 1e-6),
    price=st.floats(0.01, 1e5),
    cash=st.floats(10, 1e9),
    commission=st.floats(0, 0.05),
    slippage=st.floats(0, 0.05),
)
def test_cost_and_commission_together_are_target_times_equity(
    target: float, price: float, cash: float, commission: float, slippage: float
) -> None:
    rules = kernel.make_rules(commission=commission, slippage=slippage)
    quantity, fill = kernel.target_position(target, cash, 0.0, price, rules)
    spent = abs(quantity) * fill * (1 + commission)
    assert spent == pytest.approx(abs(target) * cash, rel=1e-12)


@given(
    before=st.floats(-1, 1),
    after=st.floats(-1, 1),
    price=st.floats(0.01, 1e5),
    commission=st.floats(0, 0.02),
)
def test_a_changed_target_is_reached_with_its_commission_included(
    before: float, after: float, price: float, commission: float
) -> None:
    rules = kernel.make_rules(commission=commission)
    cash = 1_000_000.0
    held, _ = kernel.target_position(before, cash, 0.0, 100.0, rules)
    cash -= held * 100.0 + abs(held) * 100.0 * commission
    equity = cash + held * price
    if equity <= 0:
        return
    quantity, fill = kernel.target_position(after, cash, held, price, rules)
    cost = abs(quantity) * fill + abs(quantity - held) * fill * commission
    if quantity != 0.0 and quantity != held:
        assert cost == pytest.approx(abs(after) * equity, rel=1e-9)


PRICE = st.floats(5, 20)
ROWS = st.lists(
    st.tuples(
        st.integers(0, 18),
        st.sampled_from([1.0, -1.0]),
        st.floats(0.1, 40),
        st.sampled_from(["market", "limit", "stop", "stop_limit", "trail", "target"]),
        PRICE,
        PRICE,
        st.booleans(),
        st.sampled_from([o.GTC, o.DAY]),
    ),
    max_size=12,
)


@settings(max_examples=150, deadline=None)
@given(
    data=st.lists(st.tuples(PRICE, PRICE, PRICE, PRICE), min_size=19, max_size=19),
    rows=ROWS,
    cut=st.integers(1, 18),
    at_close=st.booleans(),
)
def test_random_streams_keep_the_books_and_never_look_ahead(
    data: list[tuple[float, float, float, float]], rows: list[Any], cut: int, at_close: bool
) -> None:
    bars = np.array([(bar[0], max(bar), min(bar), bar[3]) for bar in data])
    stream = np.full((len(rows), len(o.COLUMNS)), np.nan)
    stream[:, o.TRAIL_BY] = 0
    for number, (bar, side, size, kind, one, two, bracket, tif) in enumerate(
        sorted(rows, key=lambda r: r[0])
    ):
        stream[number, [o.BAR, o.ACTION, o.SIDE, o.SIZE, o.SIZED_BY, o.TIME_IN_FORCE]] = (
            (bar, o.TARGET, 0, side * size / 40, 0, 0)
            if kind == "target"
            else (bar, o.ORDER, side, size, 0, tif)
        )
        if kind in ("limit", "stop_limit"):
            stream[number, o.LIMIT] = one
        if kind in ("stop", "stop_limit"):
            stream[number, o.STOP] = two
        if kind == "trail":
            stream[number, o.TRAIL] = one / 5
        if bracket and kind != "target":
            stream[number, o.TAKE_PROFIT] = max(one, two) if side > 0 else min(one, two)
            stream[number, o.STOP_LOSS] = min(one, two) if side > 0 else max(one, two)

    def run(count: int) -> tuple[Any, ...]:
        kept = np.ascontiguousarray(stream[stream[:, 0] < count])
        account, fills = np.zeros(kernel.ACCOUNT_SIZE), np.zeros((2 * len(kept) + 1, 7))
        equity, positions = np.empty(count), np.empty(count)
        open_, high, low, close = (np.ascontiguousarray(bars[:count, c]) for c in range(4))
        times, volume = np.arange(count, dtype=np.int64) * 86_400_000_000, np.ones(count)
        rules = kernel.make_rules(commission=0.001, at_close=at_close)
        states = np.zeros(len(kept), dtype=np.int64)
        kernel.play(
            open_, high, low, close, volume, times, np.empty(0), kept, 1000.0, rules, account, fills, equity,
            positions, states,
        )  # fmt: skip
        return fills[: int(account[kernel.FILLS])], equity, positions

    fills, equity, positions = run(19)
    cash = 1000.0 - np.cumsum(fills[:, 2] * fills[:, 3] + fills[:, 4])
    if len(fills):
        assert equity[-1] == pytest.approx(cash[-1] + positions[-1] * bars[-1, 3])
        assert positions[-1] == pytest.approx(fills[:, 2].sum(), abs=1e-9)
        bar = fills[:, 0].astype(int)
        ordered = fills[:, 1] >= 0
        decided = stream[fills[ordered, 1].astype(int), 0]
        assert (bar[ordered] >= decided + (0 if at_close else 1)).all()
        assert (fills[:, 3] <= bars[bar, 1] * (1 + 1e-12)).all()
        assert (fills[:, 3] >= bars[bar, 2] * (1 - 1e-12)).all()
    early_fills, early_equity, early_positions = run(cut)
    assert np.array_equal(early_equity, equity[:cut])
    assert np.array_equal(early_positions, positions[:cut])
    assert np.array_equal(early_fills, fills[fills[:, 0] < cut])
