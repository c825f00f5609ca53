"""Metrics: a result in numbers, each with its definition. Undefined is None, never 0 or infinity.

Returns are equity at a close over equity at the close before, minus 1; the first bar has none. The
risk-free rate is 0. Trades are closed round trips, from flat to flat. Ratios are fractions,
durations are in bars.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from neural_trader_governance.terms.market import interval_duration
from neural_trader_tools.backtest.replay import Replay

Floats = NDArray[np.float64]
FEW_TRADES: Final = 30
_EULER_MASCHERONI: Final = 0.5772156649015329
_NORMAL: Final = NormalDist()


class Metrics(BaseModel):
    """The metrics of one backtest."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

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
    probabilistic_sharpe_ratio: float | None = Field(
        description="Probability that the true Sharpe ratio exceeds 0"
    )
    deflated_sharpe_ratio: float | None = Field(
        description="Probability that it exceeds the best one expected of `trials` tries without skill"
    )
    sharpe_ci: tuple[float, float] | None = Field(description="95 % interval of sharpe_ratio")
    trials: int = Field(ge=1, description="Different backtests on this data so far, this one included")


def compute_metrics(
    replay: Replay, periods_per_year: float, trial_sharpes: Sequence[float | None] = ()
) -> Metrics:
    """Returns the metrics of a replay.

    Args:
        replay: The result of the trusted engine.
        periods_per_year: Bars a year, see `periods_per_year`.
        trial_sharpes: Sharpe ratio per bar of every *other* configuration tried on this data; None where
            undefined.
    """
    equity, cash = replay.equity, replay.cash
    final = float(equity[-1])
    returns = bar_returns(equity)
    sharpe = sharpe_per_bar(returns)
    drawdown, duration = drawdowns(equity, cash)
    cagr = None
    if len(returns):
        cagr = (final / cash) ** (periods_per_year / len(returns)) - 1.0 if final > 0.0 else -1.0
    trades = np.concatenate([symbol.trades for symbol in replay.symbols])
    closed = trades[~np.isnan(trades[:, 1])]
    pnl, trade_returns = closed[:, 7], closed[:, 8]
    gains, losses = pnl[pnl > 0.0], pnl[pnl < 0.0]
    win_rate = len(gains) / len(pnl) if len(pnl) else None
    fills = np.concatenate([symbol.fills for symbol in replay.symbols])
    years = len(returns) / periods_per_year
    mean_equity = float(equity.mean())
    turnover = float(np.abs(fills[:, 2] * fills[:, 3]).sum())
    root = math.sqrt(periods_per_year)
    deviation = _deviation(returns)
    downside = math.sqrt(float(np.mean(np.minimum(returns, 0.0) ** 2))) if len(returns) else 0.0
    return Metrics(
        equity_final=final,
        return_total=final / cash - 1.0,
        cagr=_finite(cagr),
        volatility_annual=None if deviation is None else deviation * root,
        sharpe_ratio=None if sharpe is None else sharpe * root,
        sortino_ratio=float(returns.mean()) / downside * root if downside > 0.0 else None,
        calmar_ratio=_finite(cagr / drawdown) if cagr is not None and drawdown > 0.0 else None,
        max_drawdown=drawdown,
        max_drawdown_duration=duration,
        exposure_time=float(replay.exposed.mean()),
        trade_count=len(closed),
        win_rate=win_rate,
        profit_factor=float(gains.sum() / -losses.sum()) if len(losses) else None,
        expectancy=float(trade_returns.mean()) if len(pnl) else None,
        sqn=_sqn(pnl),
        kelly=win_rate - (1.0 - win_rate) / float(gains.mean() / -losses.mean())
        if win_rate is not None and len(gains) and len(losses)
        else None,
        turnover=turnover / mean_equity / years if mean_equity > 0.0 and years > 0.0 else None,
        commission_total=float(fills[:, 4].sum()),
        probabilistic_sharpe_ratio=None if sharpe is None else probabilistic_sharpe_ratio(returns, 0.0),
        deflated_sharpe_ratio=None
        if sharpe is None
        else deflated_sharpe_ratio(returns, [*trial_sharpes, sharpe]),
        sharpe_ci=None if sharpe is None else sharpe_interval(returns, periods_per_year),
        trials=len(trial_sharpes) + 1,
    )


