"""A founded home with the real sample prices, copied for each test, and our server around it."""

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from neural_trader_governance.terms.clocks import WallClock
from neural_trader_server.app import Services, found
from neural_trader_server.home import Home
from neural_trader_server.settings import Settings


@pytest.fixture(scope="session")
def founded(tmp_path_factory: pytest.TempPathFactory, sample_archive_root: Path) -> Home:
    """A home that nobody has used yet; copy it (`home`) instead of using it."""
    home = Home(tmp_path_factory.mktemp("founded") / "home")
    services = Services(home, Settings(), WallClock())
    found(services)
    services.close()
    shutil.copytree(sample_archive_root, home.archive, dirs_exist_ok=True)
    return home


@pytest.fixture
def home(founded: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home of the test's own, which child processes of the test use too."""
    own = Home(tmp_path / "home")
    shutil.copytree(founded.path, own.path)
    monkeypatch.setenv("NEURAL_TRADER_HOME", str(own.path))
    return own


RunCommand = Callable[..., "subprocess.CompletedProcess[str]"]
"""`command(*words)`: our command line in another process, on the test's home."""


@pytest.fixture
def command(home: Home, starter: Any) -> RunCommand:
    """`neural-trader WORDS…` on the test's home."""

    def run(*words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return starter.run(
            *words, environment={**os.environ, "NEURAL_TRADER_HOME": str(home.path)}, stdin=stdin
        )

    return run


ServeHttp = Callable[..., AbstractContextManager[str]]
"""`serve_http(*options, **environment)`: our server on a free loopback port; yields its base address."""


@pytest.fixture
def serve_http(home: Home, starter: Any) -> ServeHttp:
    """Serves the test's home over HTTP from a process of its own."""

    @contextmanager
    def serve(*options: str, **environment: str) -> Generator[str]:
        process = starter.popen(
            *("serve", "--transport", "http", "--port", "0", *options),
            environment={
                **os.environ,
                "NEURAL_TRADER_HOME": str(home.path),
                "NEURAL_TRADER_LOG_FORMAT": "json",
                **environment,
            },
        )
        assert process.stderr is not None
        try:
            address = next((line for line in process.stderr if '"serving"' in line), None)
            assert address is not None, "the server ended before it served"
            drain = threading.Thread(target=process.stderr.read, daemon=True)
            drain.start()
            yield str(json.loads(address)["url"]).removesuffix("/mcp")
        finally:
            process.terminate()
            leftover = process.stdout.read() if process.stdout else ""
            process.wait(timeout=30)
            for stream in (process.stdout, process.stderr):
                if stream:
                    stream.close()
        assert leftover == "", "a server writes nothing to stdout over HTTP"
        assert process.returncode == 0, "a server that is asked to stop stops in order"

    return serve
