"""The features' definitions: parameters with bounds, inputs, outputs, look-back, formula, source.

A definition's name is its kernel's name in `features/kernels.py`. Standard library only.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

WINDOW_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter: an integer where its default is one, and the bounds it must keep, inclusive."""

    name: str
    default: int | float
    low: float = 1
    high: float = WINDOW_MAX


@dataclass(frozen=True, slots=True)
class Definition:
    """One feature."""

    name: str
    title: str
    params: tuple[Parameter, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    lookback: Callable[..., float]
    """From the parameters' values, the index from which every output can be defined."""
    formula: str
    source: str
    check: Callable[..., str | None] | None = None
    """Returns what is wrong with parameters that each keep their bounds, and what to do; None if nothing."""

    @property
    def example(self) -> str:
        """The expression with its defaults, such as `macd(12,26,9).line`."""
        written = ",".join(f"{parameter.default:g}" for parameter in self.params)
        call = f"{self.name}({written})" if written else self.name
        return f"{call}.{self.outputs[0]}" if len(self.outputs) > 1 else call

    def lookback_bars(self, *arguments: int | float) -> int:
        """Returns the index from which every output can be defined (parameters: the defaults if none)."""
        return int(self.lookback(*(arguments or (parameter.default for parameter in self.params))))


def _window(default: int, low: int = 1) -> tuple[Parameter, ...]:
    return (Parameter("window", default, low),)


def _none(*_: float) -> float:
    return 0


def _inclusive(*arguments: float) -> float:
    """A window that ends with this bar."""
    return arguments[0] - 1


def _back(*arguments: float) -> float:
    """A window that starts `window` bars back."""
    return arguments[0]


def _macd(*arguments: float) -> float:
    _, slow, signal = arguments
    return slow + signal - 2


def _stochastic(*arguments: float) -> float:
    return sum(arguments) - 3


def _fast_below_slow(*arguments: float) -> str | None:
    fast, slow, _ = arguments
    return (
        None if fast < slow else f"fast={fast:g} is not below slow={slow:g}; choose fast < slow, as 12 and 26"
    )


CLOSE = ("close",)
HLC = ("high", "low", "close")
VALUE = ("value",)

MURPHY = "Murphy, Technical Analysis of the Financial Markets (1999)"
WILDER = "Wilder, New Concepts in Technical Trading Systems (1978)"
TSAY = "Tsay, Analysis of Financial Time Series (2010), ch. 1"

DEFINITIONS: Final[dict[str, Definition]] = {
    definition.name: definition
    for definition in (
        Definition(
            "returns", "Simple return", _window(1), CLOSE, VALUE, _back, "c[i] / c[i-window] - 1", TSAY
        ),
        Definition(
            "log_returns", "Log return", _window(1), CLOSE, VALUE, _back, "ln(c[i] / c[i-window])", TSAY
        ),
        Definition("momentum", "Momentum", _window(10), CLOSE, VALUE, _back, "c[i] - c[i-window]", MURPHY),
        Definition(
            "roc",
            "Rate of change, percent",
            _window(10),
            CLOSE,
            VALUE,
            _back,
            "100 (c[i] / c[i-window] - 1)",
            MURPHY,
        ),
        Definition(
            "sma",
            "Simple moving average",
            _window(20),
            CLOSE,
            VALUE,
            _inclusive,
            "mean of the last window closes",
            MURPHY,
        ),
        Definition(
            "ema",
            "Exponential moving average",
            _window(20),
            CLOSE,
            VALUE,
            _inclusive,
            "e += (c - e) 2/(window+1), from the SMA of the first window",
            MURPHY,
        ),
        Definition(
            "rsi",
            "Relative strength index, 0-100",
            _window(14),
            CLOSE,
            VALUE,
            _back,
            "100 G/(G+L), Wilder averages of gains and losses; 50 if both are 0",
            WILDER,
        ),
        Definition(
            "macd",
            "Moving average convergence/divergence",
            (Parameter("fast", 12), Parameter("slow", 26, 2), Parameter("signal", 9)),
            CLOSE,
            ("line", "signal", "histogram"),
            _macd,
            "line = EMA(fast) - EMA(slow); signal = EMA(signal) of line; histogram = line - signal",
            "Appel, Technical Analysis: Power Tools (2005)",
            _fast_below_slow,
        ),
        Definition(
            "atr",
            "Average true range",
            _window(14),
            HLC,
            VALUE,
            _back,
            "Wilder average of max(h-l, |h-c'|, |l-c'|), c' the former close",
            WILDER,
        ),
        Definition(
            "bbands",
            "Bollinger bands",
            (Parameter("window", 20, 2), Parameter("width", 2.0, 0.1, 10.0)),
            CLOSE,
            ("upper", "middle", "lower", "percent_b"),
            _inclusive,
            "SMA +- width population deviations; percent_b = (c - lower)/(upper - lower)",
            "Bollinger, Bollinger on Bollinger Bands (2001)",
        ),
        Definition(
            "volatility",
            "Annualised volatility",
            (Parameter("window", 20, 2), Parameter("periods", 252.0, 1.0, 1e6)),
            CLOSE,
            VALUE,
            _back,
            "sample deviation of window log returns x sqrt(periods)",
            "Hull, Options, Futures and Other Derivatives, ch. 15",
        ),
        Definition(
            "zscore",
            "Z-score",
            _window(20, 2),
            CLOSE,
            VALUE,
            _inclusive,
            "(c - mean)/population deviation of the last window closes",
            "Chan, Algorithmic Trading (2013), ch. 3",
        ),
        Definition(
            "rolling_max",
            "Highest close",
            _window(20),
            CLOSE,
            VALUE,
            _inclusive,
            "max of the last window closes",
            MURPHY,
        ),
        Definition(
            "rolling_min",
            "Lowest close",
            _window(20),
            CLOSE,
            VALUE,
            _inclusive,
            "min of the last window closes",
            MURPHY,
        ),
        Definition(
            "donchian",
            "Donchian channel, this bar included",
            _window(20),
            ("high", "low"),
            ("upper", "middle", "lower"),
            _inclusive,
            "max high and min low of the last window bars, and their mean",
            "Faith, Way of the Turtle (2007)",
        ),
        Definition(
            "stochastic",
            "Slow stochastic, 0-100",
            (Parameter("window", 14), Parameter("smooth", 3), Parameter("signal", 3)),
            HLC,
            ("k", "d"),
            _stochastic,
            "k = SMA(smooth) of 100 (c - min low)/(max high - min low); d = SMA(signal) of k",
            "Lane, Stocks & Commodities 2:3 (1984)",
        ),
        Definition(
            "obv",
            "On-balance volume",
            (),
            ("close", "volume"),
            VALUE,
            _none,
            "running sum of volume x sign of the close's change, from the first bar given",
            "Granville, Granville's New Key to Stock Market Profits (1963)",
        ),
        Definition(
            "vwap",
            "Rolling volume-weighted average price",
            _window(20),
            (*HLC, "volume"),
            VALUE,
            _inclusive,
            "sum of (h+l+c)/3 x v over sum of v, last window bars",
            "Berkowitz, Logue, Noser, Journal of Finance 43:1 (1988)",
        ),
    )
}
"""By name."""
