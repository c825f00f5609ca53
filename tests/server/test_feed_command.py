"""`neural-trader feed`: a feed in the foreground, its clean end, what other commands and tools see of it."""

import json
import os
import re
import signal
import time
from collections.abc import Callable, Generator
from typing import Any

import anyio
import pytest
from tests.tools.market.loopback import alpaca
from tests.tools.market.loopback.alpaca import AlpacaLoopback
from tests.tools.market.loopback.alpaca_stream import AlpacaStreamLoopback, minute_bar, quote, trade

from neural_trader_server.app import open_desk
from neural_trader_server.checkup import feeds
from neural_trader_server.home import Home
from neural_trader_server.settings import Settings
from neural_trader_tools.market.archive import Archive
from neural_trader_tools.market.feed.board import FEEDS, standing_of
from neural_trader_tools.market.feed.recorded import recorded
from neural_trader_tools.market.feed.ticks import format_ns

Here = Callable[..., Any]
RUN = ("feed", "run", "alpaca", "--symbol", "AAPL", "--every-s", "0.1", "--json")


@pytest.fixture(scope="module")
def servers() -> Generator[tuple[AlpacaStreamLoopback, AlpacaLoopback]]:
    live, history = AlpacaStreamLoopback(), AlpacaLoopback()
    with live.serve(), history.serve():
        yield live, history


@pytest.fixture
def live(
    servers: tuple[AlpacaStreamLoopback, AlpacaLoopback], monkeypatch: pytest.MonkeyPatch
) -> AlpacaStreamLoopback:
    """The service, and a key for it."""
    live, history = servers
    live.wait_until(lambda: not live.sessions)
    live.reset()
    history.reset()
    monkeypatch.setenv("NEURAL_TRADER_ALPACA_URL", history.url)
    monkeypatch.setenv("NEURAL_TRADER_ALPACA_STREAM_URL", live.url)
    monkeypatch.setenv("NEURAL_TRADER_ALPACA_FEED", "iex")
    monkeypatch.setenv("APCA_API_KEY_ID", alpaca.KEY)
    monkeypatch.setenv("APCA_API_SECRET_KEY", alpaca.SECRET)
    return live


def environment() -> dict[str, str]:
    return {
        name: os.environ[name] for name in os.environ if name.startswith(("NEURAL_TRADER_", "APCA_", "PATH"))
    }


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_feed_that_is_told_to_end_keeps_everything_and_is_seen_by_tools(
    home: Home, here: Here, live: AlpacaStreamLoopback, starter: Any, number: int
) -> None:
    with starter.popen(*RUN, environment=environment()) as process:
        live.wait_until(lambda: bool(live.sessions and live.sessions[0].channels))
        at = format_ns(time.time_ns())
        live.publish(
            [
                trade("AAPL", 190.25, at, 1),
                quote("AAPL", 190.0, 190.5, at),
                minute_bar("AAPL", 190.0, "2026-01-05T15:30:00Z"),
            ]
        )
        for line in process.stdout:
            if json.loads(line)["events"] == 3:
                break
        process.send_signal(number)
        last = json.loads(process.stdout.read().splitlines()[-1])
        assert process.wait(60) == 0
    assert (last["state"], last["events"], last["acknowledged"], last["bars_landed"]) == ("ended", 3, 3, 1)
    root = home.archive / FEEDS / "alpaca-iex"
    assert recorded(root, "trade")["price"].to_list() == [190.25]
    assert Archive(home.archive).bars("AAPL", "1m")["close"].to_list() == [190.0]

    async def seen() -> tuple[Any, Any, Any]:
        async with open_desk(home, Settings(sandbox_backend="e2b")) as services:
            quotes = await services.call("market_get_quotes", symbols=["AAPL"])
            providers = (await services.call("status_get"))["data"]["providers"]
            return quotes["quotes"][0], providers, feeds(services)

    told, providers, [check] = anyio.run(seen)
    assert (told["last"], told["bid"], told["ask"]) == ("190.25", "190", "190.5")
    assert told["source"] == "feed alpaca-iex, which is not running"
    assert re.match(r"ended at .*; last tick .* s ago, .* 0 gaps, 0 dropped", providers["feed alpaca-iex"])
    assert providers["alpaca-stream"].startswith("closed")
    shown = here("feed", "status").stdout
    assert "alpaca-iex" in shown
    assert (check.name, check.ok, check.next_step) == ("feed alpaca-iex", True, "")


