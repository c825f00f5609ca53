"""Series for charts: times in seconds and values, as many as a screen shows and with every extreme."""

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def series_of(times_us: "NDArray[np.int64]", values: "NDArray[np.float64]") -> dict[str, Any]:
    """Returns a line to draw.

    Args:
        times_us: Microseconds since 1970, ascending.
        values: As many; NaN where there is none.

    Returns:
        `times` (seconds), `values` (None where there is none) and `count`, how many there were before they
        were thinned: of each column of the screen its first, lowest, highest and last are kept.
    """
    from neural_trader_tools.backtest.report.thinning import thin

    rows = thin(values)
    return {
        "times": [time // 1_000_000 for time in times_us[rows].tolist()],
        "values": [value if math.isfinite(value) else None for value in values[rows].tolist()],
        "count": len(values),
    }
