"""Outcomes: what followed the windows that were found, beside what usually follows.

A return over a horizon counts only where its last bar was known too. Ten windows are few, and their outcomes
may share days: `independent` says how many lie apart, and `standard_errors` how far the mean is from the
usual one by that number. Whoever tries several windows and horizons will find a large one by chance.
"""

from dataclasses import dataclass
from typing import cast

import numpy as np

from neural_trader_tools.market.patterns.shape import Floats, Integers
from neural_trader_tools.market.patterns.windows import Windows


@dataclass(frozen=True, slots=True)
class Outcome:
    """What followed over one horizon; simple returns, NaN where there is no number.

    Attributes:
        horizon: In bars.
        returns: One per window that was found, NaN where it had not ended or lies across a hole.
        independent: The most of them that overlap no other in time, of any symbol.
        usual: Mean over every window that was compared.
        usual_share_up: Of those.
        usual_count: How many those are; most overlap.
        standard_errors: (mean - usual mean) / (usual deviation / √independent).
    """

    horizon: int
    returns: Floats
    independent: int
    usual: float
    usual_share_up: float
    usual_count: int
    standard_errors: float


def outcome(windows: Windows, found: Integers, horizon: int) -> Outcome:
    """Returns what followed windows over a horizon.

    Args:
        windows: All of them.
        found: Places of those that are shown.
        horizon: Bars, at least 1.
    """
    ends = windows.ends()
    usual = np.full(ends.size, np.nan)
    until = np.zeros(ends.size, dtype=np.int64)
    since = np.zeros(ends.size, dtype=np.int64)
    for owner, one in enumerate(windows.histories):
        mine = np.flatnonzero(windows.owners == owner)
        end = ends[mine]
        over = end + horizon < one.close.size
        mine, end = mine[over], end[over]
        broken = np.cumsum(~one.joins)
        whole = broken[end + horizon] == broken[end]
        mine, end = mine[whole], end[whole]
        usual[mine] = one.close[end + horizon] / one.close[end] - 1.0
        since[mine], until[mine] = one.opened_us[end], one.opened_us[end + horizon]
    returns = usual[found]
    known = found[~np.isnan(returns)]
    independent = _apart(since[known], until[known])
    all_known = usual[~np.isnan(usual)]
    errors = np.nan
    mean = float(all_known.mean()) if all_known.size else np.nan
    if independent and all_known.size > 1 and (deviation := float(all_known.std(ddof=1))) > 0:
        errors = (float(usual[known].mean()) - mean) / (deviation / np.sqrt(independent))
    return Outcome(
        horizon,
        returns,
        independent,
        mean,
        float((all_known > 0).mean()) if all_known.size else np.nan,
        int(all_known.size),
        float(errors),
    )


def _apart(since: Integers, until: Integers) -> int:
    """The most spans of which no two overlap: always the next that ends first."""
    count, free = 0, np.iinfo(np.int64).min
    for place in np.argsort(until, kind="stable"):
        if since[place] >= free:
            count, free = count + 1, cast("int", until[place])
    return count
