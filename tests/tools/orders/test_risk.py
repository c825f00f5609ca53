"""What an account may lose in a day: the definitions on plain numbers, and what the past may not tell."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from math import ceil

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neural_trader_governance.terms.instruments import Instrument
from neural_trader_governance.terms.portfolios import Portfolio, Position
from neural_trader_tools.market import frames
from neural_trader_tools.market.archive import Archive
from neural_trader_tools.market.batches import Batch
from neural_trader_tools.market.manifest import DataSet
from neural_trader_tools.orders.risk import CONFIDENCE, Risk, assess_risk, tail_losses

from .conftest import Floor

MONDAY = datetime(2012, 6, 4, 20, 0, tzinfo=UTC)
MakeFloor = Callable[[datetime | None], Floor]
DATASET = DataSet(
    dataset_id="later", source="a test", licence="none", imported_at=MONDAY, file_digest="",
    known_time_assumed=False, rows_read=1, rows_added=0,
)  # fmt: skip


def holding(**values: str) -> Portfolio:
    """An account that holds so much of each symbol, in USD; negative is short."""
    return Portfolio(
        account="paper", cash=Decimal(0), settled_cash=Decimal(0), reserved_cash=Decimal(0),
        buying_power=Decimal(0), equity=Decimal(0), day_pnl=Decimal(0), clock="replay",
        positions=tuple(
            Position(
                symbol=symbol, quantity=Decimal(value), average_price=Decimal(1), market_price=Decimal(1),
                market_value=Decimal(value), realized_pnl=Decimal(0),
            )
            for symbol, value in values.items()
        ),
    )  # fmt: skip


def known(risk: Risk) -> tuple[Decimal, Decimal]:
    assert risk.var is not None, risk.note
    assert risk.cvar is not None
    return risk.var, risk.cvar


LOSSES = st.lists(st.floats(-1e9, 1e9, allow_subnormal=False), min_size=20, max_size=100)


@settings(max_examples=40)
@given(LOSSES, st.floats(0.01, 1000))
def test_the_mean_beyond_is_never_below_and_both_scale(losses: list[float], factor: float) -> None:
    var, cvar = tail_losses(losses, CONFIDENCE)
    assert min(losses) <= var <= cvar <= max(losses) * (1 + 1e-12) + 1e-6 * abs(max(losses)) + 1e-9
    assert sum(loss <= var for loss in losses) >= len(losses) * CONFIDENCE
    assert sum(loss < var for loss in losses) < len(losses) * CONFIDENCE
    scaled = tail_losses([loss * factor for loss in losses], CONFIDENCE)
    assert scaled == pytest.approx((var * factor, cvar * factor), rel=1e-9, abs=1e-6 * factor)


@settings(max_examples=40)
@given(LOSSES, st.integers(-1000, 1000))
def test_a_sure_gain_lowers_both_by_itself(losses: list[float], gain: int) -> None:
    var, cvar = tail_losses(losses, CONFIDENCE)
    less = tail_losses([loss - gain for loss in losses], CONFIDENCE)
    assert less == pytest.approx((var - gain, cvar - gain), rel=1e-9, abs=1e-5)


@settings(max_examples=40)
@given(st.data(), st.integers(20, 60))
def test_together_no_more_is_lost_in_the_tail_than_apart(data: st.DataObject, days: int) -> None:
    """Subadditivity, which CVaR has and VaR has not (Acerbi and Tasche 2002)."""
    one, other = (
        data.draw(st.lists(st.integers(-1000, 1000), min_size=days, max_size=days)) for _ in range(2)
    )
    both = [first + second for first, second in zip(one, other, strict=True)]
    apart = sum(tail_losses([float(loss) for loss in each], CONFIDENCE)[1] for each in (one, other))
    assert tail_losses([float(loss) for loss in both], CONFIDENCE)[1] <= apart + 1e-6


def test_of_a_hundred_losses_it_is_the_95th_and_the_mean_of_five() -> None:
    losses = [float(loss) for loss in range(1, 101)]
    assert tail_losses(losses, CONFIDENCE) == (95, (96 + 97 + 98 + 99 + 100) / 5)
    assert tail_losses(losses[:10], Fraction(75, 100)) == (8, pytest.approx((8 * 0.5 + 9 + 10) / 2.5))


def test_it_is_read_from_a_year_of_the_holdings_own_days(make_floor: MakeFloor) -> None:
    floor = make_floor(MONDAY)
    risk = assess_risk(holding(MSFT="10000"), floor.archive, MONDAY)
    closes = floor.archive.bars("MSFT", as_of=MONDAY, adjust="total")["close"].tail(251).to_list()
    losses = sorted(10_000 * (1 - after / before) for before, after in pairwise(closes))
    var, cvar = known(risk)
    assert risk.observations == len(losses) == 250
    assert float(var) == pytest.approx(losses[ceil(0.95 * 250) - 1], abs=0.01)
    assert 100 < var < cvar < 1000
    assert known(assess_risk(holding(MSFT="-10000"), floor.archive, MONDAY)) != (var, cvar)
    twice = known(assess_risk(holding(MSFT="20000"), floor.archive, MONDAY))
    assert twice == (
        pytest.approx(2 * var, abs=Decimal("0.02")),
        pytest.approx(2 * cvar, abs=Decimal("0.02")),
    )
    hedged = known(assess_risk(holding(MSFT="10000", IBM="-10000"), floor.archive, MONDAY))
    assert hedged[1] < cvar
    assert assess_risk(holding(), floor.archive, MONDAY).var == 0


def test_nothing_that_came_later_changes_it(make_floor: MakeFloor) -> None:
    floor = make_floor(MONDAY)
    both = holding(MSFT="10000", AAPL="5000")
    before = assess_risk(both, floor.archive, MONDAY)
    last = floor.archive.bars("MSFT", as_of=MONDAY, adjust="none").tail(60)
    crashed = last.with_columns(
        pl.col("open", "high", "low", "close") / 10,
        known_time=pl.lit(MONDAY + timedelta(days=1)).dt.cast_time_unit("us"),
    )
    split = pl.DataFrame(
        {"event_time": [MONDAY + timedelta(days=1)], "known_time": [MONDAY + timedelta(days=1)]}
        | {"kind": ["split"], "value": [2.0]},
        schema=frames.ACTION_SCHEMA,
    )
    msft = Instrument(symbol="MSFT", name="Microsoft")
    floor.archive.write([Batch(msft, "1d", crashed, DATASET, split, known_time_given=True)])
    assert assess_risk(both, Archive(floor.home / "archive"), MONDAY) == before
    assert assess_risk(both, floor.archive, MONDAY + timedelta(days=2)) != before, "then it counts"


def test_with_too_little_history_it_is_not_known_and_says_why(make_floor: MakeFloor) -> None:
    floor = make_floor(MONDAY)
    early = datetime(2000, 4, 1, tzinfo=UTC)
    for portfolio, why in (
        (holding(GOOG="100", MSFT="100"), "GOOG has 0 daily returns of late, fewer than 100"),
        (holding(MSFT="100"), "MSFT has 2"),
    ):
        risk = assess_risk(portfolio, floor.archive, early)
        assert (risk.var, risk.cvar) == (None, None)
        assert why in risk.note
