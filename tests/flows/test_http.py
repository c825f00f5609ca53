"""HTTP: liveness for anybody, the protocol for loopback only."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import httpx
import pytest
from mcp import Client

ServeHttp = Callable[..., AbstractContextManager[str]]

pytestmark = pytest.mark.anyio


async def test_health_is_answered_and_strange_hosts_and_origins_are_not(serve_http: ServeHttp) -> None:
    with serve_http("--read-only") as address:
        async with httpx.AsyncClient(base_url=address) as http:
            assert (await http.get("/healthz")).json() == {"ok": True}
            accept = {"Accept": "application/json, text/event-stream"}
            body: dict[str, object] = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
            for foreign in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}):
                refused = await http.post("/mcp", json=body, headers={**accept, **foreign})
                assert refused.status_code in {403, 421}, (foreign, refused.status_code)
            large = await http.post("/mcp", content=b"x" * (5 << 20), headers=accept)
            assert large.status_code in {400, 413, 415}
        async with Client(f"{address}/mcp") as client:
            served = {tool.name for tool in (await client.list_tools()).tools}
            assert "trading_halt" in served
            assert served & {"memory_write", "strategy_save", "orders_submit"} == set()
            answer = await client.call_tool("memory_write", {"kind": "note", "text": "x"})
            assert answer.is_error
            assert answer.content[0].model_dump()["text"].startswith("read_only: ")
