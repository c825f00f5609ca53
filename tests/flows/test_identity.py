"""Identity from outside: keys over real HTTP, roles at the gate, and the person's command line."""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import anyio
import httpx
import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from neural_trader_governance.errors import RiskError
from neural_trader_governance.terms.clocks import WallClock
from neural_trader_server.app import Services, build_server, open_desk
from neural_trader_server.home import Home
from neural_trader_server.settings import Settings

ServeHttp = Callable[..., AbstractContextManager[str]]
RunCommand = Callable[..., "CompletedProcess[str]"]

pytestmark = pytest.mark.anyio
BODY: dict[str, object] = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
ACCEPT = {"Accept": "application/json, text/event-stream"}


def answer(done: "CompletedProcess[str]") -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def key(command: RunCommand, agent: str) -> dict[str, Any]:
    return answer(command("identity", "key", "issue", "--agent", agent, "--json"))


def text(result: Any) -> str:
    return str(result.content[0].text)


def bearer(token: str) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(headers={"Authorization": f"Bearer {token}"}, timeout=60)


async def post(address: str, headers: dict[str, str]) -> httpx.Response:
    async with httpx.AsyncClient() as http:
        return await http.post(f"{address}/mcp", json=BODY, headers={**ACCEPT, **headers})


async def test_http_needs_no_key_until_the_first_and_always_one_from_then_on(
    serve_http: ServeHttp, command: RunCommand
) -> None:
    with serve_http() as address:
        assert (await post(address, {})).status_code != 401
        issued = key(command, "agent-1")
        good = {"Authorization": f"Bearer {issued['token']}"}
        for headers in (
            {},
            {"Authorization": "Bearer"},
            {"Authorization": issued["token"]},
            {"Authorization": f"Basic {issued['token']}"},
            {"Authorization": f"Bearer {issued['token'][:-1]}"},
            {"Authorization": f"Bearer {issued['token']}x"},
        ):
            refused = await post(address, headers)
            assert refused.status_code == 401, headers
            assert refused.json()["error"]["code"] == ("key_invalid" if headers else "key_required")
            assert refused.headers["WWW-Authenticate"] == "Bearer"
            assert issued["token"] not in refused.text
        assert (await post(address, good)).status_code != 401
        async with httpx.AsyncClient() as http:
            assert (await http.get(f"{address}/healthz")).json() == {"ok": True}
        answer(command("identity", "key", "revoke", issued["key_id"], "--reason", "test", "--json"))
        assert (await post(address, good)).status_code == 401, "revoked at once, also for a running server"
        assert (await post(address, {})).status_code == 401, "the last key's end does not open the door"


async def test_two_keys_at_once_are_two_callers_for_tools_gate_and_log(
    serve_http: ServeHttp, command: RunCommand, home: Home
) -> None:
    answer(command("identity", "enroll", "bat", "--agent", "--role", "researcher", "--json"))
    answer(command("identity", "enroll", "cat", "--agent", "--role", "reader", "--json"))
    tokens = {agent: key(command, agent)["token"] for agent in ("agent-1", "bat", "cat")}
    rounds = 6
    with serve_http("--toolsets", "all") as address:

        async def work(agent: str, mode: str) -> None:
            async with (
                bearer(tokens[agent]) as http,
                Client(streamable_http_client(f"{address}/mcp", http_client=http), mode=mode) as client,
            ):
                for number in range(rounds):
                    written = await client.call_tool(
                        "memory_write", {"kind": "note", "text": f"{agent} {mode} writes {number}"}
                    )
                    assert not written.is_error, text(written)

        async with anyio.create_task_group() as tasks:
            for agent in ("agent-1", "bat"):
                for mode in ("auto", "legacy"):
                    tasks.start_soon(work, agent, mode)

        async with (
            bearer(tokens["cat"]) as http,
            Client(streamable_http_client(f"{address}/mcp", http_client=http)) as client,
        ):
            served = {tool.name for tool in (await client.list_tools()).tools}
            assert {"trading_halt", "status_get", "market_search"} <= served
            assert served & {"memory_write", "strategy_save", "orders_preview", "orders_submit"} == set()
            refused = await client.call_tool("memory_write", {"kind": "note", "text": "cat writes"})
            assert text(refused).startswith("role_not_enough: cat of owner has the role reader")
            halted = await client.call_tool("trading_halt", {"reason": "cat stops it", "symbol": "AAPL"})
            assert halted.structured_content is not None
            assert halted.structured_content["scope"] == "symbol AAPL"
        async with (
            bearer(tokens["bat"]) as http,
            Client(streamable_http_client(f"{address}/mcp", http_client=http)) as client,
        ):
            order = {"symbol": "AAPL", "side": "buy", "quantity": "1", "reason": "x"}
            assert text(await client.call_tool("orders_preview", order)).startswith("role_not_enough: ")
            answer(command("identity", "retire", "bat", "--agent", "--json"))
            assert text(await client.call_tool("market_search", {"query": "x"})).startswith("not_enrolled: ")

    services = Services(home, Settings(), WallClock())
    try:
        with services.store.read() as connection:
            rows = connection.execute(
                "SELECT agent, entry FROM audit_entries WHERE type IN ('memory.write', 'kill')"
            ).fetchall()
    finally:
        services.close()
    by_agent = {agent: [json.loads(entry) for one, entry in rows if one == agent] for agent, _ in rows}
    assert {agent: len(entries) for agent, entries in by_agent.items()} == {
        "agent-1": 2 * rounds,
        "bat": 2 * rounds,
        "cat": 1,
    }


