"""Accounts, statements and exports at the command line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Here = Callable[..., Any]


def _json(ended: Any) -> Any:
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def test_accounts_are_opened_paid_into_and_reported(here: Here, home: Any, tmp_path: Path) -> None:
    prices = tmp_path / "prices.csv"
    prices.write_text(
        "date,open,high,low,close,volume\n2024-01-02,10,11,9,10,500\n2024-01-03,10,12,9,11,500\n"
    )
    assert here("data", "import", str(prices), "--symbol", "XYZ", "--interval", "1d").returncode == 0
    opened = _json(
        here(
            "portfolio",
            "open",
            "growth",
            "--cash",
            "500.25",
            "--currency",
            "EUR",
            "--agent",
            "agent-1",
            "--json",
        )
    )
    assert opened == {"account": "growth", "cash": "500.25", "currency": "EUR", "kind": "cash"}
    assert _json(here("portfolio", "open", "geared", "--kind", "margin", "--json"))["kind"] == "margin"
    assert "invalid_account" in here("portfolio", "open", "other", "--kind", "portfolio-margin").stderr
    assert "account_exists" in here("portfolio", "open", "growth").stderr
    assert "invalid_account" in here("portfolio", "open", "Growth").stderr
    assert _json(here("portfolio", "deposit", "growth", "99.75", "--reason", "room", "--json"))["seq"] > 0
    assert "not_enough_cash" in here("portfolio", "withdraw", "growth", "600.01", "--reason", "x").stderr
    assert here("portfolio", "withdraw", "growth", "100", "--reason", "back").returncode == 0
    lots = tmp_path / "lots.csv"
    lots.write_text("symbol,quantity,unit_cost,opened\nXYZ,7,4.5,2020-03-02\nXYZ,3,5,2021-03-02\n")
    words = ("portfolio", "import", str(lots), "--account", "geared", "--reason", "moved here")
    brought = _json(here(*words, "--json"))
    assert (brought["lots"], brought["quantities"], len(brought["seqs"])) == (2, {"XYZ": "10"}, 2)
    assert "already_held" in here(*words).stderr
    assert [row["cost"] for row in _json(here("portfolio", "lots", "geared", "--json"))["open"]] == [
        "31.5",
        "15",
    ]
    elsewhere = here("portfolio", "deposit", "paper", "1", "--reason", "x", NEURAL_TRADER_BROKER="alpaca")
    assert "the cash of paper is kept by alpaca" in elsewhere.stderr
    rows = _json(here("portfolio", "list", "--json"))["accounts"]
    assert [(row["account"], row["kind"], row["currency"], row["cash"]) for row in rows] == [
        ("geared", "margin", "USD", "0"),
        ("growth", "cash", "EUR", "500"),
        ("paper", "cash", "USD", "100000"),
    ]
    report = _json(here("orders", "report", "--account", "growth", "--json"))
    assert (report["day"], report["paid_in"], report["day_pnl"]) == ("2024-01-03", "-0.25", "0")
    assert report["reconciled"]
    assert "The books agree" in here("orders", "report").stdout
    assert _json(here("portfolio", "lots", "growth", "--json"))["open"] == []
    exported = _json(here("orders", "export", str(tmp_path / "out"), "--json"))
    assert exported["reconciled"]
    assert [row["rows"] for row in exported["files"]] == [0, 0, 2]
    assert "unknown_format" in here("orders", "export", str(tmp_path / "o"), "--format", "xls").stderr
    assert "unknown_account" in here("orders", "report", "--account", "none").stderr
    assert "invalid_date" in here("orders", "report", "--day", "yesterday").stderr
    costs = _json(here("orders", "costs", "--json"))
    assert costs == {"orders": [], "by": "strategy", "groups": [], "unmeasured": []}
    assert "unknown_order" in here("orders", "costs", "nt_0").stderr
    assert "unknown_group" in here("orders", "costs", "--by", "mood").stderr
