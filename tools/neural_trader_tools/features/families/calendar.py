"""The calendar at a bar's open, UTC shifted by offset_h hours; known beforehand."""

from typing import Final

from neural_trader_tools.features.definition import (
    TIME,
    VALUE,
    Definition,
    Parameter,
    nothing,
)

KERNELS: Final = "neural_trader_tools.features.kernels.calendar"

DEFINITIONS: Final = (
    Definition(
        name="day_of_week",
        title="Day of the week, 1 Monday to 7",
        params=(Parameter("offset_h", 0.0, -14.0, 14.0),),
        inputs=TIME,
        outputs=VALUE,
        lookback=nothing,
        formula="of the bar's open, UTC + offset_h",
        source="ISO 8601; Hinnant, chrono-Compatible Low-Level Date Algorithms (2014)",
        kernels=KERNELS,
    ),
    Definition(
        name="day_of_month",
        title="Day of the month, 1-31",
        params=(Parameter("offset_h", 0.0, -14.0, 14.0),),
        inputs=TIME,
        outputs=VALUE,
        lookback=nothing,
        formula="of the bar's open, UTC + offset_h",
        source="ISO 8601; Hinnant, chrono-Compatible Low-Level Date Algorithms (2014)",
        kernels=KERNELS,
    ),
    Definition(
        name="month",
        title="Month, 1-12",
        params=(Parameter("offset_h", 0.0, -14.0, 14.0),),
        inputs=TIME,
        outputs=VALUE,
        lookback=nothing,
        formula="of the bar's open, UTC + offset_h",
        source="ISO 8601; Hinnant, chrono-Compatible Low-Level Date Algorithms (2014)",
        kernels=KERNELS,
    ),
    Definition(
        name="days_to_month_end",
        title="Calendar days left in the month",
        params=(Parameter("offset_h", 0.0, -14.0, 14.0),),
        inputs=TIME,
        outputs=VALUE,
        lookback=nothing,
        formula="days of the month - day of the month",
        source="ISO 8601; Hinnant, chrono-Compatible Low-Level Date Algorithms (2014)",
        kernels=KERNELS,
    ),
    Definition(
        name="minute_of_day",
        title="Minutes since midnight",
        params=(Parameter("offset_h", 0.0, -14.0, 14.0),),
        inputs=TIME,
        outputs=VALUE,
        lookback=nothing,
        formula="of the bar's open, UTC + offset_h",
        source="ISO 8601; Hinnant, chrono-Compatible Low-Level Date Algorithms (2014)",
        kernels=KERNELS,
    ),
    Definition(
        name="minutes_since_open",
        title="Minutes since the day's first bar",
        params=(Parameter("offset_h", 0.0, -14.0, 14.0),),
        inputs=TIME,
        outputs=VALUE,
        lookback=nothing,
        formula="bar's open - open of the day's first bar that was seen, days in UTC + offset_h",
        source="ISO 8601; Hinnant, chrono-Compatible Low-Level Date Algorithms (2014)",
        kernels=KERNELS,
    ),
)
