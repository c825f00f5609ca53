"""Strategies and backtests, as people look at them: what the tools say of the same run, with its curves."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from playwright.sync_api import Page, expect
from tests.server.console.conftest import Desk

Shoot = Callable[[Page, str], None]
SOURCE = '''"""Crosses of two averages."""

FEATURES = ("sma({fast})", "sma({slow})")


def rule(fast_sma, slow_sma, *, fast: int = 10, slow: int = 30):
    return 1.0 if fast_sma > slow_sma else 0.0
'''
BROKEN = "def signals(bars):\n    raise ValueError('no\\u200dwords')\n"
PRINTS = "print('<b>bold\\u200dclaim</b>')\n" + SOURCE


@pytest.fixture(scope="module")
def run(desk: Desk) -> dict[str, Any]:
    """A completed backtest of a saved strategy; a failed one, a sweep and a second version are there, too."""
    first = desk.call("strategy_save", name="Crosses", source=SOURCE, description="Two averages cross.")
    desk.call("strategy_save", name="Crosses", source=PRINTS, description="The same, and it talks.")
    swept = desk.call(
        "backtest_sweep", strategy_id=first["strategy_id"], symbols=["MSFT"], grid={"fast": [5, 10]}
    )
    broken = desk.call(
        "backtest_start",
        symbols=["AAPL"],
        source="def signals(bars):\n    raise ValueError('no\\u200dwords')\n",
    )
    asked = {"symbols": ["AAPL", "MSFT"], "start": "2008-01-01", "commission_bps": "5"}
    started = desk.call("backtest_start", strategy_id=first["strategy_id"], **asked)
    for each in (swept, broken):
        desk.call("backtest_get", run_id=each["run_id"], wait_s=60)
    told = desk.call("backtest_get", run_id=started["run_id"], wait_s=60)
    assert told["state"] == "completed", told
    return {**told, "sweep": swept["run_id"], "broken": broken["run_id"], "strategy": first["strategy_id"]}


def open_page(page: Page, path: str) -> None:
    page.evaluate(f"location.hash = '#/{path}'")
    page.locator(f".page[data-page={path.partition('/')[0]}]").wait_for()


def test_without_any_the_pages_say_how_the_first_is_made(console: Page, desk: Desk) -> None:
    open_page(console, "backtests")
    expect(console.get_by_text("neural-trader backtest run FILE")).to_be_visible()
    open_page(console, "strategies")
    expect(console.get_by_text("An agent saves one with strategy_save")).to_be_visible()


def test_the_list_has_every_run_with_what_it_is_worth(
    run: dict[str, Any], console: Page, shoot: Shoot
) -> None:
    open_page(console, "backtests")
    row = console.locator(f"tr[data-key={run['run_id']}]")
    metrics = run["metrics"]
    expect(row.locator("[data-title='Deflated Sharpe']")).to_have_text(
        f"{metrics['deflated_sharpe_ratio']:.2f}"
    )
    expect(row.locator("[data-title='A year']")).to_have_text(f"{metrics['cagr']:.1%}".replace("%", " %"))
    expect(row.locator("[data-title=Strategy]")).to_have_text("Crosses v1")
    expect(console.locator(f"tr[data-key={run['sweep']}]")).to_contain_text("sweep of 2")
    expect(console.locator(f"tr[data-key={run['broken']}]")).to_contain_text("failed")
    shoot(console, "c3-backtests")
    console.get_by_label("Find").fill("crosses")
    expect(console.locator("tbody tr")).to_have_count(2)


def test_a_report_says_first_how_far_to_trust_it_and_draws_what_the_tool_hands_out(
    run: dict[str, Any], desk: Desk, console: Page, shoot: Shoot
) -> None:
    open_page(console, f"backtests/{run['run_id']}")
    verdict = console.locator("[data-verdict]")
    expect(verdict).to_contain_text("sure that this is more than luck, after")
    charts = console.locator(".chart .canvas")
    expect(charts).to_have_count(3)
    trades = pl.read_ipc(desk.home.artifacts / f"{run['handles']['trades']}.arrow")
    aapl = trades.filter(pl.col("symbol") == "AAPL")
    marks = aapl.height + aapl["exit_time"].is_not_null().sum()
    console.get_by_label("Symbol").select_option("AAPL")
    expect(console.get_by_text(f"{aapl.height} trades: arrows in blue enter")).to_be_visible()
    expect(charts.nth(2)).to_have_attribute("data-marks", str(marks))
    expect(charts.nth(0)).to_have_attribute("data-points", str(2 * run["bars"]))
    expect(
        console.get_by_text(f"1 to {min(25, trades.height)} of {trades.height}, oldest first")
    ).to_be_visible()
    if trades.height > 25:
        console.get_by_role("button", name="Later").click()
        expect(console.get_by_text(f"26 to {min(50, trades.height)} of {trades.height}")).to_be_visible()
    for warning in run["warnings"]:
        expect(console.get_by_text(warning)).to_be_visible()
    expect(console.get_by_text(run["digest"])).to_be_visible()
    assert console.locator("table.heat tbody tr").count() == 6
    shoot(console, "c3-backtest")
    console.emulate_media(color_scheme="dark")
    shoot(console, "c3-backtest-dark")
    console.set_viewport_size({"width": 390, "height": 844})
    assert console.evaluate("document.documentElement.scrollWidth") <= 390
    shoot(console, "c3-backtest-small")
    console.get_by_role("link", name="of the log").click()
    expect(console.get_by_text(run["run_id"]).first).to_be_visible()


def test_its_tear_sheet_is_saved_as_one_file_that_draws_without_any_server(
    run: dict[str, Any], console: Page, tmp_path: Path, shoot: Shoot
) -> None:
    pytest.importorskip("matplotlib", reason="the extra report is not installed")
    open_page(console, f"backtests/{run['run_id']}")
    with console.expect_download() as saving:
        console.get_by_role("button", name="Save its tear sheet").click()
    path = tmp_path / saving.value.suggested_filename
    saving.value.save_as(path)
    assert path.name == f"{run['run_id']}.html"
    console.goto(path.as_uri())
    expect(console.locator("svg").first).to_be_visible()
    assert console.locator("svg path").count() > 20
    shoot(console, "c3-sheet")
    console.emulate_media(color_scheme="dark")
    shoot(console, "c3-sheet-dark")
    console.set_viewport_size({"width": 390, "height": 844})
    assert console.evaluate("document.documentElement.scrollWidth") <= 390
    shoot(console, "c3-sheet-small")


def test_a_failed_run_and_a_sweep_are_told_as_they_are(
    run: dict[str, Any], console: Page, shoot: Shoot
) -> None:
    open_page(console, f"backtests/{run['broken']}")
    expect(console.get_by_text("strategy_failed")).to_be_visible()
    expect(console.get_by_text("raised ValueError: nowords")).to_be_visible()
    open_page(console, f"backtests/{run['sweep']}")
    expect(console.get_by_text("Sweep of 2 on MSFT")).to_be_visible()
    expect(console.get_by_text("The best combination")).to_be_visible()
    shoot(console, "c3-sweep")
    console.evaluate("location.hash = '#/backtests/bt-none'")
    expect(console.get_by_text("unknown_run")).to_be_visible()


def test_a_strategy_shows_its_source_its_versions_and_its_runs(
    run: dict[str, Any], console: Page, shoot: Shoot
) -> None:
    open_page(console, "strategies")
    expect(console.locator("tbody tr")).to_have_count(2)
    shoot(console, "c3-strategies")
    console.get_by_role("link", name="Crosses v1").click()
    expect(console.locator("pre.source")).to_contain_text('FEATURES = ("sma({fast})"')
    expect(console.get_by_text("fast: int = 10, slow: int = 30", exact=True)).to_be_visible()
    expect(console.locator(f"tr[data-key={run['run_id']}]")).to_be_visible()
    shoot(console, "c3-strategy")
    console.get_by_role("link", name="v2", exact=True).click()
    expect(console.locator("pre.source")).to_contain_text("print(")
    console.evaluate("location.hash = '#/strategies/000000000000'")
    expect(console.get_by_text("unknown_strategy")).to_be_visible()
