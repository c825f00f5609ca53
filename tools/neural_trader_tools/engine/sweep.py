"""A sweep's guest: one strategy under many combinations of parameters, inside the sandbox.

What leaves is, for each combination, where its target changes, or its order stream; never a profit. A
combination that fails is reported and does not lose the others. Each runs as it would alone: the file is
executed anew, chance and clocks are pinned by the combination's own seed. The one exception is a rule, which
has no state: its features are computed once for all combinations that name them.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from time import perf_counter  # bound here, before a strategy's clocks are pinned
from types import CodeType, TracebackType
from typing import Any, Final, cast

import numba
import numpy as np
import polars as pl
from numpy.typing import NDArray

from neural_trader_tools.engine import kernel
from neural_trader_tools.engine import orders as o
from neural_trader_tools.engine.event import Event
from neural_trader_tools.engine.faults import StrategyFault
from neural_trader_tools.engine.feature import feature_values
from neural_trader_tools.engine.guest import (
    FILENAME,
    call_signals,
    evaluator,
    find_entry,
    load,
    rules,
)
from neural_trader_tools.engine.rule import Rule, find_rule
from neural_trader_tools.engine.session import Session
from neural_trader_tools.engine.strategy import configure
from neural_trader_tools.engine.surroundings import Surroundings
from neural_trader_tools.engine.targets import TOGETHER, differing, first_of

Floats = NDArray[np.float64]
SEED: Final = "#seed"
"""Column of the table of combinations that holds each one's seed; no parameter can be called that."""
ROWS_MAX: Final = 4_000_000
"""Rows of changes or orders after which a guest returns what it has; the rest is asked for again."""
FEATURES_MAX_BYTES: Final = 256 << 20
BLOCK: Final = 256
PLAYED: Final = 1_000
"""Combinations of a rule that are played between two looks at the clock."""
FAULTS_MAX: Final = 64
FAULT_LENGTH_MAX: Final = 400


def run_sweep(
    arguments: dict[str, Any],
    tables: dict[str, pl.DataFrame],
    report: Callable[[float], None] = lambda _: None,
) -> tuple[dict[str, Any], dict[str, Floats]]:
    """Runs combinations in their order until all are done or the time is up. The entry of the sandbox job.

    Args:
        arguments: `source`, `settings`, `features` as for `guest.run_strategy`; `params`: those that all
            combinations share; `budget_s`: after how long to return what is done, at least one combination.
        tables: `bars`, and `combinations`: one row each, a column for each varied parameter and `#seed`.
        report: Told the part of the combinations that is finished, before each of them: where a child does
            not come back, that says which one was to blame.

    Returns:
        `{"kind": "signals" | "orders", "done": …, "faults": [text, …]}`, and columns: `fault` (number of
        the text, or -1) and `count` (rows), one for each combination done; then the rows of all: `bar`
        and `target`, or those of `orders.COLUMNS`. Whoever receives it must treat it as untrusted.

    Raises:
        StrategyFault: the file holds no strategy. What one combination raises is its own fault.
        SyntaxError: the file is not Python.
    """
    frame, table = tables["bars"], tables["combinations"]
    deadline = perf_counter() + float(arguments["budget_s"])
    code = compile(str(arguments["source"]), FILENAME, "exec", dont_inherit=True)
    seeds = table[SEED].to_list()
    with Surroundings(int(seeds[0]), frame["time"][0]):
        namespace = load(code)
        rule = find_rule(namespace)
        by_orders = rule is None and isinstance(find_entry(namespace), type | Event)
    answer = _Answer("orders" if by_orders else "signals")
    fixed: Mapping[str, Any] = arguments.get("params", {})
    combinations = table.drop(SEED)
    if rule is not None:
        run_rule(rule, fixed, combinations, frame, arguments, answer)
        return answer.value(), answer.columns()
    for number, (seed, varied) in enumerate(zip(seeds, combinations.iter_rows(named=True), strict=True)):
        report(number / len(seeds))
        try:
            answer.add(_decide(code, {**fixed, **varied}, int(seed), frame, arguments, by_orders))
        except (Exception, SystemExit) as error:  # one combination's failure is that combination's result
            answer.fail(error)
        if perf_counter() > deadline or answer.rows > ROWS_MAX:
            break
    return answer.value(), answer.columns()


