"""Research on the command line: import a file, compute, backtest a strategy over it."""

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from neural_trader_server.home import Home

Command = Callable[..., "CompletedProcess[str]"]

HOLD = "import polars\n\ndef signals(bars, size=1.0):\n    return polars.Series([size] * bars.height)\n"


@pytest.fixture
def prices(tmp_path: Path) -> Path:
    """Twenty sessions of a made-up instrument, and one row that is wrong."""
    lines = ["date,open,high,low,close,volume"]
    lines += [f"2012-02-{day:02d},{day},{day + 1},{day - 1},{day}.5,1000" for day in range(6, 11)]
    lines += [f"2012-02-{day:02d},{day},{day + 1},{day - 1},{day}.5,1000" for day in range(13, 18)]
    lines.append("2012-02-21,30,20,10,25,1000")
    file = tmp_path / "toy.csv"
    file.write_text("\n".join(lines) + "\n")
    return file


def test_an_import_accounts_for_every_row_and_goes_on_the_record(command: Command, prices: Path) -> None:
    done = command("data", "import", str(prices), "--symbol", "TOY", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["rows_read"], report["rows_new"], report["rows_quarantined"]) == (11, 10, 1)
    entries = json.loads(command("audit", "search", "--type", "data.import", "--json").stdout)["entries"]
    assert len(entries) == 1
    missing = command("data", "import", str(prices) + ".nope", "--symbol", "TOY", "--json")
    assert missing.returncode == 1
    assert json.loads(missing.stdout)["ok"] is False


def test_a_strategy_file_is_backtested_over_the_archive(command: Command, tmp_path: Path) -> None:
    file = tmp_path / "hold.py"
    file.write_text(HOLD)
    words = ("backtest", "run", str(file), "--symbol", "AAPL", "--start", "2012-01-01", "--param", "size=0.5")
    done = command(*words, "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["state"] == "completed"
    assert result["params"] == {"size": 0.5}
    assert result["metrics"]["equity_final"] > 0
    page, image = tmp_path / "sheet.html", tmp_path / "sheet.png"
    again = command(*words, "--report", str(page), "--json")
    assert json.loads(again.stdout)["digest"] == result["digest"]
    assert f"digest  {result['digest']}" in page.read_text()
    shown = command("backtest", "report", result["run_id"], "--png", str(image), "--json")
    assert json.loads(shown.stdout)["digest"] == result["digest"]
    assert f"Wrote {image}" in shown.stderr
    assert image.read_bytes().startswith(b"\x89PNG")
    verified = json.loads(command("backtest", "verify", result["run_id"], "--json").stdout)
    assert (verified["identical"], verified["digest_recomputed"]) == (True, result["digest"])


def test_a_strategy_file_is_backtested_over_a_price_file_that_enters_no_archive(
    command: Command, home: Home, tmp_path: Path, prices: Path
) -> None:
    file = tmp_path / "hold.py"
    file.write_text(HOLD)
    done = command("backtest", "run", str(file), "--data", str(prices), "--lots", "whole", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["symbols"] == ["TOY"]
    assert "1 rows of toy.csv were refused" in done.stderr
    listed = json.loads(command("data", "list", "--json").stdout)["instruments"]
    assert "TOY" not in {row["symbol"] for row in listed}
    assert home.path.exists()


def test_a_strategy_that_fails_exits_with_1_and_says_where(command: Command, tmp_path: Path) -> None:
    file = tmp_path / "bad.py"
    file.write_text("def signals(bars):\n    return 1 / 0\n")
    done = command("backtest", "run", str(file), "--symbol", "AAPL")
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith("strategy_failed: ")
    assert "line 2" in done.stderr
    as_json = command("backtest", "run", str(file), "--symbol", "AAPL", "--json")
    assert as_json.returncode == 1
    assert json.loads(as_json.stdout)["state"] == "failed"


def test_the_replay_clock_moves_forward_only_and_hides_what_comes_later(command: Command) -> None:
    moved = json.loads(command("data", "replay", "set", "2012-06-01", "--json").stdout)
    assert moved["now"] == "2012-06-01T00:00:00Z"
    back = command("data", "replay", "set", "2012-05-01")
    assert back.returncode == 1
    assert back.stderr.strip().splitlines()[-1].startswith("clock_backwards: ")
    stepped = json.loads(command("data", "replay", "step", "--json").stdout)
    assert stepped["now"] == "2012-06-01T20:00:00Z"
    found = json.loads(command("features", "compute", "AAPL", "sma(20)", "--json").stdout)
    assert found["latest_time"].startswith("2012-06-01")
