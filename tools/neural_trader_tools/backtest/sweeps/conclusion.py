"""The conclusion of a sweep: the best combination, and every reason not to believe it."""

import math
from dataclasses import dataclass
from typing import Any

import anyio.to_thread
import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from neural_trader_tools.artifacts import Artifacts
from neural_trader_tools.backtest import cautions as of_runs
from neural_trader_tools.backtest.configuration import data_digest, trial_of
from neural_trader_tools.backtest.ledger import Handles, RunLedger
from neural_trader_tools.backtest.luck.overfitting import pbo
from neural_trader_tools.backtest.luck.sharpe import Moments, deflated_sharpe
from neural_trader_tools.backtest.metrics import bar_returns, compute_metrics, sharpe_per_bar
from neural_trader_tools.backtest.records import keep
from neural_trader_tools.backtest.replay import Replay
from neural_trader_tools.backtest.settings import BacktestRequest, Settings
from neural_trader_tools.backtest.sweeps import cautions, forward, montecarlo, ranking, stress
from neural_trader_tools.backtest.sweeps.answer import Decisions
from neural_trader_tools.backtest.sweeps.ground import Ground, commands, measure
from neural_trader_tools.backtest.sweeps.parts import CELLS, PARAM, part_frame, shown
from neural_trader_tools.backtest.sweeps.record import SweepRecord, SweepRequest, SweepStore
from neural_trader_tools.backtest.sweeps.shards import Shards, only
from neural_trader_tools.backtest.sweeps.space import Value
from neural_trader_tools.backtest.sweeps.splits import Split, fold_edges
from neural_trader_tools.backtest.sweeps.stress import CostShock, Window
from neural_trader_tools.backtest.trials import data_key

Floats = NDArray[np.float64]
BLOCKS = 16
_FIGURES = (
    "return_total", "cagr", "sharpe_ratio", "sortino_ratio", "calmar_ratio", "volatility_annual",
    "max_drawdown", "trade_count", "exposure_time", "commission_total",
)  # fmt: skip


class Best(BaseModel):
    """The best combination over the whole period, all of which chose it."""

    model_config = ConfigDict(frozen=True)

    params: dict[str, Any]
    seed: int
    objective: float
    metrics: dict[str, Any]


