"""`strategy_check` through the real tool, in the real sandbox, on real prices."""

import re
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from neural_trader_governance.errors import DataError, InputError
from neural_trader_governance.terms.clocks import SimulatedClock
from neural_trader_sandbox.local.sandbox import LocalSandbox
from neural_trader_tools.artifacts import Artifacts
from neural_trader_tools.backtest.check import CUTS, strategy_check
from neural_trader_tools.backtest.run import Backtests
from neural_trader_tools.market.archive import Archive
from neural_trader_tools.strategies.registry import StrategyRegistry

pytestmark = pytest.mark.anyio

PEEKING = Path(__file__).with_name("peeking")
PEEKERS = sorted(file.name.removesuffix(".py.txt") for file in PEEKING.glob("*"))
"""Strategies that cheat; text, because no linter is meant to like them."""
CROSS = """
import polars as pl
def signals(bars, fast: int = 20, slow: int = 50):
    close = bars["close"]
    return (close.rolling_mean(fast) > close.rolling_mean(slow)).cast(pl.Float64)
"""
HONEST = {
    "cross": CROSS,
    "rule": """
FEATURES = ("sma({fast})", "rsi(14)", "close")
def rule(fast_sma, rsi, close, *, fast: int = 20):
    return 0.5 if rsi > 70 else close > fast_sma
""",
    "expanding": """
import polars as pl
def signals(bars):
    close = bars["close"]
    mean = close.cum_sum() / pl.Series(range(1, bars.height + 1))
    return ((close - mean) / close.rolling_std(50) > 0).cast(pl.Float64)
""",
    "past_month": """
import polars as pl
def signals(bars):
    months = bars.group_by_dynamic("time", every="1mo").agg(pl.col("close").last().alias("ended"))
    months = months.with_columns(pl.col("ended").shift(1))
    known = bars.join_asof(months, on="time")
    return (known["close"] > known["ended"]).cast(pl.Float64)
""",
    "walk_forward": """
import numpy as np
def signals(bars):
    close = bars["close"].to_numpy()
    target = np.zeros(len(close))
    for start in range(120, len(close), 20):
        slope = np.polyfit(np.arange(100), close[start - 100 : start], 1)[0]
        target[start : start + 20] = slope > 0
    return target
""",
    "seeded": """
import numpy as np
class Seeded(Strategy):
    def on_start(self):
        self.random = np.random.default_rng(7)
    def on_bar(self, bar):
        self.target(round(self.random.random(), 1))
""",
    "features": """
class Reversion(Strategy):
    def on_bar(self, bar):
        rsi = self.feature("rsi(14)")[-1]
        self.target(1.0 if rsi < 40 else 0.0 if rsi > 60 else float("nan"))
""",
    "orders": """
class Orders(Strategy):
    def on_bar(self, bar):
        if self.position.quantity == 0 and not self.orders:
            self.entry = self.buy(fraction=0.5, limit=bar.close * 0.98, take_profit=bar.close * 1.04,
                                  stop_loss=bar.close * 0.95)
        elif self.orders and bar.number % 5 == 0:
            self.cancel(self.entry)
    def on_fill(self, fill):
        if fill.reason == "limit":
            self.sell(quantity=fill.quantity / 2, stop=fill.price * 0.97, time_in_force="day")
""",
}


@pytest.fixture
async def backtests(sandbox: LocalSandbox, tmp_path: Path, archive: Archive) -> AsyncGenerator[Backtests]:
    clock = SimulatedClock(datetime(2014, 1, 1, tzinfo=UTC))
    registry = StrategyRegistry(tmp_path / "research.db", clock)
    artifacts = Artifacts(tmp_path / "artifacts")
    async with Backtests(archive, sandbox, registry, artifacts, tmp_path / "research.db", clock) as service:
        yield service


@pytest.mark.parametrize("name", HONEST)
async def test_an_honest_strategy_passes(backtests: Backtests, name: str) -> None:
    checked = await strategy_check(backtests, source=HONEST[name], symbol="MSFT")
    assert checked.ok, checked.problems
    assert checked.look_ahead.checked_cuts >= 12
    assert checked.look_ahead.strict_bars == 0


