"""Each warning of a sweep: when it is given, and when it is not."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from neural_trader_tools.backtest.prices import Prices
from neural_trader_tools.backtest.settings import BacktestRequest, Settings
from neural_trader_tools.backtest.sweeps.cautions import find_warnings
from neural_trader_tools.backtest.sweeps.conclusion import Best, Scene, SweepResult, scene_of
from neural_trader_tools.backtest.sweeps.forward import OutOfSample
from neural_trader_tools.backtest.sweeps.record import SweepRequest
from neural_trader_tools.backtest.sweeps.space import read_space

DAY = 86_400_000_000
START = int(datetime(2010, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000


def asked(method: str = "grid", samples: int | None = None, symbols: str = "A") -> SweepRequest:
    base = BacktestRequest(source="def signals(bars, n=1): ...", symbols=tuple(symbols), settings=Settings())
    return SweepRequest(base=base, space=read_space({"n": "1:50"}, method, samples, 0))


def scene(request: SweepRequest, bars: int = 100, *, ends_early: bool = False) -> Scene:
    prices: list[Prices] = []
    for place, symbol in enumerate(request.base.symbols):
        count = bars // 2 if ends_early and place else bars
        line = np.linspace(10.0, 20.0, count)
        times = START + np.arange(count, dtype=np.int64) * DAY
        prices.append(Prices(symbol, times, line, line, line, line, line))
    return scene_of(request, prices, 1)


def told(
    *, violations: int | None = 0, is_same: bool = True, bars: int = 100, request: SweepRequest | None = None,
    ends_early: bool = False, trades: int = 40, sample: dict[str, Any] | None = None, **found: Any,
) -> list[str]:  # fmt: skip
    request = request or asked()
    best = Best(params={"n": 3}, seed=0, objective=1.0, metrics={"trade_count": trades})
    result = SweepResult(combinations=50, failed=0, best=best, table="").model_copy(update=found)
    out = OutOfSample(scheme="rolling", folds=(), **(sample or {}))
    if sample is not None or "out_of_sample" not in found:
        result = result.model_copy(update={"out_of_sample": out})
    where = scene(request, bars, ends_early=ends_early)
    return find_warnings(result, request, where, is_same=is_same, violations=violations)


def test_a_sweep_that_has_nothing_to_hide_is_not_warned_of() -> None:
    assert told(pbo=0.2, pbo_trials=50, deflated_sharpe_ratio=0.96, neighbours={"median": 0.6}) == []


@pytest.mark.parametrize(
    ("given", "warning"),
    [
        ({"best": None}, "no_best: no combination has an objective"),
        ({"violations": 3}, "look_ahead: strategy_check found 3 decisions"),
        ({"violations": None}, "unchecked: nobody has tested this code"),
        ({"is_same": False}, "not_deterministic: the best combination came to something else"),
        ({"out_of_sample": None}, "in_sample: all bars chose the best"),
        ({"sample": {"decay": 0.51}}, "decay: out of sample 51% of the objective is lost"),
        ({"sample": {"stitched": "chained"}}, "chained: folds are joined without the cost"),
        ({"pbo": 0.5, "pbo_trials": 50}, "overfit: the probability of backtest overfitting is 0.50"),
        ({"deflated_sharpe_ratio": 0.9, "trials": 70}, "luck: the deflated Sharpe ratio is 0.90 after 70"),
        ({"trades": 29}, "few_trades: the best made 29 trades"),
        ({"neighbours": {"median": 0.4}}, "lonely: the combinations next to the best"),
        ({"failed": 2}, "failed: 2 of 50 combinations failed"),
        ({"bars": 400}, "survivorship: the symbols were chosen by name"),
        ({"request": asked("random", 10), "combinations": 10}, "sampled: 10 of 50 combinations were tried"),
        ({"pbo_trials": 20, "pbo": 0.1}, "pbo_sampled: 20 of the combinations were judged"),
    ],
    ids=lambda value: value.partition(":")[0] if isinstance(value, str) else "",
)
def test_each_warning_is_given_alone(given: dict[str, Any], warning: str) -> None:
    [only] = told(**given)
    assert only.startswith(warning)


def test_what_holds_for_the_best_as_a_single_run_is_told_with_the_sweep_ruin_first() -> None:
    alone = ("ruined: all of it.", "few_trades: said already.", "capacity: too much.", "costs: too dear.")
    found = told(warnings=alone, violations=1, failed=1)
    assert [text.partition(":")[0] for text in found] == [
        "look_ahead", "ruined", "capacity", "costs", "failed",
    ]  # fmt: skip


def test_of_several_symbols_it_is_told_how_many_left_the_market() -> None:
    [both] = told(request=asked(symbols="AB"), bars=400)
    assert both.endswith("None of the 2 symbols ended before the others.")
    [one] = told(request=asked(symbols="AB"), bars=400, ends_early=True)
    assert one.endswith("1 of the 2 symbols ended before the others.")
    assert one.startswith("survivorship: ")