def periods_per_year(interval: str, times: NDArray[np.int64]) -> float:
    """Returns bars a year: 252 for daily bars, 52 for weekly, else 252 x the mean bars a day."""
    length = interval_duration(interval)
    if length.days >= 7:
        return 52.0 * 7.0 / length.days
    if length.days >= 1:
        return 252.0 / length.days
    days = len(np.unique(times // 86_400_000_000))
    return 252.0 * len(times) / days


def bar_returns(equity: Floats) -> Floats:
    """Returns the simple return of each bar after the first; none any more once equity is not above zero."""
    ruined = np.flatnonzero(equity <= 0.0)
    if len(ruined):
        equity = equity[: int(ruined[0]) + 1]
    return equity[1:] / equity[:-1] - 1.0


def sharpe_per_bar(returns: Floats) -> float | None:
    """Returns mean over standard deviation (n - 1) of returns; None where the deviation is zero."""
    deviation = _deviation(returns)
    return None if deviation is None else float(returns.mean()) / deviation


def drawdowns(equity: Floats, cash: float) -> tuple[float, int]:
    """Returns the largest fall from a peak (the start is one), and the longest time below a peak."""
    peak = np.maximum.accumulate(np.maximum(equity, cash))
    below = equity < peak
    since_peak = np.arange(len(equity)) - np.maximum.accumulate(np.where(below, -1, np.arange(len(equity))))
    return float((1.0 - equity / peak).max()), int(np.where(below, since_peak, 0).max())


def probabilistic_sharpe_ratio(returns: Floats, benchmark: float) -> float | None:
    """Returns the probability that the true Sharpe ratio per bar exceeds a benchmark.

    Bailey & Lopez de Prado (2012), The Sharpe Ratio Efficient Frontier:
    PSR = Phi((SR - SR*) sqrt(n - 1) / sqrt(1 - skew SR + (kurtosis - 1) / 4 SR^2)).
    """
    sharpe = sharpe_per_bar(returns)
    error = sharpe_error(returns)
    if sharpe is None or error is None:
        return None
    return _NORMAL.cdf((sharpe - benchmark) / error)


def deflated_sharpe_ratio(returns: Floats, trial_sharpes: Sequence[float | None]) -> float | None:
    """Returns the PSR against the best Sharpe ratio that N tries without skill would be expected to show.

    Bailey & Lopez de Prado (2014), The Deflated Sharpe Ratio: SR* = sqrt(V) ((1 - g) Phi^-1(1 - 1/N)
    + g Phi^-1(1 - 1/(N e))), V the variance of the tried Sharpe ratios, g the Euler-Mascheroni constant.

    Args:
        returns: Returns per bar of the chosen try.
        trial_sharpes: Sharpe ratio per bar of every try, the chosen one included; None counts as a try.
    """
    return probabilistic_sharpe_ratio(returns, expected_best_sharpe(trial_sharpes))


def expected_best_sharpe(trial_sharpes: Sequence[float | None]) -> float:
    """Returns SR* of `deflated_sharpe_ratio`; 0 for a single try."""
    count = len(trial_sharpes)
    known = [sharpe for sharpe in trial_sharpes if sharpe is not None]
    if count < 2 or len(known) < 2:
        return 0.0
    spread = float(np.std(known, ddof=1))
    return spread * (
        (1.0 - _EULER_MASCHERONI) * _NORMAL.inv_cdf(1.0 - 1.0 / count)
        + _EULER_MASCHERONI * _NORMAL.inv_cdf(1.0 - 1.0 / (count * math.e))
    )


def sharpe_error(returns: Floats) -> float | None:
    """Returns the standard error of the Sharpe ratio per bar, normal returns or not (Mertens 2002)."""
    sharpe = sharpe_per_bar(returns)
    if sharpe is None:
        return None
    centred = returns - returns.mean()
    variance = float((centred**2).mean())
    skew = float((centred**3).mean()) / variance**1.5
    kurtosis = float((centred**4).mean()) / variance**2
    inner = 1.0 - skew * sharpe + (kurtosis - 1.0) / 4.0 * sharpe**2
    return math.sqrt(inner / (len(returns) - 1)) if inner > 0.0 else None


def sharpe_interval(returns: Floats, periods: float, level: float = 0.95) -> tuple[float, float] | None:
    """Returns the interval of the yearly Sharpe ratio by its standard error."""
    sharpe, error = sharpe_per_bar(returns), sharpe_error(returns)
    if sharpe is None or error is None:
        return None
    reach = _NORMAL.inv_cdf(0.5 + level / 2.0) * error
    root = math.sqrt(periods)
    return (sharpe - reach) * root, (sharpe + reach) * root


def find_warnings(replay: Replay, metrics: Metrics) -> list[str]:
    """Returns what a reader of the metrics has to know, the gravest first."""
    warnings: list[str] = []
    if any(symbol.ruined for symbol in replay.symbols):
        warnings.append("ruined: equity fell to zero or below; what was held was liquidated, trading ended.")
    if not any(len(symbol.fills) for symbol in replay.symbols):
        warnings.append("no_trades: the strategy never traded, the ratios say nothing.")
    elif metrics.trade_count < FEW_TRADES:
        warnings.append(
            f"few_trades: {metrics.trade_count} closed trades; below {FEW_TRADES} nothing is reliable."
        )
    if metrics.deflated_sharpe_ratio is not None and metrics.deflated_sharpe_ratio < 0.95:
        warnings.append(
            f"luck: the deflated Sharpe ratio is {metrics.deflated_sharpe_ratio:.2f} after "
            f"{metrics.trials} trials; below 0.95 luck explains the result well enough."
        )
    rejected = sum(symbol.rejections for symbol in replay.symbols)
    if rejected:
        warnings.append(f"rejected: {rejected} orders: equity could not carry them, or they came to nothing.")
    open_trades = sum(int(np.isnan(symbol.trades[:, 1]).sum()) for symbol in replay.symbols)
    if open_trades:
        warnings.append(
            f"open_trades: {open_trades} positions are open at the end, marked at the last close."
        )
    return warnings


def _deviation(returns: Floats) -> float | None:
    if len(returns) < 2:
        return None
    deviation = float(returns.std(ddof=1))
    return deviation if deviation > 1e-15 else None


def _sqn(pnl: Floats) -> float | None:
    if len(pnl) < 2:
        return None
    deviation = float(pnl.std(ddof=1))
    return math.sqrt(len(pnl)) * float(pnl.mean()) / deviation if deviation > 0.0 else None


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
