"""SIGKILL in the middle of submissions, then a new server on the same home: nothing lost, nothing twice."""

import os
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from mcp import Client

from neural_trader_governance.audit.verify import verify_store

pytestmark = pytest.mark.anyio

ORDERS = 18  # policy switches an agent off that sends more than 20 of a kind in 10 minutes
SETTLED = {"filled", "canceled", "rejected"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """Our server as a process of its own, on loopback HTTP."""

    def __init__(self, home: Path) -> None:
        self.port = free_port()
        command = [sys.executable, "-m", "neural_trader_server", "serve", "--transport", "http"]
        self.process = subprocess.Popen(
            [*command, "--port", str(self.port), "--toolsets", "all"],
            env={**os.environ, "NEURAL_TRADER_HOME": str(home)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/mcp"

    async def ready(self) -> None:
        async with httpx.AsyncClient() as http:
            with anyio.fail_after(30):
                while True:
                    assert self.process.poll() is None, "the server ended while starting"
                    try:
                        if (await http.get(f"http://127.0.0.1:{self.port}/healthz")).is_success:
                            return
                    except httpx.TransportError:
                        await anyio.sleep(0.05)

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()


async def call(client: Client, name: str, **arguments: object) -> dict[str, Any]:
    result = await client.call_tool(name, arguments)
    assert not result.is_error, result.content
    assert result.structured_content is not None
    return result.structured_content


async def submit_until_killed(server: Server, kill_after: int) -> list[str]:
    """Submits previews side by side; kills the server after some answers; returns the acknowledged ids."""
    acknowledged: list[str] = []

    async def submit(client: Client, preview_id: str) -> None:
        answer = await call(client, "orders_submit", preview_id=preview_id)
        acknowledged.append(answer["client_order_id"])
        if len(acknowledged) >= kill_after:
            server.kill()

    try:
        async with Client(server.url) as client:
            previews = [
                await call(  # no two alike: policy takes the same order within 10 s for a mistake
                    client,
                    "orders_preview",
                    symbol="AAPL",
                    side="buy",
                    quantity=str(units),
                    reason="kill test",
                )
                for units in range(1, ORDERS + 1)
            ]
            async with anyio.create_task_group() as group:
                for preview in previews:
                    group.start_soon(submit, client, preview["preview_id"])
    except* Exception as failures:  # the client dies with the server; anything earlier is a real failure
        if server.process.poll() is None:
            raise failures from None
    return acknowledged


async def settle(server: Server) -> list[dict[str, Any]]:
    async with Client(server.url) as client:
        with anyio.fail_after(30):
            while True:
                orders = (await call(client, "orders_list", limit=200))["orders"]
                if all(order["state"] in SETTLED for order in orders):
                    return orders
                await anyio.sleep(0.2)


def rows(path: Path, query: str) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def check_home(home: Path, orders: list[dict[str, Any]], acknowledged: list[str]) -> None:
    states = {order["client_order_id"]: order["state"] for order in orders}
    assert set(acknowledged) <= set(states), "an acknowledged order was lost"
    assert {states[order] for order in acknowledged} <= {"filled"}
    filled = {order for order, state in states.items() if state == "filled"}
    venue = Counter(row[0] for row in rows(home / "paper.db", "SELECT client_order_id FROM venue_fills"))
    booked = Counter(row[0] for row in rows(home / "desk.db", "SELECT client_order_id FROM fills"))
    assert venue == booked == Counter(dict.fromkeys(filled, 1)), "lost or booked twice"
    logged = rows(home / "desk.db", "SELECT client_order_id FROM audit_entries WHERE type = 'broker.fill'")
    assert Counter(row[0] for row in logged) == booked
    cash, opening = rows(home / "desk.db", "SELECT cash, opening_cash FROM accounts")[0]
    moved = rows(home / "desk.db", "SELECT COALESCE(SUM(cash), 0) FROM fills")[0][0]
    assert cash == opening + moved
    assert verify_store(home / "desk.db", (home / "keys" / "log.vkey").read_text().strip()).ok


async def tell(home: Path, kill_after: int) -> None:
    server = Server(home)
    try:
        await server.ready()
        acknowledged = await submit_until_killed(server, kill_after)
    finally:
        server.kill()
    again = Server(home)
    try:
        await again.ready()
        check_home(home, await settle(again), acknowledged)
    finally:
        again.kill()


@pytest.mark.parametrize("kill_after", [1, 9])
async def test_a_killed_server_loses_nothing_and_duplicates_nothing(
    sample_archive_root: Path, tmp_path: Path, kill_after: int
) -> None:
    shutil.copytree(sample_archive_root, tmp_path / "archive")
    await tell(tmp_path, kill_after)


@pytest.mark.slow
async def test_thirty_kills_at_random_points(sample_archive_root: Path, tmp_path: Path) -> None:
    points = random.Random(20261122)  # noqa: S311 - where to kill, not a secret
    for round_ in range(30):
        home = tmp_path / str(round_)
        home.mkdir()
        shutil.copytree(sample_archive_root, home / "archive")
        await tell(home, points.randint(1, ORDERS - 1))
