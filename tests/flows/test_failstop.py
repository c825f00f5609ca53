"""A disk that fails under a serving desk: it says so once, ends itself, and a supervisor sees a failure."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import anyio
import pytest
from mcp import Client

from neural_trader_governance.audit.verify import verify_store
from neural_trader_server.home import Home

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(
        shutil.which("strace") is None, reason="strace injects the disk's failures; install it"
    ),
]

CALLS_MAX = 200


@contextmanager
def failing_server(home: Home, fault: str, *options: str) -> Generator[subprocess.Popen[str]]:
    """Our server; from its 40th on, one kind of system call on the log's file fails, and only once."""
    call = fault.split(":")[0]
    tracer = ["strace", "-f", "-qq", "-o", str(home.path / "trace"), "-P", str(home.desk_db) + "-wal"]
    tracer += ["-e", f"trace={call}", "-e", f"inject={fault}:when={40 if call == 'fdatasync' else 300}"]
    process = subprocess.Popen(
        [*tracer, sys.executable, "-m", "neural_trader_server", "serve", "--toolsets", "all", *options],
        env={**os.environ, "NEURAL_TRADER_HOME": str(home.path), "NEURAL_TRADER_LOG_FORMAT": "json"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def check(home: Home, process: subprocess.Popen[str], said: str, acknowledged: int) -> None:
    assert process.wait(timeout=30) == 1
    assert "fail_stop" in said
    assert '"kind": "audit_write_failure"' in said, "people are told before the process ends"
    assert re.search(r"^audit_write_failed: .* nothing more is accepted; check the disk", said, re.MULTILINE)
    report = verify_store(home.desk_db, home.log_vkey.read_text().strip())
    assert report.ok, report.problems
    assert acknowledged > 0
    assert report.size >= acknowledged


LOST, FULL = "fdatasync:error=EIO", "pwrite64:error=ENOSPC"
LONGER = pytest.mark.slow  # CI has each fault once, and each transport
HALT = {"reason": "fault test"}  # the plainest call that commits an entry


@pytest.mark.parametrize("fault", [LOST, pytest.param(FULL, marks=LONGER)])
async def test_a_failed_disk_ends_a_server_on_stdio_with_an_exit_code(home: Home, fault: str) -> None:
    with failing_server(home, fault) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        stdin, stdout = process.stdin, process.stdout

        def ask(number: int, method: str, params: dict[str, Any]) -> dict[str, Any]:
            message = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
            stdin.write(json.dumps(message) + "\n")
            stdin.flush()
            for line in stdout:
                answer = json.loads(line)
                if answer.get("id") == number:
                    return answer
            return {}

        client = {"name": "test", "version": "1"}
        hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": client}
        assert "result" in ask(0, "initialize", hello)
        stdin.write('{"jsonrpc":"2.0","method":"notifications/initialized"}\n')
        acknowledged, answer = 0, {}
        for number in range(1, CALLS_MAX):
            answer = ask(number, "tools/call", {"name": "trading_halt", "arguments": HALT})
            if answer.get("result", {"isError": True})["isError"]:
                break
            acknowledged += 1
        # The agent is told, if it asked; stdin stays open: the process ends although nobody closed it.
        assert not answer or "audit_write_failed" in json.dumps(answer)
        assert process.stderr is not None
        check(home, process, process.stderr.read(), acknowledged)


@pytest.mark.parametrize("fault", [FULL, pytest.param(LOST, marks=LONGER)])
async def test_a_failed_disk_ends_a_server_on_http_with_an_exit_code(home: Home, fault: str) -> None:
    with failing_server(home, fault, "--transport", "http", "--port", "0") as process:
        assert process.stderr is not None
        address = next(line for line in process.stderr if '"serving"' in line)
        acknowledged = 0
        try:
            with anyio.fail_after(60):
                async with Client(json.loads(address)["url"]) as client:
                    for _ in range(CALLS_MAX):
                        answer = await client.call_tool("trading_halt", HALT)
                        if answer.is_error:
                            assert "audit_write_failed" in str(answer.content)
                            break
                        acknowledged += 1
        except* Exception:  # the connection dies with the server
            assert acknowledged
        check(home, process, await anyio.to_thread.run_sync(process.stderr.read), acknowledged)
