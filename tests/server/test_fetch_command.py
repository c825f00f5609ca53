"""`neural-trader data fetch alpaca|massive`: a service fills the archive, on record and in sight."""

import json
import re
from collections.abc import Callable, Generator
from datetime import date
from typing import Any

import anyio
import pytest
from tests.tools.market.loopback import alpaca, massive
from tests.tools.market.loopback.alpaca import AlpacaLoopback, daily
from tests.tools.market.loopback.massive import MassiveLoopback
from tests.tools.market.loopback.server import Fault

from neural_trader_governance.audit.entries import EntryType
from neural_trader_governance.audit.log import read_entry
from neural_trader_server.app import Services, open_desk
from neural_trader_server.home import Home
from neural_trader_server.settings import Settings

Here = Callable[..., Any]
WORDS = ("--symbol", "AAPL", "--start", "2024-01-02", "--end", "2024-02-01", "--json")


@pytest.fixture(scope="module")
def served() -> Generator[AlpacaLoopback]:
    server = AlpacaLoopback()
    with server.serve():
        yield server


@pytest.fixture
def service(served: AlpacaLoopback, monkeypatch: pytest.MonkeyPatch) -> AlpacaLoopback:
    """The service and a key for it, by the vendor's own variables."""
    served.reset()
    monkeypatch.setenv("NEURAL_TRADER_ALPACA_URL", served.url)
    monkeypatch.setenv("APCA_API_KEY_ID", alpaca.KEY)
    monkeypatch.setenv("APCA_API_SECRET_KEY", alpaca.SECRET)
    return served


def test_a_fetch_fills_the_archive_and_is_on_record(home: Home, here: Here, service: AlpacaLoopback) -> None:
    service.bars["AAPL", "1Day"] = daily(date(2024, 1, 2), [180.0, 181.0])
    service.headers = {
        "X-RateLimit-Limit": "10000",
        "X-RateLimit-Remaining": "9998",
        "X-RateLimit-Reset": "1",
    }
    fetched = here("data", "fetch", "alpaca", *WORDS)
    assert fetched.returncode == 0, fetched.stderr
    report = json.loads(fetched.stdout)
    assert report["symbols"]["AAPL"]["rows_new"] == 2
    shown = here("data", "fetch", "alpaca", *WORDS[:-1])
    assert "alpaca-sip 1d, 2024-01-02T00:00:00Z to 2024-02-01T00:00:00Z" in shown.stdout
    listed = json.loads(here("data", "list", "--json").stdout)
    assert [(one["symbol"], one["intervals"]) for one in listed["instruments"]] == [("AAPL", ["1d"])]

    async def status() -> Any:
        async with open_desk(
            home, Settings(sandbox_backend="e2b")
        ) as services:  # without consent: no canaries
            return await services.call("status_get"), recorded(services)

    told, payload = anyio.run(status)
    [(provider, standing)] = told["data"]["providers"].items()
    assert provider == "alpaca"
    assert re.fullmatch(r"closed; \d+ of 10000 requests a minute left at \S+Z", standing), standing
    assert payload["symbols"]["AAPL"]["rows_new"] == 2
    assert alpaca.SECRET not in json.dumps(payload)


def recorded(services: Services) -> Any:
    """The first import in the log."""
    wanted = "SELECT min(seq) FROM audit_entries WHERE type = ?"
    with services.store.read() as connection:
        [seq] = connection.execute(wanted, (EntryType.DATA_IMPORT.value,)).fetchone()
        return read_entry(connection, seq).payload


def test_the_packages_are_providers_too(home: Home, here: Here) -> None:
    unnamed = here("data", "fetch", "ccxt", "--symbol", "BTC/USD", "--start", "2024-01-02", "--json")
    assert unnamed.returncode == 1
    assert "--exchange kraken" in json.loads(unnamed.stdout)["error"]["next_step"]
    wrong = here("data", "fetch", "ccxt", *WORDS, NEURAL_TRADER_CCXT_URL="ftp://elsewhere")
    assert "NEURAL_TRADER_CCXT_URL" in json.loads(wrong.stdout)["error"]["next_step"]
    unknown = here("data", "fetch", "bloomberg", *WORDS)
    assert unknown.returncode == 2
    assert "alpaca, massive, ccxt, yfinance" in json.loads(unknown.stdout)["error"]["what"]


def test_without_a_key_the_error_says_where_to_put_one(
    home: Home, here: Here, service: AlpacaLoopback
) -> None:
    refused = here("data", "fetch", "alpaca", *WORDS, APCA_API_SECRET_KEY="")
    error = json.loads(refused.stdout)["error"]
    assert (refused.returncode, error["code"]) == (1, "provider_key_missing")
    assert "keyring set neural-trader alpaca-secret-key" in error["next_step"]
    assert service.log == []


def test_an_address_that_a_key_may_not_be_sent_to_is_refused(
    home: Home, here: Here, service: AlpacaLoopback
) -> None:
    refused = here("data", "fetch", "alpaca", *WORDS, NEURAL_TRADER_ALPACA_URL="http://data.example.com")
    error = json.loads(refused.stdout)["error"]
    assert (error["code"], "alpaca_url" in error["what"]) == ("invalid_setting", True)


def test_an_interrupted_fetch_goes_on(home: Home, here: Here, service: AlpacaLoopback) -> None:
    service.bars["AAPL", "1Day"] = daily(date(2024, 1, 2), [180.0 + place for place in range(4)])
    service.page_max = 2
    token = {"bars": {"AAPL": service.bars["AAPL", "1Day"][:2]}, "next_page_token": "Mg=="}
    service.faults = [
        Fault(match="bars", body=json.dumps(token).encode()),
        Fault(match="bars", status=403),
    ]
    failed = here("data", "fetch", "alpaca", *WORDS)
    assert json.loads(failed.stdout)["error"]["code"] == "provider_plan"
    report = json.loads(here("data", "fetch", "alpaca", *WORDS).stdout)
    assert report["resumed"]
    assert report["symbols"]["AAPL"]["rows_new"] == 4


def test_massive_is_asked_with_its_own_key(home: Home, here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    server = MassiveLoopback()
    with server.serve():
        server.bars["AAPL", 1, "day"] = [massive.bar(1_704_171_600_000, 180.0)]
        monkeypatch.setenv("NEURAL_TRADER_MASSIVE_URL", server.url)
        monkeypatch.setenv("NEURAL_TRADER_MASSIVE_API_KEY", massive.KEY)
        report = json.loads(here("data", "fetch", "massive", *WORDS).stdout)
    assert report["symbols"]["AAPL"]["rows_new"] == 1


def test_a_service_needs_symbols_and_a_start_and_an_unknown_one_is_named(here: Here) -> None:
    for words in (("alpaca",), ("alpaca", "--symbol", "AAPL"), ("polygon", *WORDS)):
        assert here("data", "fetch", *words).returncode == 2
