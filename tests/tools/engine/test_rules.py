"""Every rule beyond the plain ones, computed by hand: groups, volume, costs, margin, settlement."""

from typing import Any

import numpy as np
import pytest

from neural_trader_tools.engine import account as a
from neural_trader_tools.engine import kernel
from neural_trader_tools.engine import orders as o

NAN = float("nan")
FLAT = (10.0, 10.0, 10.0, 10.0)
LOW = (10.0, 10.0, 8.0, 9.0)
HIGH = (10.0, 12.0, 10.0, 11.0)


# Groups of orders


def test_of_two_orders_of_a_group_the_first_fill_cancels_the_other(play: Any, row: Any) -> None:
    rows = [row(0, 1, 2, limit=9), row(0, 1, 2, stop=11, oco=0)]
    played = play([FLAT, LOW, HIGH], rows)
    assert (played.told, played.states) == ([(1, 2.0, 9.0, "limit")], ["filled", "canceled"])
    played = play([FLAT, HIGH, LOW], rows)
    assert (played.told, played.states) == ([(1, 2.0, 11.0, "stop")], ["canceled", "filled"])


def test_in_a_bar_that_reaches_both_the_stop_is_the_one_that_fills(play: Any, row: Any) -> None:
    played = play([FLAT, (10, 12, 8, 10)], [row(0, 1, 2, limit=9), row(0, 1, 2, stop=11, oco=0)])
    assert played.states == ["canceled", "filled"]


def test_orders_outside_a_group_and_other_groups_are_left_alone(play: Any, row: Any) -> None:
    rows = [row(0, 1, 2, limit=9), row(0, 1, 3, limit=9, oco=0), row(0, 1, 4, limit=9), row(0, 1, 5, limit=8)]
    assert play([FLAT, (10, 10, 8.5, 9)], rows).states == ["filled", "canceled", "filled", "working"]


def test_whoever_joins_a_group_that_is_over_is_canceled(play: Any, row: Any) -> None:
    rows = [row(0, 1, 2, limit=9), row(1, 1, 2, limit=9, oco=0)]
    assert play([FLAT, LOW, LOW], rows).states == ["filled", "canceled"]
    rows = [row(0, 1, 2, limit=5), row(0, action=o.CANCEL, size=0), row(1, 1, 2, limit=9, oco=0)]
    assert play([FLAT, FLAT, LOW], rows).states == ["canceled", "done", "canceled"]
    rows = [row(0, 1, 2, limit=5), row(1, 1, 2, limit=9, oco=0)]
    assert play([FLAT, FLAT, LOW], rows).states == ["canceled", "filled"]


def test_a_rejected_order_does_not_end_its_group(play: Any, row: Any) -> None:
    rows = [row(0, 1, 2, limit=9), row(0, 1, 1e9, oco=0)]
    assert play([FLAT, FLAT, LOW], rows).states == ["filled", "rejected"]


# Trailing stop-losses


def test_a_trailing_stop_loss_starts_at_the_entry_and_follows_finished_bars(play: Any, row: Any) -> None:
    bars = [FLAT, (10, 13, 9, 12), (12, 13, 11.5, 12), (12, 12, 10, 11)]
    played = play(bars, [row(0, 1, 2, trail_loss=2.0)])  # 8 at first, after bar 1: 11
    assert played.told == [(1, 2.0, 10.0, "market"), (3, -2.0, 11.0, "stop_loss")]
    assert play([FLAT, (10, 13, 8, 12)], [row(0, 1, 2, trail_loss=2.0)]).told[1][:3] == (1, -2.0, 8.0)


