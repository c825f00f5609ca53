"""The tool `strategy_check`: problems found by reading a strategy, and by running it in the sandbox.

Look-ahead is tested, not guessed: the strategy runs again without the real future, and must decide as it
did with it. Every run is a child of its own, so that it cannot know what it answered before.
"""

import time
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final

import anyio
import anyio.to_thread
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from neural_trader_governance.errors import DataError, InputError, StrategyError
from neural_trader_governance.untrusted.readings import OUTSIDE, Source, expose
from neural_trader_tools.backtest.run import Backtests
from neural_trader_tools.backtest.settings import SEED_MAX, BacktestRequest, read_params, read_period
from neural_trader_tools.strategies.mistakes import find_mistakes
from neural_trader_tools.strategies.outline import is_portfolio, read_outline

if TYPE_CHECKING:  # they import polars, for which the server's start does not pay
    from neural_trader_tools.backtest.lookahead import Difference
    from neural_trader_tools.backtest.prices import Prices

Floats = NDArray[np.float64]
BARS_MAX: Final = 1_000
LONG_BARS_MAX: Final = 100_000
CUTS: Final = 12
CUTS_MAX: Final = 200
LONG_CUTS: Final = 3
VIOLATIONS_MAX: Final = 10
PER_RUN_MAX: Final = 3
AT_ONCE: Final = 2
PORTFOLIO_SYMBOLS: Final = 6
BUDGET_S: Final = 45.0


class Problem(BaseModel):
    """One thing that is wrong."""

    line: int | None = Field(description="Line of the source, where one is to blame")
    code: str
    message: str


class LookAheadViolation(BaseModel):
    """A decision that changed once later bars were known."""

    cut: int = Field(description="Bars before the cut")
    bar: int = Field(description="Bar on which it decided")
    before: str = Field(description="Decision without the real later bars")
    after: str = Field(description="Decision with them")
    way: str = Field(description="cut: no later bars; changed: other later bars; stream: bar by bar")


class LookAhead(BaseModel):
    """Result of the look-ahead test."""

    checked_cuts: int
    violations: list[LookAheadViolation] = Field(description="At most 10, three of each run")
    differences: int = Field(default=0, description="Bars that differed, over all runs")
    strict_bars: int = Field(default=0, description="Bars that were told one by one (strict)")


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
    params: Annotated[dict[str, Any] | None, Field(description="Default: the strategy's own")] = None,
    cuts: Annotated[int, Field(description="Look-ahead cuts, 1 … 200")] = CUTS,
    seed: Annotated[int, Field(description="Of random cuts and of the strategy")] = 0,
    strict: Annotated[bool, Field(description="Also feed it bar by bar: proof, slower")] = False,
) -> StrategyChecked:
    """Checks a strategy before its backtest: syntax, imports, a trial run, determinism, look-ahead."""
    read_period(interval, None, None)
    given = read_params(params)
    if not 1 <= cuts <= CUTS_MAX:
        raise InputError(
            "invalid_cuts", f"cuts {cuts} is out of range", f"give a number from 1 to {CUTS_MAX}"
        )
    if not 0 <= seed <= SEED_MAX:
        raise InputError(
            "invalid_seed", f"seed {seed} is out of range", f"give a number from 0 to {SEED_MAX}"
        )
    try:
        text, _ = await backtests.resolve_source(strategy_id, source)
        mistakes = find_mistakes(text)
    except StrategyError as error:
        line = error.facts.get("line")
        return _report([Problem(line=line, code=error.code, message=_message(error))])
    problems = [Problem(line=item.line, code=item.code, message=item.message) for item in mistakes]
    if strategy_id is not None:  # who saved it chose the names that the problems repeat
        for problem in problems:
            expose(Source.STRATEGY, problem.message)
    if any(mistake.ends for mistake in mistakes):
        return _report(problems)
    if symbol is None:
        instruments = await anyio.to_thread.run_sync(backtests.archive.instruments)
        listed = [item.symbol for item in instruments if interval in item.intervals]
        if not listed:
            raise DataError(
                "no_data", f"the archive holds no {interval} bars", "run: neural-trader data fetch sample"
            )
        symbol = min(listed)
    symbols = (symbol,)
    if is_portfolio(text):
        if strict:
            raise InputError(
                "portfolio_unsupported",
                "a portfolio cannot be fed bar by bar yet",
                "leave strict out: the cuts test all symbols at one moment",
            )
        instruments = await anyio.to_thread.run_sync(backtests.archive.instruments)
        others = sorted(item.symbol for item in instruments if interval in item.intervals)
        symbols = tuple(dict.fromkeys((symbol, *others)))[:PORTFOLIO_SYMBOLS]
    request = BacktestRequest(source=text, symbols=symbols, interval=interval, params=given, seed=seed)
    bars = await anyio.to_thread.run_sync(backtests.read_prices, request)
    check = Check(backtests, request, problems)
    if is_portfolio(text):
        checked = await check.run_portfolio(bars, cuts)
    else:
        checked = await check.run(bars[0], cuts, strict=strict)
    found = checked.look_ahead
    if found.differences or (checked.ok and found.checked_cuts):
        await anyio.to_thread.run_sync(backtests.note_check, text, found.differences)
    return checked


