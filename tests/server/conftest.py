"""A founded home without prices, for tests of the server and the command line."""

import logging
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import structlog

from neural_trader_governance.terms.clocks import WallClock
from neural_trader_server.app import Services, found
from neural_trader_server.cli import main
from neural_trader_server.home import Home
from neural_trader_server.settings import Settings

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A fresh founded home, which child processes of the test use too."""
    own = Home(tmp_path / "home")
    services = Services(own, Settings(), WallClock())
    found(services)
    services.close()
    monkeypatch.setenv("NEURAL_TRADER_HOME", str(own.path))
    return own


@pytest.fixture
def command(tmp_path: Path, starter: Any) -> Command:
    """`command(*words)`: our command line in a process of its own, by default on a home that is new."""

    def run(*words: str, stdin: str = "", **environment: str) -> "subprocess.CompletedProcess[str]":
        base = {name: value for name, value in os.environ.items() if not name.startswith("NEURAL_TRADER_")}
        chosen = os.environ.get("NEURAL_TRADER_HOME", str(tmp_path / "new-home"))
        return starter.run(
            *words,
            environment=base | {"NEURAL_TRADER_HOME": chosen} | environment,
            stdin=stdin,
            folder=tmp_path,
        )

    return run


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Ended]:
    """`here(*words)`: our command line's `main` in this process, where nothing needs a fresh one."""
    monkeypatch.chdir(tmp_path)
    if "NEURAL_TRADER_HOME" not in os.environ:
        monkeypatch.setenv("NEURAL_TRADER_HOME", str(tmp_path / "new-home"))

    def run(*words: str, **environment: str) -> Ended:
        capfd.readouterr()
        root = logging.getLogger()
        handlers, level = root.handlers[:], root.level
        with monkeypatch.context() as patch:
            patch.setattr("sys.argv", ["neural-trader", *words])
            for name, value in environment.items():
                patch.setenv(name, value)
            code = 0
            try:
                main()
            except SystemExit as ended:
                code = ended.code if isinstance(ended.code, int) else 0
        root.handlers[:], root.level = handlers, level
        structlog.reset_defaults()
        said = capfd.readouterr()
        return Ended(code, said.out, said.err)

    return run