def test_after_an_entry_inside_a_bar_its_high_does_not_count(play: Any, row: Any) -> None:
    bars = [FLAT, (10, 13, 8.9, 10), (10, 10, 8, 8)]
    assert play(bars, [row(0, 1, 2, limit=9, trail_loss=1.0)]).told[1] == (2, -2.0, 8.0, "stop_loss")
    bars = [FLAT, (10, 13, 8.9, 10), (10, 11, 9.5, 10), (10, 10, 8, 8)]
    assert play(bars, [row(0, 1, 2, limit=9, trail_loss=1.0)]).told[1] == (3, -2.0, 10.0, "stop_loss")


def test_of_a_fixed_and_a_trailing_stop_loss_the_tighter_counts(play: Any, row: Any) -> None:
    fall = [FLAT, FLAT, (10, 10, 6, 6)]
    assert play(fall, [row(0, 1, 2, stop_loss=9, trail_loss=2)]).told[1][2] == 9.0
    assert play(fall, [row(0, 1, 2, stop_loss=7, trail_loss=2)]).told[1][2] == 8.0
    rise = [FLAT, FLAT, (10, 14, 10, 14)]
    assert play(rise, [row(0, -1, 2, stop_loss=11, trail_loss=2)]).told[1][2] == 11.0
    assert play(rise, [row(0, -1, 2, stop_loss=13, trail_loss=2)]).told[1][2] == 12.0


def test_trailing_by_a_part_follows_a_part_of_the_extreme(play: Any, row: Any) -> None:
    bars = [FLAT, (10, 20, 10, 20), (20, 20, 15, 15)]
    assert play(bars, [row(0, 1, 2, trail_loss=0.1, trail_by=o.PART)]).told[1] == (2, -2.0, 18.0, "stop_loss")
    played = play(bars, [row(0, 1, 2), row(0, -1, 2, trail=0.1, trail_by=o.PART)])
    assert played.told[1] == (2, -2.0, 18.0, "trail")


def test_a_take_profit_ends_the_trailing_stop_loss(play: Any, row: Any) -> None:
    bars = [FLAT, FLAT, (10, 12, 10, 12), (12, 12, 5, 5)]
    played = play(bars, [row(0, 1, 2, take_profit=11, trail_loss=1)])
    assert [told[3] for told in played.told] == ["market", "take_profit"]


# Volume


def test_an_order_fills_as_far_as_volume_allows_and_goes_on(play: Any, row: Any) -> None:
    played = play([FLAT] * 5, [row(0, 1, 25)], volume=[100] * 5, volume_cap=0.1)
    assert played.told == [(1, 10.0, 10.0, "market"), (2, 10.0, 10.0, "market"), (3, 5.0, 10.0, "market")]
    assert played.states == ["filled"]
    assert play([FLAT] * 3, [row(0, 1, 25)], volume=[100] * 3, volume_cap=0.1).states == ["working"]


def test_all_orders_of_a_bar_share_its_volume_in_their_order(play: Any, row: Any) -> None:
    played = play([FLAT] * 3, [row(0, 1, 6), row(0, 1, 6)], volume=[0, 100, 0], volume_cap=0.1)
    assert played.told == [(1, 6.0, 10.0, "market"), (1, 4.0, 10.0, "market")]


def test_what_is_left_of_a_limit_waits_and_of_a_triggered_stop_takes_the_next_open(
    play: Any, row: Any
) -> None:
    bars = [FLAT, LOW, FLAT, (8, 8, 8, 8)]
    limit = play(bars, [row(0, 1, 15, limit=9)], volume=[100] * 4, volume_cap=0.1)
    assert limit.told == [(1, 10.0, 9.0, "limit"), (3, 5.0, 8.0, "limit")]
    stop = play(bars, [row(0, -1, 15, stop=9)], volume=[100] * 4, volume_cap=0.1)
    assert stop.told == [(1, -10.0, 9.0, "stop"), (2, -5.0, 10.0, "stop")]


def test_a_stop_that_is_touched_on_a_bar_without_volume_is_triggered(play: Any, row: Any) -> None:
    played = play([FLAT, LOW, FLAT], [row(0, -1, 5, stop=9)], volume=[0, 0, 100], volume_cap=0.1)
    assert played.told == [(2, -5.0, 10.0, "stop")]


