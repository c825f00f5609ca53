"""Features as functions over arrays, for code that has columns rather than a frame of bars.

    from neural_trader_tools.features.functions import macd, sma
    average = sma(close, 20)
    line, signal, histogram = macd(close, 12, 26, 9)

Inputs come first, in the catalogue's order, then the parameters; parameters left out have their defaults. The
result has one value a bar, NaN where undefined; a feature with several outputs returns them all.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from neural_trader_tools.features import catalogue
from neural_trader_tools.features.definition import Definition
from neural_trader_tools.features.definitions import DEFINITIONS


def __getattr__(name: str) -> Callable[..., Any]:
    if name not in DEFINITIONS:
        raise AttributeError(f"there is no feature {name!r:.40}; features_search lists all")
    return _function(DEFINITIONS[name])


def _function(definition: Definition) -> Callable[..., Any]:
    def call(*arguments: Any) -> Any:
        count = len(definition.inputs)
        given = arguments[count:]
        if len(arguments) < count or len(given) > len(definition.params):
            raise ValueError(
                f"invalid_arguments: {definition.name} got {len(arguments)} arguments;"
                f" pass {', '.join(definition.inputs)}, then at most {len(definition.params)} parameters"
            )
        for value, parameter in zip(given, definition.params, strict=False):
            is_whole = isinstance(parameter.default, int)
            kinds = (int, np.integer) if is_whole else (int, float, np.integer, np.floating)
            is_number = isinstance(value, kinds) and not isinstance(value, bool)
            if not is_number or not parameter.low <= value <= parameter.high:
                raise ValueError(
                    f"invalid_parameter: {parameter.name}={value!r:.20} of {definition.name} is not"
                    f" {'a whole number' if is_whole else 'a number'} from {parameter.low:g} to"
                    f" {parameter.high:g}; write it as in {definition.example}"
                )
        bound = tuple(
            int(value) if isinstance(parameter.default, int) else float(value)
            for parameter, value in zip(
                definition.params,
                (*given, *(one.default for one in definition.params[len(given) :])),
                strict=True,
            )
        )
        if definition.check is not None and (problem := definition.check(*bound)):
            raise ValueError(f"invalid_parameter: {problem}")
        columns = [np.ascontiguousarray(one, dtype=np.float64).reshape(-1) for one in arguments[:count]]
        if len({column.size for column in columns}) > 1:
            raise ValueError(
                f"unequal_lengths: {definition.name} got arrays of different lengths;"
                " pass columns of the same bars"
            )
        rows = catalogue.outputs(definition, bound, columns)
        return tuple(rows) if len(definition.outputs) > 1 else rows[0]

    call.__name__ = call.__qualname__ = definition.name
    call.__doc__ = f"{definition.title}: {definition.formula}."
    return call
