"""HTTP: liveness for anybody, the protocol for loopback only."""

import json
import subprocess
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


async def test_the_commands_link_opens_the_console_of_a_running_server(
    serve_http: ServeHttp, command: Callable[..., "subprocess.CompletedProcess[str]"]
) -> None:
    with serve_http("--read-only") as address:
        made = command("console", "--json", "--url", address)
        link = json.loads(made.stdout)["url"].partition("#login=")[2]
        async with httpx.AsyncClient(base_url=f"{address}/console", headers={"Origin": address}) as http:
            assert (await http.get("")).headers["content-type"] == "text/html; charset=utf-8"
            opened = await http.post("/api/login", json={"link": link})
            http.headers["X-Console-Token"] = opened.json()["token"]
            assert (await http.get("/api/standing")).json()["mode"] == "paper"
            assert (await http.post("/api/login", json={"link": link})).json()["error"]["code"] == "link_used"
            refused = await http.post("/api/approvals/pv_1/reject", json={"reason": "no"})
            assert refused.json()["error"]["code"] == "read_only"
            halted = await http.post("/api/halt", json={"reason": "a person may, whatever else is read-only"})
            assert halted.json()["halted"] is True
