"""Rebalanced portfolios: vectorbt with shared cash gives the same equity, to 1e-9, where nothing costs."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from neural_trader_tools.backtest.portfolio import Panel, replay_portfolio
from neural_trader_tools.backtest.prices import Prices
from neural_trader_tools.backtest.settings import Settings

pytestmark = pytest.mark.filterwarnings("ignore")
CASH, BARS, SYMBOLS = 1_000_000.0, 400, 6


def weights(step: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Weights of longs that together leave some cash; now and then a symbol is sold altogether."""
    chance = np.random.default_rng(11)
    rows = np.arange(0, BARS - 1, step)
    drawn = chance.random((len(rows), SYMBOLS)) * (chance.random((len(rows), SYMBOLS)) < 0.8)
    return rows, 0.95 * drawn / np.maximum(drawn.sum(axis=1, keepdims=True), 1.0)


def both(
    peer: Callable[[str], ModuleType], walk: Callable[..., Prices], step: int, fee: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns our equity and theirs: decided at a close, filled at the next open."""
    from dataclasses import replace

    prices = [replace(walk(seed, BARS), symbol=f"S{seed}") for seed in range(SYMBOLS)]
    rows, wanted = weights(step)
    settings = Settings(commission_bps=fee * 1e4)
    ours = replay_portfolio(rows.astype(np.int64), wanted, Panel.of(prices), settings, CASH)
    asked = np.full((BARS, SYMBOLS), np.nan)
    asked[rows + 1] = wanted
    pd, vectorbt = peer("pandas"), peer("vectorbt")
    close, open_ = (
        pd.DataFrame(np.column_stack([getattr(one, name) for one in prices])) for name in ("close", "open")
    )
    made: Any = vectorbt.Portfolio.from_orders(
        close, size=asked, size_type="targetpercent", price=open_, val_price=open_, fees=fee, init_cash=CASH,
        cash_sharing=True, group_by=True, call_seq="auto", freq="1D", engine="rust",
    )  # fmt: skip
    return ours.equity, made.value().to_numpy()


@pytest.mark.parametrize("step", [1, 21])
def test_equity_is_vectorbts_without_costs(
    step: int, peer: Callable[[str], ModuleType], walk: Callable[..., Prices]
) -> None:
    found, expected = both(peer, walk, step, 0.0)
    assert np.ptp(found) > 0.05 * CASH
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_a_weight_of_ours_includes_its_commission_so_costs_part_the_two_by_little(
    peer: Callable[[str], ModuleType], walk: Callable[..., Prices]
) -> None:
    found, expected = both(peer, walk, 21, 0.001)
    np.testing.assert_allclose(found, expected, rtol=2e-3)
    assert not np.allclose(found, expected, rtol=1e-9)
