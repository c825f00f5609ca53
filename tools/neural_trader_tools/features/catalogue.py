"""The catalogue of features: what each is, and how an expression such as `rsi(14)` is evaluated.

An expression is a name, its parameters and, for a feature with several outputs, one of them:
`sma(20)`, `macd(12,26,9).signal`, `bbands(20, width=2).upper`, `obv`. Parameters left out have their
defaults; an output left out means the first.

Runs inside the sandbox too: standard library, numpy, numba (through the kernels) and polars only, so
mistakes are `ValueError`s whose text is `code: what; next step`. The kernels are imported on first use.
"""

import difflib
import importlib
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from neural_trader_tools.engine.faults import did_you_mean
from neural_trader_tools.features.definition import Definition, Parameter
from neural_trader_tools.features.definitions import DEFINITIONS, WARM

Floats = NDArray[np.float64]

COMPILED: Final = "neural_trader_tools.features.compiled"
PASSES: Final = "neural_trader_tools.features.passes"
TIMES: Final = ("time", "event_time")
"""What the column with the bars' opens is called: by strategies, and by the archive."""

EXPRESSION_LENGTH_MAX = 100
EXPRESSION = re.compile(
    r"^\s*(?P<name>[A-Za-z_]\w*)\s*(?:\((?P<arguments>[^()]*)\))?\s*(?:\.\s*(?P<output>\w+))?\s*$", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Feature:
    """A definition with its parameters bound and one output chosen."""

    definition: Definition
    arguments: tuple[int | float, ...]
    output: int

    @property
    def expression(self) -> str:
        """The canonical spelling, which names the same values whoever wrote it."""
        written = ",".join(f"{argument:.15g}" for argument in self.arguments)
        call = f"{self.definition.name}({written})" if written else self.definition.name
        several = len(self.definition.outputs) > 1
        return f"{call}.{self.definition.outputs[self.output]}" if several else call

    @property
    def lookback_bars(self) -> int:
        """How many bars come before the first that has a value."""
        return self.definition.lookback_bars(*self.arguments)

    def compute(self, bars: pl.DataFrame) -> Floats:
        """Returns the feature's values, one per bar, NaN where undefined.

        Raises:
            ValueError: `missing_column`, the bars lack an input.
        """
        columns = [column(bars, name, self.definition) for name in self.definition.inputs]
        return outputs(self.definition, self.arguments, columns, wanted=[self.output])[self.output]


def parse(expression: str) -> Feature:
    """Reads an expression.

    Raises:
        ValueError: `invalid_feature`, `unknown_feature`, `unknown_parameter`, `invalid_parameter` or
            `unknown_output`, each with what to write instead.
    """
    match = EXPRESSION.match(expression) if len(expression) <= EXPRESSION_LENGTH_MAX else None
    if match is None:
        raise ValueError(
            f"invalid_feature: {expression!r:.60} is no feature expression; write it like rsi(14),"
            " macd(12,26,9).signal or obv"
        )
    name = match["name"].lower()
    if name not in DEFINITIONS:
        raise ValueError(
            f"unknown_feature: there is no feature {name!r:.40};"
            f" {_nearest(name, DEFINITIONS)} (features_search lists all)"
        )
    definition = DEFINITIONS[name]
    arguments = _bound(definition, match["arguments"] or "")
    output = match["output"] or definition.outputs[0]
    if output not in definition.outputs:
        raise ValueError(
            f"unknown_output: {name} has no output {output!r:.40}; {did_you_mean(output, definition.outputs)}"
        )
    if definition.check is not None and (problem := definition.check(*arguments)):
        raise ValueError(f"invalid_parameter: {problem}")
    return Feature(definition, arguments, definition.outputs.index(output))


def evaluate(expression: str, bars: pl.DataFrame) -> Floats:
    """Returns the values of a feature expression over bars.

    Args:
        expression: Such as `rsi(14)`.
        bars: Columns `open, high, low, close, volume` (and `time` or `event_time` for the calendar) as far
            as the feature reads them, ascending in time.

    Returns:
        float64, one per bar, NaN until warmed up and where undefined.

    Raises:
        ValueError: a mistake in the expression, or a column is missing.
    """
    return parse(expression).compute(bars)


def outputs(
    definition: Definition,
    arguments: Sequence[int | float],
    columns: Sequence[Floats],
    segments: Iterable[tuple[int, int]] | None = None,
    wanted: Iterable[int] | None = None,
) -> Floats:
    """Computes a feature over columns.

    Args:
        definition: Of the feature.
        arguments: Its parameters, in order, within their bounds.
        columns: Its inputs, in order, of one length, C-contiguous.
        segments: Ranges of bars that know nothing of each other (symbols), which together are all bars;
            None: one range.
        wanted: Which outputs are read, by place; the others may hold anything. None: all.

    Returns:
        (outputs, bars), NaN where undefined. The memory comes from the arena.
    """
    passes: Any = importlib.import_module(PASSES)
    bound = definition, tuple(arguments)
    named = dict(zip(definition.inputs, columns, strict=True))
    return passes.compute({bound: wanted}, named, segments)[bound]


def warm_up(names: Iterable[str] = WARM) -> None:
    """Loads kernels' machine code, compiling what is not in the cache: what a sandbox does before it forks.

    By default what is used most. A strategy's process can neither read nor write the cache: it compiles what
    was not loaded before it forked.
    """
    compiled: Any = importlib.import_module(COMPILED)
    importlib.import_module(PASSES)
    for name in names:
        definition = DEFINITIONS[name]
        compiled.machine(definition.kernels, name, len(definition.inputs))


def warm_later() -> Iterator[None]:
    """Loads the kernels that `warm_up` left, one a step: what a sandbox does while nobody waits for it."""
    for name in DEFINITIONS:
        if name not in WARM:
            warm_up([name])
            yield
    passes: Any = importlib.import_module(PASSES)
    compiled: Any = importlib.import_module(COMPILED)
    for kernels, name in passes.stretched():
        compiled.stretches(kernels, name)
        yield


def _bound(definition: Definition, text: str) -> tuple[int | float, ...]:
    """Binds written arguments, by place or by name, to the parameters."""
    given: dict[str, str] = {}
    names = [parameter.name for parameter in definition.params]
    for place, part in enumerate(text.split(",") if text.strip() else []):
        name, is_named, value = part.partition("=")
        name = name.strip() if is_named else (names[place] if place < len(names) else "")
        if name not in names:
            takes = f"takes {', '.join(names)}" if names else "takes no parameters"
            what = f"has no parameter {name!r:.40}" if is_named else f"got {place + 1} parameters"
            raise ValueError(
                f"unknown_parameter: {definition.name} {what}; it {takes}, as in {definition.example}"
            )
        if name in given:
            raise ValueError(f"invalid_parameter: {name} is given twice; give it once")
        given[name] = (value if is_named else part).strip()
    return tuple(
        _number(definition, parameter, given[parameter.name])
        if parameter.name in given
        else parameter.default
        for parameter in definition.params
    )


def _number(definition: Definition, parameter: Parameter, text: str) -> int | float:
    whole = isinstance(parameter.default, int)
    try:
        value: int | float = int(text) if whole else float(text)
    except ValueError:
        value = math.nan
    if not (text.isascii() and parameter.low <= value <= parameter.high):
        kind = "a whole number" if whole else "a number"
        raise ValueError(
            f"invalid_parameter: {parameter.name}={text[:20]} of {definition.name} is not {kind} from"
            f" {parameter.low:g} to {parameter.high:g}; write it as in {definition.example}"
        )
    return value


def column(bars: pl.DataFrame, name: str, definition: Definition) -> Floats:
    """Returns an input of a feature as numbers, NaN where null; `time` in seconds since 1970.

    Raises:
        ValueError: `missing_column`, it is not there or no number.
    """
    if name == "time":
        return _times(bars, definition)
    if name not in bars.columns:
        raise ValueError(
            f"missing_column: {definition.name} reads {name}, which the bars lack;"
            f" pass bars with {', '.join(definition.inputs)}"
        )
    values = bars.get_column(name)
    if not values.dtype.is_numeric():
        raise ValueError(f"missing_column: column {name} is {values.dtype}, not a number; cast it to Float64")
    values = values if values.dtype == pl.Float64 else values.cast(pl.Float64)
    values = values.fill_null(math.nan) if values.null_count() else values
    return np.ascontiguousarray(values.to_numpy())


def _times(bars: pl.DataFrame, definition: Definition) -> Floats:
    """The bars' opens in seconds since 1970."""
    name = next((name for name in TIMES if name in bars.columns), None)
    column = bars.get_column(name) if name else pl.Series(dtype=pl.Null)
    if not isinstance(column.dtype, pl.Datetime) or column.null_count():
        raise ValueError(
            f"missing_column: {definition.name} reads the bars' times, which they lack;"
            " pass bars with a column time or event_time of dates and times, none of them null"
        )
    return column.dt.epoch("us").cast(pl.Float64).to_numpy() / 1e6


def _nearest(name: str, names: Mapping[str, Definition]) -> str:
    near = difflib.get_close_matches(name, list(names), n=3, cutoff=0.6)
    return (
        f"did you mean {' or '.join(near)}?" if near else f"use one of the {len(names)}, such as rsi or sma"
    )