def test_whole_lots_stay_whole_under_a_cap(play: Any, row: Any) -> None:
    played = play([FLAT] * 4, [row(0, 1, 5)], volume=[19] * 4, volume_cap=0.1, whole=True)
    assert [told[1] for told in played.told] == [1.0, 1.0, 1.0]


def test_a_day_order_expires_with_what_it_did_not_get(play: Any, row: Any) -> None:
    played = play([FLAT] * 4, [row(0, 1, 25, tif=o.DAY)], volume=[100] * 4, volume_cap=0.1)
    assert (len(played.told), played.states) == (1, ["expired"])


def test_a_target_goes_on_towards_its_exposure(play: Any) -> None:
    bars = [FLAT, FLAT, (20, 20, 20, 20), FLAT, FLAT]
    played = play(bars, targets=[1, 1, 1, 1, 1], volume=[400] * 5, volume_cap=0.1)
    # 40 at 10; at 20 equity is 1400, so 70 are wanted and 30 bought: reached, and nothing more is traded
    assert played.told == [(1, 40.0, 10.0, "target"), (2, 30.0, 20.0, "target")]


def test_fills_at_the_close_go_on_at_the_next_close(play: Any, row: Any) -> None:
    bars = [(10, 10, 9, 9), (12, 12, 11, 11), FLAT]
    played = play(bars, [row(0, 1, 15)], volume=[100] * 3, volume_cap=0.1, at_close=True)
    assert played.told == [(0, 10.0, 9.0, "market"), (1, 5.0, 11.0, "market")]


def test_a_partly_filled_entry_is_protected_and_ends_with_its_leg(play: Any, row: Any) -> None:
    bars = [FLAT, FLAT, FLAT, LOW, FLAT]
    played = play(bars, [row(0, 1, 50, stop_loss=9)], volume=[100, 100, 100, 300, 100], volume_cap=0.1)
    assert [told[:3] for told in played.told[:3]] == [(1, 10.0, 10.0), (2, 10.0, 10.0), (3, 30.0, 10.0)]
    # on bar 3 the entry takes all volume, so the stop-loss, triggered at 9, goes on at the next open
    assert played.told[3:] == [(4, -10.0, 10.0, "stop_loss")]
    played = play(bars, [row(0, 1, 50, stop_loss=9)], volume=[100, 100, 100, 400, 100], volume_cap=0.1)
    assert played.told[3] == (3, -10.0, 9.0, "stop_loss")


def test_a_leg_that_is_reached_ends_its_entry_even_where_no_volume_is_left(play: Any, row: Any) -> None:
    bars, volume = [FLAT, FLAT, LOW, FLAT, FLAT], [100, 100, 200, 100, 300]
    played = play(bars, [row(0, 1, 50, limit=10, stop_loss=9)], volume=volume, volume_cap=0.1)
    # 10 and 20 are bought; on bar 2 that takes the volume, and the stop-loss is triggered
    assert played.told[2:] == [(3, -10.0, 10.0, "stop_loss"), (4, -20.0, 10.0, "stop_loss")]
    assert played.states == ["canceled"]


def test_a_partial_take_profit_leaves_the_stop_loss_as_much_as_is_left(play: Any, row: Any) -> None:
    rows = [row(0, 1, 20, take_profit=11, stop_loss=9), row(0, 1, 20)]
    bars = [FLAT, FLAT, (10, 11, 10, 10), LOW, FLAT]
    played = play(bars, rows, volume=[1000, 1000, 50, 1000, 1000], volume_cap=0.1)
    assert played.told[2:] == [(2, -5.0, 11.0, "take_profit"), (3, -15.0, 9.0, "stop_loss")]
    assert played.positions[-1] == 20.0


