"""Progress: what a long call says while it goes on, over MCP and in a terminal."""

import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import anyio
import pytest
from mcp import Client
from mcp.server.mcpserver.tools import Tool
from pydantic import BaseModel
from rich.console import Console

from neural_trader_server.catalogue import CATALOGUE, bind
from neural_trader_server.cli import terminal
from neural_trader_server.endpoint import Endpoint
from neural_trader_server.gate import DEFAULT_TOOLSETS, Gate
from neural_trader_tools.telling import tell

SPECS = {spec.name: spec for spec in CATALOGUE}


class Done(BaseModel):
    """What the test tool answers."""

    done: bool = True


class Listener:
    """A client's callback: keeps what it is told, and says when it heard of all."""

    def __init__(self, awaited: float) -> None:
        self.told: list[tuple[float, float | None, str | None]] = []
        self.heard = anyio.Event()
        self._awaited = awaited

    async def __call__(self, progress: float, total: float | None, message: str | None) -> None:
        self.told.append((progress, total, message))
        if progress >= self._awaited:
            self.heard.set()


@pytest.mark.anyio
async def test_a_client_that_asked_is_notified_before_the_answer_and_never_of_less() -> None:
    listener = Listener(0.5)

    async def work() -> Done:
        for fraction in (0.0, 0.25, 0.25, 0.1, 0.5):
            await tell(fraction)
        with anyio.fail_after(10):
            await listener.heard.wait()  # the answer waits for the news, so the news came first
        return Done()

    tool = Tool.from_function(bind(work, {}), name="status_get")
    server = Endpoint([tool], Gate(SPECS, DEFAULT_TOOLSETS, False, 20.0), "0.0.0")
    async with Client(server) as client:
        result = await client.call_tool("status_get", {}, progress_callback=listener)
    assert not result.is_error
    assert listener.told == [(0.0, 1.0, None), (0.25, 1.0, None), (0.5, 1.0, None)]


@pytest.mark.anyio
async def test_a_client_that_did_not_ask_is_answered_all_the_same() -> None:
    async def work() -> Done:
        await tell(0.5)
        return Done()

    tool = Tool.from_function(bind(work, {}), name="status_get")
    server = Endpoint([tool], Gate(SPECS, DEFAULT_TOOLSETS, False, 20.0), "0.0.0")
    async with Client(server) as client:
        assert not (await client.call_tool("status_get", {})).is_error


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """A terminal where stderr goes."""
    written = io.StringIO()
    monkeypatch.setattr(terminal, "err", lambda: Console(file=written, force_terminal=True, width=100))
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    return written


@pytest.mark.anyio
@pytest.mark.parametrize(("is_terminal", "quiet"), [(True, False), (True, True), (False, False)])
async def test_a_bar_is_shown_where_a_person_looks_and_nowhere_else(
    screen: io.StringIO, monkeypatch: pytest.MonkeyPatch, is_terminal: bool, quiet: bool
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal)
    with terminal.progress_bar("[red]a.py over AAPL", quiet=quiet):
        await tell(0.42)
    shown = is_terminal and not quiet
    assert ("42%" in screen.getvalue()) is shown
    assert ("[red]a.py" in screen.getvalue()) is shown


def test_a_script_is_heard_while_it_runs_and_ctrl_c_ends_it(
    tmp_path: Path, lacking: Callable[[str], NoReturn]
) -> None:
    """It would spin for a minute: that its line is read proves that the line came before the end."""
    script = tmp_path / "spin.py"
    script.write_text("import sys\nprint('on', flush=True)\nwhile True: pass\n")
    words = ("-m", "neural_trader_server", "sandbox", "run", str(script), "--timeout-s", "60")
    given: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    environment = {**os.environ, "NEURAL_TRADER_HOME": str(tmp_path / "home")}
    with subprocess.Popen([sys.executable, *words], env=environment, **given) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        first = process.stdout.readline()
        if not first.startswith("on") and process.wait() == terminal.HOST_LACKS:
            lacking("no sandbox on this host")
        assert (first, process.poll()) == ("on\n", None)
        process.send_signal(signal.SIGINT)
        rest, said = process.communicate(timeout=30)
    assert process.returncode not in (0, None)
    assert "Interrupted: the guest was ended." in said
    assert "Traceback" not in rest + said
