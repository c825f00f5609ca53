"""What the example strategies earn on data that did not choose them; writes docs/examples.md and docstrings.

Each strategy gets a small grid of parameters. Every combination runs on the first part of the history; the
one with the best Sharpe ratio runs once on the rest, and that is reported, whatever it is. Both parts pay
5 bps commission and 5 bps slippage. Grids, symbols and the border between the parts were written down before
the first run.

    python benchmarks/examples.py            # --check only says whether something differs
"""

import asyncio
import itertools
import re
import sys
import tempfile
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from neural_trader_governance.terms.clocks import SimulatedClock
from neural_trader_sandbox.local.sandbox import LocalSandbox
from neural_trader_tools.backtest.metrics import Metrics
from neural_trader_tools.backtest.prices import Prices
from neural_trader_tools.backtest.settings import BacktestRequest, Settings
from neural_trader_tools.backtest.simulation import Simulation, simulate
from neural_trader_tools.market.archive import Archive
from neural_trader_tools.market.providers.sample import fetch_sample

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "examples.md"
FOLDER = ROOT / "examples" / "strategies"
NOW = datetime(2020, 1, 1, tzinfo=UTC)
COSTS = Settings(commission_bps=5.0, slippage_bps=5.0)
HOLD = "import numpy as np\n\ndef signals(bars):\n    return np.ones(len(bars))\n"
STOCKS = ("AAPL", "GOOG", "IBM", "MSFT")
PAIR, INDEX, NASDAQ = ("IBM", "MSFT"), ("^GSPC",), ("^IXIC",)
PRELOAD = [
    "numpy",
    "polars",
    "neural_trader_tools.engine.guest",
    "neural_trader_tools.engine.weights",
    "neural_trader_tools.features.catalogue",
]


@dataclass(frozen=True)
class Example:
    """A strategy file, what it runs on, and what is tried."""

    name: str
    form: str
    symbols: tuple[str, ...]
    grid: Mapping[str, Sequence[Any]]

    @property
    def border(self) -> datetime:
        """First day out of sample: about three fifths into the history of the symbols."""
        return datetime(2011 if self.symbols in (INDEX, NASDAQ) else 2009, 1, 1, tzinfo=UTC)

    @property
    def combinations(self) -> list[dict[str, Any]]:
        """Every combination of the grid."""
        return [
            dict(zip(self.grid, values, strict=True)) for values in itertools.product(*self.grid.values())
        ]

    @property
    def source(self) -> str:
        """The file."""
        return (FOLDER / f"{self.name}.py").read_text(encoding="utf-8")


EXAMPLES = (
    Example("momentum", "portfolio", STOCKS, {"lookback": (63, 126, 252), "hold": (1, 2)}),
    Example("rsi_reversion", "class", INDEX, {"window": (2, 5, 14), "low": (10.0, 20.0, 30.0)}),
    Example("pairs", "portfolio", PAIR, {"window": (20, 60, 120), "entry": (1.5, 2.0, 2.5)}),
    Example("breakout", "class, brackets", STOCKS, {"window": (20, 55, 100), "reward": (3.0, 6.0)}),
    Example("volatility_target", "rule", INDEX, {"window": (20, 60, 120), "goal": (0.08, 0.12, 0.16)}),
    Example(
        "market_making", "class, limits", ("IBM", "MSFT"), {"width": (0.5, 1.0, 1.5), "skew": (0.0, 0.5)}
    ),
    Example("regime_switch", "signals", INDEX, {"horizon": (5, 21, 63), "rate": (0.02, 0.1)}),
    Example("ensemble", "signals", NASDAQ, {"eta": (0.0, 2.0, 10.0), "memory": (63, 252)}),
)


@dataclass(frozen=True)
class Finding:
    """What an example came to: in sample, out of sample, and what holding came to meanwhile."""

    example: Example
    params: dict[str, Any]
    tried: list[float | None] = field(repr=False)
    before: Metrics
    after: Metrics
    hold: Metrics

    def trust(self) -> str:
        """Returns its row of the first table."""
        name, after = self.example.name, self.after
        low, high = after.sharpe_ci or (None, None)
        cells = [
            f"[{name}](../examples/strategies/{name}.py)",
            self.example.form,
            ", ".join(f"{key}={value:g}" for key, value in self.params.items()),
            str(len(self.tried)),
            _two(self.before.sharpe_ratio),
            _two(self.before.deflated_sharpe_ratio),
            f"**{_two(after.sharpe_ratio)}**",
            f"{_two(low)} … {_two(high)}",
            _two(after.deflated_sharpe_ratio),
            _two(self.hold.sharpe_ratio),
        ]
        return f"| {' | '.join(cells)} |"

    def result(self) -> str:
        """Returns its row of the second table."""
        cells = [
            self.example.name,
            f"{', '.join(self.example.symbols)} from {self.example.border:%Y}",
            *(_part(value) for value in (self.after.cagr, self.after.max_drawdown, self.after.exposure_time)),
            str(self.after.trade_count),
            *(_part(value) for value in (self.hold.cagr, self.hold.max_drawdown)),
        ]
        return f"| {' | '.join(cells)} |"

    def sentence(self) -> str:
        """Returns the last paragraph of its docstring."""
        after, hold = self.after, self.hold
        chosen = ", ".join(f"{key} {value:g}" for key, value in self.params.items())
        where = f"{', '.join(self.example.symbols)} from {self.example.border:%Y}"
        return (
            f"Out of sample ({where}; {chosen} was the best of {len(self.tried)} before; 5 + 5 bps): "
            f"Sharpe ratio {_two(after.sharpe_ratio)} after {_two(self.before.sharpe_ratio)} in sample, "
            f"{_part(after.cagr)} a year, drawdown {_part(after.max_drawdown)}, "
            f"deflated Sharpe ratio {_two(after.deflated_sharpe_ratio)}; holding the same: "
            f"{_two(hold.sharpe_ratio)}, {_part(hold.cagr)}, {_part(hold.max_drawdown)}; docs/examples.md."
        )


