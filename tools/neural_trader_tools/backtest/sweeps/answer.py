"""The answer of a sweep's guest, believed only after every cell was checked, as in `backtest/stream.py`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from neural_trader_tools.backtest.stream import check_orders, forged
from neural_trader_tools.engine import orders as o
from neural_trader_tools.engine.sweep import FAULT_LENGTH_MAX, FAULTS_MAX

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
ROW_NAMES = {"signals": ("bar", "target"), "orders": o.COLUMNS}


class AnswerHeader(BaseModel):
    """The JSON beside the columns."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    kind: Literal["signals", "orders"]
    done: Annotated[int, Field(ge=1)]
    faults: Annotated[list[Annotated[str, Field(max_length=FAULT_LENGTH_MAX)]], Field(max_length=FAULTS_MAX)]


@dataclass(frozen=True, slots=True, eq=False)
class Decisions:
    """What combinations decided on one symbol.

    Attributes:
        kind: `signals`: rows are (bar, target) where the target changes; `orders`: see `orders.COLUMNS`.
        offsets: Where the rows of each combination begin, and their number; int64, (done + 1,).
        rows: Float64, (rows, 2) or (rows, 14).
        faults: Why a combination has none; untrusted words.
    """

    kind: str
    offsets: Ints
    rows: Floats
    faults: list[str | None]

    def __len__(self) -> int:
        return len(self.faults)

    def of(self, number: int) -> Floats:
        """Returns the rows of one combination."""
        return self.rows[self.offsets[number] : self.offsets[number + 1]]


def read_answer(
    value: JsonValue,
    columns: Mapping[str, Floats],
    asked: int,
    bar_count: int,
    exposure_max: float = 1.0,
) -> Decisions:
    """Returns the checked answer of a guest that was asked for so many combinations over so many bars.

    `exposure_max` is the largest target, more than 1 where there is leverage.

    Raises:
        StrategyError: `forged_stream`, with the reason.
    """
    try:
        header = AnswerHeader.model_validate(value)
    except ValidationError as error:
        raise forged(f"its header is not valid ({error.errors()[0]['msg'][:80]})") from None
    names = ROW_NAMES[header.kind]
    if header.done > asked or set(columns) != {"fault", "count", *(f"row_{name}" for name in names)}:
        raise forged("it has other combinations or columns than were asked for")
    if any(array.dtype != np.float64 or array.ndim != 1 for array in columns.values()):
        raise forged("a column is not a float64 array")
    fault, count = columns["fault"], columns["count"]
    rows = np.column_stack([columns[f"row_{name}"] for name in names]) if _equal(columns, names) else None
    if rows is None or len(fault) != header.done or len(count) != header.done:
        raise forged("its columns are of other lengths")
    if not _whole(fault, -1, len(header.faults) - 1) or not _whole(count, 0, len(rows)):
        raise forged("a number of rows or of a fault is impossible")
    if int(count.sum()) != len(rows) or (count[fault >= 0] != 0).any():
        raise forged("its rows are not those of its combinations")
    offsets = np.concatenate([[0], np.cumsum(count.astype(np.int64))]).astype(np.int64)
    faults = [None if number < 0 else header.faults[int(number)] for number in fault]
    if header.kind == "signals":
        return Decisions("signals", offsets, _changes(rows, offsets, bar_count, exposure_max), faults)
    for number in range(header.done):
        first, last = offsets[number], offsets[number + 1]
        if last - first > o.ORDERS_PER_BAR_MAX * bar_count:
            raise forged(f"it has more than {o.ORDERS_PER_BAR_MAX} rows on each bar")
        rows[first:last] = check_orders(rows[first:last], bar_count, exposure_max=exposure_max)
    return Decisions("orders", offsets, rows, faults)


def _changes(rows: Floats, offsets: Ints, bar_count: int, exposure_max: float) -> Floats:
    bars, targets = rows[:, 0], rows[:, 1]
    if not _whole(bars, 0, bar_count - 1):
        raise forged("a change lies on a bar that does not exist")
    if not (np.abs(targets) <= exposure_max).all():  # false for NaN
        raise forged(f"a target lies outside -{exposure_max:g} … {exposure_max:g}")
    begins = np.zeros(len(rows) + 1, dtype=np.bool_)
    begins[offsets] = True
    if (~begins[1:-1] & (np.diff(bars) <= 0)).any():
        raise forged("changes are out of order")
    checked = np.ascontiguousarray(rows)
    checked[:, 1] = np.where(np.abs(targets) < o.SIZE_MIN, 0.0, targets)
    return checked


def _whole(values: Floats, low: int, high: int) -> bool:
    return bool(((values == np.floor(values)) & (values >= low) & (values <= high)).all())


def _equal(columns: Mapping[str, Floats], names: tuple[str, ...]) -> bool:
    return len({len(columns[f"row_{name}"]) for name in names}) == 1