def test_a_partial_fill_ends_the_group(play: Any, row: Any) -> None:
    rows = [row(0, 1, 20, limit=9), row(0, 1, 20, stop=11, oco=0)]
    played = play([FLAT, LOW, HIGH], rows, volume=[100] * 3, volume_cap=0.1)
    assert played.states == ["working", "canceled"]


# Costs


def test_commission_by_unit_and_its_minimum(play: Any, row: Any) -> None:
    played = play(
        [FLAT] * 3, [row(0, 1, 10), row(1, -1, 1)], per_unit=0.5, commission=0.01, commission_min=2.0
    )
    assert played.fills[:, 4].tolist() == [10 * 10 * 0.01 + 5.0, 2.0]


@pytest.mark.parametrize("target", [1.0, 0.3, -0.7])
def test_a_target_counts_every_kind_of_commission(play: Any, target: float) -> None:
    for rules in ({"per_unit": 0.05}, {"commission_min": 25.0}, {"per_unit": 0.01, "commission_min": 7.0}):
        played = play([FLAT] * 3, targets=[target] * 3, commission=0.001, **rules)
        units, cost = played.fills[0, 2], played.fills[0, 4]
        assert abs(units) * 10 + cost == pytest.approx(abs(target) * 1000)


def test_half_of_the_spread_worsens_market_fills_and_not_limits(play: Any, row: Any) -> None:
    played = play([FLAT, LOW], [row(0, 1, 1), row(0, 1, 1, limit=9), row(0, -1, 1, stop=9)],
                  spread=0.02, slippage=0.03)  # fmt: skip
    assert [told[2] for told in played.told] == pytest.approx([10 * 1.04, 9 * 0.96, 9.0])


def test_a_short_pays_for_its_shares_by_calendar_time(play: Any, row: Any) -> None:
    bars = [FLAT, (10, 10, 10, 12), (12, 12, 12, 12), (12, 12, 12, 12)]
    played = play(bars, [row(0, -1, 10)], borrow=0.365, days=[0, 1, 4, 5])
    # short from bar 1 at 10: three days at its close of 12, then one more
    paid = 10 * 12 * 0.365 / 365 * np.array([0, 0, 3, 4])
    assert played.equity.tolist() == pytest.approx([1000, 980, 980 - paid[2], 980 - paid[3]])
    assert played.account[a.BORROW_PAID] == pytest.approx(paid[3])
    assert play(bars, [row(0, 1, 10)], borrow=0.365).account[a.BORROW_PAID] == 0.0


def test_dividends_are_paid_to_who_held_over_the_ex_date(play: Any, row: Any) -> None:
    rows = [row(0, 1, 10), row(1, -1, 10)]  # bought on bar 1, sold at the open of bar 2
    for paid, earned in (([0, 0.5, 0, 0], 0.0), ([0, 0, 0.5, 0], 5.0), ([0, 0, 0, 0.5], 0.0)):
        played = play([FLAT] * 4, rows, dividends=paid)
        assert played.equity[-1] == 1000 + earned
        assert played.account[a.DIVIDENDS_PAID] == earned
    short = play([FLAT] * 4, [row(0, -1, 10)], dividends=[0, 0, 0.5, 0])
    assert short.equity.tolist() == [1000, 1000, 995, 995]


# Margin


def test_margin_lets_a_position_grow_to_its_bound_and_no_further(play: Any, row: Any) -> None:
    played = play([FLAT] * 2, [row(0, 1, 400.1), row(0, 1, 400)], margin=0.25)
    assert played.states == ["rejected", "filled"]
    assert play([FLAT] * 2, [row(0, -1, 400)], margin=0.25, commission=0.001).states == ["rejected"]
    target = play([FLAT] * 2, targets=[4, 4], margin=0.25, commission=0.001)
    units, cost = target.fills[0, 2], target.fills[0, 4]
    assert units * 10 * 0.25 + cost == pytest.approx(1000)  # its own commission is within the bound
    part = play([FLAT] * 2, [row(0, -1, 4.0, by=o.FRACTION)], margin=0.25, commission=0.001)
    assert part.fills[0, 2] == pytest.approx(-units)


