"""Sessions: links that work once, cookies that any process of the home reads, and their ends."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from neural_trader_governance.errors import RiskError
from neural_trader_governance.terms.clocks import WallClock
from neural_trader_server.app import Services
from neural_trader_server.console.app import Console
from neural_trader_server.console.sessions import LINK_TTL, SESSION_TTL, Sessions
from neural_trader_server.home import Home
from neural_trader_server.rates import Rates
from neural_trader_server.settings import Settings


class SetClock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.moment = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)

    def now(self) -> datetime:
        return self.moment


def test_a_link_opens_one_session_whichever_process_gets_it(home: Home) -> None:
    clock = SetClock()
    command, one, other = (Sessions(home, clock) for _ in range(3))
    link = command.link("owner")
    session = one.begin(link)
    assert session.person == "owner"
    with pytest.raises(RiskError, match="link_used"):
        other.begin(link)
    assert other.read(one.cookie(session)) == session, "another worker reads the cookie"
    assert other.token(session) == one.token(session)


def test_links_and_sessions_end(home: Home) -> None:
    clock = SetClock()
    sessions = Sessions(home, clock)
    late, link = sessions.link("owner"), sessions.link("owner")
    cookie = sessions.cookie(sessions.begin(link))
    clock.moment += LINK_TTL
    with pytest.raises(RiskError, match="link_expired"):
        sessions.begin(late)
    clock.moment += SESSION_TTL - LINK_TTL - timedelta(seconds=1)
    assert sessions.read(cookie) is not None
    clock.moment += timedelta(seconds=1)
    assert sessions.read(cookie) is None


def test_a_session_that_ended_stays_ended_in_every_process(home: Home) -> None:
    clock = SetClock()
    sessions = Sessions(home, clock)
    session = sessions.begin(sessions.link("owner"))
    sessions.end(session)
    assert Sessions(home, clock).read(sessions.cookie(session)) is None


def test_what_this_home_did_not_seal_for_this_purpose_opens_nothing(home: Home, tmp_path: Any) -> None:
    clock = SetClock()
    sessions, elsewhere = Sessions(home, clock), Sessions(Home(tmp_path / "other"), clock)
    link = sessions.link("owner")
    cookie = sessions.cookie(sessions.begin(link))
    foreign = elsewhere.link("owner")
    altered = link[:-2] + ("AA" if not link.endswith("AA") else "BB")
    for wrong in ("", "x", "Ω", cookie, foreign, altered, link + "A", "A" * 5_000):
        with pytest.raises(RiskError, match="link_invalid"):
            sessions.begin(wrong)
    for wrong in ("", link, foreign, cookie[:-1], "A" * 5_000):
        assert sessions.read(wrong) is None


@pytest.mark.anyio
async def test_over_tls_the_cookie_travels_encrypted_only(home: Home) -> None:
    services = Services(home, Settings(public_url="https://desk.example.com"), WallClock())

    async def elsewhere(*_: object) -> None:
        raise AssertionError("nobody asks for anything but the console")

    strangers = Rates(1, 30)
    app = Console(elsewhere, services, strangers)
    # What a proxy passes on is plain, and comes under its name.
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app),
        base_url="http://desk.example.com",
        headers={"Origin": "https://desk.example.com"},
    ) as http:
        link = Sessions(home, WallClock()).link("owner")
        opened = await http.post("/console/api/login", json={"link": link})
        assert opened.status_code == 200
        assert "; secure" in opened.headers["set-cookie"].lower()
    strangers.close()
    await services.aclose()


def test_the_command_prints_a_link_that_the_server_takes(home: Home, here: Callable[..., Any]) -> None:
    said = json.loads(here("console", "--json", "--url", "http://127.0.0.1:9999/").stdout)
    address, _, link = said["url"].partition("#login=")
    assert address == "http://127.0.0.1:9999/console"
    assert said["person"] == "owner"
    assert Sessions(home, WallClock()).begin(link).person == "owner"
    printed = here("console", "--print", "--as", "bob").stdout
    assert "It lets bob in once" in printed


def test_the_command_makes_no_home(here: Callable[..., Any], tmp_path: Any) -> None:
    ended = here("console", "--print", NEURAL_TRADER_HOME=str(tmp_path / "nowhere"))
    assert ended.returncode == 1
    assert "no_home" in ended.stderr
    assert not (tmp_path / "nowhere").exists()