def test_rows_that_do_not_verify_are_named(command: RunCommand, home: Home) -> None:
    shown = answer(command("identity", "list", "--json"))
    assert [row["name"] for row in shown["enrolled"]] == ["owner", "agent-1"]
    assert shown["unverified"] == []
    services = Services(home, Settings(), WallClock())
    try:
        with services.store.unit() as unit:
            unit.connection.execute("UPDATE principals SET document = replace(document, 'trader', 'reader')")
    finally:
        services.close()
    assert answer(command("identity", "list", "--json"))["unverified"] == ["agent agent-1", "person owner"]


async def test_a_stranger_agent_gets_status_and_halt_and_nothing_else(home: Home) -> None:
    async with (
        open_desk(home, Settings(agent="stranger")) as services,
        Client(build_server(services, toolsets="all")) as client,
    ):
        assert {tool.name for tool in (await client.list_tools()).tools} == {"status_get", "trading_halt"}
        refused = await client.call_tool("market_search", {"query": "AAPL"})
        assert text(refused).startswith("not_enrolled: the agent stranger of owner is not enrolled")
        assert "identity enroll stranger --agent" in text(refused)
        assert not (await client.call_tool("trading_halt", {"reason": "drill"})).is_error


async def test_a_second_approver_signs_where_his_key_is_and_the_desk_takes_the_signature(
    command: RunCommand, home: Home, tmp_path: Path
) -> None:
    made = answer(command("identity", "keygen", "bob", "--out", str(tmp_path), "--json"))
    enroll = ("identity", "enroll", "bob", "--role", "approver", "--vkey", made["vkey_file"], "--json")
    assert answer(command(*enroll))["vkey"] == made["vkey"]
    async with open_desk(home, Settings()) as services:
        order = {"symbol": "AAPL", "side": "buy", "quantity": "30", "reason": "bob shall see it"}
        preview_id = (await services.call("orders_preview", **order))["preview_id"]
    approve = ("orders", "approve", preview_id, "--as", "bob")
    assert "approver_key_mismatch" in command(*approve, "--key", str(home.approver_key)).stderr
    request = str(tmp_path / "request.json")
    answer(command(*approve, "--request", request, "--json"))
    assert "approver_key_mismatch" in command(*approve, "--signed", request).stderr, "nobody signed it yet"
    shown = command("orders", "sign", request, "--key", made["key"])
    assert shown.stdout.startswith("buy 30 AAPL (market) on paper by agent-1 of owner, about ")
    taken = answer(command(*approve, "--signed", request, "--json"))
    assert (taken["person"], taken["missing"]) == ("bob", 0)
    answer(command("identity", "retire", "bob", "--json"))
    async with open_desk(home, Settings()) as services:
        with pytest.raises(RiskError, match="approver_not_enrolled"):
            await services.call("orders_submit", preview_id=preview_id)
        answer(command(*enroll))
        assert (await services.call("orders_submit", preview_id=preview_id))["state"] == "filled"


def test_a_scoped_halt_is_shown_and_released_on_the_command_line(command: RunCommand) -> None:
    halted = answer(command("halt", "--reason", "odd prices", "--symbol", "aapl", "--json"))
    assert halted["scope"] == "symbol AAPL"
    assert answer(command("orders", "list", "--json"))["halts"] == [
        {"scope": "symbol AAPL", "reason": "odd prices"}
    ]
    assert "not_halted" in command("resume").stderr
    released = answer(command("resume", "--symbol", "AAPL", "--json"))
    assert released == {"halted": False, "scope": "symbol AAPL", "standing": []}
