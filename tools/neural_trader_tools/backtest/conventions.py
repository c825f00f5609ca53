"""Conventions: the same run in the words of a peer, so that its figures can be compared digit by digit.

A convention restates metrics only; fills are the engine's (`fill="close"` is vectorbt's default). What says
how far to trust a result (PSR, DSR, `sharpe_ci`, costs, halves) keeps the definitions of `metrics`, and so
does every metric that a peer does not have. Read from the sources of backtesting.py 0.6.6, vectorbt 1.2,
backtrader 1.9.78, empyrical-reloaded 0.7 and quantstats 0.0.86; tests compare with the installed ones.
"""

import math
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from neural_trader_governance.terms.market import interval_duration
from neural_trader_tools.backtest.curve import drawdowns
from neural_trader_tools.backtest.luck.sharpe import FLAT
from neural_trader_tools.backtest.metrics import Metrics, closed_trades, finite, growth, kelly, quality
from neural_trader_tools.backtest.replay import Replay

Floats = NDArray[np.float64]
_DAY_US: Final = 86_400_000_000
_BACKTRADER_RATE: Final = 0.01  # a year: the default of its SharpeRatio


class _Series(NamedTuple):
    """Equity once a day (or once a bar, if bars are longer), as peers resample it."""

    equity: Floats
    days: int  # of one step

    @property
    def returns(self) -> Floats:
        return self.equity[1:] / self.equity[:-1] - 1.0

    @property
    def periods(self) -> float:
        return 52.0 * 7.0 / self.days if self.days >= 7 else 252.0 / self.days


def restate(metrics: Metrics, replay: Replay, convention: str, interval: str) -> Metrics:
    """Returns the metrics by a peer's definitions.

    Args:
        metrics: By ours.
        replay: The run.
        convention: One of `Settings.convention`; `default` changes nothing.
        interval: Length of a bar.
    """
    peer = _PEERS.get(convention)
    if peer is None:
        return metrics
    changed = peer(metrics, replay, interval)
    known = {name: finite(value) if isinstance(value, float) else value for name, value in changed.items()}
    return metrics.model_copy(update=known)


