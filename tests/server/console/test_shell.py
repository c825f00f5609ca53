"""The console's shell: who is let in, which page may act, the switch, the keyboard, and how it looks."""

from collections.abc import Callable, Generator
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect
from tests.server.console.conftest import Desk, Seen

from neural_trader_governance.halts import resume
from neural_trader_governance.identity import Caller
from neural_trader_governance.principals import Role, enroll, sign_enrolment
from neural_trader_governance.signing.keys import SigningKey
from neural_trader_server.console.app import HEADERS
from neural_trader_server.console.sessions import Sessions

Shoot = Callable[[Page, str], None]
TOKEN = "X-Console-Token"
ASK_AGAIN = "window.dispatchEvent(new CustomEvent('console:changed'))"
"""Has a page ask for the standing now and not only in some seconds."""


@pytest.fixture
def http(desk: Desk) -> Generator[httpx.Client]:
    """A client without a session that speaks as a page of this console does."""
    with httpx.Client(base_url=desk.address, headers={"Origin": desk.address}) as client:
        yield client


def log_in(http: httpx.Client, desk: Desk, person: str = "owner") -> str:
    """Logs a client in, which shows its token from then on, too; returns the token."""
    link = desk.link(person).partition("#login=")[2]
    answer = http.post("/console/api/login", json={"link": link})
    assert answer.status_code == 200, answer.text
    http.headers[TOKEN] = str(answer.json()["token"])
    return http.headers[TOKEN]