UNSEEDED_AND_DATED = {
    "global chance": "import numpy as np\ndef signals(bars):\n  return np.random.rand(bars.height)\n",
    "chance of the file": (
        "import numpy as np\nmade = np.random.default_rng()\ndef signals(bars):\n"
        "  return made.random(bars.height)\n"
    ),
    "a counter of calls": (
        "import numpy as np\ncalls = []\ndef signals(bars):\n  calls.append(1)\n"
        "  return np.full(bars.height, len(calls) % 7 / 7)\n"
    ),
    "clocks": (
        "import datetime\nmade = datetime.date.today().toordinal()\ndef signals(bars):\n"
        "  now = datetime.date.today().toordinal()\n  return bars['close'] * 0 + (made + now) % 97 / 97\n"
    ),
    "clocks of a class": (
        "import datetime\nmade = datetime.datetime.now()\nclass A(Strategy):\n  def on_start(self):\n"
        "    self.began = datetime.datetime.now()\n  def on_bar(self, bar):\n"
        "    days = (datetime.datetime.now() - made).days + (datetime.datetime.now() - self.began).days\n"
        "    self.target(days % 60 / 60)\n"
    ),
}


@pytest.mark.parametrize("name", UNSEEDED_AND_DATED)
async def test_chance_and_clocks_are_the_same_bar_by_bar_as_in_the_whole_run(
    backtests: Backtests, name: str
) -> None:
    source = UNSEEDED_AND_DATED[name]
    checked = await strategy_check(backtests, source=source, symbol="MSFT", cuts=1, strict=True, seed=3)
    assert checked.ok, checked.problems
    assert checked.look_ahead.strict_bars == 1_000


@pytest.mark.parametrize("name", ["cross", "rule", "features", "orders", "seeded"])
async def test_told_bar_by_bar_an_honest_strategy_decides_the_same(backtests: Backtests, name: str) -> None:
    checked = await strategy_check(backtests, source=HONEST[name], symbol="MSFT", cuts=1, strict=True)
    assert checked.ok, checked.problems
    assert checked.look_ahead.strict_bars == 1_000


