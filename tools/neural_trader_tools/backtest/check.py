"""The tool `strategy_check`: problems found by reading a strategy, and by running it in the sandbox.

Look-ahead is tested, not guessed: the strategy runs again on bars cut off at several places, and must
decide on the bars before each cut exactly as it did when it was given the whole history.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Final

import anyio.to_thread
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from neural_trader_governance.errors import DataError, InputError, StrategyError
from neural_trader_governance.untrusted.readings import OUTSIDE, Source, expose
from neural_trader_tools.backtest.run import Backtests
from neural_trader_tools.backtest.settings import BacktestRequest, read_period
from neural_trader_tools.engine import orders as o
from neural_trader_tools.engine.imports import may_import
from neural_trader_tools.strategies.outline import read_outline

if TYPE_CHECKING:  # it imports polars, for which the server's start does not pay
    from neural_trader_tools.backtest.prices import Prices

Floats = NDArray[np.float64]
BARS_MAX: Final = 1_000
CUTS: Final = 8
VIOLATIONS_MAX: Final = 10
_RELATIVE: Final = 1e-9


class Problem(BaseModel):
    """One thing that is wrong."""

    line: int | None = Field(description="Line of the source, where one is to blame")
    code: str
    message: str


class LookAheadViolation(BaseModel):
    """A decision that changed once later bars were known."""

    cut: int = Field(description="Bars that the strategy was given")
    bar: int = Field(description="Bar on which it decided")
    before: str = Field(description="Decision without the later bars")
    after: str = Field(description="Decision with them")


class LookAhead(BaseModel):
    """Result of the look-ahead test."""

    checked_cuts: int
    violations: list[LookAheadViolation]


class StrategyChecked(BaseModel):
    """Result of a check."""

    ok: bool
    problems: list[Problem]
    look_ahead: LookAhead


async def strategy_check(
    backtests: Backtests,
    *,
    strategy_id: Annotated[str | None, Field(description="Saved strategy; or give source")] = None,
    source: Annotated[str | None, Field(description="Python source; or give strategy_id")] = None,
    symbol: Annotated[str | None, Field(description="Bars to try it on; default: any")] = None,
    interval: Annotated[str, Field(description="Bar length")] = "1d",
) -> StrategyChecked:
    """Checks a strategy before its backtest: syntax, imports, a trial run, determinism, look-ahead."""
    read_period(interval, None, None)
    try:
        text, _ = await backtests.resolve_source(strategy_id, source)
    except StrategyError as error:
        line = error.facts.get("line")
        return _report([Problem(line=line, code=error.code, message=_message(error))])
    if problems := read_problems(text):
        if strategy_id is not None:  # who saved it chose the names that the problems repeat
            for problem in problems:
                expose(Source.STRATEGY, problem.message)
        return _report(problems)
    if symbol is None:
        instruments = await anyio.to_thread.run_sync(backtests.archive.instruments)
        listed = [item.symbol for item in instruments if interval in item.intervals]
        if not listed:
            raise DataError(
                "no_data", f"the archive holds no {interval} bars", "run: neural-trader data fetch sample"
            )
        symbol = min(listed)
    request = BacktestRequest(source=text, symbols=(symbol,), interval=interval)
    bars = (await anyio.to_thread.run_sync(backtests.read_prices, request))[0]
    return await check_run(backtests, request, bars.tail(BARS_MAX))


def read_problems(source: str) -> list[Problem]:
    """Returns what reading alone finds: a missing or second strategy, imports that are not there.

    Raises:
        StrategyError: the source is not Python.
    """
    outline = read_outline(source)
    problems = [
        Problem(
            line=line,
            code="import_unavailable",
            message=f"{module} is not there for strategies; use numpy, polars, math, statistics or datetime",
        )
        for module, line in outline.imports
        if not may_import(module)
    ]
    if outline.signals is None and not outline.has_classes:
        message = "define a function signals(bars) or a class that extends Strategy; see strategy_get_api"
        problems.append(Problem(line=None, code="no_strategy", message=message))
    if outline.signals is not None and outline.classes:
        message = "the file defines signals and a Strategy class; keep one"
        problems.append(Problem(line=outline.classes[0][1], code="several_strategies", message=message))
    return problems


async def check_run(backtests: Backtests, request: BacktestRequest, bars: "Prices") -> StrategyChecked:
    """Runs a strategy in the sandbox: once, again, and on cut histories."""
    from neural_trader_tools.backtest.simulation import decide

    async def run(given: "Prices") -> Floats:
        kind, stream = await decide(
            backtests.sandbox,
            request,
            given,
            cash=float(request.settings.cash),
            features=backtests.features,
        )
        return stream[:, None] if kind == "signals" else stream

    try:
        whole = await run(bars)
        again = await run(bars)
    except StrategyError as error:
        return _report([Problem(line=error.facts.get("line"), code=error.code, message=_message(error))])
    if whole.shape != again.shape or not np.array_equal(whole, again, equal_nan=True):
        message = (
            "two runs on the same bars decided differently; leave out the time of day and unseeded chance"
        )
        return _report([Problem(line=None, code="not_deterministic", message=message)])
    violations: list[LookAheadViolation] = []
    problems: list[Problem] = []
    cuts = choose_cuts(decisions_of(whole, len(bars)), len(bars), request.seed)
    for cut in cuts:
        try:
            part = await run(bars.head(cut))
        except StrategyError as error:
            message = f"it fails on the first {cut} bars: {_message(error)}"
            problems.append(Problem(line=error.facts.get("line"), code=error.code, message=message))
            continue
        violations += compare(decisions_of(part, cut), decisions_of(whole, len(bars)), cut)
    if violations:
        first = violations[0]
        suspicions = read_outline(request.source).suspicions
        message = (
            f"the decision on bar {first.bar} was {first.before} with {first.cut} bars and {first.after} "
            f"with {len(bars)}: it uses bars that were not there yet"
        )
        problems.append(
            Problem(line=suspicions[0] if suspicions else None, code="look_ahead", message=message)
        )
    return _report(problems, LookAhead(checked_cuts=len(cuts), violations=violations[:VIOLATIONS_MAX]))


def decisions_of(stream: Floats, bar_count: int) -> list[tuple[tuple[float, ...], ...]]:
    """Returns for each bar the rows that were decided on it; a target array has one row a bar."""
    decisions: list[list[tuple[float, ...]]] = [[] for _ in range(bar_count)]
    if stream.ndim == 2 and stream.shape[1] == 1:
        return [((float(value),),) for value in stream[:, 0]]
    for row in stream:
        decisions[int(row[o.BAR])].append(tuple(float(cell) for cell in row[1:]))
    return [tuple(rows) for rows in decisions]


def choose_cuts(decisions: Sequence[object], bar_count: int, seed: int) -> list[int]:
    """Returns how many bars to give, ascending: half where decisions change, half anywhere (seeded).

    A strategy that peeks at the next bar betrays itself where its decision is about to change.
    """
    first = max(2, bar_count // 4)
    generator = np.random.default_rng(seed)
    changes = [
        bar
        for bar in range(first, bar_count)
        if not _same(decisions[bar], decisions[bar - 1])  # decided on `bar`: cut just behind it, and before
    ]
    chosen: set[int] = {bar_count - 1}
    if changes:
        picked = generator.choice(changes, size=min(CUTS // 4, len(changes)), replace=False)
        chosen.update(int(bar) + 1 for bar in picked)
        chosen.update(int(bar) for bar in picked)
    while len(chosen) < min(CUTS, bar_count - first):
        chosen.add(int(generator.integers(first, bar_count)))
    return sorted(cut for cut in chosen if 2 <= cut < bar_count)


def compare(
    part: Sequence[tuple[tuple[float, ...], ...]], whole: Sequence[tuple[tuple[float, ...], ...]], cut: int
) -> list[LookAheadViolation]:
    """Returns the first bar before a cut on which the two decided differently, if there is one."""
    for bar in range(cut):
        if not _same(part[bar], whole[bar]):
            return [LookAheadViolation(cut=cut, bar=bar, before=_text(part[bar]), after=_text(whole[bar]))]
    return []


def _same(one: object, other: object) -> bool:
    left, right = np.asarray(one, dtype=np.float64), np.asarray(other, dtype=np.float64)
    return left.shape == right.shape and bool(
        np.allclose(left, right, rtol=_RELATIVE, atol=1e-12, equal_nan=True)
    )


def _text(rows: tuple[tuple[float, ...], ...]) -> str:
    """Returns a bar's decisions in short: the target, or each row's side and size."""
    if not rows:
        return "nothing"
    if len(rows[0]) == 1:
        return f"{rows[0][0]:.6g}"
    words: list[str] = []
    for row in rows[:3]:
        action, side, size = row[o.ACTION - 1], row[o.SIDE - 1], row[o.SIZE - 1]
        verb = {o.TARGET: "target", o.CANCEL: "cancel"}.get(int(action), "buy" if side > 0 else "sell")
        words.append(f"{verb} {size:.6g}")
    return ", ".join(words)


def _message(error: StrategyError | InputError) -> str:
    """Returns the failure's words, noted as read where the guest chose them."""
    message = f"{error.what}; {error.next_step}"
    return expose(Source(error.facts[OUTSIDE]), message) if OUTSIDE in error.facts else message


def _report(problems: list[Problem], look_ahead: LookAhead | None = None) -> StrategyChecked:
    return StrategyChecked(
        ok=not problems,
        problems=problems,
        look_ahead=look_ahead or LookAhead(checked_cuts=0, violations=[]),
    )
