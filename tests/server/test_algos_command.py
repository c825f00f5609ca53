"""Parents at the command line: started, advanced, shown and canceled on small imported prices."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Here = Callable[..., Any]


def _json(ended: Any) -> Any:
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


@pytest.fixture
def priced(here: Here, home: Any, tmp_path: Path) -> Here:
    """A home with five days of one symbol; the desk's clock stands at the last one's close."""
    days = "\n".join(f"2024-01-0{day},10,12,9,1{day % 3},5000" for day in range(2, 6))
    (tmp_path / "prices.csv").write_text(f"date,open,high,low,close,volume\n{days}\n")
    done = here("data", "import", str(tmp_path / "prices.csv"), "--symbol", "XYZ", "--interval", "1d")
    assert done.returncode == 0, done.stderr
    return here


def test_a_parent_is_started_shown_and_canceled(priced: Here) -> None:
    words = ("twap", "XYZ", "buy", "40", "--end", "2024-01-09", "--slices", "4", "--reason", "slowly")
    parent = _json(priced("algos", "start", *words, "--strategy", "trend", "--json"))
    assert (parent["state"], parent["filled"]) == ("running", ["10"])
    assert [child["state"] for child in parent["children"]] == ["filled"]
    assert _json(priced("algos", "step", "--json")) == {"children": 0}
    assert [row["parent_id"] for row in _json(priced("algos", "list", "--json"))["parents"]] == [
        parent["parent_id"]
    ]
    assert "(twap, buy 40 XYZ) is running" in priced("algos", "show", parent["parent_id"]).stdout
    (cost,) = _json(priced("algos", "show", parent["parent_id"], "--json"))["costs"]
    assert (cost["cost"]["filled"], cost["cost"]["quantity"]) == ("10", "40")
    assert _json(priced("algos", "cancel", parent["parent_id"], "--json"))["state"] == "canceled"
    assert _json(priced("algos", "list", "--json"))["parents"] == []
    found = _json(priced("audit", "search", "--type", "order.parent", "--json"))["entries"]
    assert len(found) == 3, "started, asked to be canceled, canceled"


def test_a_basket_comes_from_a_file(priced: Here, tmp_path: Path) -> None:
    file = tmp_path / "basket.csv"
    file.write_text("symbol,side,quantity,limit_price\nXYZ,buy,3,\nXYZ,buy,4,5.00\n")
    parent = _json(priced("algos", "basket", str(file), "--reason", "monthly", "--json"))
    assert [child["state"] for child in parent["children"]] == ["filled", "accepted"]
    file.write_text("ticker,side\nXYZ,buy\n")
    assert "use symbol,side,quantity" in priced("algos", "basket", str(file), "--reason", "x").stderr


def test_what_makes_no_sense_is_refused_in_words(priced: Here) -> None:
    def start(*words: str) -> str:
        return priced("algos", "start", *words, "--reason", "x").stderr

    assert "no_profile" in start(
        "vwap", "XYZ", "buy", "4", "--end", "2024-01-05T20:59:00Z", "--start", "2024-01-05T15:00:00Z"
    )
    assert "participation_bps" in start("pov", "XYZ", "buy", "4", "--end", "2024-01-09")
    assert "plan_over" in start("twap", "XYZ", "buy", "4", "--start", "2024-01-02", "--end", "2024-01-03")
    assert "quantity" in start("twap", "XYZ", "buy", "-4", "--end", "2024-01-09")
    assert "algorithm" in start("iceberg", "XYZ", "buy", "4", "--end", "2024-01-09")
    assert "unknown_parent" in priced("algos", "cancel", "pa_0").stderr
