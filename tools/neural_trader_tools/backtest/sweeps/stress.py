"""Stress: what the chosen combination went through when it was worst, and what dearer trading would leave.

Named windows are given where the data has all of them. The worst windows of n bars are the strategy's own.
Cost shocks play the same decisions again at higher costs; a strategy that looks at its own fills might have
decided otherwise.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from neural_trader_tools.backtest.settings import BPS_MAX, Settings

Floats = NDArray[np.float64]
NAMED: Final = (
    ("dot-com bust", (2000, 3, 1), (2002, 11, 1)),
    ("financial crisis", (2008, 9, 1), (2009, 4, 1)),
    ("flash crash", (2010, 5, 1), (2010, 6, 1)),
    ("US downgrade", (2011, 7, 15), (2011, 10, 15)),
    ("China devaluation", (2015, 8, 1), (2016, 3, 1)),
    ("volatility spike", (2018, 1, 26), (2018, 4, 10)),
    ("Covid crash", (2020, 2, 1), (2020, 5, 1)),
    ("rate shock", (2022, 1, 1), (2022, 11, 1)),
)
"""Name, first day, day after the last."""
WORST_BARS: Final = (1, 5, 21, 63)
COST_SHOCKS_BPS: Final = (5.0, 10.0, 25.0)
"""Basis points that are added to slippage."""


class Window(BaseModel):
    """A part of the period: the strategy's return in it, its deepest fall, and what holding came to."""

    model_config = ConfigDict(frozen=True)

    name: str
    first: datetime
    last: datetime
    return_total: float
    max_drawdown: float
    hold_return: float | None


class CostShock(BaseModel):
    """The whole period at higher costs."""

    model_config = ConfigDict(frozen=True)

    added_bps: float
    return_total: float
    sharpe_ratio: float | None


def windows(times: NDArray[np.int64], equity: Floats, hold: Floats) -> list[Window]:
    """Returns the named windows that the period covers, and the worst ones of n bars.

    Args:
        times: Of the bars, microseconds since 1970-01-01 UTC.
        equity: At each close.
        hold: Value of holding the symbols equally, at each close.
    """
    found: list[Window] = []
    for name, begin, end in NAMED:
        low, high = (int(datetime(*day, tzinfo=UTC).timestamp()) * 1_000_000 for day in (begin, end))
        first, last = int(np.searchsorted(times, low)), int(np.searchsorted(times, high))
        if first > 0 and last < len(times) and last - first >= 2:
            found.append(_window(name, first, last, times, equity, hold))
    for bars in WORST_BARS:
        if len(equity) > bars + 1 and (equity > 0.0).all():
            worst = int(np.argmin(equity[bars:] / equity[:-bars]))
            found.append(_window(f"worst {bars} bars", worst + 1, worst + bars + 1, times, equity, hold))
    return found


def cost_shocks(
    settings: Settings, play: Callable[[Settings], tuple[float, float | None]]
) -> list[CostShock]:
    """Returns what is left at higher slippage.

    Args:
        settings: As asked for.
        play: Plays the same decisions with other settings; returns (return_total, sharpe_ratio).
    """
    found: list[CostShock] = []
    for added in COST_SHOCKS_BPS:
        dearer = min(settings.slippage_bps + added, BPS_MAX)
        total, sharpe = play(settings.model_copy(update={"slippage_bps": dearer}))
        found.append(CostShock(added_bps=added, return_total=total, sharpe_ratio=sharpe))
    return found


def _window(
    name: str, first: int, last: int, times: NDArray[np.int64], equity: Floats, hold: Floats
) -> Window:
    """Returns the window of the bars [first, last), measured from the close before it."""
    part = equity[first - 1 : last]
    peaks = np.maximum.accumulate(part)
    return Window(
        name=name,
        first=_time(times[first]),
        last=_time(times[last - 1]),
        return_total=float(part[-1] / part[0] - 1.0) if part[0] > 0.0 else -1.0,
        max_drawdown=float((1.0 - part / peaks).max()) if part[0] > 0.0 else 1.0,
        hold_return=float(hold[last - 1] / hold[first - 1] - 1.0),
    )


def _time(moment: np.int64) -> datetime:
    return datetime.fromtimestamp(int(moment) / 1e6, UTC)
