"""stdio belongs to the protocol: nothing but JSON-RPC on stdout, an orderly end when stdin closes."""

import json
import os
import signal
import subprocess
import sys
from typing import Any

import pytest

from neural_trader_server.home import Home

HELLO = {
    "protocolVersion": "2025-11-25",
    "capabilities": {},
    "clientInfo": {"name": "test", "version": "0"},
}


def start(home: Home) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "neural_trader_server", "serve", "--toolsets", "all"],
        env={**os.environ, "NEURAL_TRADER_HOME": str(home.path), "NEURAL_TRADER_LOG_LEVEL": "debug"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def request(number: int, method: str, params: dict[str, Any]) -> str:
    return json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params}) + "\n"


def call(number: int, tool: str, **arguments: object) -> str:
    return request(number, "tools/call", {"name": tool, "arguments": arguments})


def converse(server: "subprocess.Popen[str]", lines: list[str]) -> list[dict[str, Any]]:
    """Sends each request and reads its answer; every line on stdout must be JSON-RPC."""
    assert server.stdin is not None
    assert server.stdout is not None
    answers: list[dict[str, Any]] = []
    for line in lines:
        server.stdin.write(line)
        server.stdin.flush()
        if '"id"' in line:
            answer = json.loads(server.stdout.readline())
            assert answer["jsonrpc"] == "2.0"
            answers.append(answer)
    return answers


def opening() -> list[str]:
    initialized = json.dumps({"jsonrpc": "2.0", "method": "notifications/initialized"}) + "\n"
    return [request(1, "initialize", HELLO), initialized]


def test_stdout_carries_the_protocol_and_nothing_else(home: Home) -> None:
    noisy = "print('noise')\ndef signals(bars):\n    print('more')\n    return None\n"
    server = start(home)
    answers = converse(
        server,
        [
            *opening(),
            request(2, "tools/list", {}),
            call(3, "status_get"),
            call(4, "features_compute", symbol="AAPL", features=["rsi(14)"]),
            call(5, "strategy_check", source=noisy, symbol="AAPL"),
            call(6, "memory_search", query="anything"),
            call(7, "market_get_bars", symbol="NOPE"),
        ],
    )
    assert [answer["id"] for answer in answers] == [1, 2, 3, 4, 5, 6, 7]
    assert all("result" in answer for answer in answers)
    out, err = server.communicate(timeout=30)
    assert out == ""
    assert server.returncode == 0, err[-2000:]
    assert '"serving"' in err
    assert '"tool_call"' in err


def test_not_json_is_answered_or_ignored_and_does_not_end_the_server(home: Home) -> None:
    server = start(home)
    converse(server, opening())
    assert server.stdin is not None
    server.stdin.write("this is no JSON\n")
    server.stdin.write('{"jsonrpc": "2.0", "id": 8, "method": "no/such/method"}\n')
    server.stdin.write(call(9, "portfolio_get"))
    server.stdin.flush()
    assert server.stdout is not None
    seen: list[dict[str, Any]] = []
    while not any(message.get("id") == 9 for message in seen):
        seen.append(json.loads(server.stdout.readline()))
    assert "result" in next(message for message in seen if message.get("id") == 9)
    server.communicate(timeout=30)
    assert server.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_server_in_order(home: Home, number: signal.Signals) -> None:
    server = start(home)
    converse(server, [*opening(), call(2, "portfolio_get")])
    server.send_signal(number)
    try:
        server.wait(timeout=20)
    finally:
        server.kill()
        _, err = server.communicate()
    assert server.returncode == 0, err[-2000:]
    assert "Traceback" not in err
