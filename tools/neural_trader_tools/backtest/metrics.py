"""Metrics: a result in numbers, each with its definition. Undefined is None, never 0 or infinity.

Returns are equity at a close over equity at the close before, minus 1; the first bar has none. The
risk-free rate is 0. Trades are closed round trips, from flat to flat. Ratios are fractions,
durations are in bars. What says how far to trust the rest comes first.
"""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from neural_trader_governance.terms.market import interval_duration
from neural_trader_tools.backtest.curve import Curve, read_curve
from neural_trader_tools.backtest.curve import drawdowns as drawdowns
from neural_trader_tools.backtest.luck.sharpe import (
    Moments,
    deflated_sharpe,
    expected_best_sharpe,
    probabilistic_sharpe,
    sharpe_interval,
    track_record_bars,
)
from neural_trader_tools.backtest.replay import Replay

Floats = NDArray[np.float64]
_DAY_US: Final = 86_400_000_000


class Metrics(BaseModel):
    """The metrics of one backtest."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    deflated_sharpe_ratio: float | None = Field(
        description="Probability that the true Sharpe ratio exceeds what luck gives the best of `trials`"
    )
    probabilistic_sharpe_ratio: float | None = Field(description="Probability that it exceeds 0")
    sharpe_ci: tuple[float, float] | None = Field(description="95 % interval of the default sharpe_ratio")
    trials: int = Field(ge=1, description="Different backtests that saw some of this data, this one included")
    sharpe_by_luck: float = Field(
        description="Sharpe ratio a year expected of the best of `trials` without skill"
    )
    track_record_bars: float | None = Field(
        description="Returns needed until the Sharpe ratio exceeds 0 with 95 %; null if it does not"
    )
    break_even_cost_bps: float | None = Field(
        description="Further cost of each traded notional that eats the profit; negative if there is none"
    )
    sharpe_first_half: float | None = Field(description="Of the first half of the returns, a year")
    sharpe_second_half: float | None = Field(description="Of the second half, a year")
    equity_final: float = Field(description="Equity at the last close, open positions marked there")
    return_total: float = Field(description="equity_final / cash - 1")
    cagr: float | None = Field(description="(equity_final / cash) ^ (periods a year / returns) - 1")
    volatility_annual: float | None = Field(
        description="Standard deviation (n - 1) of returns x sqrt(periods)"
    )
    sharpe_ratio: float | None = Field(description="Mean over standard deviation of returns x sqrt(periods)")
    sortino_ratio: float | None = Field(description="Mean over sqrt(mean(min(return, 0)^2)) x sqrt(periods)")
    calmar_ratio: float | None = Field(description="cagr / max_drawdown")
    max_drawdown: float = Field(description="Largest fall from a peak of equity, a positive fraction")
    max_drawdown_duration: int = Field(description="Longest time below a former peak, bars")
    exposure_time: float = Field(description="Part of the bars at whose close anything is held")
    trade_count: int = Field(description="Closed trades")
    win_rate: float | None = Field(description="Trades with pnl > 0 / trades")
    profit_factor: float | None = Field(description="Sum of gains / sum of losses; null without losses")
    expectancy: float | None = Field(description="Mean return of a trade, after commission")
    sqn: float | None = Field(description="sqrt(trades) x mean(pnl) / standard deviation of pnl (Van Tharp)")
    kelly: float | None = Field(description="win_rate - (1 - win_rate) / (mean gain / mean loss)")
    turnover: float | None = Field(description="Traded value a year / mean equity")
    commission_total: float = Field(description="Sum of the commissions")


def compute_metrics(
    replay: Replay,
    periods_per_year: float,
    trial_sharpes: Sequence[float | None] = (),
    curve: Curve | None = None,
) -> Metrics:
    """Returns the metrics of a replay, by the definitions of this module (`conventions` has others).

    Args:
        replay: The result of the trusted engine.
        periods_per_year: Bars a year, see `periods_per_year`.
        trial_sharpes: Sharpe ratio per bar of every *other* configuration tried on this data; None where
            undefined.
        curve: What `read_curve` says of its equity, where that is known already.
    """
    cash = replay.cash
    final = float(replay.equity[-1])
    curve = read_curve(replay.equity, cash, replay.falls) if curve is None else curve
    moments, root = curve.moments, math.sqrt(periods_per_year)
    cagr = growth(final / cash, curve.returns / periods_per_year)
    pnl, trade_returns = closed_trades(replay)
    gains, losses = pnl[pnl > 0.0], pnl[pnl < 0.0]
    win_rate = len(gains) / len(pnl) if len(pnl) else None
    years = curve.returns / periods_per_year
    traded = sum(float(np.abs(one.fills[:, 2] * one.fills[:, 3]).sum()) for one in replay.symbols)
    sharpes = [*trial_sharpes, None if moments is None else moments.sharpe]
    return Metrics(
        deflated_sharpe_ratio=None if moments is None else deflated_sharpe(moments, sharpes),
        probabilistic_sharpe_ratio=None if moments is None else probabilistic_sharpe(moments),
        sharpe_ci=None if moments is None else sharpe_interval(moments, periods_per_year),
        trials=len(sharpes),
        sharpe_by_luck=expected_best_sharpe(sharpes) * root,
        track_record_bars=None if moments is None else track_record_bars(moments),
        break_even_cost_bps=finite((final - cash) / traded * 1e4) if traded > 0.0 else None,
        sharpe_first_half=None if curve.first is None else curve.first.sharpe * root,
        sharpe_second_half=None if curve.second is None else curve.second.sharpe * root,
        equity_final=final,
        return_total=final / cash - 1.0,
        cagr=cagr,
        volatility_annual=None if curve.deviation is None else curve.deviation * root,
        sharpe_ratio=None if moments is None else moments.sharpe * root,
        sortino_ratio=finite(curve.mean / curve.downside * root) if curve.downside > 0.0 else None,
        calmar_ratio=finite(cagr / curve.drawdown) if cagr is not None and curve.drawdown > 0.0 else None,
        max_drawdown=curve.drawdown,
        max_drawdown_duration=curve.drawdown_bars,
        exposure_time=replay.exposed_bars / len(replay.times),
        trade_count=len(pnl),
        win_rate=win_rate,
        profit_factor=finite(float(gains.sum() / -losses.sum())) if len(losses) else None,
        expectancy=float(trade_returns.mean()) if len(pnl) else None,
        sqn=quality(pnl),
        kelly=kelly(pnl),
        turnover=finite(traded / curve.mean_equity / years) if curve.mean_equity > 0.0 < years else None,
        commission_total=sum(float(one.fills[:, 4].sum()) for one in replay.symbols),
    )


def closed_trades(replay: Replay) -> tuple[Floats, Floats]:
    """Returns pnl and return of every closed trade, symbol by symbol."""
    closed = [_closed(symbol.trades) for symbol in replay.symbols]
    return np.concatenate([trades[:, 7] for trades in closed]), np.concatenate(
        [trades[:, 8] for trades in closed]
    )


def _closed(trades: Floats) -> Floats:
    """Returns the trades of one symbol without its last one, where that is open."""
    return trades[:-1] if len(trades) and math.isnan(trades[-1, 1]) else trades


def growth(factor: float, years: float) -> float | None:
    """Returns the yearly growth that multiplies by a factor; -1 after a total loss, None if beyond floats."""
    if years <= 0.0:
        return None
    if factor <= 0.0:
        return -1.0
    exponent = math.log(factor) / years
    return math.expm1(exponent) if exponent < 700.0 else None


def quality(pnl: Floats, ddof: int = 1) -> float | None:
    """Returns Van Tharp's system quality number of the trades."""
    if len(pnl) < 2:
        return None
    deviation = float(pnl.std(ddof=ddof))
    return finite(math.sqrt(len(pnl)) * float(pnl.mean()) / deviation) if deviation > 0.0 else None


