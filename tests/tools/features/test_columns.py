"""Long columns in stretches side by side: every bit of what kernels give bar after bar."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from neural_trader_tools.features import catalogue, compiled, decays, passes
from neural_trader_tools.features.columns import Column, Part
from neural_trader_tools.features.kernels import channels, sliding
from neural_trader_tools.features.kernels.decaying import DECAYS

Floats = NDArray[np.float64]
Bars = dict[str, Floats]

BARS = 60_007
ASKED = [
    "ema(20)", "ema(1)", "kama(10)", "kama(30,5,50)", "rsi(14)", "rsi(2)", "macd(12,26,9)", "trix(15)",
    "trix(1)", "atr(14)", "atr(1)",
    "adx(14)", "adx(2)", "bbands(20,2)", "bbands(20,1.5)", "zscore(20)", "zscore(2)", "stddev(20,2)",
    "variance(30)", "volatility(20,252)", "volatility(2,12)", "stochastic(14,3,3)",
    "williams_r(14)", "donchian(14)", "midprice(14)", "donchian(64)", "stochastic(64,5,2)", "donchian(65)",
    "midprice(1)", "williams_r(1)",
]  # fmt: skip


@pytest.fixture(autouse=True)
def short_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets columns of the tests be long."""
    monkeypatch.setattr(decays, "STRETCH_MIN", 64)


def walk(seed: int) -> Bars:
    rng = np.random.default_rng(seed)
    close = 50.0 * np.exp(np.cumsum(rng.normal(0.0, 0.01, BARS)))
    up, down = np.abs(rng.normal(0.0, 0.01, (2, BARS))) * close
    return {"high": close + up, "low": close - down, "close": close + (up - down) / 2}


def clear() -> Bars:
    return walk(1)


def broken() -> Bars:
    """Gaps of every kind, and prices that have no logarithm."""
    bars = walk(2)
    bars["close"][[0, 9_000, 9_001]] = np.nan
    bars["high"][21_000] = np.inf
    bars["low"][[30_000, 30_020, 30_040]] = np.nan
    bars["close"][33_000] = -1.0
    return bars


def still() -> Bars:
    """Prices that stop for a long time, in cents: squares fall to nothing, and nothing moves."""
    bars = {name: np.round(column, 2) for name, column in walk(3).items()}
    for column in bars.values():
        column[12_000:20_000] = bars["close"][12_000]
    return bars


def jumping() -> Bars:
    """A price a million times as high for ten bars: rounding of former sums would show."""
    bars = walk(4)
    for column in bars.values():
        column[15_000:15_010] *= 1e6
    return bars


def bar_by_bar(expression: str, bars: Bars) -> Floats:
    feature = catalogue.parse(expression)
    part = Part(feature.definition, feature.arguments, [bars[name] for name in feature.definition.inputs])
    Column([part]).run([(0, BARS)])
    return part.out


def side_by_side(
    expressions: Sequence[str], bars: Bars, segments: Sequence[tuple[int, int]] = ((0, BARS),)
) -> list[Floats]:
    bound = [(one.definition, one.arguments) for one in map(catalogue.parse, expressions)]
    found = passes.compute(dict.fromkeys(bound), bars, segments)
    return [found[one] for one in bound]


@pytest.mark.parametrize("made", [clear, broken, still, jumping])
def test_stretches_give_every_bit_of_bar_by_bar(made: Callable[[], Bars]) -> None:
    bars = made()
    for expression, found in zip(ASKED, side_by_side(ASKED, bars), strict=True):
        expected = bar_by_bar(expression, bars)
        assert np.isfinite(expected).any(), expression
        np.testing.assert_array_equal(found, expected, err_msg=expression)


def test_every_feature_that_has_stretches_is_tried() -> None:
    assert {catalogue.parse(one).definition.name for one in ASKED} == {
        *DECAYS,
        *sliding.OUTPUTS,
        *channels.OUTPUTS,
    }


def test_wrong_guesses_are_found_and_done_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decays, "ROUNDING", 0.1)
    bars = clear()
    for name in DECAYS:
        (found,) = side_by_side([name], bars)
        np.testing.assert_array_equal(found, bar_by_bar(name, bars), err_msg=name)


@pytest.mark.parametrize("expression", [*DECAYS, *sliding.OUTPUTS, "donchian", "midprice"])
def test_most_bars_of_a_clear_column_are_not_gone_through_bar_by_bar(
    expression: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone: list[int] = []

    go = Part.go

    def counted(self: Part, start: int, stop: int) -> None:
        gone.append(max(stop - start, 0))
        go(self, start, stop)

    monkeypatch.setattr(Part, "go", counted)
    side_by_side([expression], clear())
    assert 0 < sum(gone) < 0.5 * BARS


def test_features_of_one_window_share_their_sums_and_of_two_widths_do_not_mix(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runs: list[list[str]] = []
    run = Column.run

    def noted(self: Column, segments: Sequence[tuple[int, int]]) -> None:
        runs.append([part.name for part in self.parts])
        run(self, segments)

    monkeypatch.setattr(Column, "run", noted)
    asked = ["bbands(20,2)", "zscore(20)", "bbands(20,1)", "zscore(21)", "stddev(20,3)", "volatility(20)"]
    bars = clear()
    for expression, found in zip(asked, side_by_side(asked, bars), strict=True):
        np.testing.assert_array_equal(found, bar_by_bar(expression, bars), err_msg=expression)
    assert ["bbands", "zscore", "stddev"] in runs
    assert ["bbands"] in runs
    runs.clear()
    side_by_side(["williams_r(14)", "donchian(20)", "stochastic(14,3,3)", "stochastic(14,1,1)"], bars)
    assert runs == [["williams_r", "stochastic"], ["donchian"], ["stochastic"]]


def test_segments_know_nothing_of_each_other() -> None:
    bars = walk(5)
    segments = [(0, 19_000), (19_000, 19_001), (19_001, BARS)]
    for expression, found in zip(ASKED, side_by_side(ASKED, bars, segments), strict=True):
        feature = catalogue.parse(expression)
        for start, stop in segments:
            inputs = [bars[name][start:stop].copy() for name in feature.definition.inputs]
            part = Part(feature.definition, feature.arguments, inputs)
            Column([part]).run([(0, stop - start)])
            np.testing.assert_array_equal(found[:, start:stop], part.out, err_msg=expression)


def test_a_forked_process_compiles_no_stretches_and_goes_bar_by_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    """A strategy's process cannot reach the cache: to compile would take longer than the column."""
    monkeypatch.setattr(compiled, "_FORKED", [True])
    loaded: dict[tuple[str, str], object] = {}
    monkeypatch.setattr(compiled, "_LOADED", loaded)
    bars = clear()
    for expression in ("ema(20)", "bbands(20,2)", "donchian(20)"):
        (found,) = side_by_side([expression], bars)
        np.testing.assert_array_equal(found, bar_by_bar(expression, bars), err_msg=expression)
    assert not loaded
    if hasattr(os, "fork"):
        code = (
            "import os, sys\n"
            "from neural_trader_tools.features import compiled\n"
            "assert not compiled._FORKED\n"
            "child = os.fork()\n"
            "if child == 0: os._exit(0 if compiled._FORKED else 1)\n"
            "sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
        )
        subprocess.run([sys.executable, "-c", code], check=True)
