"""A feature's definition: parameters with bounds, inputs, outputs, look-back, formula, source.

Standard library only: the catalogue can be listed without loading any kernel.
"""

from collections.abc import Callable, Sequence
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
    """One feature; its kernel has the same name, in the module `kernels`."""

    name: str
    title: str
    params: tuple[Parameter, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    lookback: Callable[[Sequence[float]], float]
    """From the parameters' values, the index from which every output can be defined."""
    formula: str
    source: str
    kernels: str
    convention: str = ""
    """The function of TA-Lib that it equals, or where the two differ; empty: TA-Lib has none."""
    check: Callable[..., str | None] | None = None
    """Returns what is wrong with parameters that each keep their bounds, and what to do; None if nothing."""
    reach: int = 0
    """How many bars back the kernel reads that no parameter tells of."""

    @property
    def family(self) -> str:
        """What kind of feature it is, such as `averages`."""
        return self.kernels.rpartition(".")[2]

    @property
    def example(self) -> str:
        """The expression with its defaults, such as `macd(12,26,9).line`."""
        written = ",".join(f"{parameter.default:g}" for parameter in self.params)
        call = f"{self.name}({written})" if written else self.name
        return f"{call}.{self.outputs[0]}" if len(self.outputs) > 1 else call

    def lookback_bars(self, *arguments: int | float) -> int:
        """Returns the index from which every output can be defined (parameters: the defaults if none)."""
        return int(self.lookback(arguments or [parameter.default for parameter in self.params]))

    def reach_bars(self, *arguments: int | float) -> int:
        """Returns how many bars before its own the kernel may read: all its windows, and a few more."""
        return 8 + self.reach + sum(int(one) for one in arguments if isinstance(one, int))

    def state_floats(self, *arguments: int | float) -> int:
        """Returns how many numbers of state the kernel may keep between bars: an ample bound."""
        return 64 + 6 * self.reach_bars(*arguments)


def window(default: int, low: int = 1) -> tuple[Parameter, ...]:
    """The parameters of a feature that has one window."""
    return (Parameter("window", default, low),)


def nothing(_: Sequence[float]) -> float:
    """The look-back of what is defined from the first bar on."""
    return 0


def one(_: Sequence[float]) -> float:
    """The look-back of what reads the bar before."""
    return 1


def inclusive(arguments: Sequence[float]) -> float:
    """A window that ends with this bar."""
    return arguments[0] - 1


def back(arguments: Sequence[float]) -> float:
    """A window of changes, which starts `window` bars back."""
    return arguments[0]


def fast_below_slow(*arguments: float) -> str | None:
    """The check of features with a fast and a slow window first."""
    fast, slow = arguments[:2]
    return (
        None if fast < slow else f"fast={fast:g} is not below slow={slow:g}; choose fast < slow, as 12 and 26"
    )


OPEN_HIGH_LOW_CLOSE: Final = ("open", "high", "low", "close")
HIGH_LOW_CLOSE_VOLUME: Final = ("high", "low", "close", "volume")
HIGH_LOW_CLOSE: Final = ("high", "low", "close")
HIGH_LOW: Final = ("high", "low")
CLOSE_VOLUME: Final = ("close", "volume")
CLOSE: Final = ("close",)
TIME: Final = ("time",)
VALUE: Final = ("value",)

MURPHY: Final = "Murphy, Technical Analysis of the Financial Markets (1999)"
WILDER: Final = "Wilder, New Concepts in Technical Trading Systems (1978)"
TSAY: Final = "Tsay, Analysis of Financial Time Series (2010), ch. 1"
