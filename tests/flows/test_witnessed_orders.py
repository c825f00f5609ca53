"""Orders under a pinned witness: allowed while it answers, denied after too long a silence, and denied for
good where the log was put back to an older copy."""

import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from mcp import Client

from neural_trader_governance.terms.clocks import SimulatedClock
from neural_trader_server.app import build_server, open_desk
from neural_trader_server.home import Home
from neural_trader_server.listening import running
from neural_trader_server.settings import Settings

pytestmark = pytest.mark.anyio
RunCommand = Callable[..., "subprocess.CompletedProcess[str]"]
ServeHttp = Callable[..., Any]


@pytest.fixture
def witness(
    home: Home, tmp_path: Path, command: RunCommand, starter: Any
) -> Iterator["subprocess.Popen[str]"]:
    """A witness that serves from its own process and folder, pinned by the test's home."""
    folder = tmp_path / "witness"
    words = ("witness", "serve", "--folder", str(folder), "--port", "0", "--log-vkey", str(home.log_vkey))
    process = starter.popen(*words, environment={**os.environ, "NEURAL_TRADER_LOG_FORMAT": "json"})
    assert process.stderr is not None
    said = next(line for line in process.stderr if '"witnessing"' in line)
    url = re.search(r"http://127\.0\.0\.1:\d+", said)
    assert url is not None
    pinned = command("witness", "pin", str(folder / "witness.vkey"), "--url", url[0])
    assert pinned.returncode == 0, pinned.stderr
    yield process
    if process.poll() is None:
        stop(process)
    for stream in (process.stdout, process.stderr):
        if stream:
            stream.close()


def stop(process: "subprocess.Popen[str]") -> None:
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0


async def preview(client: Client, units: int) -> dict[str, Any]:
    result = await client.call_tool(
        "orders_preview", {"symbol": "AAPL", "side": "buy", "quantity": str(units), "reason": "a test"}
    )
    assert result.structured_content is not None, result.content
    return result.structured_content


async def submit(client: Client, units: int) -> str:
    """Previews and submits; returns the order's state, or the error's text."""
    previewed = await preview(client, units)
    result = await client.call_tool("orders_submit", {"preview_id": previewed["preview_id"]})
    answer: dict[str, Any] | None = result.structured_content
    return str(answer["state"] if answer else getattr(result.content[0], "text", ""))


def rules(previewed: dict[str, Any]) -> list[str]:
    return [reason["rule"] for reason in previewed["verdict"]["reasons"]]


async def test_a_witness_that_falls_silent_stops_new_orders_after_its_bound_and_no_earlier(
    home: Home, witness: "subprocess.Popen[str]"
) -> None:
    clock = SimulatedClock(datetime.now(UTC))
    async with (
        open_desk(home, Settings(), clock=clock) as services,
        running(services),
        Client(build_server(services, toolsets="all")) as client,
    ):
        assert await submit(client, 1) == "filled"
        stop(witness)
        clock.advance(timedelta(seconds=890))
        in_time = await preview(client, 2)
        assert rules(in_time) == [], "900 s are granted: a witness may restart"
        clock.advance(timedelta(seconds=11))
        late = await preview(client, 3)
        assert rules(late) == ["witness_late"]
        assert "at most 900 s is accepted" in late["verdict"]["reasons"][0]["message"]
        refused = await client.call_tool("orders_submit", {"preview_id": in_time["preview_id"]})
        assert refused.is_error, "what was previewed in time is judged again"
        halted = await client.call_tool("trading_halt", {"reason": "the witness is gone"})
        assert not halted.is_error, "to stop needs no witness"


async def test_a_desk_that_was_put_back_sells_and_buys_nothing_however_often_its_server_starts(
    home: Home,
    witness: "subprocess.Popen[str]",
    serve_http: ServeHttp,
    command: RunCommand,
    tmp_path: Path,
) -> None:
    older = tmp_path / "older.db"
    async with open_desk(home, Settings()) as services:
        services.store.snapshot(older)
    with serve_http("--toolsets", "all") as address:
        async with Client(f"{address}/mcp") as client:
            assert await submit(client, 1) == "filled"
    cosigned = command("witness", "cosign", "--json")
    assert cosigned.returncode == 0, cosigned.stderr
    for path in home.path.glob("desk.db*"):
        path.unlink()
    older.rename(home.desk_db)
    for _ in range(2):
        with serve_http("--toolsets", "all") as address:
            async with Client(f"{address}/mcp") as client:
                denied = await preview(client, 2)
                assert "witness_inconsistent" in rules(denied)
                assert (await submit(client, 3)).startswith("preview_denied: ")
                shown = await client.call_tool("portfolio_get", {})
                assert not shown.is_error, "to read is still possible"
    assert command("doctor").returncode == 1
