"""The example strategies: honest, runnable, and as good as docs/examples.md says, no better."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

from neural_trader_sandbox.local.sandbox import LocalSandbox
from neural_trader_tools.backtest.check import Check
from neural_trader_tools.backtest.settings import BacktestRequest
from neural_trader_tools.backtest.simulation import simulate
from neural_trader_tools.market.archive import Archive
from neural_trader_tools.strategies.mistakes import find_mistakes
from neural_trader_tools.strategies.outline import is_portfolio

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[3]
CUTS = 4


def load(path: Path) -> Any:
    """Loads the script as a module; it is in no package."""
    spec = importlib.util.spec_from_file_location("measured_examples", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


script = load(ROOT / "benchmarks" / "examples.py")
PAGE = (ROOT / "docs" / "examples.md").read_text(encoding="utf-8")


def row_of(name: str) -> list[str]:
    """Returns the cells of a strategy's row in the first table."""
    row = next(line for line in PAGE.splitlines() if line.startswith(f"| [{name}]"))
    return [cell.strip(" *") for cell in row.strip("|").split("|")]


@pytest.mark.parametrize("example", script.EXAMPLES, ids=lambda example: example.name)
async def test_an_example_does_not_look_ahead_and_earns_what_the_page_says(
    example: Any, sandbox: LocalSandbox, archive: Archive
) -> None:
    class Desk:  # the two things that a check asks of the service
        features = "neural_trader_tools.features.catalogue"

    desk: Any = Desk()
    desk.sandbox = sandbox
    cells = row_of(example.name)
    chosen = {name: float(value) for name, value in (part.split("=") for part in cells[2].split(", "))}
    params = next(each for each in example.combinations if each == chosen)  # whole numbers stay whole
    assert find_mistakes(example.source) == []
    prices = script.prices_of(archive, example.symbols, example.border, None)
    request = BacktestRequest(
        source=example.source, symbols=example.symbols, params=params, settings=script.COSTS
    )
    check = Check(desk, request)
    if is_portfolio(example.source):
        checked = await check.run_portfolio(prices, CUTS)
    else:
        checked = await check.run(prices[0], CUTS, strict=False)
    assert (checked.ok, checked.problems, checked.look_ahead.violations) == (True, [], [])
    assert checked.look_ahead.checked_cuts >= CUTS
    done = await simulate(sandbox, request, prices)
    metrics, _ = done.metrics()
    assert f"{metrics.sharpe_ratio:.2f}" == cells[6]
    told = " ".join(example.source.split('"""')[1].split())
    assert f"Sharpe ratio {cells[6]} after {cells[4]} in sample" in told


@pytest.mark.parametrize("name", ["pairs", "volatility_target"])
async def test_the_page_holds_what_the_script_finds(
    name: str, sandbox: LocalSandbox, archive: Archive
) -> None:
    example = next(one for one in script.EXAMPLES if one.name == name)
    found = await script.measure(example, sandbox, archive)
    assert found.trust() in PAGE
    assert found.result() in PAGE
    assert script.with_sentence(example.source, found) == example.source


def test_what_the_page_says_of_all_eight_is_so() -> None:
    rows = {example.name: row_of(example.name) for example in script.EXAMPLES}
    assert "No one of the eight beats holding" in PAGE
    assert all(float(row[6]) < float(row[9]) for row in rows.values())
    assert all(float(row[8]) < 0.95 for row in rows.values())
    before = sorted(rows, key=lambda name: -float(rows[name][4]))
    assert before[1] == "pairs"
    assert {name for name, row in rows.items() if float(row[6]) < 0} == {"pairs", "rsi_reversion"}
    holding = {float(row[9]) for row in rows.values()}
    assert (min(holding), max(holding)) == (0.65, 1.20)


def test_every_example_that_is_measured_is_described_in_full() -> None:
    for example in script.EXAMPLES:
        told = example.source.split('"""')[1]
        for part in ("Idea: ", "Source: ", "Form: ", "Parameters: ", "Need", "Out of sample ("):
            assert part in told, (example.name, part)
    assert len(script.EXAMPLES) == 8
