"""The space of a sweep: which values each parameter takes, and which combinations are tried.

A combination is a number: mixed radix over the axes in the order given, the last axis fastest. So a
million of them need no memory, and a sweep that was interrupted knows what is left.
"""

import functools
import hashlib
import json
import math
import random
import re
from array import array
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from neural_trader_governance.errors import InputError
from neural_trader_tools.backtest.settings import SEED_MAX
from neural_trader_tools.engine.faults import StrategyFault
from neural_trader_tools.engine.parameters import Parameter, convert

Value = bool | int | float | str
Method = Literal["grid", "random", "bayesian"]
COMBINATIONS_MAX: Final = 1_000_000
AXES_MAX: Final = 16
BAYESIAN_MAX: Final = 2_000
SAMPLES_DEFAULT: Final = 100
_FORMS: Final = "write a list of values, 'first:last', or 'first:last:step' (last included)"


class Axis(BaseModel):
    """One varied parameter: a list of values, or an interval of real numbers to draw from."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str = Field(min_length=1, max_length=100)
    values: tuple[Value, ...] = ()
    low: float | None = None
    high: float | None = None

    @model_validator(mode="after")
    def _is_one_of_both(self) -> "Axis":
        if bool(self.values) == (self.low is not None and self.high is not None):
            raise ValueError("an axis has values, or a low and a high end")
        return self


class Space(BaseModel):
    """All axes of a sweep, and how combinations are chosen from them.

    Attributes:
        axes: The varied parameters.
        method: grid: all; random: `samples` different ones; bayesian: `samples`, each batch chosen by the
            results of those before it.
        samples: How many, for random and bayesian.
        seed: Of the choice.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    axes: tuple[Axis, ...]
    method: Method = "grid"
    samples: int | None = None
    seed: int = 0

    @property
    def size(self) -> int:
        """How many combinations the lists of values span; 0 where an axis is an interval."""
        return math.prod(len(axis.values) for axis in self.axes)

    @property
    def count(self) -> int:
        """How many combinations will be tried."""
        if self.method == "grid":
            return self.size
        samples = self.samples or SAMPLES_DEFAULT
        return min(samples, self.size) if self.method == "random" and self.size else samples

    def combination(self, place: int) -> dict[str, Value]:
        """Returns the combination at a place of the full grid."""
        found: dict[str, Value] = {}
        for axis in reversed(self.axes):
            place, digit = divmod(place, len(axis.values))
            found[axis.name] = axis.values[digit]
        return {axis.name: found[axis.name] for axis in self.axes}

    def combinations(self, first: int, last: int) -> list[dict[str, Value]]:
        """Returns the tries numbered `first` to `last`, the last one excluded; not for `bayesian`."""
        if self.method == "grid":
            return [self.combination(number) for number in range(first, last)]
        if self.size:
            return [
                self.combination(place) for place in _sampled(self.seed, self.size, self.count)[first:last]
            ]
        return [self._drawn(number) for number in range(first, last)]

    def _drawn(self, number: int) -> dict[str, Value]:
        """Returns a random combination that depends on the seed and its number alone."""
        chance = random.Random(f"{self.seed}/{number}")  # noqa: S311  # it must repeat
        return {
            axis.name: chance.choice(axis.values)
            if axis.values
            else chance.uniform(axis.low or 0.0, axis.high or 0.0)
            for axis in self.axes
        }


@functools.lru_cache(maxsize=2)
def _sampled(seed: int, size: int, count: int) -> Sequence[int]:
    return array("q", random.Random(seed).sample(range(size), count))  # noqa: S311  # it must repeat


def read_space(grid: Mapping[str, Any], method: str, samples: int | None, seed: int) -> Space:
    """Reads a grid as an agent or a command line gives it.

    Args:
        grid: By parameter: a list of values, or text, see `read_axis`.
        method: grid, random or bayesian.
        samples: Combinations to try, for random and bayesian.
        seed: Of the choice.

    Raises:
        InputError: `invalid_grid`, or `too_many_combinations`.
    """
    if not grid or len(grid) > AXES_MAX:
        raise InputError(
            "invalid_grid", f"{len(grid)} parameters given", f"vary 1 to {AXES_MAX}, such as fast=5:50:5"
        )
    space = Space(
        axes=tuple(read_axis(name, values, method) for name, values in grid.items()),
        method=method,  # pyright: ignore[reportArgumentType]  # pydantic checks it
        samples=samples,
        seed=seed,
    )
    most = BAYESIAN_MAX if method == "bayesian" else COMBINATIONS_MAX
    if method == "grid" and samples is not None:
        raise InputError(
            "invalid_samples", "a grid tries every combination", "use method=random with samples"
        )
    if samples is not None and samples < 1:
        raise InputError("invalid_samples", f"samples {samples} is below 1", f"give 1 to {most:,}")
    if space.count > most:
        raise InputError(
            "too_many_combinations",
            f"{method} would try {space.count:,} combinations; at most {most:,} are allowed",
            "use fewer values or a larger step, or method=random with samples",
        )
    return space


