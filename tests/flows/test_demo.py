"""The demo: all of it from an empty home, again on the same home, and on a host that lacks a layer."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
from mcp import Client

from neural_trader_governance.audit.verify import verify_store
from neural_trader_governance.errors import HostError
from neural_trader_sandbox.local.sandbox import LocalSandbox
from neural_trader_server.app import PRELOAD, build_server, open_desk
from neural_trader_server.checkup import examine
from neural_trader_server.home import Home
from neural_trader_server.listening import running
from neural_trader_server.settings import Settings
from neural_trader_server.stage import Stage
from neural_trader_server.story import STEPS

NAMES = ["status", "prices", "features", "backtest", "memory", "order", "rules", "audit"]


def demo(home: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "neural_trader_server", "demo", *options],
        env={**os.environ, "NEURAL_TRADER_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


def test_the_demo_works_from_an_empty_home_and_again_on_the_same(tmp_path: Path) -> None:
    home = tmp_path / "home"
    first = demo(home, "--json")
    document: dict[str, Any] = json.loads(first.stdout)
    failed = [step for step in document["steps"] if not step["ok"]]
    assert first.returncode == 0, (failed, first.stderr[-2000:])
    assert document["ok"] is True
    assert [step["name"] for step in document["steps"]] == NAMES
    rules = document["steps"][6]["result"]
    assert "max_notional" in [reason["rule"] for reason in rules["denied"]["verdict"]["reasons"]]
    assert rules["approved"]["state"] == "filled"
    assert rules["thief"]["run"]["state"] == "failed"

    again = demo(home)
    assert again.returncode == 0, again.stdout[-3000:] + again.stderr[-2000:]
    for words in ("8/8", "claude mcp add neural-trader", "cursor://", "code --add-mcp", "max_notional"):
        assert words in again.stdout
    report = verify_store(home / "desk.db", (home / "keys" / "log.vkey").read_text())
    assert report.ok


def test_where_the_sandbox_cannot_start_the_demo_does_everything_else_and_exits_with_3(
    tmp_path: Path, lacking: Callable[[str], NoReturn]
) -> None:
    # Root of a namespace with one user that forbids further ones: nobody to drop to, nothing to unshare.
    deny = "echo 0 > /proc/sys/user/max_user_namespaces && exec "
    script = f'{deny}"{sys.executable}" -m neural_trader_server demo --json'
    command = ["unshare", "--user", "--map-root-user", "sh", "-c", script]
    if shutil.which("unshare") is None or subprocess.run([*command[:3], "true"], check=False).returncode:
        lacking("this host makes no user namespace, so none can be denied in it")
    ended = subprocess.run(
        command,
        env={**os.environ, "NEURAL_TRADER_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert ended.returncode == 3, ended.stderr[-2000:]
    document: dict[str, Any] = json.loads(ended.stdout)
    assert document["ok"] is False
    assert [step["name"] for step in document["steps"] if not step["ok"]] == ["backtest"]
    assert [step["name"] for step in document["steps"]] == NAMES
    refusal = document["steps"][3]["result"]["error"]
    assert refusal["code"] == "sandbox_unavailable"
    assert "unprivileged_user" in refusal["what"]
    assert "namespaces" in refusal["what"]


@pytest.mark.slow  # the demo above lacks a layer, too; that a switch denies each is tests/sandbox/local's
@pytest.mark.anyio
async def test_a_host_that_lacks_a_layer_is_named_and_everything_else_works(home: Home) -> None:
    async with open_desk(home, Settings()) as services:
        # The sandbox's own switch: it can only make it stricter.
        vars(services)["sandbox"] = LocalSandbox(PRELOAD, deny=("landlock_restrict_self",))
        async with running(services), Client(build_server(services, toolsets="all")) as client:
            stage = Stage(client, home)
            for step in STEPS:
                if step.name == "backtest":
                    with pytest.raises(HostError) as caught:
                        await step.act(stage)
                    assert caught.value.code == "sandbox_unavailable"
                    assert "landlock" in caught.value.what
                else:
                    stage.facts[step.name] = await step.act(stage)
            assert "landlock" in stage.facts["rules"]["thief"]["skipped"]
        findings = await examine(services)
    lacking = [finding for finding in findings if not finding.ok]
    assert lacking
    assert all(finding.host and finding.next_step for finding in lacking)