async def measure(example: Example, sandbox: LocalSandbox, archive: Archive) -> Finding:
    """Tries the grid on the first part and runs the best once on the rest."""
    early = prices_of(archive, example.symbols, None, example.border)
    late = prices_of(archive, example.symbols, example.border, None)

    async def run(source: str, prices: list[Prices], params: dict[str, Any]) -> Simulation:
        request = BacktestRequest(source=source, symbols=example.symbols, params=params, settings=COSTS)
        return await simulate(sandbox, request, prices)

    runs = [await run(example.source, early, params) for params in example.combinations]
    tried = [one.sharpe_per_bar for one in runs]
    best = max(range(len(tried)), key=lambda number: -9.0 if tried[number] is None else tried[number])
    before, _ = runs[best].metrics([*tried[:best], *tried[best + 1 :]])
    params = example.combinations[best]
    chosen = await run(example.source, late, params)
    # The choice was made among all that was tried; the run out of sample is one more.
    after, _ = chosen.metrics(tried)
    hold, _ = (await run(HOLD, late, {})).metrics()
    return Finding(example, params, tried, before, after, hold)


def prices_of(
    archive: Archive, symbols: tuple[str, ...], start: datetime | None, end: datetime | None
) -> list[Prices]:
    return [
        Prices.from_frame(
            symbol, archive.bars(symbol, "1d", start=start, end=end, as_of=NOW, adjust="splits")
        )
        for symbol in symbols
    ]


def _two(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}".replace("-0.00", "0.00")


def _part(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}".replace("-0.0%", "0.0%")


TRUST = "| strategy | form | chosen | of | in sample | its DSR | **out of sample** | 95 % | DSR | holding |"
RESULT = "| strategy | on | a year | drawdown | exposure | trades | holding a year | its drawdown |"


def tables(findings: Sequence[Finding]) -> str:
    """Returns both tables as Markdown."""
    rows = [TRUST, "|---|---|---|--:|--:|--:|--:|---|--:|--:|", *(found.trust() for found in findings), ""]
    rows += [RESULT, "|---|---|--:|--:|--:|--:|--:|--:|", *(found.result() for found in findings)]
    return "\n".join(rows)


def with_tables(page: str, findings: Sequence[Finding]) -> str:
    """Returns the page with its tables replaced."""
    begin, end = "<!-- benchmarks/examples.py writes from here -->\n", "\n<!-- to here -->"
    return page[: page.index(begin) + len(begin)] + tables(findings) + page[page.index(end) :]


def with_sentence(source: str, found: Finding) -> str:
    """Returns a strategy's file with the last paragraph of its docstring replaced."""
    text = "\n".join(textwrap.wrap(found.sentence(), 110))
    end = source.index('"""', 3)
    doc = re.sub(r"\n\nOut of sample \(.*", "", source[:end].rstrip(), flags=re.DOTALL)
    return f"{doc}\n\n{text}\n{source[end:]}"


async def _all() -> list[Finding]:
    with tempfile.TemporaryDirectory() as folder:
        archive = Archive(Path(folder))
        fetch_sample(archive, SimulatedClock(NOW))
        sandbox = LocalSandbox(PRELOAD)
        try:
            return [await measure(example, sandbox, archive) for example in EXAMPLES]
        finally:
            await sandbox.aclose()


def main() -> None:
    """Writes, or with --check compares, the page and the docstrings."""
    findings = asyncio.run(_all())
    print(tables(findings))
    wanted = {PAGE: with_tables(PAGE.read_text(encoding="utf-8"), findings)}
    for found in findings:
        path = FOLDER / f"{found.example.name}.py"
        wanted[path] = with_sentence(found.example.source, found)
    for path, text in wanted.items():
        if path.read_text(encoding="utf-8") != text:
            if "--check" in sys.argv:
                sys.exit(
                    f"{path.relative_to(ROOT)} is not what the strategies come to: run {Path(__file__).name}"
                )
            path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