class SweepResult(BaseModel):
    """What a sweep found.

    Attributes:
        combinations: Tried.
        failed: Of them, those that failed.
        best: See there; None where nothing has an objective.
        table: Handle of the combinations, best first, 50,000 at the most.
        handles: Equity, trades and orders of the best.
        deflated_sharpe_ratio: Of the best, after all trials ever made on this data.
        trials: How many those are.
        pbo: Probability of backtest overfitting; `pbo_trials` of the combinations were judged.
        pbo_trials: See pbo.
        neighbours: Objectives one step away from the best: count, median and worst.
        out_of_sample: See `forward`; None where no validation was asked for.
        monte_carlo: Bands of the best, `reshuffle` and `bootstrap`.
        stress: Windows of the best.
        cost_shocks: The best at higher slippage.
        faults: Some combinations that failed, and why.
        warnings: The gravest first.
    """

    model_config = ConfigDict(frozen=True)

    combinations: int
    failed: int
    best: Best | None = None
    table: str
    handles: Handles | None = None
    deflated_sharpe_ratio: float | None = None
    trials: int = 0
    pbo: float | None = None
    pbo_trials: int = 0
    neighbours: dict[str, float] | None = None
    out_of_sample: forward.OutOfSample | None = None
    monte_carlo: dict[str, montecarlo.Bands | None] | None = None
    stress: tuple[Window, ...] = ()
    cost_shocks: tuple[CostShock, ...] = ()
    faults: tuple[dict[str, Any], ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """What a sweep is played on.

    Attributes:
        ground: Prices and cells.
        splits: Of its validation.
        times: Of the bars, microseconds.
        periods: Bars a year.
        data: Digest of the prices.
    """

    ground: Ground
    splits: list[Split]
    times: NDArray[np.int64]
    periods: float
    data: str


async def conclude(
    record: SweepRecord,
    scene: Scene,
    shards: Shards,
    store: SweepStore,
    ledger: RunLedger,
    artifacts: Artifacts,
) -> SweepResult:
    """Returns the result of a sweep all of whose combinations are on disk.

    The best combination and the folds' choices are decided once more in the sandbox: what then comes out
    otherwise depends on chance or on memory that the engine does not control.
    """
    request = record.request
    cash = float(request.base.settings.cash)
    found = await anyio.to_thread.run_sync(
        ranking.rank, store.frames(record.run_id), request.space.count, request.objective, scene.splits,
        scene.ground.edges, cash,
    )  # fmt: skip
    result = SweepResult(
        combinations=request.space.count,
        failed=found.failed,
        table=await anyio.to_thread.run_sync(artifacts.put, shown(found.table), "sweep"),
        faults=tuple({"params": params, "error": text} for params, text in found.faults),
    )
    violations = await anyio.to_thread.run_sync(ledger.look_ahead, request.base.source)
    if found.best is None:
        warnings = cautions.find_warnings(result, request, scene, is_same=True, violations=violations)
        return result.model_copy(update={"warnings": tuple(warnings)})
    # one child decides for all of them once more, the best one first
    winners = list({w.number: w for w in found.winners if w is not None and _walks_forward(request)}.values())
    decided = await shards.decide([found.best_params, *(winner.params for winner in winners)])
    alone = [only(each, 0) for each in decided]
    chosen = {
        winner.number: [only(each, 1 + place) for each in decided] for place, winner in enumerate(winners)
    }
    update = await anyio.to_thread.run_sync(_judge, record, scene, store, ledger, artifacts, found, alone)
    if request.validation is not None:
        update["out_of_sample"] = await _validate(request, scene, artifacts, found, chosen)
    result = result.model_copy(update=update)
    same = _is_same(request, scene, found, alone)
    warnings = cautions.find_warnings(result, request, scene, is_same=same, violations=violations)
    return result.model_copy(update={"warnings": tuple(warnings)})


def _walks_forward(request: SweepRequest) -> bool:
    return request.validation is not None and request.validation.walks_forward


def _judge(
    record: SweepRecord,
    scene: Scene,
    store: SweepStore,
    ledger: RunLedger,
    artifacts: Artifacts,
    found: ranking.Ranking,
    alone: list[Decisions],
) -> dict[str, Any]:
    """Returns what is to be known of the best combination."""
    request, best = record.request, found.best
    if best is None:
        raise RuntimeError("there is no best combination")
    base = combination_request(request.base, found.best_params, int(best["seed"]))
    sharpe = best["sharpe_per_bar"]
    key = data_key(base.symbols, base.interval, base.start, base.end)
    [name] = ledger.trials.add(
        key, [trial_of(base, scene.data, sharpe)], record.run_id, record.agent, record.created_time
    )  # it is counted already: this says under which name
    others = ledger.trials.sharpes(key, excluding=name)
    moments = None
    if sharpe is not None and best["skewness"] is not None:
        moments = Moments(int(best["returns"]), sharpe, best["skewness"], best["kurtosis"])
    update: dict[str, Any] = {
        "best": Best(
            params=dict(base.params),
            seed=base.seed,
            objective=best[request.objective],
            metrics={name: best[name] for name in _FIGURES},
        ),
        "trials": len(others) + 1,
        "deflated_sharpe_ratio": None if moments is None else deflated_sharpe(moments, [*others, sharpe]),
    }
    chosen = ranking.judged(found, request.space.seed)
    bars = int(scene.ground.edges[-1])
    if len(chosen) >= 2 and bars >= 2 * BLOCKS:
        blocks = fold_edges(bars, BLOCKS)
        frames = store.frames(record.run_id, ["number", CELLS])
        update["pbo"] = pbo(*ranking.block_sums(frames, chosen, scene.ground.edges, blocks)).probability
        update["pbo_trials"] = len(chosen)
    if request.space.method == "grid":
        near = ranking.neighbours(request.space, int(best["number"]), found.objectives)
        if near:
            update["neighbours"] = {
                "count": float(len(near)), "median": float(np.median(near)), "worst": min(near),
            }  # fmt: skip
    if alone[0].faults[0] is None:
        streams = [("orders", commands(each, 0)) for each in alone]
        replay = scene.ground.replay(streams)
        update["handles"] = keep(replay, artifacts)
        update |= _exposed(scene, replay, streams, request)
        settings, told = request.base.settings, compute_metrics(replay, scene.periods, others)
        update["warnings"] = tuple(of_runs.find_warnings(replay, told, settings, scene.periods))
    return update


def _exposed(
    scene: Scene, replay: Replay, streams: list[tuple[str, Floats]], request: SweepRequest
) -> dict[str, Any]:
    """Returns Monte Carlo, stress windows and cost shocks of a replay."""
    seed = request.space.seed

    def play(settings: Settings) -> tuple[float, float | None]:
        equity = scene.ground.replay(streams, settings).equity
        sharpe = sharpe_per_bar(bar_returns(equity))
        return float(equity[-1]) / replay.cash - 1.0, None if sharpe is None else sharpe * math.sqrt(
            scene.periods
        )

    return {
        "monte_carlo": {
            "reshuffle": montecarlo.reshuffle(trade_returns(replay), seed=seed),
            "bootstrap": montecarlo.bootstrap(bar_returns(replay.equity), seed=seed),
        },
        "stress": tuple(stress.windows(replay.times, replay.equity, _hold(replay))),
        "cost_shocks": tuple(stress.cost_shocks(request.base.settings, play)),
    }


async def _validate(
    request: SweepRequest,
    scene: Scene,
    artifacts: Artifacts,
    found: ranking.Ranking,
    chosen: dict[int, list[Decisions]],
) -> forward.OutOfSample:
    """Returns what the folds' choices came to on bars that had no part in them."""
    validation, edges = request.validation, scene.ground.edges
    if validation is None:
        raise RuntimeError("no validation was asked for")
    cash = float(request.base.settings.cash)
    folds = forward.folds_of(scene.splits, found.winners, edges, request.objective, cash)
    result = forward.OutOfSample(scheme=validation.scheme, folds=folds, decay=forward.decay_of(folds))
    if not validation.walks_forward:
        root = math.sqrt(scene.periods)
        sharpes = forward.path_sharpes(validation, found.winners, edges, root)
        return result.model_copy(update={"path_sharpe_ratios": sharpes})
    winners = [winner for winner in found.winners if winner is not None]
    if len(winners) < len(found.winners):
        return result
    decided = list(chosen.values())
    if any(symbol.faults[0] is not None for each in decided for symbol in each):
        return result
    by_symbol = [[each[symbol] for each in decided] for symbol in range(len(scene.ground.prices))]
    order = {number: place for place, number in enumerate(chosen)}
    places = [order[winner.number] for winner in winners]
    stitched = await anyio.to_thread.run_sync(
        forward.stitch, scene.ground, scene.times, scene.splits, by_symbol, places, scene.periods
    )
    frame = pl.DataFrame(
        {"time": pl.Series(stitched.times).cast(pl.Datetime("us", "UTC")), "equity": stitched.equity}
    )
    return result.model_copy(
        update={
            "stitched": stitched.how,
            "metrics": stitched.metrics,
            "equity": await anyio.to_thread.run_sync(artifacts.put, frame, "equity"),
        }
    )


def combination_request(base: BacktestRequest, params: dict[str, Value], seed: int) -> BacktestRequest:
    """Returns the single backtest that one combination is."""
    return base.model_copy(update={"params": {**base.params, **params}, "seed": seed})


def trade_returns(replay: Replay) -> Floats:
    """Returns the pnl of each closed trade as a part of equity before its entry, in the order of exits."""
    found: list[tuple[float, float]] = []
    for symbol in replay.symbols:
        closed = symbol.trades[~np.isnan(symbol.trades[:, 1])]
        entry = np.searchsorted(replay.times, symbol.prices.times[closed[:, 0].astype(np.int64)])
        before = np.where(entry > 0, replay.equity[np.maximum(entry - 1, 0)], replay.cash)
        ends = symbol.prices.times[closed[:, 1].astype(np.int64)]
        usable = before > 0.0
        found += zip(ends[usable].tolist(), (closed[usable, 7] / before[usable]).tolist(), strict=True)
    return np.array([value for _, value in sorted(found)])


def _hold(replay: Replay) -> Floats:
    """Returns the value of holding the symbols in equal parts, 1 at each one's first close."""
    value = np.zeros(len(replay.times))
    for symbol in replay.symbols:
        last = np.searchsorted(symbol.prices.times, replay.times, side="right") - 1
        value += np.where(last >= 0, symbol.prices.close[np.maximum(last, 0)] / symbol.prices.close[0], 1.0)
    return value / len(replay.symbols)


def _is_same(request: SweepRequest, scene: Scene, found: ranking.Ranking, alone: list[Decisions]) -> bool:
    """Tells whether the best combination, decided alone, came to the same as among the others."""
    if found.best is None or any(each.faults[0] is not None for each in alone):
        return False
    outcomes = scene.ground.play(alone)
    again = part_frame(
        int(found.best["number"]), [found.best_params], [int(found.best["seed"])], outcomes, scene.ground,
        scene.periods,
    )  # fmt: skip
    names = [name for name in again.columns if name != CELLS and not name.startswith(PARAM)]
    return again.select(names).row(0, named=True) == {name: found.best[name] for name in names}


def scene_of(request: SweepRequest, prices: list[Any], threads: int) -> Scene:
    """Returns the scene of a sweep.

    Raises:
        InputError: `too_few_bars` for the validation.
    """
    from neural_trader_tools.backtest.metrics import periods_per_year
    from neural_trader_tools.backtest.sweeps.splits import cell_edges

    times = prices[0].times
    if len(prices) > 1:
        times = np.unique(np.concatenate([each.times for each in prices]))
    splits = request.validation.splits(len(times)) if request.validation is not None else []
    blocks = BLOCKS if len(times) >= 2 * BLOCKS else 1
    edges = np.array(cell_edges(len(times), splits, blocks), dtype=np.int64)
    ground = Ground(prices, request.base.settings, edges, threads)
    data = data_digest([each.digest() for each in prices])
    return Scene(ground, splits, times, periods_per_year(request.base.interval, times), data)


__all__ = ["Best", "Scene", "SweepResult", "combination_request", "conclude", "measure", "scene_of"]
