"""Every tool, given what a tired or hostile caller gives it: a line that teaches, and nothing lost."""

import re
from collections.abc import Mapping
from typing import Any

import pytest
from mcp import Client
from mcp.types import TextContent

from neural_trader_governance.audit.verify import verify_store
from neural_trader_server.app import build_server, open_desk
from neural_trader_server.catalogue import CATALOGUE
from neural_trader_server.home import Home
from neural_trader_server.listening import running
from neural_trader_server.settings import Settings

pytestmark = pytest.mark.anyio

LINE = re.compile(r"^[a-z][a-z0-9_]*: \S.*; \S.*$", re.DOTALL)

SMA = "def signals(bars):\n    return bars['close'] * 0\n"
ORDER = {"symbol": "AAPL", "side": "buy", "quantity": "1", "reason": "test"}

CASES: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("status_get", {"verbose": True}),
    ("artifact_read", {}),
    ("artifact_read", {"handle": "../../keys/log.key"}),
    ("artifact_read", {"handle": "bars-0000000000000000"}),
    ("artifact_read", {"handle": "bars-0000000000000000", "limit": -1}),
    ("artifact_query", {"handle": "bars-0000000000000000", "sql": "SELECT 1"}),
    ("chart_render", {}),
    ("chart_render", {"handle": "bars-0000000000000000", "symbol": "AAPL"}),
    ("artifact_query", {"handle": "bars-0000000000000000", "sql": "DROP TABLE artifact"}),
    ("artifact_query", {"handle": "bars-0000000000000000", "sql": "SELECT * FROM read_csv('/etc/passwd')"}),
    ("market_search", {"query": "x" * 10_000}),
    ("market_search", {"query": "apple", "limit": 10**9}),
    ("market_search", {"query": 5}),
    ("market_get_bars", {}),
    ("market_get_bars", {"symbol": "AAPLE"}),
    ("market_get_bars", {"symbol": "\u0410\u0410\u0420L"}),  # Cyrillic look-alikes
    ("market_get_bars", {"symbol": "AAPL", "start": "2013-01-01", "end": "2012-01-01"}),
    ("market_get_bars", {"symbol": "AAPL", "start": "yesterday"}),
    ("market_get_bars", {"symbol": "AAPL", "interval": "1 fortnight"}),
    ("market_get_bars", {"symbol": "AAPL", "interval": "5m"}),
    ("market_get_bars", {"symbol": "AAPL", "interval": "2d"}),
    ("market_get_bars", {"symbol": "AAPL", "limit": "many"}),
    ("market_get_bars", {"symbol": "AAPL", "columns": ["close", "clsoe"]}),
    ("market_get_bars", {"symbol": "AAPL", "adjust": "dividends"}),
    ("market_get_bars", {"symbol": ["AAPL"]}),
    ("market_get_calendar", {"venue": "XMARS"}),
    ("market_get_calendar", {"venue": "../../etc"}),
    ("market_get_calendar", {"start": "2013-01-01", "end": "2012-01-01"}),
    ("market_get_calendar", {"start": "0001-01-01", "end": "9999-12-31"}),
    ("market_get_calendar", {"symbols": ["NOPE"]}),
    ("market_get_quotes", {"symbols": []}),
    ("market_get_quotes", {"symbols": ["AAPL", "NOPE"]}),
    ("market_get_quotes", {"symbols": "AAPL;DROP"}),
    ("features_search", {"query": "x" * 10_000}),
    ("features_compute", {"symbol": "AAPL", "features": []}),
    ("features_compute", {"symbol": "AAPL", "features": ["smaa(20)"]}),
    ("features_compute", {"symbol": "AAPL", "features": ["sma(0)"]}),
    ("features_compute", {"symbol": "AAPL", "features": ["sma(1e99)"]}),
    ("features_compute", {"symbol": "AAPL", "features": ["sma(nan)"]}),
    ("features_compute", {"symbol": "AAPL", "features": ["__import__('os')"]}),
    ("features_compute", {"symbol": "NOPE", "features": ["sma(20)"]}),
    ("features_compute", {"symbol": "AAPL", "features": ["rsi"], "start": "2013-01-01", "end": "2012-01-01"}),
    ("strategy_get_api", {"topic": "how to get rich"}),
    ("strategy_save", {"name": "broken", "source": "def signals(bars:\n"}),
    ("strategy_save", {"name": "", "source": SMA}),
    ("strategy_save", {"name": "empty", "source": ""}),
    ("strategy_save", {"name": "huge", "source": "#" * 5_000_000}),
    ("strategy_check", {}),
    ("strategy_check", {"strategy_id": "0" * 64}),
    ("strategy_check", {"source": SMA, "symbol": "NOPE"}),
    ("backtest_start", {"symbols": ["AAPL"]}),
    ("backtest_start", {"symbols": [], "source": SMA}),
    ("backtest_start", {"symbols": ["NOPE"], "source": SMA}),
    ("backtest_start", {"symbols": ["AAPL"], "source": SMA, "strategy_id": "0" * 64}),
    ("backtest_start", {"symbols": ["AAPL"], "source": SMA, "cash": "NaN"}),
    ("backtest_start", {"symbols": ["AAPL"], "source": SMA, "cash": "-5"}),
    ("backtest_start", {"symbols": ["AAPL"], "source": SMA, "commission_bps": "Infinity"}),
    ("backtest_start", {"symbols": ["AAPL"], "source": SMA, "fill": "yesterday"}),
    ("backtest_start", {"symbols": ["AAPL"], "source": SMA, "convention": "backtesting.rb"}),
    ("backtest_start", {"symbols": ["AAPL"], "source": SMA, "rules": {"marign": 0.5}}),
    ("backtest_start", {"symbols": ["AAPL"], "source": SMA, "rules": {"margin": 0}}),
    ("backtest_start", {"symbols": ["AAPL"], "source": SMA, "start": "2013-01-01", "end": "2012-01-01"}),
    ("backtest_start", {"symbols": ["AAPL"], "source": SMA, "start": "2050-01-01"}),
    ("backtest_get", {"run_id": "bt_nope"}),
    ("backtest_get", {"run_id": "' OR 1=1 --"}),
    ("backtest_verify", {"run_id": "bt_nope"}),
    ("backtest_verify", {"run_id": "sw-0123456789"}),
    ("backtest_sweep", {"symbols": ["AAPL"], "source": SMA, "grid": {"fst": "5:9"}}),
    ("backtest_sweep", {"symbols": ["AAPL"], "source": SMA, "grid": {"fast": "9:5"}}),
    ("backtest_sweep", {"symbols": ["NOPE"], "source": SMA, "grid": {"fast": "5:9"}}),
    ("backtest_sweep", {"symbols": ["AAPL"], "source": SMA, "grid": {"fast": "1:100000000"}}),
    ("backtest_sweep", {"symbols": ["AAPL"], "source": SMA, "grid": {"fast": "5:9"}, "walk_forward": "back"}),
    ("backtest_compare", {"run_ids": []}),
    ("backtest_compare", {"run_ids": ["bt_nope", "bt_neither"]}),
    ("backtest_cancel", {"run_id": "bt_nope"}),
    ("memory_search", {"query": ""}),
    ("memory_search", {"query": "x", "k": 0}),
    ("memory_search", {"query": "x", "as_of": "the future"}),
    ("memory_search", {"query": "x", "kind": "gossip"}),
    ("memory_search", {"query": "x", "run_id": "bt_1"}),
    ("memory_search", {"query": "x", "regime_of": "NOPE"}),
    ("memory_write", {"kind": "gossip", "text": "x"}),
    ("memory_write", {"kind": "note", "text": ""}),
    ("memory_write", {"kind": "note", "text": "x" * 100_000}),
    ("memory_write", {"kind": "note", "text": "x", "symbols": ["💰"]}),
    ("memory_write", {"kind": "note", "text": "x", "event_time": "2999-01-01T00:00:00Z"}),
    ("memory_write", {"kind": "note", "text": "x", "audit_seq": 10**12}),
    ("memory_write", {"kind": "note", "text": "x", "data": {"value": "x" * 100_000}}),
    ("portfolio_get", {"account": "nobody"}),
    ("orders_list", {"state": "filed"}),
    ("orders_list", {"limit": 0}),
    ("orders_preview", {}),
    ("orders_preview", {**ORDER, "symbol": "NOPE"}),
    ("orders_preview", {**ORDER, "symbol": "\uff21\uff21\uff30\uff2c"}),  # full-width letters
    ("orders_preview", {**ORDER, "side": "hold"}),
    ("orders_preview", {**ORDER, "quantity": "0"}),
    ("orders_preview", {**ORDER, "quantity": "-1"}),
    ("orders_preview", {**ORDER, "quantity": "NaN"}),
    ("orders_preview", {**ORDER, "quantity": "2000000000"}),
    ("orders_preview", {**ORDER, "quantity": "1e400"}),
    ("orders_preview", {**ORDER, "quantity": "0.0000000001"}),
    ("orders_preview", {**ORDER, "quantity": True}),
    ("orders_preview", {**ORDER, "quantity": {"units": 1}}),
    ("orders_preview", {**ORDER, "type": "limit"}),
    ("orders_preview", {**ORDER, "type": "limit", "limit_price": "430.471"}),
    ("orders_preview", {**ORDER, "limit_price": "430"}),
    ("orders_preview", {**ORDER, "type": "trailing_stop", "trail": "5"}),
    ("orders_preview", {**ORDER, "take_profit": "500"}),
    ("orders_preview", {**ORDER, "time_in_force": "forever"}),
    ("orders_preview", {**ORDER, "account": "nobody"}),
    ("orders_preview", {**ORDER, "reason": ""}),
    ("orders_preview", {**ORDER, "quantitty": "1"}),
    ("orders_submit", {}),
    ("orders_submit", {"preview_id": "pv_nope"}),
    ("orders_submit", {"preview_id": "' OR 1=1 --"}),
    ("orders_submit", {"preview_id": "x" * 100_000}),
    ("orders_cancel", {"client_order_id": "nt_nope"}),
    ("trading_halt", {}),
    ("trading_halt", {"reason": ""}),
    ("audit_search", {"type": "order.intents"}),
    ("audit_search", {"since": "last week"}),
    ("audit_search", {"limit": -1}),
    ("audit_verify", {"seq": -1}),
    ("audit_verify", {"seq": 10**12}),
    ("audit_verify", {"seq": "first"}),
)  # fmt: skip


def test_no_tool_is_left_out() -> None:
    assert {name for name, _ in CASES} == {spec.name for spec in CATALOGUE}


async def test_bad_input_gets_a_line_that_teaches_and_the_log_still_verifies(home: Home) -> None:
    wrong: list[str] = []
    async with open_desk(home, Settings()) as services, running(services):
        before = services.store.head().size
        async with Client(build_server(services, toolsets="all")) as client:
            for name, arguments in CASES:
                result = await client.call_tool(name, dict(arguments))
                (content,) = result.content
                text = content.text if isinstance(content, TextContent) else ""
                if (
                    not result.is_error
                    or not LINE.match(text)
                    or "internal_error" in text
                    or len(text) > 2000
                ):
                    wrong.append(f"{name} {arguments!s:.100} -> {text:.300}")
            status = await client.call_tool("status_get", {})
            assert not status.is_error
        assert services.store.head().size == before, "a refused call left something on the record"
        assert await services.desk.orders() == []
    assert wrong == []
    assert verify_store(home.desk_db, home.log_vkey.read_text()).ok
