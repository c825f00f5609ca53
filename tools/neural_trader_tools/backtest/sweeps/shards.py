"""Shards: some combinations from parameters to outcomes; decided in one sandbox child, played outside.

A child that did not come back says nothing about which combination was to blame. So its combinations are
asked for again in smaller groups, down to one, which then is.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import anyio.to_thread
import numpy as np
import polars as pl
from pydantic import JsonValue

from neural_trader_governance.errors import StrategyError
from neural_trader_sandbox.port import Job, Limits, Progress, Sandbox
from neural_trader_sandbox.tables import Table
from neural_trader_tools.backtest.settings import BacktestRequest
from neural_trader_tools.backtest.simulation import raise_failure
from neural_trader_tools.backtest.sweeps.answer import Decisions, read_answer
from neural_trader_tools.backtest.sweeps.ground import Ground, Outcomes
from neural_trader_tools.backtest.sweeps.space import Value, seed_of
from neural_trader_tools.engine.sweep import SEED

ENTRY: Final = "neural_trader_tools.engine.sweep:run_sweep"
BUDGET_S: Final = 2.0
"""After this a child returns what it has: progress moves, and a killed process loses no more than that."""
LIMITS: Final = Limits(wall_time_s=60.0, cpu_time_s=60)
SLOWEST_S: Final = 20.0
GROUPS: Final = 8
BEGUN: Final = "combinations_begun"
_BLAMED: Final = frozenset({"strategy_timeout", "strategy_killed"})


@dataclass(frozen=True, slots=True, eq=False)
class Shards:
    """Runs shards of one sweep.

    Attributes:
        sandbox: Where the strategy's code runs.
        request: What is varied.
        ground: What it is played on.
        seed: The sweep's seed.
        features: Module that evaluates features.
        limits: Of one child.
        budget_s: After which a child returns what it has.
    """

    sandbox: Sandbox
    request: BacktestRequest
    ground: Ground
    seed: int
    features: str
    limits: Limits = LIMITS
    budget_s: float = BUDGET_S

    async def run(self, combinations: Sequence[dict[str, Value]]) -> Outcomes:
        """Returns the outcomes of the first of these combinations, as many as the time allowed.

        Raises:
            StrategyError: the file holds no strategy, or its answer was forged.
            HostError: this host has no sandbox.
        """
        decisions: list[Decisions] = []
        asked = combinations
        for place in range(len(self.ground.prices)):
            try:
                found = await self._decide(place, asked)
            except StrategyError as error:
                if error.code not in _BLAMED:
                    raise
                if len(combinations) == 1:
                    return self._failed(error)
                # the guest's own word for it; where that is false, smaller and smaller groups tell
                begun = int(str(error.facts.get(BEGUN, 0)))
                most = max(1, len(combinations) // GROUPS)
                return await self.run(combinations[: begun if 0 < begun < len(combinations) else most])
            asked = asked[: len(found)]
            decisions.append(found)
        same = [head(each, len(asked)) for each in decisions]
        return await anyio.to_thread.run_sync(self.ground.play, same)

    async def decide(self, combinations: Sequence[dict[str, Value]]) -> list[Decisions]:
        """Returns the decisions of all of these combinations, by symbol.

        Raises:
            StrategyError: as in `run`; and `strategy_timeout` or `strategy_killed`.
            HostError: as in `run`.
        """
        return [await self._decide_all(place, combinations) for place in range(len(self.ground.prices))]

    async def _decide_all(self, place: int, combinations: Sequence[dict[str, Value]]) -> Decisions:
        parts: list[Decisions] = []
        done = 0
        while done < len(combinations):
            parts.append(await self._decide(place, combinations[done:]))
            done += len(parts[-1])
        offsets = [
            part.offsets[1:] + sum(len(each.rows) for each in parts[:i]) for i, part in enumerate(parts)
        ]
        return Decisions(
            parts[0].kind,
            np.concatenate([[0], *offsets]).astype(np.int64),
            np.concatenate([part.rows for part in parts]),
            [fault for part in parts for fault in part.faults],
        )

    async def _decide(self, place: int, combinations: Sequence[dict[str, Value]]) -> Decisions:
        prices = self.ground.prices[place]
        settings = self.request.settings
        job = Job(
            entry=ENTRY,
            arguments={
                "source": self.request.source,
                "params": self.request.params,
                "settings": {
                    **settings.model_dump(mode="json"),
                    "cash": float(settings.cash) / len(self.ground.prices),
                },
                "features": self.features,
                "budget_s": self.budget_s,
            },
            tables={
                "bars": await anyio.to_thread.run_sync(prices.table),
                "combinations": Table(
                    combination_frame(combinations, self._seeds(combinations)).write_ipc_stream
                ),
            },
        )
        begun: list[float] = [0.0]
        limits = self.limits
        if len(combinations) > 1:  # one alone has all the time; several return when the budget is spent
            wall_s = min(limits.wall_time_s, self.budget_s + SLOWEST_S)
            limits = replace(limits, wall_time_s=wall_s)

        def watch(progress: Progress) -> None:
            if progress.fraction is not None:
                begun[0] = progress.fraction

        result = await self.sandbox.run(job, limits, watch=watch)
        if result.status != "ok":
            try:
                raise_failure(result)
            except StrategyError as error:
                error.facts[BEGUN] = round(begun[0] * len(combinations))
                raise
        return await anyio.to_thread.run_sync(
            read_answer,
            result.value,
            result.columns,
            len(combinations),
            len(prices),
            self.request.settings.exposure_max,
        )

    def _seeds(self, combinations: Sequence[dict[str, Value]]) -> list[int]:
        return [seed_of(self.seed, parameters(self.request, each)) for each in combinations]

    def _failed(self, error: StrategyError) -> Outcomes:
        decisions = Decisions("signals", np.zeros(2, dtype=np.int64), np.empty((0, 2)), [str(error)])
        return self.ground.play([decisions] * len(self.ground.prices))


def parameters(request: BacktestRequest, combination: dict[str, Value]) -> dict[str, JsonValue]:
    """Returns all parameters of one combination."""
    return {**request.params, **combination}


def combination_frame(combinations: Sequence[dict[str, Value]], seeds: Sequence[int]) -> pl.DataFrame:
    """Returns combinations as they enter the sandbox: a column for each varied parameter, and the seed."""
    names = list(combinations[0])
    return pl.DataFrame(
        [
            *(pl.Series(name, [each[name] for each in combinations]) for name in names),
            pl.Series(SEED, list(seeds), dtype=pl.Int64),
        ]
    )


def only(decisions: Decisions, number: int) -> Decisions:
    """Returns the decisions of one combination."""
    rows = decisions.of(number)
    return Decisions(
        decisions.kind, np.array([0, len(rows)], dtype=np.int64), rows, [decisions.faults[number]]
    )


def head(decisions: Decisions, count: int) -> Decisions:
    """Returns the decisions of the first `count` combinations."""
    if count == len(decisions):
        return decisions
    rows = decisions.rows[: decisions.offsets[count]]
    return Decisions(decisions.kind, decisions.offsets[: count + 1].copy(), rows, decisions.faults[:count])