class Check:
    """One check: the runs of one strategy, and what they showed.

    Args:
        backtests: Whose sandbox and features are used.
        request: The strategy, its parameters and the seed.
        problems: What reading found; more are added.
    """

    def __init__(
        self, backtests: Backtests, request: BacktestRequest, problems: list[Problem] | None = None
    ) -> None:
        self._backtests = backtests
        self._request = request
        self._outline = read_outline(request.source)
        self._problems = [] if problems is None else problems
        self._found: list[tuple[int, str, list[Difference]]] = []
        self._slots = anyio.CapacityLimiter(AT_ONCE)

    async def run(self, history: "Prices", cuts: int, *, strict: bool) -> StrategyChecked:
        """Runs everything: on the newest 1,000 bars, a little on a longer history, bar by bar if asked."""
        bars = history.tail(BARS_MAX)
        started = time.monotonic()
        if (whole := await self._decide(bars)) is None:
            return _report(self._problems)
        runs = max(1, int(BUDGET_S * AT_ONCE / max(time.monotonic() - started, 1e-3)))
        if not await self._is_repeatable(bars, whole):
            return _report(self._problems)
        done = await self._cut(bars, whole, min(cuts, max(1, runs // 2 - 2)))
        if len(history) > BARS_MAX and runs > LONG_CUTS * 20:
            longer = history.tail(LONG_BARS_MAX)
            if (long_whole := await self._decide(longer)) is not None:
                done += await self._cut(longer, long_whole, LONG_CUTS, shorten=False)
        strict_bars = await self._feed(bars, whole) if strict else 0
        return self._conclude(done, strict_bars, len(bars))

    async def run_portfolio(self, history: "Sequence[Prices]", cuts: int) -> StrategyChecked:
        """Runs a portfolio strategy on all symbols at once; there is no telling it bar by bar."""
        from neural_trader_tools.backtest.portfolio_check import PortfolioCheck

        portfolio = PortfolioCheck(self._backtests, self._request, self._note, AT_ONCE)
        done = await portfolio.run(history, cuts)
        self._found = portfolio.found
        if portfolio.by_chance is not None:
            self._say_not_deterministic(portfolio.by_chance)
        return self._conclude(done, 0, max(len(one) for one in history))

    async def _decide(
        self, given: "Prices", *, disturbance: int | None = None, what: str = ""
    ) -> Floats | None:
        """Returns a run's stream, (bars, 1) or (rows, 11); None if it failed, which is noted."""
        from neural_trader_tools.backtest.simulation import decide

        try:
            async with self._slots:
                kind, stream = await decide(
                    self._backtests.sandbox,
                    self._request,
                    given,
                    cash=float(self._request.settings.cash),
                    features=self._backtests.features,
                    disturbance=disturbance,
                )
        except StrategyError as error:
            self._note(error, what)
            return None
        return stream[:, None] if kind == "signals" else stream

    async def _is_repeatable(self, bars: "Prices", whole: Floats) -> bool:
        """Runs it twice more on the same bars, with objects at other addresses."""
        again: list[Floats | None] = [None, None]

        async def repeat(number: int) -> None:
            again[number] = await self._decide(bars, disturbance=number + 1, what="in another run")

        await _all([lambda number=number: repeat(number) for number in range(len(again))])
        return all(other is not None and not self._differs_by_chance(other, whole) for other in again)

    def _differs_by_chance(self, one: Floats, other: Floats) -> bool:
        """Whether two runs on the same bars differ in any bit; notes where."""
        from neural_trader_tools.backtest.lookahead import compare

        if one.shape == other.shape and np.array_equal(one, other, equal_nan=True):
            return False
        where = "in the number of decisions, or by a rounding error"
        if found := compare(other, one, 2**53):
            where = f"on bar {found[0].bar}: {found[0].before}, then {found[0].after}"
        self._say_not_deterministic(where)
        return True

    def _say_not_deterministic(self, where: str) -> None:
        message = (
            f"two runs on the same bars decided differently {where}; leave out unseeded chance, id(), "
            "the order of sets of objects, threads and clocks"
        )
        self._add(None, "not_deterministic", message)

    async def _cut(self, bars: "Prices", whole: Floats, count: int, *, shorten: bool = True) -> int:
        """Compares with runs that lack the future, or have another; returns how many cuts there were."""
        from neural_trader_tools.backtest.lookahead import choose_cuts, compare, other_future

        cuts = choose_cuts(whole, bars, count, self._request.seed)

        async def without(cut: int, given: "Prices", way: str) -> None:
            what = f"on the first {cut} bars" if way == "cut" else f"once the bars from {cut} on are others"
            part = await self._decide(given, what=what)
            if part is None:
                return
            if differences := compare(part, whole, cut):
                again = await self._decide(given, what=what)
                if again is not None and not self._differs_by_chance(again, part):
                    self._found.append((cut, way, differences))

        jobs: list[Callable[[], Coroutine[Any, Any, None]]] = []
        for number, cut in enumerate(cuts):
            other = other_future(bars, cut, self._request.seed + number)
            jobs.append(lambda cut=cut, other=other: without(cut, other, "changed"))
            if shorten and cut >= max(2, len(bars) // 4):  # what needs more bars is no look-ahead
                jobs.append(lambda cut=cut: without(cut, bars.head(cut), "cut"))
        await _all(jobs)
        return len(cuts)

    async def _feed(self, bars: "Prices", whole: Floats) -> int:
        """Compares with a run that is told one bar at a time; returns how many it decided on."""
        from neural_trader_tools.backtest.lookahead import compare, kind_of
        from neural_trader_tools.backtest.strict import LateError, decide_strictly

        first = 0
        while first < len(bars) // 2:
            try:
                kind, stream = await decide_strictly(
                    self._backtests.sandbox,
                    self._request,
                    bars,
                    first=first,
                    cash=float(self._request.settings.cash),
                    features=self._backtests.features,
                )
            except LateError as late:
                self._note(late.error, f"bar by bar, on the first {late.bars} bars")
                first = 2 * late.bars if late.bars > first else len(bars)
                if kind_of(whole) == "orders":
                    break  # its account would begin elsewhere
                continue
            except StrategyError as error:
                self._note(error, "bar by bar")
                break
            part = stream[:, None] if kind == "signals" else stream
            if kind == kind_of(whole) == "signals":
                part[:first] = whole[:first]
            if found := compare(part, whole, len(bars)):
                self._found.append((len(bars), "stream", found))
            return len(bars) - first
        return 0

    def _conclude(self, cuts: int, strict_bars: int, bar_count: int) -> StrategyChecked:
        self._found.sort(key=lambda item: (item[0], item[1]))
        violations = [
            LookAheadViolation(cut=cut, bar=item.bar, before=item.before, after=item.after, way=way)
            for cut, way, differences in self._found
            for item in differences[:PER_RUN_MAX]
        ]
        if violations:
            first = violations[0]
            missing = {
                "cut": f"with the first {first.cut} bars only",
                "changed": f"with other bars from bar {first.cut} on",
                "stream": "told bar by bar",
            }[first.way]
            message = (
                f"the decision on bar {first.bar} was {first.before} {missing} and {first.after} with all "
                f"{bar_count}: it uses bars that were not there yet"
            )
            line = self._outline.entry_line
            if suspicions := self._outline.suspicions:
                line = suspicions[0].line
                message += f"; look at line {line} first: {suspicions[0].why}"
            self._add(line, "look_ahead", message)
        return _report(
            self._problems,
            LookAhead(
                checked_cuts=cuts,
                violations=violations[:VIOLATIONS_MAX],
                differences=sum(len(differences) for _, _, differences in self._found),
                strict_bars=strict_bars,
            ),
        )

    def _note(self, error: StrategyError, what: str) -> None:
        prefix = f"it fails {what}: " if what else ""
        self._add(error.facts.get("line"), error.code, prefix + _message(error))

    def _add(self, line: int | None, code: str, message: str) -> None:
        """Adds a problem, unless the same one is known from another run."""
        line = self._outline.entry_line if line is None else line
        if all((problem.line, problem.code) != (line, code) for problem in self._problems):
            self._problems.append(Problem(line=line, code=code, message=message))


async def _all(jobs: list[Callable[[], Coroutine[Any, Any, None]]]) -> None:
    async with anyio.create_task_group() as tasks:
        for job in jobs:
            tasks.start_soon(job)


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
