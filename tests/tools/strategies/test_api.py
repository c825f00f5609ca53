"""Every example of the documentation runs, and says what the outline reads from it."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from neural_trader_governance.errors import InputError
from neural_trader_tools.engine import guest
from neural_trader_tools.engine.floor import run_portfolio
from neural_trader_tools.engine.strategy import Strategy
from neural_trader_tools.engine.weights import run_weights
from neural_trader_tools.strategies.get_api import TOPICS, strategy_get_api
from neural_trader_tools.strategies.outline import (
    check_parameters,
    is_portfolio,
    portfolio_kind,
    read_outline,
)

PAGES = TOPICS | {"portfolios.md": (Path(__file__).parents[3] / "docs" / "portfolios.md").read_text()}
EXAMPLES = [
    pytest.param(source, id=f"{topic}-{number}")
    for topic, text in PAGES.items()
    for number, source in enumerate(re.findall(r"```python\n(.*?)```", text, re.DOTALL))
]


@pytest.fixture(scope="module")
def bars() -> pl.DataFrame:
    close = 100 * np.exp(np.cumsum(np.random.default_rng(4).normal(0, 0.02, 400)))
    return pl.DataFrame(
        {
            "time": pl.datetime_range(
                pl.datetime(2001, 1, 1, time_zone="UTC"), pl.datetime(2002, 2, 4, time_zone="UTC"), eager=True
            ),
            "open": close,
            "high": close * 1.01,
            "low": close * 0.99,
            "close": close,
            "volume": np.full(400, 1e6),
        }
    )


@pytest.mark.parametrize("source", EXAMPLES)
def test_an_example_of_the_documentation_runs_and_trades(source: str, bars: pl.DataFrame) -> None:
    settings = {
        "cash": 1e5,
        "commission_bps": 1,
        "slippage_bps": 1,
        "fill": "next_open",
        "lots": "fractional",
    }
    arguments: dict[str, Any] = {"source": source, "settings": settings}
    if is_portfolio(source):
        pair = [bars.with_columns(symbol=pl.lit(name)) for name in ("A", "B")]
        pair[1] = pair[1].with_columns(close=pl.col("close").reverse())
        both = pl.concat(pair).sort("time", "symbol")
        run = run_weights if portfolio_kind(source) == "weights" else run_portfolio
        value, columns = run({**arguments, "symbols": ["A", "B"]}, {"bars": both})
    else:
        value, columns = guest.run_strategy(arguments, {"bars": bars})
    decisions = columns[
        {"signals": "target", "orders": "bar", "weights": "weight", "portfolio": "bar"}[value["kind"]]
    ]
    assert len(decisions) > 3
    assert np.isfinite(decisions).any()


def test_there_is_an_example_for_each_way() -> None:
    assert len(EXAMPLES) >= 5


@pytest.mark.anyio
async def test_a_topic_is_short_and_an_unknown_one_is_refused() -> None:
    for topic in (*TOPICS, "all"):
        most = 12_000 if topic == "all" else 3_000
        assert len((await strategy_get_api(topic=topic)).model_dump_json()) < most
    assert (await strategy_get_api()).topic == "overview"
    with pytest.raises(InputError, match="did you mean 'orders'"):
        await strategy_get_api(topic="order")


def test_the_outline_reads_parameters_imports_and_suspicions() -> None:
    outline = read_outline(
        "import polars as pl\ndef signals(bars, a, *, b=1):\n    return bars['x'].shift(n=-2)\n"
    )
    assert outline.parameters == {"a", "b"}
    assert outline.imports == (("polars", 1),)
    assert [(item.rank, item.line) for item in outline.suspicions] == [(0, 3)]
    assert outline.entry_line == 2
    assert read_outline("def signals(bars, **params): pass").parameters is None
    assert read_outline("class A(Strategy):\n  x: int = 1\n  _y: int = 2\n").parameters == {"x"}
    assert read_outline("class B(Strategy): z: int = 1\nclass A(B): x: int = 1\n").parameters is None
    assert read_outline("def signals(bars, a: int, b=2.5, *, c='x', d=None): pass").kinds == {
        "a": "int", "b": "float", "c": "str",
    }  # fmt: skip


def test_a_misspelled_parameter_is_named_before_anything_runs() -> None:
    with pytest.raises(InputError, match="did you mean 'fast'"):
        check_parameters("def signals(bars, fast=1, slow=2): pass", {"fsat": 3})


def test_strategy_is_importable_from_the_engine() -> None:
    import neural_trader_tools.engine as engine

    assert engine.Strategy is Strategy
    with pytest.raises(AttributeError):
        engine.Nothing  # noqa: B018  # looking it up is the test
