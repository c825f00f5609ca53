"""`neural-trader feed signals`: from bars on the bus to wishes on the bus, through the command line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio

from neural_trader_server.bus_services import make_bus
from neural_trader_server.home import Home
from neural_trader_server.settings import Settings
from neural_trader_tools.bus.events import content_id, encode, subject_of
from neural_trader_tools.market.feed.ticks import BarTick

Here = Callable[..., Any]
MINUTE_NS = 60_000_000_000
RISING = """
def signals(bars, most: float = 0.5):
    return (bars["close"].diff() > 0).cast(float).fill_null(0.0) * most
"""


def bars_on_the_bus(home: Home, closes: list[float]) -> None:
    async def publish() -> None:
        bus = make_bus(home, Settings())
        assert bus is not None
        for number, close in enumerate(closes):
            opened = 1_767_625_800_000_000_000 + number * MINUTE_NS
            bar = BarTick("AAPL", "1m", close, close, close, close, 10.0, opened, opened + MINUTE_NS)
            await bus.publish(subject_of(bar), bar, content_id(encode(bar)))
        await bus.aclose()

    anyio.run(publish)


def test_signals_follow_the_bus_and_are_heard_on_it(home: Home, here: Here, tmp_path: Path) -> None:
    (tmp_path / "rising.py").write_text(RISING)
    bars_on_the_bus(home, [10.0, 11.0, 10.5])
    ended = here(
        "feed", "signals", "rising.py", "--symbol", "AAPL", "--param", "most=0.25", "-n", "3", "--json"
    )
    assert ended.returncode == 0, ended.stderr
    assert [json.loads(line)["exposure"] for line in ended.stdout.splitlines()] == [0.0, 0.25, 0.0]
    heard = here("bus", "tail", "signal.rising.>", "--from-seq", "1", "-n", "3", "--json")
    events = [json.loads(line) for line in heard.stdout.splitlines()]
    assert {each["subject"] for each in events} == {"signal.rising.AAPL"}
    assert [each["event"]["exposure"] for each in events] == [0.0, 0.25, 0.0]


def test_what_cannot_be_followed_says_why(home: Home, here: Here, tmp_path: Path) -> None:
    missing = here("feed", "signals", "none.py", "--symbol", "AAPL")
    assert (missing.returncode, "file_missing" in missing.stderr) == (1, True)
    unsaved = here("feed", "signals", "stg_none", "--symbol", "AAPL")
    assert unsaved.returncode == 1
    assert "unknown_strategy" in unsaved.stderr
    (tmp_path / "rising.py").write_text(RISING)
    off = here("feed", "signals", "rising.py", "--symbol", "AAPL", NEURAL_TRADER_BUS="off")
    assert off.returncode == 1
    assert "bus_off" in off.stderr
    bars_on_the_bus(home, [10.0])
    (tmp_path / "broken.py").write_text("def signals(bars):\n    return 1 / 0\n")
    broken = here("feed", "signals", "broken.py", "--symbol", "AAPL")
    assert broken.returncode == 1
    assert "ZeroDivisionError" in broken.stderr
