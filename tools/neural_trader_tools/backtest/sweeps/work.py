"""The work of one sweep: what is left to try is dealt out to runners, what comes back goes to disk."""

import re
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, Protocol

import anyio
import anyio.to_thread

from neural_trader_governance.terms.clocks import Clock
from neural_trader_tools.backtest.ledger import RunLedger
from neural_trader_tools.backtest.sweeps.record import SweepRecord, SweepStore
from neural_trader_tools.backtest.sweeps.space import Value, seed_of
from neural_trader_tools.backtest.trials import data_key

if TYPE_CHECKING:
    from neural_trader_tools.backtest.sweeps.conclusion import Scene
    from neural_trader_tools.backtest.sweeps.ground import Outcomes

ASKED_FIRST: Final = 64
ASKED_MAX: Final = 10_000
_QUICK_S: Final = 1.0
_RULE: Final = re.compile(r"^FEATURES\b", re.MULTILINE)


class Runner(Protocol):
    """Where shards run: here, or on a cluster."""

    async def run(self, combinations: Sequence[dict[str, Value]]) -> "Outcomes":
        """Returns the outcomes of the first of these combinations, as many as the time allowed."""
        ...


class Work:
    """Tries what has no result yet. Which runner tries what, and how much at once, changes no result.

    Args:
        record: The sweep.
        scene: What it is played on.
        store: Where results go.
        ledger: Counts the trials, before the results are there: one that was tried twice counts once.
        clock: Times of trials.
        runners: Each runs one shard at a time.
        progress: Called with the number of finished combinations.
    """

    def __init__(
        self,
        record: SweepRecord,
        scene: "Scene",
        store: SweepStore,
        ledger: RunLedger,
        clock: Clock,
        runners: Sequence[Runner],
        progress: Callable[[int], None],
    ) -> None:
        self._record = record
        self._scene = scene
        self._store = store
        self._ledger = ledger
        self._clock = clock
        self._runners = runners
        self._progress = progress
        self._space = record.request.space
        self._left: deque[tuple[int, int]] = deque()
        self._done = 0
        # the features of a rule are computed once for each child: few children with much to do
        self._asked = ASKED_MAX if _RULE.search(record.request.base.source) else ASKED_FIRST

    async def try_all(self) -> None:
        """Tries every combination of a grid or a random choice."""
        missing = await anyio.to_thread.run_sync(self._store.missing, self._record.run_id, self._space.count)
        self._begin(missing)
        share = -(-sum(last - first for first, last in missing) // len(self._runners))
        self._asked = max(1, min(self._asked, share))
        async with anyio.create_task_group() as tasks:
            for runner in self._runners:
                tasks.start_soon(self._drain, runner, self._space.combinations)

    async def learn(self) -> None:
        """Tries batches of a Bayesian choice, each after the results of those before."""
        from neural_trader_tools.backtest.sweeps.bayesian import BATCH, Bayesian

        count = self._space.count
        missing = await anyio.to_thread.run_sync(self._store.missing, self._record.run_id, count)
        self._done = count - sum(last - first for first, last in missing)
        chooser = await anyio.to_thread.run_sync(Bayesian, self._space)
        for first in range(0, count, BATCH):
            last = min(first + BATCH, count)
            batch = await anyio.to_thread.run_sync(chooser.ask, last - first)
            self._left = deque(
                (max(begin, first), min(end, last)) for begin, end in missing if begin < last and end > first
            )
            self._progress(self._done)
            self._asked = max(1, -(-(last - first) // len(self._runners)))

            def combinations(
                begin: int, end: int, batch: list[dict[str, Value]] = batch, first: int = first
            ) -> list[dict[str, Value]]:
                return batch[begin - first : end - first]

            async with anyio.create_task_group() as tasks:
                for runner in self._runners:
                    tasks.start_soon(self._drain, runner, combinations)
            await anyio.to_thread.run_sync(
                chooser.tell, await anyio.to_thread.run_sync(self._objectives, first, last)
            )

    def _begin(self, missing: Sequence[tuple[int, int]]) -> None:
        self._left = deque(missing)
        self._done = self._space.count - sum(last - first for first, last in missing)
        self._progress(self._done)

    def _take(self) -> tuple[int, int] | None:
        if not self._left:
            return None
        first, last = self._left.popleft()
        end = min(last, first + self._asked)
        if end < last:
            self._left.appendleft((end, last))
        return first, end

    async def _drain(
        self, runner: Runner, combinations: Callable[[int, int], list[dict[str, Value]]]
    ) -> None:
        while (part := self._take()) is not None:
            first, last = part
            tried = await anyio.to_thread.run_sync(combinations, first, last)
            began = time.monotonic()
            outcomes = await runner.run(tried)
            end = first + len(outcomes.faults)
            if end < last:
                self._left.appendleft((end, last))
            elif time.monotonic() - began < _QUICK_S:
                self._asked = min(4 * self._asked, ASKED_MAX)
            await anyio.to_thread.run_sync(self._keep, first, tried[: end - first], outcomes)
            self._done += end - first
            self._progress(self._done)

    def _keep(self, first: int, tried: Sequence[dict[str, Value]], outcomes: "Outcomes") -> None:
        from neural_trader_tools.backtest.configuration import failure_of, trial_of
        from neural_trader_tools.backtest.sweeps.conclusion import combination_request
        from neural_trader_tools.backtest.sweeps.parts import part_frame

        base, run_id = self._record.request.base, self._record.run_id
        seeds = [seed_of(base.seed, {**base.params, **each}) for each in tried]
        frame = part_frame(first, tried, seeds, outcomes, self._scene.ground, self._scene.periods)
        asked = (combination_request(base, each, seed) for each, seed in zip(tried, seeds, strict=True))
        trials = [
            trial_of(request, self._scene.data, sharpe) if fault is None else failure_of(request, run_id)
            for request, sharpe, fault in zip(asked, frame["sharpe_per_bar"], outcomes.faults, strict=True)
        ]
        key = data_key(base.symbols, base.interval, base.start, base.end)
        self._ledger.trials.add(key, trials, run_id, self._record.agent, self._clock.now())
        self._store.write_part(run_id, first, first + len(tried), frame)

    def _objectives(self, first: int, last: int) -> list[float | None]:
        objective = self._record.request.objective
        found: dict[int, float | None] = {}
        for frame in self._store.frames(self._record.run_id, ["number", objective], first, last):
            found.update(zip(frame["number"], frame[objective], strict=True))
        return [found[number] for number in range(first, last)]
