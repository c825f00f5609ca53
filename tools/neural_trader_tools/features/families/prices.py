"""One price for each bar."""

from typing import Final

from neural_trader_tools.features.definition import (
    HIGH_LOW,
    HIGH_LOW_CLOSE,
    MURPHY,
    OPEN_HIGH_LOW_CLOSE,
    VALUE,
    Definition,
    nothing,
)

KERNELS: Final = "neural_trader_tools.features.kernels.prices"

DEFINITIONS: Final = tuple(
    Definition(
        name=name,
        title=title,
        params=(),
        inputs=inputs,
        outputs=VALUE,
        lookback=nothing,
        formula=formula,
        source=MURPHY,
        kernels=KERNELS,
        convention=convention,
    )
    for name, title, inputs, formula, convention in (
        ("average_price", "Average price", OPEN_HIGH_LOW_CLOSE, "(o+h+l+c)/4", "AVGPRICE"),
        ("median_price", "Middle of the bar's range", HIGH_LOW, "(h+l)/2", "MEDPRICE"),
        ("typical_price", "Typical price", HIGH_LOW_CLOSE, "(h+l+c)/3", "TYPPRICE"),
        ("weighted_close", "Weighted close", HIGH_LOW_CLOSE, "(h+l+2c)/4", "WCLPRICE"),
    )
)
