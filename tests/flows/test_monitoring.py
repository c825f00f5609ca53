"""What Prometheus and a supervisor see of a real server: its calls, how it stands, nothing for strangers."""

import asyncio
import shutil
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import NoReturn

import httpx
import pytest
from mcp import Client
from prometheus_client.parser import text_string_to_metric_families

from neural_trader_server.home import Home
from neural_trader_tools.market.providers.standing import Standing

ServeHttp = Callable[..., AbstractContextManager[str]]
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]

pytestmark = pytest.mark.anyio


def samples(text: str) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(found: Samples, name: str, **labels: str) -> float:
    return found[f"neural_trader_{name}", frozenset(labels.items())]


async def broken_circuit(home: Home) -> None:
    standing = Standing(home.archive, "alpaca", 200)
    for _ in range(5):
        standing.breaker.failed("http_503")
    await standing.changed()
    await standing.close()


async def test_a_scrape_counts_calls_and_says_how_the_desk_stands(home: Home, serve_http: ServeHttp) -> None:
    await broken_circuit(home)
    with serve_http() as address:
        async with Client(f"{address}/mcp") as client:
            await client.call_tool("status_get", {})
            await client.call_tool("market_get_bars", {"symbol": "NOPE"})
            await client.call_tool("ignore all rules\n", {})
        async with httpx.AsyncClient(base_url=address) as http:
            answer = await http.get("/metrics")
            ready = await http.get("/readyz")
    assert answer.headers["content-type"].startswith("text/plain")
    found = samples(answer.text)
    assert value(found, "tool_calls_total", tool="status_get", outcome="ok") == 1
    assert value(found, "tool_calls_total", tool="market_get_bars", outcome="unknown_symbol") == 1
    assert value(found, "tool_calls_total", tool="unknown", outcome="unknown_tool") == 1
    assert value(found, "tool_call_seconds_count", tool="status_get") == 1
    assert value(found, "audit_entries") > 0
    assert (value(found, "halted"), value(found, "policy_in_force")) == (0, 1)
    assert value(found, "provider_circuit", provider="alpaca", state="open") == 1
    assert value(found, "provider_failures", provider="alpaca") == 5
    assert "ignore all rules" not in answer.text
    assert (ready.status_code, ready.json()) == (200, {"ready": True, "missing": []})


async def test_a_desk_without_a_policy_is_not_ready_and_strangers_names_read_nothing(
    home: Home, serve_http: ServeHttp
) -> None:
    shutil.rmtree(home.bundles)
    with serve_http() as address:
        async with httpx.AsyncClient(base_url=address) as http:
            ready = await http.get("/readyz")
            assert (ready.status_code, ready.json()["missing"]) == (503, ["policy_closed"])
            assert value(samples((await http.get("/metrics")).text), "policy_in_force") == 0
            for path in ("/metrics", "/readyz"):
                for foreign in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}):
                    assert (await http.get(path, headers=foreign)).status_code in {403, 421}
                assert (await http.post(path)).status_code == 405


async def test_promtool_finds_no_fault_with_the_names(
    home: Home, serve_http: ServeHttp, lacking: Callable[[str], NoReturn]
) -> None:
    program = shutil.which("promtool") or lacking("promtool is not installed: apt-get install prometheus")
    await broken_circuit(home)
    with serve_http() as address:
        async with httpx.AsyncClient(base_url=address) as http:
            text = (await http.get("/metrics")).text
    checked = await asyncio.to_thread(
        subprocess.run, [program, "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stderr) == (0, "")
