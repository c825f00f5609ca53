"""A rule: its form, its compilation, and what it gives on every bar."""

import math
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from neural_trader_tools.engine import guest
from neural_trader_tools.engine.faults import StrategyFault
from neural_trader_tools.engine.rule import Rule
from neural_trader_tools.features import catalogue

CROSS = """
FEATURES = ("sma({fast})", "sma({slow})")
def rule(fast_sma, slow_sma, *, fast: int = 2, slow: int = 4, short: bool = False, size: float = 1):
    if fast_sma > slow_sma:
        return half(size) * 2
    return -size if short else 0
def half(x):
    return x / 2
"""


def found(source: str) -> Rule:
    rule = guest.find_entry(guest.load(source))
    assert isinstance(rule, Rule)
    return rule


@pytest.fixture(scope="module")
def cross() -> Rule:
    return found(CROSS)


def frame(close: NDArray[np.float64]) -> pl.DataFrame:
    times = pl.Series(np.arange(len(close)) * 86_400_000_000).cast(pl.Datetime("us", "UTC"))
    columns = dict.fromkeys(("open", "high", "low", "close"), close)
    return pl.DataFrame({"time": times, **columns, "volume": np.ones(len(close))})


def test_its_expressions_hold_the_parameters_and_its_values_their_declared_types(cross: Rule) -> None:
    assert cross.expressions({"slow": "9"}) == ["sma(2)", "sma(9)"]
    assert cross.values({"size": 1, "short": "true"}) == (2, 4, True, 1.0)
    assert list(cross.parameters) == ["fast", "slow", "short", "size"]


@given(
    st.lists(st.sampled_from([math.nan, -1.0, 0.0, 1.0, 2.0]), min_size=1, max_size=20),
    st.lists(st.sampled_from([math.nan, -1.0, 0.0, 1.0, 2.0]), min_size=20, max_size=20),
    st.booleans(),
    st.floats(0.0, 1.0),
)
def test_machine_code_gives_what_python_gives_and_nan_where_a_feature_is_nan(
    cross: Rule, one: list[float], other: list[float], short: bool, size: float
) -> None:
    other = other[: len(one)]
    params = {"short": short, "size": size}
    targets = cross.targets([np.array(one), np.array(other)], params)
    plain = [
        math.nan if math.isnan(a) or math.isnan(b) else float(cross.function(a, b, **params))
        for a, b in zip(one, other, strict=True)
    ]
    assert np.array_equal(targets, plain, equal_nan=True)
    assert cross.machine(2.0, 1.0, 2, 4, short, size) == cross.function(2.0, 1.0, size=size)
    left, right = np.array(one), np.array(other)
    right.flags.writeable = False  # as a feature is; the memory is nobody else's
    placed = cross.targets([left, right], params, overwrite=True)
    assert np.array_equal(placed, plain, equal_nan=True)
    assert np.shares_memory(placed, left)


@pytest.mark.parametrize(
    "features", ['"close", "open"', '"close", "sma(2)"', '"sma(2)", "close"', '"sma(2)"']
)
def test_a_run_leaves_the_bars_as_they_are(features: str) -> None:
    """The targets take the place of a feature: never of a column of the frame."""
    names = "a, b" if "," in features else "b"
    rule = found(f"FEATURES = ({features},)\ndef rule({names}):\n    return b / 1000\n")
    close = 100 * np.exp(np.cumsum(np.random.default_rng(4).normal(0, 0.001, 50_000)))
    bars = frame(close)
    before = {name: bars[name].to_numpy().copy() for name in bars.columns}
    first = guest.call_rule(rule, bars, {}, catalogue.evaluate).copy()
    assert np.array_equal(first, guest.call_rule(rule, bars, {}, catalogue.evaluate), equal_nan=True)
    assert all(np.array_equal(bars[name].to_numpy(), was) for name, was in before.items())


def test_a_run_gives_the_signals_of_the_same_strategy_written_with_polars() -> None:
    close = 100 * np.exp(np.cumsum(np.random.default_rng(3).normal(0, 0.02, 300)))
    signals = (
        "def signals(bars):\n    c = bars['close']\n"
        "    return (c.rolling_mean(2) > c.rolling_mean(4)).cast(float)\n"
    )
    answers = [guest.run_strategy({"source": source}, {"bars": frame(close)}) for source in (CROSS, signals)]
    assert answers[0][0] == answers[1][0] == {"kind": "signals"}
    assert np.array_equal(answers[0][1]["target"], answers[1][1]["target"], equal_nan=True)


def test_bar_by_bar_it_decides_as_over_all_bars() -> None:
    close = 100 * np.exp(np.cumsum(np.random.default_rng(5).normal(0, 0.02, 30)))
    whole = guest.run_strategy({"source": CROSS}, {"bars": frame(close)})[1]["target"]
    handle = guest.stream_strategy({"source": CROSS}, {"bars": frame(close[:0])})
    told: list[float] = []
    for number, price in enumerate(close.tolist()):
        bar = dict.fromkeys(("open", "high", "low", "close", "volume"), price)
        bar |= {"number": number, "time_us": number * 86_400_000_000}
        answer = handle({"bar": bar, "fills": [], "cash": 1.0, "position": 0.0, "working": []})
        told.append(math.nan if answer["target"] is None else answer["target"])
    assert np.array_equal(told, whole, equal_nan=True)


def test_the_columns_of_the_bars_are_features() -> None:
    rule = found("FEATURES = ('close', 'volume')\ndef rule(close, volume):\n    return close / 10 - volume\n")
    bars = frame(np.array([10.0, 5.0]))
    assert guest.call_rule(rule, bars, {}, catalogue.evaluate).tolist() == [0.0, -0.5]


HEAD = "FEATURES = ('sma({x})',)\n"


