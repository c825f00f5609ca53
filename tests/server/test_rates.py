"""Rates: a caller gets its burst and its rate, never more, also from several processes."""

import os
from collections.abc import AsyncGenerator
from typing import Any

import anyio
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Receive, Scope, Send

from neural_trader_governance.identity import Caller
from neural_trader_server.bounds import BoundRequests
from neural_trader_server.calling import SCOPE_KEY
from neural_trader_server.rates import LimitRates, Rates


class Stopwatch:
    def __init__(self) -> None:
        self.seconds = 1_000.0

    def __call__(self) -> float:
        return self.seconds


@given(
    per_s=st.floats(0.1, 1e4),
    burst=st.integers(1, 50),
    pauses=st.lists(st.floats(0, 3), min_size=1, max_size=120),
)
def test_no_span_of_time_holds_more_than_its_burst_and_rate(
    per_s: float, burst: int, pauses: list[float]
) -> None:
    watch = Stopwatch()
    rates = Rates(per_s, burst, watch)
    taken: list[float] = []
    for pause in pauses:
        watch.seconds += pause
        wait_s = rates.take("a")
        assert 0 <= wait_s <= 1 / per_s + 1e-6
        if wait_s == 0:
            taken.append(watch.seconds)
    rates.close()
    for first, begin in enumerate(taken):
        for last in range(first, len(taken)):
            most = burst + (taken[last] - begin) * per_s
            assert last - first + 1 <= most + 1e-3


def test_whoever_waits_as_long_as_told_is_let_in_and_others_are_not_touched() -> None:
    watch = Stopwatch()
    rates = Rates(2, 3, watch)
    assert [rates.take("a") for _ in range(3)] == [0, 0, 0]
    wait_s = rates.take("a")
    assert wait_s == pytest.approx(0.5)
    assert rates.take("b") == 0
    watch.seconds += wait_s
    assert rates.take("a") == 0
    assert rates.take("a") > 0
    watch.seconds += 1_000
    assert [rates.take("a") == 0 for _ in range(4)] == [True, True, True, False], (
        "who waits long saves nothing up"
    )
    assert [Rates(0, 1, watch).take("a") for _ in range(3)] == [0, 0, 0], "0 is no limit"


def test_a_table_full_of_callers_forgets_those_first_whose_buckets_are_full() -> None:
    watch = Stopwatch()
    rates = Rates(1, 5, watch)
    while rates.take("busy") == 0:
        pass
    watch.seconds += 1
    assert rates.take("busy") == 0
    for number in range(20_000):
        assert rates.take(f"agent-{number}") == 0, "no caller pays for another"
    rates.close()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_processes_share_one_bucket() -> None:
    rates = Rates(0.001, 100)
    children: list[int] = []
    for _ in range(4):
        child = os.fork()
        if child == 0:
            os._exit(sum(rates.take("a") == 0 for _ in range(100)))
        children.append(child)
    assert sum(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children) == 100


async def served(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the body that came."""
    message = await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": message["body"]})


def client(app: Any, agent: str = "agent-1") -> httpx.AsyncClient:
    async def authenticated(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, SCOPE_KEY: Caller("owner", agent)}, receive, send)

    return httpx.AsyncClient(transport=httpx.ASGITransport(authenticated), base_url="http://127.0.0.1:1")


def call(tool: str) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": tool, "arguments": {}}}


@pytest.mark.anyio
async def test_an_empty_bucket_answers_when_to_come_again_and_stops_pass() -> None:
    watch = Stopwatch()
    app = BoundRequests(LimitRates(served, Rates(0.1, 2, watch), Rates(1, 2, watch)))
    async with client(app) as http, client(app, "agent-2") as other:
        for _ in range(2):
            assert (await http.post("/mcp", json=call("status_get"))).status_code == 200
        refused = await http.post("/mcp", json=call("status_get"))
        assert (refused.status_code, refused.headers["Retry-After"]) == (429, "10")
        assert refused.json()["id"] == 7
        assert refused.json()["error"]["message"].startswith("rate_limited: agent-1 of owner asks more often")
        for tool in ("trading_halt", "orders_cancel"):
            passed = await http.post("/mcp", json=call(tool))
            assert (passed.status_code, passed.json()) == (200, call(tool)), "the body is still whole"
        assert (await http.post("/mcp", json=call("trading_halt"))).status_code == 429, (
            "stops are bounded, too"
        )
        for odd in (b"", b"[]", b"{", b'{"method": "tools/call", "params": []}'):
            assert (await http.post("/mcp", content=odd)).status_code == 429
        assert (await http.get("/healthz")).status_code == 200
        assert (await other.post("/mcp", json=call("status_get"))).status_code == 200
        watch.seconds += 10
        assert (await http.post("/mcp", json=call("status_get"))).status_code == 200


async def slowly() -> AsyncGenerator[bytes]:
    yield b"a"
    await anyio.sleep_forever()


@pytest.mark.anyio
async def test_a_body_too_long_or_too_slow_is_read_by_nobody() -> None:
    reached: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        reached.append(scope["path"])
        await served(scope, receive, send)

    def transport(within_s: float) -> httpx.ASGITransport:
        return httpx.ASGITransport(BoundRequests(app, 1_000, within_s))

    async with httpx.AsyncClient(transport=transport(60), base_url="http://x") as http:
        assert (await http.post("/fits", content=b"x" * 1_000)).content == b"x" * 1_000
        long = await http.post("/long", content=b"x" * 1_001)
        assert (long.status_code, long.json()["error"]["code"]) == (413, "request_too_large")
        assert (await http.post("/huge", content=b"x" * 100_000)).status_code == 413
    async with httpx.AsyncClient(transport=transport(0.01), base_url="http://x") as http:
        slow = await http.post("/slow", content=slowly())
        assert (slow.status_code, slow.json()["error"]["code"]) == (408, "request_too_slow")
        assert slow.headers["Connection"] == "close"
    assert reached == ["/fits"]
