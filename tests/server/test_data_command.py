"""`neural-trader data import`, and how far research may look once the replay clock is set."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

from neural_trader_governance.terms.clocks import SimulatedClock
from neural_trader_governance.terms.instruments import AssetClass
from neural_trader_server.app import HorizonClock
from neural_trader_server.cli import data
from neural_trader_server.home import Home
from neural_trader_tools.market.archive import Archive
from neural_trader_tools.market.replay import ReplayClock

Here = Callable[..., Any]


def test_a_coin_is_imported_as_one(home: Home, here: Here, tmp_path: Path) -> None:
    file = tmp_path / "coin.csv"
    file.write_text("date,open,high,low,close,volume\n2020-01-04,1,2,1,2,5\n2020-01-05,2,2,1,1,5\n")
    words = ("data", "import", str(file), "--symbol", "BTC/USD", "--asset-class")
    assert here(*words, "cryptic").returncode == 2
    assert here(*words, "crypto").returncode == 0
    [listed] = json.loads(here("data", "list", "--json").stdout)["instruments"]
    assert home.path.exists()
    assert listed["asset_class"] == "crypto"


def test_the_command_line_offers_every_asset_class() -> None:
    assert tuple(data.AssetClass) == get_args(AssetClass)


def test_research_looks_no_further_than_a_set_replay_clock(tmp_path: Path) -> None:
    machine = SimulatedClock(datetime(2026, 1, 1, tzinfo=UTC))
    replay = ReplayClock(Archive(tmp_path, machine))
    horizon = HorizonClock(replay, machine)
    assert horizon.now() == machine.now()
    replay.set(datetime(2012, 6, 1, tzinfo=UTC))
    assert horizon.now() == datetime(2012, 6, 1, tzinfo=UTC)
