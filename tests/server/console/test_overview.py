"""The first page: what the desk holds and is worth, and how it came to it."""

import hashlib
import re
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from playwright.sync_api import Locator, Page, expect
from tests.server.console.conftest import Desk, Seen

from neural_trader_server.console.pages import STATIC

Shoot = Callable[[Page, str], None]
BOUGHT = datetime(2012, 5, 11, 20, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def traded(desk: Desk) -> Desk:
    """Bought, held through a dividend, and partly sold."""

    def trade(**terms: str) -> None:
        preview = desk.call("orders_preview", type="market", reason="a test of the page", **terms)
        desk.call("orders_submit", preview_id=preview["preview_id"])

    desk.services.replay.set(BOUGHT)
    trade(symbol="MSFT", side="buy", quantity="40")
    trade(symbol="AAPL", side="buy", quantity="3")
    desk.services.replay.step(6)
    trade(symbol="MSFT", side="sell", quantity="15")
    desk.services.replay.step(4)
    desk.call("portfolio_get")
    return desk


def card(page: Page, name: str) -> Locator:
    return page.locator(".card", has=page.get_by_text(name, exact=True))


def test_a_desk_that_holds_nothing_says_so(console: Page, desk: Desk, shoot: Shoot) -> None:
    expect(console).to_have_title("Overview · Neural Trader")
    expect(card(console, "Equity").locator(".figure")).to_have_text("100,000.00 USD")
    expect(console.get_by_text("Nothing is held.")).to_be_visible()
    expect(console.get_by_text("No orders yet.")).to_be_visible()
    shoot(console, "c2-overview-empty")


def test_what_is_held_is_what_the_tool_says_and_the_curve_ends_there(
    traded: Desk, console: Page, shoot: Shoot
) -> None:
    told = traded.call("portfolio_get")
    expect(card(console, "Equity").locator(".figure")).to_have_text(f"{float(told['equity']):,.2f} USD")
    expect(card(console, "Cash").locator(".figure")).to_have_text(f"{float(told['cash']):,.2f} USD")
    for position in told["positions"]:
        row = console.locator(f"tr[data-key={position['symbol']}]")
        expect(row.locator("[data-title=Quantity]")).to_have_text(position["quantity"])
        expect(row.locator("[data-title=Value]")).to_have_text(f"{float(position['market_value']):,.2f} USD")
    canvas = console.locator(".chart .canvas")
    expect(canvas).to_have_attribute("aria-label", re.compile(f"to {float(told['equity']):,.2f} USD"))
    assert int(canvas.get_attribute("data-points") or 0) >= 10
    assert canvas.locator("canvas").count() >= 3
    expect(console.get_by_text("SELL 15 MSFT")).to_be_visible()
    shoot(console, "c2-overview")


def test_it_follows_the_desk_without_being_loaded_anew(traded: Desk, console: Page) -> None:
    before = card(console, "Equity").locator(".figure").inner_text()
    traded.services.replay.step(1)
    expect(card(console, "Equity").locator(".figure")).not_to_have_text(before)
    told = traded.call("portfolio_get")
    label = console.locator(".chart .canvas")
    expect(label).to_have_attribute("aria-label", re.compile(f"to {float(told['equity']):,.2f} USD"))


def test_the_chart_is_used_with_the_keyboard_and_follows_the_colours(
    traded: Desk, console: Page, shoot: Shoot
) -> None:
    canvas = console.locator(".chart .canvas")
    canvas.focus()
    for key in ("+", "+", "ArrowLeft", "-", "0"):
        console.keyboard.press(key)
    light = canvas.screenshot()
    console.emulate_media(color_scheme="dark")
    expect(canvas.locator("canvas").first).to_be_visible()
    assert canvas.screenshot() != light
    shoot(console, "c2-overview-dark")
    console.set_viewport_size({"width": 390, "height": 844})
    assert console.evaluate("document.documentElement.scrollWidth") <= 390
    shoot(console, "c2-overview-small")


def test_charts_are_drawn_by_the_vendored_library_and_nothing_is_fetched_from_elsewhere(
    traded: Desk, console: Page, seen: Seen
) -> None:
    console.locator(".chart .canvas canvas").first.wait_for()
    assert {request.url.split("/console")[0] for request in seen.requests} == {traded.address}
    assert any(request.url.endswith("/vendor/lightweight-charts.mjs") for request in seen.requests)
    expect(console.locator(".chart .credit")).to_have_attribute("href", "https://www.tradingview.com/")


def test_the_vendored_library_is_the_published_file() -> None:
    folder = STATIC / "vendor"
    said = dict(
        line.split(": ", 1)
        for line in (folder / "lightweight-charts.txt").read_text().splitlines()
        if ": " in line
    )
    library = (folder / "lightweight-charts.mjs").read_bytes()
    assert hashlib.sha256(library).hexdigest() == said["sha256"]
    assert f"v{said['version']}".encode() in library[:400]
    assert "Apache License" in (folder / "lightweight-charts.LICENSE.txt").read_text()