def _decide(
    code: CodeType,
    params: Mapping[str, Any],
    seed: int,
    frame: pl.DataFrame,
    arguments: Mapping[str, Any],
    by_orders: bool,
) -> Floats:
    """Returns the changes (rows, 2) or the orders (rows, 14) of one combination."""
    with Surroundings(seed, frame["time"][0]) as surroundings:
        entry = find_entry(load(code))
        if isinstance(entry, Rule) or isinstance(entry, type | Event) != by_orders:
            raise StrategyFault("no_strategy", "the file is another kind of strategy now", "keep to one")
        settings: Mapping[str, Any] = arguments["settings"]
        limits = rules(settings)
        if isinstance(entry, Event):
            evaluate = evaluator(arguments)
            return entry.commands(frame, params, float(settings["cash"]), limits, evaluate).copy()
        if not isinstance(entry, type):
            most = kernel.exposure_max(limits)
            changes = kernel.target_changes(call_signals(entry, frame, params, most))
            return np.ascontiguousarray(changes[:, (o.BAR, o.SIZE)])
        cash = float(settings["cash"])
        session = Session(frame, cash, limits, evaluator(arguments))
        session.run(configure(entry, params, session), surroundings)
        return session.commands.copy()


class _Answer:
    """What is sent back, collected."""

    def __init__(self, kind: str) -> None:
        self.rows = 0
        self._kind = kind
        self._names = ("bar", "target") if kind == "signals" else o.COLUMNS
        self._texts: dict[str, int] = {}
        self._parts: list[Floats] = []
        self._counts: list[int] = []
        self._faults: list[int] = []

    def add(self, rows: Floats) -> None:
        """Adds the decisions of one combination."""
        self._parts.append(rows)
        self._counts.append(len(rows))
        self._faults.append(-1)
        self.rows += len(rows)

    def extend(self, counts: Sequence[int], rows: Floats) -> None:
        """Adds the decisions of several combinations."""
        self._parts.append(rows)
        self._counts.extend(counts)
        self._faults.extend([-1] * len(counts))
        self.rows += len(rows)

    def fail(self, error: BaseException) -> None:
        """Adds a combination that failed; equal words are sent once."""
        text = describe(error)
        if text not in self._texts and len(self._texts) >= FAULTS_MAX:
            text = next(iter(self._texts))
        self._counts.append(0)
        self._faults.append(self._texts.setdefault(text, len(self._texts)))

    def value(self) -> dict[str, Any]:
        """Returns the JSON part."""
        return {"kind": self._kind, "done": len(self._counts), "faults": list(self._texts)}

    def columns(self) -> dict[str, Floats]:
        """Returns the arrays."""
        width = len(self._names)
        rows = np.concatenate([np.empty((0, width)), *self._parts])
        return {
            "fault": np.array(self._faults, dtype=np.float64),
            "count": np.array(self._counts, dtype=np.float64),
            **{f"row_{name}": rows[:, place].copy() for place, name in enumerate(self._names)},
        }


def describe(error: BaseException) -> str:
    """Returns a failure as `code: what; next step`, with the line of the strategy where there is one."""
    line: int | None = None
    trace: TracebackType | None = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == FILENAME:
            line = trace.tb_lineno
        trace = trace.tb_next
    where = "" if line is None else f" (line {line} of the strategy)"
    if isinstance(error, StrategyFault):
        text = f"{error.code}: {error.what}{where}; {error.next_step}"
    else:
        message = str(error).replace("; ", ", ")[:200]
        text = f"strategy_failed: the strategy raised {type(error).__name__}: {message}{where}; correct it"
    return text[:FAULT_LENGTH_MAX]


