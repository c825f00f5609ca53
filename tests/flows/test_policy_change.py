"""A policy changes under a running server: the next order meets it, and no request is dropped."""

import json
import os
import subprocess
from collections.abc import Callable, Generator
from typing import Any

import pytest

from neural_trader_server.home import Home

HELLO = {
    "protocolVersion": "2025-11-25",
    "capabilities": {},
    "clientInfo": {"name": "test", "version": "0"},
}
RunCommand = Callable[..., "subprocess.CompletedProcess[str]"]
Call = Callable[..., tuple[bool, str]]


@pytest.fixture
def call(home: Home, starter: Any) -> Generator[Call]:
    """`call(tool, **arguments)` on one server process that lives through the whole test."""
    server = starter.popen(
        *("serve", "--toolsets", "all"),
        environment={**os.environ, "NEURAL_TRADER_HOME": str(home.path)},
        stdin=True,
    )
    assert server.stdin is not None
    assert server.stdout is not None
    sent, requests, answers = 0, server.stdin, server.stdout

    def ask(method: str, params: dict[str, Any]) -> dict[str, Any]:
        nonlocal sent
        sent += 1
        requests.write(json.dumps({"jsonrpc": "2.0", "id": sent, "method": method, "params": params}) + "\n")
        requests.flush()
        while (answer := json.loads(answers.readline())).get("id") != sent:
            pass
        return answer["result"]

    def run(tool: str, **arguments: object) -> tuple[bool, str]:
        result = ask("tools/call", {"name": tool, "arguments": arguments})
        return bool(result.get("isError")), result["content"][0]["text"]

    ask("initialize", HELLO)
    requests.write(json.dumps({"jsonrpc": "2.0", "method": "notifications/initialized"}) + "\n")
    with server:
        yield run
        requests.close()
        assert server.wait(timeout=60) == 0, "the server lived through it"


def test_a_policy_activated_by_another_process_holds_for_the_next_order(
    home: Home, call: Call, command: RunCommand
) -> None:
    def preview() -> dict[str, Any]:
        failed, text = call("orders_preview", symbol="AAPL", side="buy", quantity="2", reason="a test")
        assert not failed, text
        return json.loads(text)

    first = preview()
    assert first["verdict"]["decision"] == "allow", first
    text = home.policy_file.read_text()
    assert text.count("> 5000000 && !context.overrides") == 1
    home.policy_file.write_text(
        text.replace("> 5000000 && !context.overrides", "> 100 && !context.overrides")
    )
    unchanged = preview()
    assert unchanged["verdict"] == first["verdict"], "an edited file is only a draft"
    done = command("policy", "activate", str(home.policy_file), "--accept-refuted", "--json")
    assert done.returncode == 0, done.stderr
    digest = json.loads(done.stdout)["policy_digest"]
    second = preview()
    assert second["verdict"]["decision"] == "deny"
    assert [reason["rule"] for reason in second["verdict"]["reasons"]] == ["max_notional"]
    assert second["verdict"]["policy_digest"] == digest
    failed, words = call("orders_submit", preview_id=first["preview_id"])
    assert failed, "what the old policy allowed is judged again by the new one"
    assert "exceeds the 1 USD limit" in words
    assert json.loads(call("status_get")[1])["policy_digest"] == digest
    (home.bundles / f"{digest}.json").unlink()
    closed = preview()
    assert [reason["rule"] for reason in closed["verdict"]["reasons"]] == ["policy_unavailable"]
    assert "does not exist" in json.loads(call("status_get")[1])["policy_problem"]
    back = command("policy", "activate", first["verdict"]["policy_digest"][:16], "--json")
    assert back.returncode == 0, back.stderr
    assert preview()["verdict"]["decision"] == "allow"