def kelly(gains_and_losses: Floats) -> float | None:
    """Returns Kelly's fraction of gains and losses of which there are both."""
    gains, losses = gains_and_losses[gains_and_losses > 0.0], gains_and_losses[gains_and_losses < 0.0]
    if not len(gains) or not len(losses):
        return None
    rate = len(gains) / len(gains_and_losses)
    return finite(rate - (1.0 - rate) / float(gains.mean() / -losses.mean()))


def finite(value: float) -> float | None:
    """Returns the value, or None where it overflowed."""
    return value if math.isfinite(value) else None


def periods_per_year(interval: str, times: NDArray[np.int64]) -> float:
    """Returns bars a year: 252 for daily bars, 52 for weekly, else 252 x the mean bars a day."""
    length = interval_duration(interval)
    if length.days >= 7:
        return 52.0 * 7.0 / length.days
    if length.days >= 1:
        return 252.0 / length.days
    return 252.0 * len(times) / days_of(times)


def days_of(times: NDArray[np.int64]) -> int:
    """Returns on how many UTC days there are any of these sorted times (microseconds)."""
    first, last = int(times[0]) // _DAY_US, int(times[-1]) // _DAY_US
    midnights = np.arange(first, last + 2, dtype=np.int64) * _DAY_US
    return int(np.count_nonzero(np.diff(np.searchsorted(times, midnights))))


def bar_returns(equity: Floats) -> Floats:
    """Returns the simple return of each bar after the first; none any more once equity is not above zero."""
    ruined = np.flatnonzero(equity <= 0.0)
    if len(ruined):
        equity = equity[: int(ruined[0]) + 1]
    return equity[1:] / equity[:-1] - 1.0


def sharpe_per_bar(returns: Floats) -> float | None:
    """Returns mean over standard deviation (n - 1) of the returns, not annualised."""
    moments = Moments.of(returns)
    return None if moments is None else moments.sharpe