def read_axis(name: str, given: Any, method: str) -> Axis:
    """Reads one parameter's values: a list, one value, `first:last[:step]`, or text separated by commas.

    `first:last` is every whole number, or, where an end has a point and the method draws, the interval.

    Raises:
        InputError: `invalid_grid`.
    """
    if isinstance(given, str) and ":" in given:
        parts = given.split(":")
        try:
            numbers = [_number(part) for part in parts]
        except ValueError:
            raise _bad(name, given, _FORMS) from None
        if len(numbers) not in (2, 3) or not all(math.isfinite(number) for number in numbers):
            raise _bad(name, given, _FORMS)
        if numbers[1] < numbers[0] or (len(numbers) == 3 and numbers[2] <= 0):
            low, high = sorted(numbers[:2])
            step = f"did you mean '{low}:{high}'? First lies below last, and a step above 0"
            raise _bad(name, given, step)
        if len(numbers) == 2 and not all(isinstance(number, int) for number in numbers):
            if method == "grid":
                raise _bad(name, given, "give a step for a grid, such as 0.1:0.9:0.1")
            return Axis(name=name, low=float(numbers[0]), high=float(numbers[1]))
        return Axis(name=name, values=_stepped(name, given, numbers))
    listed: list[Any] = list(cast("list[Any]", given)) if isinstance(given, list | tuple) else [given]
    if isinstance(given, str):
        listed = [_word(part.strip()) for part in given.split(",")]
    values: list[Value] = [value for value in listed if isinstance(value, bool | int | float | str)]
    if not values or len(values) < len(listed):
        raise _bad(name, given, _FORMS)
    if any(isinstance(value, float) and not math.isfinite(value) for value in values):
        raise _bad(name, given, "use finite numbers")
    if any(isinstance(value, int) and abs(value) >= 2**63 for value in values):
        raise _bad(name, given, "use whole numbers of 64 bits")
    kinds = {type(value) for value in values}
    if kinds == {int, float}:
        values = [float(value) for value in values]
    elif len(kinds) > 1:
        raise _bad(name, given, "give values of one kind: numbers, truth values or text")
    if len(set(values)) < len(values):
        raise _bad(name, given, "name each value once")
    return Axis(name=name, values=tuple(values))


def check_axes(axes: Sequence[Axis], kinds: Mapping[str, str]) -> None:
    """Refuses values that a parameter cannot take, before a thousand combinations fail for them.

    Args:
        axes: The varied parameters.
        kinds: What the parameters are said to be: int, float, bool or str; those of others are not known.

    Raises:
        InputError: `invalid_grid`, with the first such value and, for text with numbers, what was meant.
    """
    for axis in axes:
        kind = kinds.get(axis.name, "")
        if kind == "int" and not axis.values:
            raise _bad(axis.name, f"{axis.low}:{axis.high}", "it takes int: give whole ends, such as 1:9")
        parameter = Parameter(axis.name, kind, None)
        for value in axis.values:
            try:
                convert(parameter, value)
            except StrategyFault as fault:
                raise InputError("invalid_grid", fault.what, _meant(value, kind)) from None


def _meant(value: Value, kind: str) -> str:
    """Returns what to give instead of a value that does not fit."""
    numbers = re.findall(r"\d+(?:\.\d+)?", str(value)) if isinstance(value, str) else []
    if kind in ("int", "float") and len(numbers) in (2, 3):
        return f"did you mean {':'.join(numbers)!r}? It is first:last or first:last:step, last included"
    example = {"int": "5:50:5, or 5,10,20", "float": "0.1:0.9:0.1, or 0.5,1", "bool": "true,false"}.get(kind)
    return f"it takes {kind}: give {example or 'text'}"


def seed_of(seed: int, params: Mapping[str, JsonValue]) -> int:
    """Returns a combination's own seed, from the sweep's and the parameters: its order does not matter."""
    text = json.dumps([seed, params], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % SEED_MAX


def _stepped(name: str, given: str, numbers: Sequence[int | float]) -> tuple[Value, ...]:
    first, last, step = (*numbers, 1)[:3]
    count = math.floor((last - first) / step + 1e-9) + 1
    if count > COMBINATIONS_MAX:
        raise _bad(name, given, f"take a larger step: {count:,} values, at most {COMBINATIONS_MAX:,}")
    if all(isinstance(number, int) for number in (first, step)):
        return tuple(first + step * place for place in range(count))
    return tuple(round(first + step * place, 12) for place in range(count))


def _number(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        return float(text)


def _word(text: str) -> Value:
    try:
        return _number(text)
    except ValueError:
        return {"true": True, "false": False}.get(text.lower(), text)


def _bad(name: str, given: Any, next_step: str) -> InputError:
    return InputError("invalid_grid", f"the values of {name[:60]!r} are {given!r:.80}", next_step)
