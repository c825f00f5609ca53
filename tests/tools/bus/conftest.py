"""Buses of every kind for the contract, and a broker that can be killed and started again."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NoReturn

import pytest

from neural_trader_tools.bus.broker import NatsSettings
from neural_trader_tools.bus.jetstream import JetStreamBus
from neural_trader_tools.bus.local import LocalBus
from neural_trader_tools.bus.port import Bounds, Bus
from neural_trader_tools.bus.subjects import FAMILIES

OpenBus = Callable[..., Awaitable[Bus]]


class NatsServer:
    """A nats-server of Debian's on a loopback port, with its files in a folder of its own."""

    def __init__(self, program: str, folder: Path, *options: str) -> None:
        self.options = options
        self.program = program
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"nats://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it; clients find out when it listens."""
        options = ["-js", "-a", "127.0.0.1", "-p", str(self.port), "-sd", str(self.folder)]
        self.process = subprocess.Popen(
            [self.program, *options, *self.options], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )

    def kill(self) -> None:
        """Ends it as a crash would."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def find_server(lacking: Callable[[str], NoReturn]) -> str:
    """Returns the broker's program; Debian keeps it where only root's PATH looks."""
    program = shutil.which("nats-server", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    return program or lacking("nats-server is not installed: apt-get install nats-server")


@pytest.fixture(scope="session")
def broker(lacking: Callable[[str], NoReturn]) -> Generator[NatsServer]:
    """One broker for all tests; each has a prefix of its own."""
    program = find_server(lacking)
    with tempfile.TemporaryDirectory() as folder:
        server = NatsServer(program, Path(folder))
        server.start()
        yield server
        server.kill()


@pytest.fixture
def own_broker(tmp_path: Path, lacking: Callable[[str], NoReturn]) -> Generator[NatsServer]:
    """A broker that a test may kill."""
    program = find_server(lacking)
    server = NatsServer(program, tmp_path / "nats")
    server.start()
    yield server
    server.kill()


def nats_settings(server: NatsServer, **more: Any) -> NatsSettings:
    """Returns settings for a broker that may still be starting, under a prefix that nobody else has."""
    given: dict[str, Any] = {"url": server.url, "prefix": uuid.uuid4().hex[:12], "connect_timeout_s": 20}
    return NatsSettings(**(given | more))


@pytest.fixture(params=["memory", "disk", "nats"])
async def open_bus(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[OpenBus]:
    """Opens buses over the same log: a second one sees what the first one stored (but not in memory)."""
    kind = request.param
    server = request.getfixturevalue("broker") if kind == "nats" else None
    settings = None if server is None else nats_settings(server)
    async with AsyncExitStack() as stack:

        async def opened(
            *, bounds: Mapping[str, Bounds] | None = None, publish_timeout_s: float = 30.0
        ) -> Bus:
            options: dict[str, Any] = {"bounds": bounds, "publish_timeout_s": publish_timeout_s}
            if settings is not None:
                bus: Bus = await JetStreamBus.open(settings, **options)
            elif kind == "disk":
                bus = LocalBus(tmp_path / "bus.db", on_disk=FAMILIES, **options)
            else:
                bus = LocalBus(**options)
            stack.push_async_callback(bus.aclose)
            return bus

        yield opened