def _backtesting_py(metrics: Metrics, replay: Replay, interval: str) -> dict[str, Any]:
    """`backtesting._stats.compute_stats`: geometric growth over compounded volatility, by day.

    365 days a year where bars fall on weekends, else 252; cagr by the calendar, 365.25 days a year; trades
    count by their return; a bar is exposed from a trade's entry to its exit, both included.
    """
    series, equity = _daily(replay, interval), replay.equity
    weekday = (replay.times // _DAY_US + 3) % 7  # 1970-01-01 was a Thursday; Monday is 0
    weekends = float((weekday >= 5).mean()) > 2 / 7 * 0.6
    periods = series.periods if series.days >= 7 else 365.0 if weekends else 252.0
    gains = series.returns
    mean = math.expm1(float(np.log1p(gains).mean())) if len(gains) and float(gains.min()) > -1.0 else 0.0
    variance = float(gains.var(ddof=1)) if len(gains) > 1 else 0.0
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is undefined, see `restate`
        yearly = float(np.float64(1.0 + mean) ** periods - 1.0)
        squared = np.float64(1.0 + mean) ** 2
        risk = float(np.sqrt(np.maximum((variance + squared) ** periods - squared**periods, 0.0)))
    years = float(replay.times[-1] - replay.times[0]) / _DAY_US / 365.25
    fall = 1.0 - equity / np.maximum.accumulate(equity)
    peaks = np.unique(np.append(np.flatnonzero(fall == 0.0), len(fall) - 1))
    spans = np.diff(peaks)
    returns = closed_trades(replay)[1]
    losses = float(returns[returns < 0.0].sum())
    return {
        "return_total": float(equity[-1] / equity[0]) - 1.0,
        "cagr": growth(float(equity[-1] / equity[0]), years),
        "volatility_annual": risk,
        "sharpe_ratio": _over(yearly, risk),
        "sortino_ratio": _over(yearly, _downside(gains) * math.sqrt(periods)),
        "calmar_ratio": _over(yearly, float(fall.max())),
        "max_drawdown": float(fall.max()),
        "max_drawdown_duration": int(spans[spans > 1].max(initial=0)),
        "exposure_time": _entry_to_exit(replay),
        "profit_factor": _over(float(returns[returns > 0.0].sum()), -losses),
    }


def _vectorbt(metrics: Metrics, replay: Replay, interval: str) -> dict[str, Any]:
    """`vectorbt.Portfolio.stats`: 365 days a year at any interval, the return of the first bar kept.

    Drawdowns are measured from the first close on; expectancy is money a closed trade.
    """
    equity = np.append(replay.cash, replay.equity)
    gains = equity[1:] / equity[:-1] - 1.0
    periods = 365.0 * 86_400.0 / interval_duration(interval).total_seconds()
    deviation = float(gains.std(ddof=1)) if len(gains) > 1 else 0.0
    cagr = growth(float(replay.equity[-1]) / replay.cash, len(gains) / periods)
    fall = drawdowns(replay.equity, float(replay.equity[0]))[0]
    pnl = closed_trades(replay)[0]
    return {
        "cagr": cagr,
        "volatility_annual": deviation * math.sqrt(periods),
        "sharpe_ratio": _over(float(gains.mean()) * math.sqrt(periods), deviation),
        "sortino_ratio": _over(float(gains.mean()) * math.sqrt(periods), _downside(gains)),
        "max_drawdown": fall,
        "calmar_ratio": None if cagr is None else _over(cagr, fall),
        "expectancy": float(pnl.mean()) if len(pnl) else None,
    }


def _backtrader(metrics: Metrics, replay: Replay, interval: str) -> dict[str, Any]:
    """Its analyzers, by day: SharpeRatio_A(timeframe=Days), Returns, DrawDown, SQN, TradeAnalyzer.

    The Sharpe ratio is over 1 % a year and, as SQN, divides by n; the first day's return is kept; a trade
    without loss is won; expectancy is money a trade; the first peak of a drawdown is the first close.
    """
    series = _daily(replay, interval)
    equity = np.append(replay.cash, series.equity)
    gains = equity[1:] / equity[:-1] - 1.0
    periods, root = series.periods, math.sqrt(series.periods)
    excess = gains - ((1.0 + _BACKTRADER_RATE) ** (1.0 / periods) - 1.0)
    deviation = float(gains.std())
    fall, bars = drawdowns(replay.equity, float(replay.equity[0]))
    cagr = growth(float(replay.equity[-1]) / replay.cash, len(gains) / periods)
    pnl = closed_trades(replay)[0]
    return {
        "cagr": cagr,
        "volatility_annual": deviation * root,
        "sharpe_ratio": _over(float(excess.mean()) * root, deviation),
        "max_drawdown": fall,
        "max_drawdown_duration": bars,
        "calmar_ratio": None if cagr is None else _over(cagr, fall),
        "win_rate": float((pnl >= 0.0).mean()) if len(pnl) else None,
        "expectancy": float(pnl.mean()) if len(pnl) else None,
        "sqn": quality(pnl, ddof=0),
    }


def _empyrical(metrics: Metrics, replay: Replay, interval: str) -> dict[str, Any]:
    """`empyrical` of the daily returns without the first: 252 days, 52 weeks a year; no figures of trades."""
    series = _daily(replay, interval)
    gains, periods = series.returns, series.periods
    deviation = float(gains.std(ddof=1)) if len(gains) > 1 else 0.0
    cagr = growth(float(series.equity[-1] / series.equity[0]), len(gains) / periods)
    fall, bars = drawdowns(series.equity, float(series.equity[0]))
    mean = float(gains.mean()) if len(gains) else 0.0
    return {
        "return_total": float(series.equity[-1] / series.equity[0]) - 1.0,
        "cagr": cagr,
        "volatility_annual": deviation * math.sqrt(periods),
        "sharpe_ratio": _over(mean * math.sqrt(periods), deviation),
        "sortino_ratio": _over(mean * math.sqrt(periods), _downside(gains)),
        "max_drawdown": fall,
        "max_drawdown_duration": bars,
        "calmar_ratio": None if cagr is None else _over(cagr, fall),
    }


def _quantstats(metrics: Metrics, replay: Replay, interval: str) -> dict[str, Any]:
    """`quantstats.stats` of the daily returns without the first: what others say of trades it says of days.

    win_rate: of the days that moved; profit_factor: gains over losses of days; expectancy: geometric mean a
    day; kelly: of days; exposure_time: days that moved, rounded up to a percent.
    """
    series = _daily(replay, interval)
    gains = series.returns
    moved = gains[gains != 0.0]
    losses = float(gains[gains < 0.0].sum())
    whole = float(series.equity[-1] / series.equity[0])
    return _empyrical(metrics, replay, interval) | {
        "win_rate": float((moved > 0.0).mean()) if len(moved) else None,
        "profit_factor": _over(float(gains[gains > 0.0].sum()), -losses),
        "expectancy": math.expm1(math.log(whole) / len(gains)) if len(gains) and whole > 0.0 else None,
        "kelly": kelly(moved),
        "exposure_time": math.ceil(len(moved) / len(gains) * 100.0) / 100.0 if len(gains) else 0.0,
    }


_PEERS: Final[dict[str, Callable[[Metrics, Replay, str], dict[str, Any]]]] = {
    "backtesting.py": _backtesting_py,
    "vectorbt": _vectorbt,
    "backtrader": _backtrader,
    "empyrical": _empyrical,
    "quantstats": _quantstats,
}


def _daily(replay: Replay, interval: str) -> _Series:
    """Returns the last equity of each UTC day; none any more once it is not above zero."""
    equity, days = replay.equity, max(interval_duration(interval).days, 1)
    if interval_duration(interval).days < 1:
        day = replay.times // _DAY_US
        equity = equity[np.append(np.flatnonzero(np.diff(day)), len(day) - 1)]
    if float(equity.min()) <= 0.0:
        equity = equity[: int((equity <= 0.0).argmax()) + 1]
    return _Series(equity, days)


def _downside(returns: Floats) -> float:
    return math.sqrt(float((np.minimum(returns, 0.0) ** 2).mean())) if len(returns) else 0.0


def _over(value: float, divisor: float) -> float | None:
    return value / divisor if divisor > FLAT else None


def _entry_to_exit(replay: Replay) -> float:
    """Returns the part of the bars on which a closed trade was entered, held or left."""
    held = np.zeros(len(replay.times), dtype=np.bool_)
    for symbol in replay.symbols:
        closed = symbol.trades[~np.isnan(symbol.trades[:, 1])]
        for first, last in closed[:, :2].astype(np.int64):
            begin, end = np.searchsorted(replay.times, symbol.prices.times[[first, last]])
            held[begin : end + 1] = True
    return float(held.mean())
