"""Strangers at the door: another's session, another's name, another's order, over real HTTP."""

import json
import sqlite3
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from subprocess import CompletedProcess
from typing import Any

import httpx
import pytest

from neural_trader_server.app import open_desk
from neural_trader_server.home import Home
from neural_trader_server.settings import Settings

ServeHttp = Callable[..., AbstractContextManager[str]]
RunCommand = Callable[..., "CompletedProcess[str]"]

pytestmark = pytest.mark.anyio
ACCEPT = {"Accept": "application/json, text/event-stream"}
HELLO: dict[str, object] = {
    "jsonrpc": "2.0",
    "id": 0,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "by hand", "version": "1"},
    },
}
LIST: dict[str, object] = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}


def answer(done: "CompletedProcess[str]") -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def bearer(command: RunCommand, agent: str) -> dict[str, str]:
    issued = answer(command("identity", "key", "issue", "--agent", agent, "--json"))
    return {"Authorization": f"Bearer {issued['token']}"}


async def test_a_session_answers_to_the_caller_who_opened_it_and_to_nobody_else(
    serve_http: ServeHttp, command: RunCommand
) -> None:
    answer(command("identity", "enroll", "bat", "--agent", "--role", "reader", "--json"))
    own, again, other = bearer(command, "agent-1"), bearer(command, "agent-1"), bearer(command, "bat")
    with serve_http() as address:
        async with httpx.AsyncClient(base_url=address, timeout=30) as http:
            opened = await http.post("/mcp", json=HELLO, headers={**ACCEPT, **own})
            session = {"Mcp-Session-Id": opened.headers["mcp-session-id"]}
            for method, body in (("POST", LIST), ("GET", None), ("DELETE", None)):
                taken = await http.request(method, "/mcp", json=body, headers={**ACCEPT, **session, **other})
                assert taken.status_code == 404, method
            for headers in (own, again):  # a caller's new key is still the same caller
                served = await http.post("/mcp", json=LIST, headers={**ACCEPT, **session, **headers})
                assert served.status_code == 200, served.text
            nobody = await http.post("/mcp", json=LIST, headers={**ACCEPT, **session})
            assert nobody.status_code == 401


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2"])
async def test_a_web_page_that_resolves_its_own_name_to_this_machine_is_not_served(
    serve_http: ServeHttp, host: str
) -> None:
    with serve_http("--host", host) as address:
        async with httpx.AsyncClient(base_url=address, timeout=30) as http:
            assert (await http.post("/mcp", json=HELLO, headers=ACCEPT)).status_code == 200
            for stranger in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}):
                refused = await http.post("/mcp", json=HELLO, headers={**ACCEPT, **stranger})
                assert refused.status_code in {403, 421}, stranger


async def test_a_person_cancels_the_order_of_whatever_agent_and_the_log_says_who_did(
    command: RunCommand, home: Home
) -> None:
    answer(
        command("identity", "enroll", "bat", "--agent", "--role", "trader", "--account", "paper", "--json")
    )
    async with open_desk(home, Settings(agent="bat")) as services:
        terms = {"type": "limit", "limit_price": "400.00", "time_in_force": "gtc"}
        order = {"symbol": "AAPL", "side": "buy", "quantity": "1", "reason": "rests", **terms}
        preview_id = (await services.call("orders_preview", **order))["preview_id"]
        order_id = (await services.call("orders_submit", preview_id=preview_id))["client_order_id"]
    assert answer(command("orders", "cancel", order_id, "--json"))["state"] == "canceled"
    async with open_desk(home, Settings()) as services:
        with services.store.read() as connection:
            query = "SELECT entry FROM audit_entries WHERE type = 'broker.cancel'"
            (entry,) = (json.loads(row[0]) for row in connection.execute(query).fetchall())
    assert (entry["principal"], entry["agent"]) == ("owner", "")


def test_nobody_is_served_from_a_log_that_was_edited_while_it_stood_still(
    command: RunCommand, home: Home
) -> None:
    answer(command("halt", "--reason", "drill", "--json"))
    with closing(sqlite3.connect(home.desk_db)) as connection, connection:
        connection.execute("DELETE FROM halts")
    assert answer(command("orders", "list", "--json"))["halts"] == [{"scope": "all", "reason": "drill"}]
    with closing(sqlite3.connect(home.desk_db)) as connection, connection:
        connection.execute("DELETE FROM halts")
        connection.execute("UPDATE audit_entries SET type = 'recon' WHERE type = 'kill'")
    for transport in (("--transport", "http", "--port", "0"), ("--transport", "stdio")):
        refused = command("serve", *transport)
        assert refused.returncode != 0
        assert "audit_log_altered" in refused.stderr
