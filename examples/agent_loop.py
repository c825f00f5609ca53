"""An agent around the desk, in one process, with no model key: the desk is mounted, not started.

    python examples/agent_loop.py [HOME]

The "model" below is a table of decisions; put a real one where `decide` is. Everything else stays: the tools
come from the server's own list, results are read as data, and an error's last words say what to do next. It
runs on the home that is named (by default a fresh one), with the sample's real prices and paper money.
"""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
from mcp import Client

from neural_trader_server import Home, Settings, build_server, configure_logs, open_desk, running
from neural_trader_tools.market.providers.sample import fetch_sample

STRATEGY = """
def signals(bars, fast: int = 20, slow: int = 100):
    close = bars["close"]
    return (close.rolling_mean(fast) > close.rolling_mean(slow)).cast(float).fill_null(0.0)
"""
Call = tuple[str, dict[str, Any]]


def decide(seen: dict[str, dict[str, Any]]) -> Iterator[Call]:
    """Yields the next tool call, given the last result of each tool: where a model would think."""
    yield "status_get", {}
    yield "market_search", {"query": "micorsoft"}
    symbol = seen["market_search"]["instruments"][0]["symbol"]
    yield "features_compute", {"symbol": symbol, "features": ["rsi(14)", "sma(100)"]}
    yield "strategy_check", {"source": STRATEGY, "symbol": symbol}
    if not seen["strategy_check"]["ok"]:
        return
    yield "backtest_start", {"source": STRATEGY, "symbols": [symbol], "commission_bps": 5}
    yield "backtest_get", {"run_id": seen["backtest_start"]["run_id"], "wait_s": 30}
    sharpe = seen["backtest_get"]["metrics"]["sharpe_ratio"]
    yield (
        "memory_write",
        {"kind": "note", "text": f"A 20/100 cross on {symbol} made a Sharpe ratio of {sharpe:.2f}."},
    )
    order = {"symbol": symbol, "side": "buy", "quantity": "10", "reason": "the cross is long"}
    yield "orders_preview", order
    if seen["orders_preview"]["verdict"]["decision"] == "allow":
        yield "orders_submit", {"preview_id": seen["orders_preview"]["preview_id"]}
        yield "portfolio_get", {}


async def run(home: Home) -> dict[str, dict[str, Any]]:
    """Mounts the desk and plays the loop; returns the last result of each tool."""
    seen: dict[str, dict[str, Any]] = {}
    async with open_desk(home, Settings()) as services:
        if not services.archive.instruments():
            await anyio.to_thread.run_sync(fetch_sample, services.archive, services.clock)
        async with running(services), Client(build_server(services, toolsets="all")) as client:
            for name, arguments in decide(seen):
                result = await client.call_tool(name, arguments)
                if result.is_error:  # `code: what happened; next step`
                    print(f"{name} refused: {result.content[0].model_dump()['text']}")
                    break
                seen[name] = result.structured_content or {}
                print(f"{name}: {str(seen[name])[:150]}")
    return seen


if __name__ == "__main__":
    configure_logs("error")
    with tempfile.TemporaryDirectory(prefix="neural-trader-") as fresh:
        anyio.run(run, Home(Path(sys.argv[1] if len(sys.argv) > 1 else fresh)))
