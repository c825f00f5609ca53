"""The vendors' services on this machine, and our adapters pointed at them."""

from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from tests.tools.market.loopback import alpaca as alpaca_service
from tests.tools.market.loopback import massive as massive_service
from tests.tools.market.loopback.alpaca import AlpacaLoopback
from tests.tools.market.loopback.alpaca_stream import AlpacaStreamLoopback
from tests.tools.market.loopback.massive import MassiveLoopback
from tests.tools.market.loopback.massive_stream import MassiveStreamLoopback

from neural_trader_tools.market.providers.alpaca import Alpaca
from neural_trader_tools.market.providers.alpaca_stream import AlpacaStream
from neural_trader_tools.market.providers.massive import Massive
from neural_trader_tools.market.providers.massive_stream import MassiveStream
from neural_trader_tools.market.providers.settings import AlpacaSettings, MassiveSettings
from neural_trader_tools.market.providers.standing import Standing

NOW_S = 1_767_225_600.0
"""2026-01-01T00:00:00Z."""


class Hand:
    """A clock in the test's hand: sleeping moves it and takes no time."""

    def __init__(self, now_s: float = NOW_S) -> None:
        self.now_s = now_s
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now_s += seconds


@pytest.fixture
def hand() -> Hand:
    return Hand()


@pytest.fixture(scope="session")
def alpaca_server() -> Generator[AlpacaLoopback]:
    server = AlpacaLoopback()
    with server.serve():
        yield server


@pytest.fixture(scope="session")
def massive_server() -> Generator[MassiveLoopback]:
    server = MassiveLoopback()
    with server.serve():
        yield server


@pytest.fixture
def alpaca_api(alpaca_server: AlpacaLoopback) -> AlpacaLoopback:
    alpaca_server.reset()
    return alpaca_server


@pytest.fixture
def massive_api(massive_server: MassiveLoopback) -> MassiveLoopback:
    massive_server.reset()
    return massive_server


@pytest.fixture
def make_alpaca(alpaca_api: AlpacaLoopback, tmp_path: Path, hand: Hand) -> Callable[..., Alpaca]:
    """Makes an adapter; settings and the folder may be said otherwise."""

    def make(root: Path | None = None, **settings: Any) -> Alpaca:
        given: dict[str, Any] = {
            "url": alpaca_api.url,
            "key_id": SecretStr(alpaca_service.KEY),
            "secret_key": SecretStr(alpaca_service.SECRET),
            "retry_wait_s": 0,
            "request_timeout_s": 5,
        }
        chosen = AlpacaSettings(**(given | settings))
        standing = Standing(
            root or tmp_path / "archive", "alpaca", chosen.requests_per_minute, clock=hand, sleep=hand.sleep
        )
        return Alpaca(chosen, breaker=standing.breaker, budget=standing.budget, on_change=standing.changed)

    return make


@pytest.fixture
def make_massive(massive_api: MassiveLoopback, tmp_path: Path, hand: Hand) -> Callable[..., Massive]:
    """Makes an adapter; settings and the folder may be said otherwise."""

    def make(root: Path | None = None, **settings: Any) -> Massive:
        given: dict[str, Any] = {
            "url": massive_api.url,
            "api_key": SecretStr(massive_service.KEY),
            "retry_wait_s": 0,
            "request_timeout_s": 5,
            "requests_per_minute": 0,
        }
        chosen = MassiveSettings(**(given | settings))
        standing = Standing(
            root or tmp_path / "archive", "massive", chosen.requests_per_minute, clock=hand, sleep=hand.sleep
        )
        return Massive(chosen, breaker=standing.breaker, budget=standing.budget, on_change=standing.changed)

    return make


@pytest.fixture(scope="session")
def alpaca_stream_server() -> Generator[AlpacaStreamLoopback]:
    server = AlpacaStreamLoopback()
    with server.serve():
        yield server


@pytest.fixture(scope="session")
def massive_stream_server() -> Generator[MassiveStreamLoopback]:
    server = MassiveStreamLoopback()
    with server.serve():
        yield server


@pytest.fixture
def alpaca_live(alpaca_stream_server: AlpacaStreamLoopback) -> AlpacaStreamLoopback:
    alpaca_stream_server.wait_until(lambda: not alpaca_stream_server.sessions)
    alpaca_stream_server.reset()
    return alpaca_stream_server


@pytest.fixture
def massive_live(massive_stream_server: MassiveStreamLoopback) -> MassiveStreamLoopback:
    massive_stream_server.wait_until(lambda: not massive_stream_server.sessions)
    massive_stream_server.reset()
    return massive_stream_server


@pytest.fixture
def make_alpaca_stream(alpaca_live: AlpacaStreamLoopback) -> Callable[..., AlpacaStream]:
    """Makes an adapter; settings may be said otherwise."""

    def make(**settings: Any) -> AlpacaStream:
        given: dict[str, Any] = {
            "stream_url": alpaca_live.url,
            "key_id": SecretStr(alpaca_service.KEY),
            "secret_key": SecretStr(alpaca_service.SECRET),
            "feed": "iex",
        }
        return AlpacaStream(AlpacaSettings(**(given | settings)))

    return make


@pytest.fixture
def make_massive_stream(massive_live: MassiveStreamLoopback) -> Callable[..., MassiveStream]:
    """Makes an adapter; settings may be said otherwise."""

    def make(**settings: Any) -> MassiveStream:
        given: dict[str, Any] = {
            "stream_url": massive_live.url,
            "api_key": SecretStr(massive_service.KEY),
        }
        return MassiveStream(MassiveSettings(**(given | settings)))

    return make