@pytest.mark.parametrize("name", PEEKERS)
async def test_looking_ahead_is_caught(backtests: Backtests, name: str) -> None:
    """Half of the cuts that are made by default are enough."""
    source = (PEEKING / f"{name}.py.txt").read_text(encoding="utf-8")
    checked = await strategy_check(backtests, source=source, symbol="MSFT", cuts=CUTS // 2)
    assert [problem.code for problem in checked.problems] == ["look_ahead"], checked.problems
    assert checked.look_ahead.differences >= len(checked.look_ahead.violations) > 0
    for violation in checked.look_ahead.violations:
        assert violation.bar < violation.cut
        assert violation.before != violation.after
    message = checked.problems[0].message
    first = checked.look_ahead.violations[0]
    assert f"bar {first.bar} was {first.before}" in message
    assert first.after in message
    expected = re.search(r"^# line: (\d+)$", source, re.MULTILINE)
    line = checked.problems[0].line
    assert line is not None
    if expected:
        assert line == int(expected[1]), message
    assert f"look at line {line} first" in message or source.splitlines()[line - 1].lstrip().startswith(
        "def "
    )


@pytest.mark.parametrize(
    "name", ["shift", "normalised", "counted", "view_base", "collector", "frames", "honest_when_short"]
)
async def test_strict_mode_alone_finds_what_is_not_in_the_process(backtests: Backtests, name: str) -> None:
    source = (PEEKING / f"{name}.py.txt").read_text(encoding="utf-8")
    checked = await strategy_check(backtests, source=source, symbol="MSFT", cuts=1, strict=True)
    assert "look_ahead" in [problem.code for problem in checked.problems]
    assert "stream" in {violation.way for violation in checked.look_ahead.violations}


async def test_a_peeker_that_other_bars_alone_betray(backtests: Backtests) -> None:
    """It behaves on short histories, so cutting shows nothing; another future of the same length does."""
    source = (PEEKING / "honest_when_short.py.txt").read_text(encoding="utf-8")
    checked = await strategy_check(backtests, source=source, symbol="MSFT")
    assert {violation.way for violation in checked.look_ahead.violations} >= {"changed"}


async def test_the_cuts_follow_the_seed(backtests: Backtests) -> None:
    source = (PEEKING / "counted.py.txt").read_text(encoding="utf-8")
    one, same, other = [
        (await strategy_check(backtests, source=source, symbol="MSFT", seed=seed, cuts=20)).look_ahead
        for seed in (1, 1, 2)
    ]
    assert one == same
    assert one != other
    for cuts in (0, 201):
        with pytest.raises(InputError, match="invalid_cuts"):
            await strategy_check(backtests, source=CROSS, cuts=cuts)


GIVEN_PARAMS = """
import polars as pl
def signals(bars, peek: bool = False):
    ahead = bars["close"].shift(-1 if peek else 1)
    return (ahead > bars["close"]).cast(pl.Float64).fill_null(0.0)
"""


async def test_other_parameters_are_checked_where_they_are_given(backtests: Backtests) -> None:
    assert (await strategy_check(backtests, source=GIVEN_PARAMS, symbol="MSFT")).ok
    checked = await strategy_check(backtests, source=GIVEN_PARAMS, symbol="MSFT", params={"peek": True})
    assert [problem.code for problem in checked.problems] == ["look_ahead"]
    checked = await strategy_check(backtests, source=GIVEN_PARAMS, symbol="MSFT", params={"peak": True})
    assert checked.problems[0].code == "unknown_parameter"
    assert "did you mean 'peek'" in checked.problems[0].message


CHANCE = {
    "address": "class A(Strategy):\n  def on_bar(self, bar): self.target(id(object()) // 16 % 97 / 97)\n",
    "order of a set": (
        "class Thing: pass\n"
        "class A(Strategy):\n"
        "  def on_start(self):\n"
        "    things = [Thing() for _ in range(50)]\n"
        "    self.order = [things.index(thing) for thing in set(things)]\n"
        "  def on_bar(self, bar): self.target(self.order[bar.number % 50] / 50)\n"
    ),
    "system call": (
        "import dataclasses\n"
        "os = dataclasses.sys.modules['os']\n"
        "class A(Strategy):\n"
        "  def on_bar(self, bar): self.target(os.getrandom(1)[0] / 255)\n"
    ),
    "kernel clock": (
        "import numpy as np\n"
        "libc = np.ctypeslib.ctypes.CDLL(None)\n"
        "spec = (np.ctypeslib.ctypes.c_long * 2)()\n"
        "class A(Strategy):\n"
        "  def on_bar(self, bar):\n"
        "    libc.clock_gettime(0, spec)\n"
        "    self.target(spec[1] // 100 % 97 / 97)\n"
    ),
    "threads": (
        "import dataclasses\n"
        "threading = dataclasses.sys.modules['threading']\n"
        "class A(Strategy):\n"
        "  def on_start(self):\n"
        "    won = []\n"
        "    def race(name):\n"
        "      for _ in range(400_000): won.append(name)\n"
        "    racers = [threading.Thread(target=race, args=(n,)) for n in range(4)]\n"
        "    [racer.start() for racer in racers]\n"
        "    [racer.join() for racer in racers]\n"
        "    self.switches = sum(i for i in range(1, len(won)) if won[i] != won[i - 1])\n"
        "  def on_bar(self, bar): self.target(self.switches % 9973 / 9973)\n"
    ),
}


@pytest.mark.parametrize("name", CHANCE)
async def test_chance_that_nothing_seeds_is_reported(backtests: Backtests, name: str) -> None:
    checked = await strategy_check(backtests, source=CHANCE[name], symbol="MSFT")
    assert [problem.code for problem in checked.problems] == ["not_deterministic"], checked.problems
    problem = checked.problems[0]
    assert problem.line is not None
    assert re.search(r"on bar \d+: (target .+|nothing), then (target|nothing)", problem.message)


async def test_a_clock_that_cannot_be_pinned_is_read_off_the_source(backtests: Backtests) -> None:
    source = (
        "import numpy as np\nNOW = np.datetime64('now')\ndef signals(bars):\n  return bars['close'] * 0\n"
    )
    checked = await strategy_check(backtests, source=source, symbol="MSFT")
    assert ("not_deterministic", 2) in [(problem.code, problem.line) for problem in checked.problems]


@pytest.mark.parametrize(
    ("source", "code", "line", "words"),
    [
        ("def signals(bars:\n", "syntax_error", 1, ""),
        ("x = 1\n", "no_strategy", 1, "signals"),
        ("\ndef signal(bars): pass\n", "no_strategy", 2, "did you mean 'signals'"),
        ("\nclass A(Stratgy): pass\n", "no_strategy", 2, "did you mean 'Strategy'"),
        ("def signals(bars): pass\nclass A(Strategy): pass\n", "several_strategies", 2, ""),
        ("import pandas\ndef signals(bars): pass\n", "import_unavailable", 1, "use polars"),
        ("import nunpy\ndef signals(bars): pass\n", "import_unavailable", 1, "did you mean 'numpy'"),
        ("def signals(): pass\n", "signals_type", 1, "takes no bars"),
        ("async def signals(bars): pass\n", "signals_type", 1, "async"),
        ("F = 1\ndef rule(a): pass\n", "no_strategy", 2, "needs FEATURES"),
        ("FEATURES = ('sma(9)',)\ndef rule(a, b): pass\n", "invalid_rule", 2, "takes 2 values (a, b)"),
        ("FEATURES = ('sma(9)',)\ndef rule(a, n=1): pass\n", "invalid_rule", 2, "after *"),
        ("FEATURES = (\n'smaa(9)',)\ndef rule(a): pass\n", "invalid_rule", 2, "did you mean sma"),
        (
            "FEATURES = ('sma({fats})',)\ndef rule(a, *, fast=2): pass\n",
            "invalid_rule",
            1,
            "did you mean 'fast'",
        ),
        ("FEATURES = ('sma(9)',)\ndef rule(a):\n  global b\n  b = a\n", "invalid_rule", 3, "no state"),
        ("FEATURES = ('sma(9)',)\ndef rule(a):\n  return a[0]\n", "rule_not_compiled", 3, "history"),
        ("FEATURES = ('close',)\ndef rule(a):\n  return a\n", "target_out_of_range", 2, "bar 0"),
        ("def signals(bars):\n    y = 1\n    return y / 0\n", "strategy_failed", 3, "ZeroDivisionError"),
        ("x = 1\ndef signals(bars):\n    return bars['close']\n", "target_out_of_range", 2, "bar 0"),
        ("def signals(bars, n):\n    return bars['close'] * 0\n", "missing_parameter", 1, "'n'"),
        (
            "class A(Strategy):\n  def on_barr(self, bar): pass\n",
            "unknown_method",
            2,
            "did you mean 'on_bar'",
        ),
        (
            "class A(Strategy):\n  def on_bar(self, bar):\n    self.buy(quantty=1)\n",
            "invalid_order",
            3,
            "did you mean 'quantity'",
        ),
        (
            "class A(Strategy):\n  def on_bar(self, bar):\n    self.feature('smaa(3)')\n",
            "invalid_feature",
            3,
            "did you mean sma",
        ),
    ],
)
async def test_problems_name_their_line(
    backtests: Backtests, source: str, code: str, line: int, words: str
) -> None:
    checked = await strategy_check(backtests, source=source, symbol="MSFT")
    assert not checked.ok
    first = checked.problems[0]
    assert (first.code, first.line) == (code, line)
    assert words in first.message


async def test_all_problems_come_at_once(backtests: Backtests) -> None:
    source = (
        "import os\nimport requests\nclass A(Strategy):\n  def on_barr(self, bar):\n"
        "    self.buy(quantty=self.feature('rsj(2)')[-1])\n"
    )
    checked = await strategy_check(backtests, source=source, symbol="MSFT")
    assert [(problem.line, problem.code) for problem in checked.problems] == [
        (1, "import_unavailable"),
        (2, "import_unavailable"),
        (4, "unknown_method"),
        (5, "invalid_order"),
        (5, "invalid_feature"),
    ]
    running = "class A(Strategy):\n  def on_filled(self, fill): pass\n  def on_bar(self, bar): self.buy()\n"
    checked = await strategy_check(backtests, source=running, symbol="MSFT")
    assert [(problem.line, problem.code) for problem in checked.problems] == [
        (2, "unknown_method"),
        (3, "invalid_order"),
    ]


async def test_check_needs_bars_of_that_interval(backtests: Backtests) -> None:
    with pytest.raises(DataError, match="no_data"):
        await strategy_check(backtests, source=CROSS, interval="1m")
    assert (await strategy_check(backtests, source=CROSS)).ok