def code(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, str(response.json()["error"]["code"])


def test_without_a_session_nothing_but_the_shell_is_answered(http: httpx.Client, desk: Desk) -> None:
    for path in ("/console", "/console/", "/console/static/console.mjs", "/console/static/pages/orders.mjs"):
        assert http.get(path).status_code == 200, path
    areas = (
        "session",
        "standing",
        "approvals",
        "approvals/pv_1/draft",
        "orders",
        "orders/nt_1",
        "no/such/area",
    )
    for area in areas:
        assert code(http.get(f"/console/api/{area}")) == (401, "login_required"), area
    for area in ("halt", "logout", "approvals/pv_1/accept", "approvals/pv_1/reject", "orders/nt_1/cancel"):
        assert code(http.post(f"/console/api/{area}", json={})) == (401, "login_required"), area
    http.cookies.set(Sessions(desk.home, desk.services.clock).cookie_name, "A" * 200)
    assert code(http.get("/console/api/orders")) == (401, "login_required")


def test_nothing_outside_the_static_folder_is_served(http: httpx.Client) -> None:
    for name in (
        "../app.py",
        "..%2fapp.py",
        "%2e%2e/app.py",
        "../../settings.py",
        "",
        "pages",
        ".",
        "x.py",
        "a%00.mjs",
    ):
        answer = http.get(f"/console/static/{name}")
        assert answer.status_code == 404, name


def test_every_answer_bears_the_headers_that_keep_pages_to_themselves(http: httpx.Client, desk: Desk) -> None:
    for path in ("/console", "/console/static/console.css", "/console/api/orders", "/console/nothing"):
        answer = http.get(path)
        assert {name: answer.headers[name] for name in HEADERS} == HEADERS, path
    policy = HEADERS["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    assert http.get("/console/api/orders").headers["Cache-Control"] == "no-store"
    module = http.get("/console/static/console.mjs")
    tag = {"If-None-Match": module.headers["ETag"]}
    assert http.get("/console/static/console.mjs", headers=tag).status_code == 304
    login = http.post("/console/api/login", json={"link": desk.link().partition("#login=")[2]})
    cookie = login.headers["Set-Cookie"].lower()
    for word in ("httponly", "samesite=strict", "path=/console", "max-age=28800"):
        assert word in cookie


def test_a_cookie_without_its_token_and_a_page_of_another_port_are_refused(
    http: httpx.Client, desk: Desk
) -> None:
    token = log_in(http, desk)
    size = http.get("/console/api/standing").json()["log_size"]
    halt = {"reason": "not by me"}
    for wrong in ("", "0" * 64, token[:-1]):
        shown = {TOKEN: wrong}
        assert code(http.get("/console/api/session", headers=shown)) == (401, "login_required")
        assert code(http.post("/console/api/halt", json=halt, headers=shown)) == (401, "login_required")
    assert token not in http.get("/console/api/session").text
    port = int(desk.address.rpartition(":")[2])
    # Another port of this machine is the same site to a browser, which sends the cookie along.
    for origin in (f"http://127.0.0.1:{port + 1}", f"http://localhost:{port}"):
        foreign = {"Origin": origin}
        assert code(http.post("/console/api/halt", json=halt, headers=foreign)) == (403, "foreign_page"), (
            origin
        )
    del http.headers["Origin"]
    assert code(http.post("/console/api/halt", json=halt)) == (403, "foreign_page")
    own = {"Origin": desk.address}
    form = http.post("/console/api/halt", data=halt, headers=own)
    assert code(form) == (400, "invalid_request"), "a form is no JSON"
    assert code(http.post("/console/api/halt", json={"reason": "x", "more": 1}, headers=own))[0] == 400
    assert http.get("/console/api/standing").json()["log_size"] == size


def test_a_persons_roles_bound_what_their_session_may_do(http: httpx.Client, desk: Desk) -> None:
    issuer = SigningKey.load(desk.home.issuer_key)

    def set_roles(*roles: Role) -> None:
        with desk.services.store.unit() as unit:
            document = sign_enrolment(
                unit.connection,
                issuer,
                kind="person",
                name="rita",
                roles=frozenset(roles),
                time=desk.services.clock.now(),
            )
            enroll(unit, document, issuer=desk.services.issuer, caller=desk.services.person)

    assert code(http.post("/console/api/login", json={"link": desk.link("rita").partition("=")[2]})) == (
        403,
        "not_enrolled",
    )
    set_roles(Role.READER)
    log_in(http, desk, "rita")
    assert http.get("/console/api/orders").status_code == 200
    for path, body in (("orders/nt_1/cancel", {}), ("approvals/pv_1/reject", {"reason": "no"})):
        assert code(http.post(f"/console/api/{path}", json=body)) == (403, "role_missing")
    set_roles()
    assert code(http.get("/console/api/orders")) == (401, "login_required"), "retired, and out at once"


def test_who_tries_links_that_open_nothing_waits(http: httpx.Client, desk: Desk) -> None:
    answers = [http.post("/console/api/login", json={"link": "x"}) for _ in range(32)]
    assert code(answers[0]) == (403, "link_invalid")
    assert code(answers[-1]) == (429, "too_many_tries")
    assert int(answers[-1].headers["Retry-After"]) >= 1
    log_in(http, desk)  # whoever has a good one never waits for a guesser


def test_a_link_lets_one_person_in_once_and_its_secret_reaches_no_address(
    page: Page, desk: Desk, seen: Seen, shoot: Shoot
) -> None:
    link = desk.link()
    secret = link.partition("#login=")[2]
    page.goto(link)
    page.wait_for_selector("nav")
    assert page.url == f"{desk.address}/console"
    assert not [request.url for request in seen.requests if secret[:20] in request.url]
    page.get_by_role("button", name="Log out").click()
    page.get_by_text("neural-trader console --print").wait_for()
    assert page.locator("nav").count() == 0
    page.goto("about:blank")
    page.goto(link)
    page.get_by_text("link_used").wait_for()
    shoot(page, "c1-login")


def test_a_session_that_ends_elsewhere_brings_the_login_back(console: Page, desk: Desk) -> None:
    console.context.clear_cookies()
    console.evaluate(ASK_AGAIN)
    console.get_by_text("login_required").wait_for()
    assert console.locator("nav").count() == 0


def test_the_switch_halts_all_trading_with_one_confirmation_and_a_reason(
    console: Page, desk: Desk, shoot: Shoot
) -> None:
    console.get_by_role("button", name="Halt trading").click()
    console.get_by_role(
        "button", name="Halt trading now"
    ).click()  # the reason is missing: the browser says so
    assert desk.call("status_get")["halted"] is False
    console.get_by_label("Why (it goes into the audit log)").fill("<b>prices</b> look wrong")
    shoot(console, "c1-halt")
    console.get_by_role("button", name="Halt trading now").click()
    console.get_by_text("No order was working.").wait_for()
    console.keyboard.press("Escape")
    expect(console.get_by_role("status").first).to_contain_text("all: <b>prices</b> look wrong")
    expect(console.get_by_role("status").first).to_contain_text("neural-trader resume")
    shoot(console, "c1-halted")
    assert desk.call("status_get")["halted"] is True
    with desk.services.store.unit() as unit:
        resume(unit, caller=Caller("owner", ""))
    console.evaluate(ASK_AGAIN)
    expect(console.get_by_role("status").first).not_to_contain_text("HALTED")


def test_everything_is_reached_with_the_keyboard_alone(console: Page) -> None:
    console.locator("main h1").wait_for()
    console.keyboard.press("g")
    console.keyboard.press("o")
    expect(console.locator("main h1")).to_have_text("Orders")
    expect(console.locator("nav a[aria-current]")).to_have_text("Orders")
    console.keyboard.press("?")
    expect(console.get_by_role("dialog")).to_contain_text("Halt trading")
    console.keyboard.press("Escape")
    expect(console.get_by_role("dialog")).to_have_count(0)
    console.keyboard.press("!")
    expect(console.get_by_label("Why (it goes into the audit log)")).to_be_focused()
    console.keyboard.type("g o ? !")
    expect(console.get_by_role("dialog")).to_have_count(1)
    console.keyboard.press("Escape")
    console.evaluate("document.activeElement.blur()")
    names: list[str] = []
    for _ in range(24):
        console.keyboard.press("Tab")
        names.append(console.evaluate("document.activeElement.textContent.trim()"))
    for name in ("Skip to the page", "Halt trading", "Log out", "Approvals", "Orders"):
        assert name in names, names
    outline = console.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid", "where the focus is can be seen"


def test_it_is_dark_where_the_system_is_and_fits_a_small_screen(console: Page, shoot: Shoot) -> None:
    console.evaluate("location.hash = '#/orders'")
    console.get_by_role("heading", name="Orders").wait_for()
    light = console.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    console.emulate_media(color_scheme="dark")
    dark = console.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert light != dark
    shoot(console, "c1-dark")
    console.set_viewport_size({"width": 390, "height": 800})
    assert console.evaluate("document.documentElement.scrollWidth") <= 390
    shoot(console, "c1-small")


def test_the_policy_of_the_pages_holds_in_the_browser(console: Page, seen: Seen) -> None:
    refused: Any = console.evaluate(
        """async () => {
          const told = [];
          document.addEventListener("securitypolicyviolation", (event) => told.push(event.violatedDirective));
          const script = document.createElement("script");
          script.textContent = "window.stolen = true";
          document.body.append(script);
          document.body.insertAdjacentHTML("beforeend", "<img src='http://127.0.0.1:1/x.png'>");
          await fetch("http://127.0.0.1:1/").catch(() => 0);
          await new Promise((go) => setTimeout(go, 50));
          return [window.stolen ?? null, told.map((each) => each.replace("-elem", "")).sort()];
        }"""
    )
    assert refused == [None, ["connect-src", "img-src", "script-src"]]
    seen.complaints.clear()  # those three
