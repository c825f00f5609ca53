"""The paper exchange as somebody runs it: served from the command line, traded on, stopped, gone on with."""

import json
import os
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import anyio
import httpx
import pytest

from neural_trader_server.home import Home
from neural_trader_tools.bus.feed import FeedPublisher
from neural_trader_tools.bus.local import LocalBus
from neural_trader_tools.bus.subjects import FAMILIES
from neural_trader_tools.market.feed.ticks import SECOND_NS, Quote

pytestmark = pytest.mark.anyio


@contextmanager
def served(home: Home, starter: Any, *words: str) -> Generator[dict[str, Any]]:
    """Runs `exchange serve` and yields what it says of itself; ends it as Ctrl-C does."""
    options = ("--port", "0", "--every-s", "0", "--json", *words)
    process = starter.popen(
        *("exchange", "serve", *options),
        environment={**os.environ, "NEURAL_TRADER_HOME": str(home.path)},
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, "it ended before it served"
        yield json.loads(line)
    finally:
        process.terminate()
        process.wait(timeout=30)
        for stream in (process.stdout, process.stderr):
            if stream:
                stream.close()
    assert process.returncode == 0


def test_an_order_rests_over_a_restart_and_is_filled_by_a_later_bar(
    home: Home, starter: Any, command: Any
) -> None:
    # Round the clock: the calendar of New York takes seconds to load, and other tests have it.
    words = ("--symbol", "AAPL", "--start", "2012-06-04T22:00:00Z", "--calendar", "24/7")
    with served(home, starter, *words) as there:
        keys = {"APCA-API-KEY-ID": there["key_id"], "APCA-API-SECRET-KEY": there["secret_key"]}
        with httpx.Client(base_url=there["url"], headers=keys, trust_env=False) as client:
            order = {"symbol": "AAPL", "qty": "10", "time_in_force": "gtc"}
            first = client.post("/v2/orders", json=order | {"side": "buy", "type": "market"}).json()
            stepped = command("exchange", "step", "1", "--url", there["url"], "--json")
            assert json.loads(stepped.stdout)["time"] == "2012-06-05T20:00:00Z"
            assert client.get(f"/v2/orders/{first['id']}").json()["filled_avg_price"] == "561.27"
            above = {"side": "sell", "type": "limit", "limit_price": "585"}
            resting = client.post("/v2/orders", json=order | above).json()
            second = command("exchange", "serve", "--port", "0")
            assert (second.returncode, "exchange_serves_already" in second.stderr) == (1, True)
    assert (home.path / "exchange" / "key.json").stat().st_mode & 0o777 == 0o600
    with served(home, starter, *words) as again:
        assert (again["key_id"], again["secret_key"]) == (there["key_id"], there["secret_key"])
        with httpx.Client(base_url=again["url"], headers=keys, trust_env=False) as client:
            assert client.get("/v2/positions/AAPL").json()["qty"] == "10"
            assert client.get(f"/v2/orders/{resting['id']}").json()["status"] == "new"
            market = client.post("/market/step?count=30").json()
            assert market["played"] == 30
            sold = client.get(f"/v2/orders/{resting['id']}").json()
            assert (sold["status"], sold["filled_avg_price"], sold["filled_at"]) == (
                "filled",
                "587.72",
                "2012-06-11T20:00:00Z",
            )
    away = command("exchange", "step", "--url", again["url"])
    assert (away.returncode, "exchange_unreachable" in away.stderr) == (1, True)


async def test_a_running_feed_is_its_market_and_silence_halts_it(home: Home, starter: Any) -> None:
    bus = LocalBus(home.bus_db, on_disk=FAMILIES)
    told = FeedPublisher(bus, "all")
    words = ("--symbol", "AAPL", "--live", "--calendar", "24/7", "--stale-s", "20")
    with served(home, starter, *words) as there:
        keys = {"APCA-API-KEY-ID": there["key_id"], "APCA-API-SECRET-KEY": there["secret_key"]}
        async with httpx.AsyncClient(base_url=there["url"], headers=keys, trust_env=False) as client:
            assert (await client.get("/market")).json()["halted"] == ["AAPL"]
            terms = {"symbol": "AAPL", "side": "buy", "type": "limit", "limit_price": "200", "qty": "3"}
            placed = (await client.post("/v2/orders", json=terms | {"time_in_force": "day"})).json()
            old_ns = time.time_ns() - 60 * SECOND_NS
            await told([Quote("AAPL", 99.0, 500.0, 99.5, 500.0, old_ns, old_ns, "V")])
            with anyio.fail_after(60):
                while True:
                    now_ns = time.time_ns()
                    await told([Quote("AAPL", 189.9, 500.0, 190.0, 500.0, now_ns, now_ns, "V")])
                    order = (await client.get(f"/v2/orders/{placed['id']}")).json()
                    if order["filled_at"] is not None:
                        break
                    await anyio.sleep(0.05)
            assert order["filled_avg_price"] == "200", "its limit, which the fresh quote crossed"
            assert (await client.get("/market")).json()["passed_over"]["stale"] >= 1
            assert (await client.post("/market/step")).status_code == 422
    await bus.aclose()
