"""A desk that is served as it always is, and a headless Chromium before it; one of both for each file.

Playwright's calls wait for a browser in the thread of the test; the server lives in another one, with its
own loop, and `Desk.do` runs there what a test does to the desk itself.
"""

import os
import shutil
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, ViewportSize, sync_playwright
from tests.hosted import everything_served, hosted

from neural_trader_governance.terms.clocks import WallClock
from neural_trader_server.app import Services, found
from neural_trader_server.console.sessions import Sessions, login_address
from neural_trader_server.endpoint import Endpoint
from neural_trader_server.home import Home
from neural_trader_server.settings import Settings

SHOTS = os.environ.get("NEURAL_TRADER_SHOTS")
"""A folder for pictures of what a test saw, for people to look at."""

VIEW: ViewportSize = {"width": 1280, "height": 860}

_Answer = TypeVar("_Answer")


@dataclass
class Desk:
    """A served desk.

    Attributes:
        address: Of the server, without a path.
        services: The server's own.
    """

    address: str
    home: Home
    services: Services
    portal: BlockingPortal

    def do(self, work: Callable[[], Awaitable[_Answer]]) -> _Answer:
        """Runs something in the server's loop."""
        return self.portal.call(work)

    def call(self, tool: str, /, **arguments: Any) -> dict[str, Any]:
        """Calls a tool as this desk's agent."""
        return self.do(lambda: self.services.call(tool, **arguments))

    def link(self, person: str = "owner") -> str:
        """Returns a new login link, as `neural-trader console` makes it."""
        return login_address(self.address, Sessions(self.home, WallClock()).link(person))


@dataclass
class Seen:
    """What a browser did and complained of."""

    requests: list[Request] = field(default_factory=list[Request])
    complaints: list[str] = field(default_factory=list[str])


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, sample_archive_root: Path) -> Generator[Desk]:
    """A desk with the real sample prices, served on loopback."""
    home = Home(tmp_path_factory.mktemp("console") / "home")
    services = Services(home, Settings(), WallClock())
    found(services)
    services.close()
    shutil.copytree(sample_archive_root, home.archive, dirs_exist_ok=True)
    served: list[Services] = []

    def build(own: Services) -> Endpoint:
        served.append(own)
        return everything_served(own)

    @asynccontextmanager
    async def serving() -> AsyncGenerator[str]:
        async with hosted(home, build) as address:
            await served[0].start()
            yield address
            await served[0].aclose()  # in the order of dependence: what was started last ends first

    with start_blocking_portal() as portal, portal.wrap_async_context_manager(serving()) as address:
        yield Desk(address, home, served[0], portal)


@pytest.fixture(scope="module")
def browser(lacking: Callable[[str], NoReturn]) -> Generator[Browser]:
    """Headless Chromium, the system's own."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        lacking("chromium is not on the path: apt-get install chromium fonts-dejavu-core")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        yield browser
        browser.close()


@pytest.fixture
def seen() -> Seen:
    """What the browser did in this test; its complaints fail the test unless it takes them out."""
    return Seen()


@pytest.fixture
def page(browser: Browser, seen: Seen) -> Generator[Page]:
    """A page of a browser that knows nobody yet."""
    context = browser.new_context(viewport=VIEW, color_scheme="light", locale="en-GB")
    context.set_default_timeout(10_000)
    page = context.new_page()

    def hear(message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            seen.complaints.append(message.text)

    page.on("console", hear)
    page.on("pageerror", lambda error: seen.complaints.append(str(error)))
    page.on("request", lambda request: seen.requests.append(request))
    yield page
    context.close()
    # A refusal that a test provokes is shown by Chromium too, as the status of a request.
    assert [each for each in seen.complaints if "the server responded with a status of" not in each] == []


@pytest.fixture
def console(page: Page, desk: Desk) -> Page:
    """The same, logged in as the owner, on the first page."""
    page.goto(desk.link())
    page.wait_for_selector("nav")
    return page


@pytest.fixture
def shoot() -> Callable[[Page, str], None]:
    """`shoot(page, name)`: keeps a picture where NEURAL_TRADER_SHOTS names a folder."""

    def keep(page: Page, name: str) -> None:
        if SHOTS:
            page.screenshot(path=Path(SHOTS) / f"{name}.png", full_page=True)

    return keep