@pytest.mark.parametrize(
    ("source", "line", "code", "says"),
    [
        (HEAD + "def rule(a, x=1):\n    return a\n", 2, "invalid_rule", "x is a parameter .* put it after"),
        (HEAD + "def rule(a, b, *, x=1):\n    return a\n", 2, "invalid_rule", "FEATURES has none for b"),
        (HEAD + "def rule(*, x=1):\n    return 1\n", 2, "invalid_rule", "no argument for 'sma"),
        (HEAD + "def rule(a, *, y=1):\n    return a\n", 2, "invalid_rule", "rule; use one of: y"),
        (HEAD + "def rule(a, *, x):\n    return a\n", 2, "invalid_rule", "write x: float"),
        (HEAD + "def rule(a, *, x='s'):\n    return a\n", 2, "invalid_rule", "int, float or bool"),
        (HEAD + "def rule(a, *r, x=1):\n    return a\n", 2, "invalid_rule", "cannot be counted"),
        (HEAD + "def rule(a, *, x=1):\n    yield a\n", 2, "invalid_rule", "generator"),
        ("FEATURES = 'sma(3)'\ndef rule(a):\n    return a\n", 2, "invalid_rule", "FEATURES is"),
        ("FEATURES = ()\ndef rule():\n    return 1\n", 2, "invalid_rule", "FEATURES is"),
        ("FEATURES = (3,)\ndef rule(a):\n    return a\n", 2, "invalid_rule", "not text"),
        ("FEATURES = ('sma({x.real})',)\ndef rule(a, *, x=1):\n    return a\n", 2, "invalid_rule", "braces"),
        ("FEATURES = ('sma({x',)\ndef rule(a, *, x=1):\n    return a\n", 2, "invalid_rule", "expected"),
        ("import numpy as np\n" + HEAD + "def rule(a, *, x=1):\n    return np.random.random()\n", 3,
         "invalid_rule", "chance"),
        (HEAD + "def rule(a, *, x=1):\n    return a[-1]\n", 3, "rule_not_compiled", "not its history"),
        (HEAD + "n = 0\ndef rule(a, *, x=1):\n    global n\n    n += 1\n    return a\n", 5,
         "rule_not_compiled", "keeps no state"),
        (HEAD + "import numpy as np\nn = np.zeros(2)\ndef rule(a, *, x=1):\n    n[0] = a\n    return 1\n", 5,
         "rule_not_compiled", "keeps no state"),
        (HEAD + "seen = []\ndef rule(a, *, x=1):\n    seen.append(a)\n    return a\n", 4,
         "rule_not_compiled", "it uses seen"),
        (HEAD + "import polars as pl\ndef rule(a, *, x=1):\n    return pl.Series([a])\n", 4,
         "rule_not_compiled", "Series"),
        (HEAD + "def rule(a, *, x=1):\n    if a > x:\n        y = 1.0\n    return y\n", 5,
         "rule_not_compiled", "y has no value on some path"),
        (HEAD + "def rule(a, *, x=1):\n    if a > x:\n        return 1.0\n", 2,
         "rule_not_compiled", "None"),
        (HEAD + "def rule(a, *, x=1):\n    return 'long'\n", 2, "rule_not_compiled", "a number belongs"),
        (HEAD + "def rule(a, *, x=1):\n    return half(a)\ndef half(a):\n    return a.half\n", 5,
         "rule_not_compiled", "half"),
        (HEAD + "def rule(a, *, x=1):\n    return a\n", 2, "target_out_of_range", "2.0 on bar 1"),
        (HEAD + "def rule(a, *, x=1):\n    return x / 0\n", 2, "target_out_of_range", "inf on bar 0"),
        ("FEATURES = ('smaa(3)',)\ndef rule(a):\n    return a\n", None, "invalid_feature",
         "did you mean sma"),
        (HEAD + "def rule(a, *, x=0):\n    return a\n", None, "invalid_feature", "window=0"),
        ("def rule(a):\n    return a\n", None, "no_strategy", "rule without FEATURES"),
        ("FEATURES = ('sma(3)',)\n", None, "no_strategy", "FEATURES without rule"),
        (HEAD + "def rule(a, *, x=1):\n    return a\ndef signals(bars):\n    return bars['close']\n", None,
         "several_strategies", "signals, rule"),
    ],
)  # fmt: skip
def test_what_is_no_rule_is_refused_with_its_line_and_what_to_do(
    source: str, line: int | None, code: str, says: str
) -> None:
    with pytest.raises(StrategyFault, match=says) as caught:
        guest.run_strategy({"source": source}, {"bars": frame(np.array([1.0, 2.0, 3.0]))})
    assert caught.value.code == code
    assert caught.value.next_step
    assert "; " not in caught.value.next_step  # `raise_failure` divides there
    lines = [
        number
        for place, number in traceback.walk_tb(caught.value.__traceback__)
        if place.f_code.co_filename == guest.FILENAME
    ]
    assert lines[-1:] == ([] if line is None else [line])


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"fsat": 1}, "unknown_parameter"),
        ({"fast": 1.5}, "invalid_parameter"),
        ({"fast": 2**63}, "invalid_parameter"),
    ],
)
def test_a_wrong_parameter_is_named(cross: Rule, params: dict[str, Any], code: str) -> None:
    with pytest.raises(StrategyFault) as caught:
        cross.values(params)
    assert caught.value.code == code


def test_nothing_of_the_users_globals_is_changed_by_compiling() -> None:
    namespace = guest.load(CROSS)
    half: Callable[[float], float] = namespace["half"]
    rule = guest.find_entry(namespace)
    assert isinstance(rule, Rule)
    rule.targets([np.ones(1), np.ones(1)], {})
    assert namespace["half"] is half
