"""The served exchange: kept across restarts, bounded, and clear about what it does not do."""

import asyncio
import json
import sqlite3
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

import httpx
import pytest
from tests.tools.brokers.exchange.api.conftest import KEY, SECRET, Served
from websockets.asyncio.client import connect

from neural_trader_governance.errors import ConfigurationError, StorageError
from neural_trader_tools.brokers.exchange.keeping import Keeper

ORDER = {"symbol": "A", "qty": "10", "side": "buy", "type": "market", "time_in_force": "gtc"}


def test_the_outside_judges_are_installed(lacking: Callable[[str], NoReturn]) -> None:
    for name in ("alpaca", "alpaca_mcp_server", "jsonschema"):
        if find_spec(name) is None:
            lacking(f"{name} is not installed: make peers")


def test_it_goes_on_where_it_stopped(tmp_path: Path) -> None:
    path = tmp_path / "exchange.db"
    with Served(path).serve() as first, first.client() as client:
        first.quote(99.99, 100.00)
        bought = client.post("/v2/orders", json=ORDER | {"client_order_id": "one"}).json()
        resting = client.post("/v2/orders", json=ORDER | {"type": "limit", "limit_price": "90"}).json()
        before = (client.get("/v2/account").json(), client.get("/v2/orders?status=all").json())
    with Served(path).serve() as second, second.client() as client:
        second.quote(99.99, 100.00)
        assert (client.get("/v2/account").json(), client.get("/v2/orders?status=all").json()) == before
        again = client.post("/v2/orders", json=ORDER | {"client_order_id": "one"})
        assert (again.status_code, again.json()["message"]) == (422, "client_order_id must be unique")
        second.quote(89, 89.5)
        assert client.get(f"/v2/orders/{resting['id']}").json()["status"] == "filled"
        fills = client.get("/v2/account/activities/FILL").json()
        assert {fill["order_id"] for fill in fills} == {bought["id"], resting["id"]}
        assert len({fill["id"] for fill in fills}) == 2


def test_another_seed_or_an_unusable_file_is_refused(tmp_path: Path) -> None:
    Keeper(tmp_path / "exchange.db", seed=1)
    with pytest.raises(ConfigurationError, match="was made with seed 1"):
        Keeper(tmp_path / "exchange.db", seed=2)
    (tmp_path / "broken.db").write_bytes(b"no database" * 1000)
    with pytest.raises(StorageError, match=r"broken\.db cannot be used"):
        Keeper(tmp_path / "broken.db", seed=1)


def test_what_cannot_be_written_down_is_not_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "exchange.db"
    with Served(path).serve() as served, served.client() as client:
        served.quote(99.99, 100.00)
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("DROP TABLE orders")
        answer = client.post("/v2/orders", json=ORDER)
        assert (answer.status_code, answer.json()["code"]) == (500, 50010000)
        assert client.post("/v2/orders", json=ORDER).status_code == 500, "it takes nothing more"
        connection.close()


def test_requests_beyond_the_rate_are_refused_and_the_rest_is_told(tmp_path: Path) -> None:
    with Served(tmp_path / "exchange.db", per_minute=3).serve() as served, served.client() as client:
        answers = [client.get("/v2/clock") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert [answer.headers["x-ratelimit-remaining"] for answer in answers] == ["2", "1", "0", "0"]
    assert {answer.headers["x-ratelimit-limit"] for answer in answers} == {"3"}


@pytest.mark.parametrize(
    ("body", "status", "why"),
    [
        (b"{", 400, "format is invalid"),
        (b"[]", 400, "format is invalid"),
        (b'{"qty": NaN}', 400, "format is invalid"),
        (b"[" * 60_000, 400, "format is invalid"),
        (b" " * 70_000, 413, "longer than"),
        (json.dumps(ORDER | {"qty": "\u0661"}).encode(), 422, "qty"),
        (json.dumps(ORDER | {"qty": True}).encode(), 422, "qty"),
        (json.dumps(ORDER | {"qty": 0.1 + 0.2}).encode(), 422, "nine decimal places"),
        (json.dumps(ORDER | {"symbol": ""}).encode(), 422, "symbol"),
        (json.dumps({}).encode(), 422, "symbol"),
    ],
)
def test_malformed_requests_change_nothing(served: Served, body: bytes, status: int, why: str) -> None:
    with served.client() as client:
        answer = client.post("/v2/orders", content=body)
        assert answer.status_code == status
        assert why in answer.json()["message"]
        assert client.get("/v2/orders?status=all").json() == []


def test_what_is_not_served_says_so(served: Served) -> None:
    with served.client() as client:
        answer = client.get("/v2/options/contracts")
        assert (answer.status_code, "does not serve" in answer.json()["message"]) == (404, True)
        assert client.get("/v2/orders?status=odd").status_code == 422
        assert client.get("/v2/orders?limit=0").status_code == 422
        assert client.get("/v2/orders?after=yesterday").status_code == 422
        assert client.get("/v2/positions/A").json()["message"] == "position does not exist"
    assert httpx.get(served.url + "/v2/account", trust_env=False).status_code == 401
    assert httpx.get(served.url + "/healthz", trust_env=False).json() == {"ok": True}


def test_nobody_listens_without_a_key(served: Served) -> None:
    async def story() -> list[Any]:
        told: list[Any] = []
        async with connect(served.url.replace("http", "ws") + "/stream") as socket:

            async def ask(message: Any) -> None:
                await socket.send(message if isinstance(message, str) else json.dumps(message))
                told.append(json.loads(await socket.recv()))

            await ask({"action": "listen", "data": {"streams": ["trade_updates"]}})
            await ask("garbage")
            await ask({"action": "authenticate", "data": {"key_id": KEY, "secret_key": "wrong"}})
            await ask({"action": "authenticate", "data": {"key_id": KEY, "secret_key": SECRET}})
            await ask({"action": "listen", "data": {"streams": ["trade_updates", "odd"]}})
        return told

    told = asyncio.run(story())
    assert [each["data"].get("status") for each in told[:4]] == ["unauthorized"] * 3 + ["authorized"]
    assert told[4] == {"stream": "listening", "data": {"streams": ["trade_updates"]}}