def test_equity_below_maintenance_is_a_margin_call_and_trading_goes_on(play: Any, row: Any) -> None:
    bars = [FLAT, FLAT, (9, 9, 9, 9), (8, 8, 8, 8), (8, 8, 8, 8), (8, 8, 8, 8)]
    # 300 units: equity 700 of 2700 at 9, above 0.125 of it; at 8 400 of 2400, above; with 350: 300 of 2800
    assert len(play(bars, [row(0, 1, 300)], margin=0.25).told) == 1
    played = play(bars, [row(0, 1, 350), row(0, 1, 1, limit=1), row(4, 1, 2)], margin=0.25)
    assert played.told[1:] == [(3, -350.0, 8.0, "liquidation"), (5, 2.0, 8.0, "market")]
    assert played.states == ["filled", "canceled", "filled"]
    assert played.account[kernel.RUINED] == 0.0
    assert played.account[a.LIQUIDATIONS] == 1.0


# Settlement


def test_proceeds_pay_for_nothing_before_they_settle(play: Any, row: Any) -> None:
    bars = [FLAT] * 6
    rows = [row(0, 1, 100), row(1, -1, 100), row(2, 1, 50), row(3, 1, 50)]
    # bought on 1, sold on 2: with T+1 the money is there on bar 3, with T+2 on bar 4
    assert play(bars, rows, settlement_days=0).states == ["filled"] * 4
    assert play(bars, rows, settlement_days=1).states == ["filled"] * 4
    assert play(bars, rows, settlement_days=2).states == ["filled", "filled", "rejected", "filled"]
    at_once = [row(0, 1, 100), row(1, -1, 100), row(1, 1, 50)]
    assert play(bars, at_once, settlement_days=1).states == ["filled", "filled", "rejected"]


def test_sessions_are_days_with_bars_not_bars(play: Any, row: Any) -> None:
    rows = [row(0, 1, 100), row(0, -1, 100), row(2, 1, 50)]
    assert play([FLAT] * 4, rows, settlement_days=1, days=[0, 1, 1, 1]).states[2] == "rejected"
    assert play([FLAT] * 4, rows, settlement_days=1, days=[0, 1, 1, 8]).states[2] == "filled"


def test_a_target_waits_for_cash_to_settle(play: Any) -> None:
    played = play([FLAT] * 6, targets=[1, 0.5, 1, 1, 1, 1], settlement_days=2)  # 500 are back on bar 4
    assert [told[:2] for told in played.told] == [(1, 100.0), (2, -50.0), (4, 50.0)]
    played = play([FLAT] * 7, targets=[1, 0, 0.5, 0, 1, 1, 1], settlement_days=2)
    assert [told[:2] for told in played.told] == [(1, 100.0), (2, -100.0), (5, 100.0)]


def test_covering_a_short_needs_no_settled_cash(play: Any, row: Any) -> None:
    rows = [row(0, -1, 100), row(1, 1, 100)]
    assert play([FLAT] * 3, rows, settlement_days=2).states == ["filled", "filled"]


def test_a_take_profit_without_a_stop_loss_may_fill_in_the_bar_of_its_stop_entry(play: Any, row: Any) -> None:
    played = play([FLAT, HIGH], [row(0, 1, 2, stop=11, take_profit=11.5)], next_bar=True)
    assert played.told == [(1, 2.0, 11.0, "stop"), (1, -2.0, 11.5, "take_profit")]


def test_a_position_that_is_there_but_for_rounding_pays_no_least_commission(play: Any) -> None:
    bars = [FLAT, FLAT, (9.7, 9.7, 9.7, 9.7)]
    assert len(play(bars, targets=[1.0, 1.0 - 1e-14, 1.0 - 1e-14], commission_min=1.0).told) == 1
