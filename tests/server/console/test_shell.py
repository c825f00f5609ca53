"""The console's shell in a real browser: who is let in, what the page may load, what the keyboard does."""

from collections.abc import Callable

from playwright.sync_api import Page
from tests.server.console.conftest import Desk, Seen

Shoot = Callable[[Page, str], None]


def test_a_link_lets_one_person_in_once_and_leaves_no_trace_in_an_address(
    page: Page, desk: Desk, seen: Seen, shoot: Shoot
) -> None:
    link = desk.link()
    secret = link.partition("#login=")[2]
    page.goto(link)
    page.wait_for_selector("nav")
    assert "login" not in page.url
    shoot(page, "c1-first")
    assert not [request.url for request in seen.requests if secret[:20] in request.url]
    page.goto("about:blank")
    page.context.clear_cookies()
    page.goto(link)
    page.get_by_text("link_used").wait_for()
    shoot(page, "c1-login")
