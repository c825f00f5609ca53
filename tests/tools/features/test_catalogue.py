"""The catalogue: expressions, their canonical spelling, and mistakes that explain themselves."""

import subprocess
import sys

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neural_trader_tools.features import catalogue, compiled, passes
from neural_trader_tools.features.definitions import DEFINITIONS, USUAL, WARM


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("rsi(14)", "rsi(14)"),
        ("rsi", "rsi(14)"),
        (" RSI ( window = 7 ) ", "rsi(7)"),
        ("macd", "macd(12,26,9).line"),
        ("macd(5, slow=10).signal", "macd(5,10,9).signal"),
        ("bbands(20,2).upper", "bbands(20,2).upper"),
        ("bbands(width=2.5).percent_b", "bbands(20,2.5).percent_b"),
        ("volatility(20, 365.2425)", "volatility(20,365.2425)"),
        ("volatility(20, 1000000)", "volatility(20,1000000)"),
        ("obv", "obv"),
        ("obv()", "obv"),
    ],
)
def test_an_expression_has_one_canonical_spelling(written: str, canonical: str) -> None:
    assert catalogue.parse(written).expression == canonical
    assert catalogue.parse(canonical).expression == canonical


@pytest.mark.parametrize(
    ("written", "code", "advice"),
    [
        ("rsy(14)", "unknown_feature", "did you mean rsi"),
        ("xyzzyq", "unknown_feature", "use one of"),
        ("rsi(0)", "invalid_parameter", "from 1 to 10000"),
        ("rsi(14.5)", "invalid_parameter", "a whole number"),
        ("rsi(1e9)", "invalid_parameter", "from 1 to 10000"),
        ("rsi(99999999999999999999)", "invalid_parameter", "from 1 to 10000"),
        ("rsi(٣)", "invalid_parameter", "from 1 to 10000"),
        ("rsi(14,3)", "unknown_parameter", "it takes window"),
        ("rsi(length=3)", "unknown_parameter", "it takes window"),
        ("rsi(14,window=14)", "invalid_parameter", "give it once"),
        ("macd(26,12,9)", "invalid_parameter", "fast < slow"),
        ("macd.sgnal", "unknown_output", "did you mean 'signal'"),
        ("volatility(20,nan)", "invalid_parameter", "from 1 to"),
        ("volatility(20,inf)", "invalid_parameter", "from 1 to"),
        ("rsi(", "invalid_feature", "write it like"),
        ("", "invalid_feature", "write it like"),
        ("rsi(14); import os", "invalid_feature", "write it like"),
        ("__import__('os')", "unknown_feature", "features_search"),
        ("r" * 5000, "invalid_feature", "write it like"),
        ("rsi(14)\0", "invalid_feature", "write it like"),
    ],
)
def test_a_mistake_says_what_to_write_instead(written: str, code: str, advice: str) -> None:
    with pytest.raises(ValueError, match=f"^{code}: ") as raised:
        catalogue.parse(written)
    assert advice in str(raised.value)
    assert "; " in str(raised.value)
    assert len(str(raised.value)) < 400


@given(st.text(max_size=120))
def test_no_text_breaks_the_parser(text: str) -> None:
    try:
        feature = catalogue.parse(text)
    except ValueError as error:
        assert ": " in str(error)  # noqa: PT017 (one of two right outcomes)
    else:
        assert feature.definition.name in DEFINITIONS


def test_missing_and_wrong_columns_are_named() -> None:
    bars = pl.DataFrame({"close": ["a", "b"], "high": [1.0, 2.0]})
    with pytest.raises(ValueError, match="missing_column: atr reads low"):
        catalogue.evaluate("atr(14)", bars.with_columns(close=pl.lit(1.0)))
    with pytest.raises(ValueError, match="not a number"):
        catalogue.evaluate("sma(2)", bars)


def test_integers_and_nulls_are_accepted() -> None:
    values = catalogue.evaluate("sma(2)", pl.DataFrame({"close": [1, 2, None, 4, 5]}))
    np.testing.assert_array_equal(values, [np.nan, 1.5, np.nan, np.nan, 4.5])


def test_what_is_kept_warm_exists() -> None:
    assert set(USUAL) < set(WARM) < set(DEFINITIONS)
    assert len(set(WARM)) == len(WARM)


def test_after_warming_up_and_the_idle_steps_nobody_compiles_a_feature(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A strategy's process can neither read nor write the cache: it has what was loaded before it forked."""
    catalogue.warm_up()
    for _ in catalogue.warm_later():
        pass
    before = compiled.machine.cache_info().misses
    for one in DEFINITIONS.values():
        compiled.machine(one.kernels, one.name, len(one.inputs))
    assert compiled.machine.cache_info().misses == before
    for forked in (False, True):
        monkeypatch.setattr(compiled, "_FORKED", [True] if forked else [])
        assert None not in [compiled.stretches(*one) for one in passes.stretched()]


def test_every_definition_is_complete() -> None:
    for name, one in DEFINITIONS.items():
        assert one.name == name
        assert catalogue.parse(one.example).expression == one.example
        assert one.formula
        assert one.source
        assert all(parameter.low <= parameter.default <= parameter.high for parameter in one.params)


def test_the_catalogue_runs_where_only_numpy_polars_and_numba_are(apple: pl.DataFrame) -> None:
    """It is preloaded into the sandbox, so it may drag in nothing of ours but the kernels."""
    code = (
        "import sys, polars as pl\n"
        "from neural_trader_tools.features import catalogue\n"
        "assert 'numba' not in sys.modules\n"
        "catalogue.evaluate('sma(2)', pl.DataFrame({'close': [1.0, 2.0]}))\n"
        "ours = {name for name in sys.modules if name.startswith('neural_trader')}\n"
        "within = ('neural_trader_tools.features', 'neural_trader_tools.engine')\n"
        "extra = {name for name in ours if not name.startswith(within)}\n"
        "assert extra == {'neural_trader_tools'}, extra\n"
        "assert not {'pydantic', 'neural_trader_governance'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