def run_rule(
    rule: Rule,
    fixed: Mapping[str, Any],
    combinations: pl.DataFrame,
    frame: pl.DataFrame,
    arguments: Mapping[str, Any],
    answer: _Answer,
) -> None:
    """Runs a rule under all combinations, computing each feature once.

    Args:
        rule: The rule.
        fixed: Parameters that all combinations share.
        combinations: One row each.
        frame: The bars.
        arguments: As in `run_sweep`: the module of features, the settings, the time there is.
        answer: Takes the changes; of as many combinations as memory allows.
    """
    evaluate, budget_s = evaluator(arguments), float(arguments["budget_s"])
    most_exposure = kernel.exposure_max(rules(arguments["settings"]))
    rows: dict[str, int] = {}
    features: list[Floats] = []
    values: list[tuple[int | float | bool, ...]] = []
    places: list[list[int]] = []
    most = max(len(rule.features), FEATURES_MAX_BYTES // (8 * max(frame.height, 1)))

    def flush() -> int:
        """Plays what was gathered; returns how many of them the room for changes took."""
        if not values:
            return 0
        taken = _play_rule(rule, features, places, values, answer, most_exposure, budget_s)
        asked = len(values)
        values.clear()
        places.clear()
        return asked - taken

    for varied in combinations.iter_rows(named=True):
        try:
            params = {**fixed, **varied}
            bound = rule.values(params)
            named = dict(zip(rule.parameters, bound, strict=True))
            expressions = [text.format(**named) for text in rule.features]
            if len(rows) + len(expressions) > most and any(text not in rows for text in expressions):
                break
            for text in expressions:
                if text not in rows:
                    features.append(feature_values(evaluate, text, frame))
                    rows[text] = len(rows)
        except Exception as error:
            if flush():
                return
            answer.fail(error)
            continue
        values.append(bound)
        places.append([rows[text] for text in expressions])
    flush()


def _play_rule(
    rule: Rule,
    features: Sequence[Floats],
    places: Sequence[Sequence[int]],
    values: Sequence[tuple[int | float | bool, ...]],
    answer: _Answer,
    exposure_max: float,
    budget_s: float,
) -> int:
    """Adds the changes of these combinations and returns how many of them the room took, at least one."""
    matrix = np.array(features)
    columns = parameter_columns(rule, values)
    capacity = max(ROWS_MAX // 4, matrix.shape[1] + 1)
    counts = np.zeros(len(values), dtype=np.int64)
    bars, targets = np.empty(capacity), np.empty(capacity)
    loop, rows = rule_changes(rule), np.array(places)
    done, outside = 0, np.full(2, np.nan)
    deadline = math.inf
    while done < len(values):
        before = done
        done = loop(
            done, min(done + PLAYED, len(values)), matrix, rows, *columns, exposure_max, counts, bars,
            targets, outside,
        )  # fmt: skip
        if before == 0:
            deadline = perf_counter() + budget_s  # compiling is done; it would only be paid again
        filled = int(counts[before:done].sum())
        answer.extend(counts[before:done].tolist(), np.column_stack([bars[:filled], targets[:filled]]))
        if not np.isnan(outside[0]):
            answer.fail(
                StrategyFault(
                    "target_out_of_range",
                    f"rule returned {outside[1]} on bar {int(outside[0])}, outside ±{exposure_max:g}",
                    "return a fraction of equity; NaN keeps the last target",
                )
            )
            outside[:] = np.nan
            done += 1
        if answer.rows > ROWS_MAX or perf_counter() > deadline:
            break
    return done


def parameter_columns(rule: Rule, values: Sequence[tuple[int | float | bool, ...]]) -> list[NDArray[Any]]:
    """Returns the values of each parameter as an array of its type."""
    kinds = {"int": np.int64, "float": np.float64, "bool": np.bool_}
    return [
        np.array([row[place] for row in values], dtype=kinds[parameter.kind])
        for place, parameter in enumerate(rule.parameters.values())
    ]


def rule_changes(rule: Rule) -> Callable[..., int]:
    """Compiles the loop over combinations and bars around a rule.

    Bars are taken in blocks: first every target of the block, in vector code for a plain rule, then which of
    them differ from the one before, 64 bits at a time; only those are visited.
    """
    columns = [f"c{number}" for number in range(len(rule.features))]
    arrays = [f"a{number}" for number in range(len(rule.parameters))]
    params = [f"p{number}" for number in range(len(rule.parameters))]
    slices = [
        f"s{number}" for number in range(len(rule.features))
    ]  # indexed from 0, which compiles to vectors
    given = [*(f"{part}[place]" for part in slices), *params]
    text = _LOOP.format(
        arrays="".join(f"{array}, " for array in arrays),
        columns="\n        ".join(
            f"{column} = matrix[places[each, {number}]]" for number, column in enumerate(columns)
        ),
        params="\n        ".join(
            ["pass", *(f"{one} = {array}[each]" for one, array in zip(params, arrays, strict=True))]
        ),
        slices="\n            ".join(
            f"{part} = {column}[begin : begin + length]" for part, column in zip(slices, columns, strict=True)
        ),
        undefined=" or ".join(f"{part}[place] != {part}[place]" for part in slices),
        given=", ".join(given),
    )
    scope: dict[str, Any] = {
        "machine": rule.machine,
        "differing": differing,
        "first_of": first_of,
        "np": np,
        "nan": np.nan,
        "BLOCK": BLOCK,
        "TOGETHER": TOGETHER,
    }
    exec(compile(text, "<loop of the sweep>", "exec"), scope)  # noqa: S102  # names and numbers of ours
    njit: Any = cast(Any, numba).njit
    return njit(nogil=True, error_model="numpy", no_cfunc_wrapper=True)(scope["loop"])


_LOOP: Final = """\
def loop(first, end, matrix, places, {arrays}most, counts, bars, targets, outside):
    size = matrix.shape[1]
    block = np.empty(BLOCK + 1)
    row = 0
    for each in range(first, end):
        {columns}
        {params}
        if row + size > bars.size:
            return each
        last = 0.0
        begun = row
        block[0] = 0.0
        for begin in range(0, size, BLOCK):
            length = min(BLOCK, size - begin)
            {slices}
            for place in range(length):
                if {undefined}:
                    block[place + 1] = nan
                else:
                    block[place + 1] = machine({given})
            tail = block[length + 1 :]
            for place in range(tail.size):
                tail[place] = block[length]
            for word in range(0, BLOCK, TOGETHER):
                found = differing(block, 1 + word)
                while found != 0:
                    place = word + first_of(found)
                    found &= found - np.uint64(1)
                    target = block[place + 1]
                    if target != target or target == last:
                        continue
                    if target < -most or target > most:
                        outside[0] = begin + place
                        outside[1] = target
                        return each
                    last = target
                    bars[row] = begin + place
                    targets[row] = target
                    row += 1
            block[0] = block[length]
        counts[each] = row - begun
    return end
"""


def warm_up() -> None:
    """Compiles what every sweep needs; starts no threads."""
    kernel.target_changes(np.array([0.0, 1.0, np.nan]))


def warm_later() -> Iterator[None]:
    """Compiles a rule, so that numba itself is ready for the next: a second that no start should wait for."""
    namespace: dict[str, Any] = {}
    exec(_PLAIN_RULE, namespace)  # noqa: S102  # ours
    rule = find_rule(namespace)
    if rule is not None:
        _play_rule(rule, [np.ones(2)] * 2, [[0, 1]], [(1, 2)], _Answer("signals"), 1.0, 0.0)
    yield


_PLAIN_RULE: Final = """
FEATURES = ("sma({fast})", "sma({slow})")
def rule(fast_sma, slow_sma, *, fast: int = 1, slow: int = 2):
    return 1.0 if fast_sma > slow_sma else 0.0
"""