def test_a_recording_is_replayed_by_name_or_folder_and_lands_where_that_is_asked_for(
    home: Home, here: Here, live: AlpacaStreamLoopback, starter: Any
) -> None:
    nothing = here("feed", "run", "replay", "--json")
    assert json.loads(nothing.stdout)["error"]["code"] == "no_recording"
    assert "Start one" in here("feed", "status").stdout
    with starter.popen(*RUN, environment=environment()) as process:
        live.wait_until(lambda: bool(live.sessions and live.sessions[0].channels))
        for minute in range(3):
            live.publish([minute_bar("AAPL", 190.0 + minute, f"2026-01-05T15:3{minute}:00Z")])
        for line in process.stdout:
            if json.loads(line)["events"] == 3:
                break
        told = here("bus", "tail", "market.bar.AAPL.1m", "--from-seq", "1", "-n", "3", "--json").stdout
        assert [json.loads(line)["event"]["open"] for line in told.splitlines()] == [190.0, 191.0, 192.0]
        process.terminate()
        process.stdout.read()
        assert process.wait(60) == 0
    replayed = json.loads(here("feed", "run", "replay", "--speed", "0", "--json").stdout)
    assert (replayed["feed"], replayed["events"], replayed["bars_landed"]) == ("replay", 3, 0)
    kept = json.loads(here("bus", "status", "--json").stdout)["families"][0]
    assert kept == {"family": "market", "first": 1, "last": 3, "kept": 3}, "a replay is not told as live"
    folder = home.archive / FEEDS / "alpaca-iex"
    other = {"NEURAL_TRADER_HOME": str(home.path.parent / "other")}
    words = ("feed", "run", "replay", "--from", str(folder), "--speed", "0", "--land")
    elsewhere = here(*words, **other)
    assert "3 bars in the archive" in elsewhere.stdout, elsewhere.stderr
    listed = json.loads(here("data", "list", "--json", **other).stdout)
    assert [one["symbol"] for one in listed["instruments"]] == ["AAPL"]


def test_a_plan_without_the_feed_ends_the_command_with_what_to_do(
    home: Home, here: Here, live: AlpacaStreamLoopback
) -> None:
    live.feeds = {"sip"}
    refused = here(*RUN)
    error = json.loads(refused.stdout.splitlines()[-1])["error"]
    assert (refused.returncode, error["code"]) == (1, "provider_plan")
    assert "alpaca_feed" in error["next_step"]
    assert alpaca.SECRET not in refused.stdout + refused.stderr
    standing = standing_of(home.archive / FEEDS / "alpaca-iex")
    assert standing is not None
    assert standing.state == "failed"


def test_what_makes_no_feed_is_refused_before_anything_is_sent(
    home: Home, here: Here, live: AlpacaStreamLoopback
) -> None:
    assert here("feed", "run", "alpaca").returncode == 2
    for words, code in (
        ((*RUN, "--make", "1m"), "bars_twice"),
        ((*RUN, "--channel", "bars", "--make", "5m"), "no_trades"),
        ((*RUN, "--symbol", "aapl"), "symbol_not_offered"),
        ((*RUN, "--make", "5 minutes"), "invalid_interval"),
    ):
        error = json.loads(here(*words).stdout)["error"]
        assert error["code"] == code
    refused = here(*RUN, NEURAL_TRADER_ALPACA_STREAM_URL="ws://stream.example.com")
    assert "alpaca_stream_url" in json.loads(refused.stdout)["error"]["what"]
    assert live.connected == 0


def test_a_time_ends_a_feed_as_a_signal_does(home: Home, here: Here, live: AlpacaStreamLoopback) -> None:
    ended = here(*RUN, "--for-s", "0.2")
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout.splitlines()[-1])["state"] == "ended"


def trades_acknowledged(line: str) -> int:
    """What a feed says is on disk, less the gaps since the process before."""
    said = json.loads(line)
    return max(0, said["acknowledged"] - said["gaps"])


@pytest.mark.slow
def test_nothing_acknowledged_is_lost_to_sigkill(
    home: Home, live: AlpacaStreamLoopback, starter: Any
) -> None:
    """Kills the feed while it receives, forty times: what it said was acknowledged is there, once."""
    root = home.archive / FEEDS / "alpaca-iex"
    serial = acknowledged = 0
    for turn in range(40):
        live.reset()
        with starter.popen(*RUN, environment=environment()) as process:
            live.wait_until(lambda: bool(live.sessions and live.sessions[0].channels), 60)
            said = 0
            for _ in range(30 + turn * 13 % 50):
                live.publish(
                    [trade("AAPL", 190.0, format_ns(time.time_ns()), serial + place) for place in range(50)]
                )
                serial += 50
            for line in process.stdout:
                said = trades_acknowledged(line)
                if said:
                    break
            process.kill()
            for line in process.stdout.read().splitlines():
                said = trades_acknowledged(line)
            process.wait(60)
        acknowledged += said
        found = recorded(root, "trade")["trade_id"].to_list()
        assert len(found) == len(set(found))
        assert len(found) >= acknowledged, f"turn {turn}"
        acknowledged = len(found)
    bars = Archive(home.archive)
    assert bars.instruments() == []
