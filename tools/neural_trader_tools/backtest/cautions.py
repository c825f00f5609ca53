"""Cautions: what a reader of the metrics has to know before believing them."""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from neural_trader_tools.backtest.metrics import Metrics
from neural_trader_tools.backtest.replay import Replay
from neural_trader_tools.backtest.settings import Settings
from neural_trader_tools.engine import orders as o

FEW_TRADES: Final = 30
FEW_BARS: Final = 60
MANY_TRIALS: Final = 100
SURE: Final = 0.95
VOLUME_PART: Final = 0.01
"""Part of a bar's volume above which a fill at the bar's own prices is not to be believed."""
ONE_TRADE_PART: Final = 0.5
THIN_BPS: Final = 5.0
UNCHECKED: Final = "unchecked: nobody has tested this code for look-ahead; run strategy_check."
LOOK_AHEAD: Final = "look_ahead: strategy_check found {} decisions that use later bars; the result is void."
SURVIVORSHIP: Final = (
    "survivorship: the symbols were chosen by name, today; what failed since the first bar was not "
    "there to choose, so the result is too good."
)
_ONE_SIDED: Final = 1.645  # standard errors of 95 %
_LONG_US: Final = 365 * 86_400_000_000


def find_warnings(
    replay: Replay, metrics: Metrics, settings: Settings | None = None, periods: float = 252.0
) -> list[str]:
    """Returns the warnings of a run, each `code: text`, the gravest first.

    Args:
        replay: The run.
        metrics: Its metrics, by the default definitions.
        settings: Its costs; by default there are none.
        periods: Bars a year.
    """
    found: list[str] = []
    if any(symbol.ruined for symbol in replay.symbols):
        found.append("ruined: equity fell to zero or below; what was held was liquidated, trading ended.")
    traded = any(len(symbol.fills) for symbol in replay.symbols)
    if not traded:
        asked = sum(len(symbol.commands) for symbol in replay.symbols)
        told = f"none of its {asked:,} orders and targets filled" if asked else "it ordered nothing"
        found.append(f"no_trades: the strategy never traded, {told}; the ratios say nothing.")
    elif metrics.trade_count < FEW_TRADES:
        found.append(
            f"few_trades: {metrics.trade_count} closed trades; below {FEW_TRADES} nothing is reliable."
        )
    found += _of_luck(metrics) + _of_length(replay, metrics)
    if traded:
        found += _of_one_trade(replay)
        found += _of_decay(replay, metrics, periods)
        found += _of_costs(replay, metrics, settings or Settings())
        found += _of_capacity(replay)
    rejected = sum(symbol.rejections for symbol in replay.symbols)
    if rejected:
        found.append(f"rejected: {rejected} orders: equity could not carry them, or they came to nothing.")
    open_trades = sum(int(np.isnan(symbol.trades[:, 1]).sum()) for symbol in replay.symbols)
    if open_trades:
        found.append(f"open_trades: {open_trades} positions are open at the end, marked at the last close.")
    if traded and is_long(replay.times):
        found.append(SURVIVORSHIP)
    return found


def is_long(times: NDArray[np.int64]) -> bool:
    """Tells whether bars span so long that some of what could be chosen at first has failed since."""
    return int(times[-1] - times[0]) >= _LONG_US


def _of_luck(metrics: Metrics) -> list[str]:
    found: list[str] = []
    deflated = metrics.deflated_sharpe_ratio
    if deflated is not None and deflated < SURE:
        found.append(
            f"luck: the deflated Sharpe ratio is {deflated:.2f} after {metrics.trials} trials; below {SURE} "
            "luck explains the result well enough."
        )
    if metrics.trials >= MANY_TRIALS:
        found.append(
            f"many_trials: {metrics.trials:,} backtests saw this data; the best of so many without skill is "
            f"expected at a Sharpe ratio of {metrics.sharpe_by_luck:.2f}."
        )
    return found


def _of_length(replay: Replay, metrics: Metrics) -> list[str]:
    bars, needed = len(replay.times), metrics.track_record_bars
    if bars < FEW_BARS:
        return [f"few_bars: {bars} bars; below {FEW_BARS} ratios a year are guesses."]
    if needed is not None and bars - 1 < needed:
        return [f"short: {bars} bars; this Sharpe ratio needs {needed:,.0f} to be above 0 with 95 %."]
    return []


def _of_one_trade(replay: Replay) -> list[str]:
    pnl = np.concatenate([symbol.trades[:, 7] for symbol in replay.symbols])
    profit = float(replay.equity[-1]) - replay.cash
    if len(pnl) < 2 or profit <= 0.0 or (best := float(pnl.max())) < ONE_TRADE_PART * profit:
        return []
    rest = (profit - best) / replay.cash
    return [
        f"one_trade: one trade of {len(pnl)} makes {best / profit:.0%} of the profit; without it {rest:.1%}."
    ]


def _of_decay(replay: Replay, metrics: Metrics, periods: float) -> list[str]:
    first, second = metrics.sharpe_first_half, metrics.sharpe_second_half
    if first is None or second is None or first <= 0.0 or len(replay.times) < FEW_BARS:
        return []
    error = math.sqrt(2.0 * periods / (len(replay.times) / 2.0))  # of the difference of two yearly ratios
    if second > 0.0 and first - second <= _ONE_SIDED * error:
        return []
    return [f"decay: the Sharpe ratio was {first:.2f} in the first half and {second:.2f} in the second."]


def _of_costs(replay: Replay, metrics: Metrics, settings: Settings) -> list[str]:
    spare = metrics.break_even_cost_bps
    if spare is None or spare <= 0.0:
        return []
    traded = sum(
        float(np.abs(symbol.fills[:, o.FILL_QUANTITY] * symbol.fills[:, o.FILL_PRICE]).sum())
        for symbol in replay.symbols
    )
    # Slippage and half the spread are in the prices; limits pay neither, so this is the most.
    paid = metrics.commission_total / traded * 1e4 + settings.slippage_bps + settings.spread_bps / 2.0
    if paid == 0.0:
        return [f"no_costs: none were charged; {spare:,.1f} bps of each traded notional eat the profit."]
    if spare < paid:
        return [
            f"costs: at twice the costs of {paid:,.1f} bps this loses; {spare:,.1f} bps more eat the profit."
        ]
    if spare < THIN_BPS:
        return [f"costs: {spare:,.1f} bps more of each traded notional eat the profit."]
    return []


def _of_capacity(replay: Replay) -> list[str]:
    parts: list[float] = []
    for symbol in replay.symbols:
        volume = symbol.prices.volume
        if not volume.any():
            continue  # nothing is known of it
        there = volume[symbol.fills[:, o.FILL_BAR].astype(np.int64)]
        units = np.abs(symbol.fills[:, o.FILL_QUANTITY])
        parts += [*np.where(there > 0.0, units / np.where(there > 0.0, there, 1.0), np.inf)]
    large = [part for part in parts if part > VOLUME_PART]
    if not large:
        return []
    most = "a bar without any" if math.isinf(max(large)) else f"{max(large):.1%}"
    return [
        f"capacity: {len(large)} of {len(parts)} fills took over {VOLUME_PART:.0%} of their bar's volume "
        f"(at most {most}); the price would have moved."
    ]
