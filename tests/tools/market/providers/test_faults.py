"""What a service does wrong, and what we say: a fault ends in an error with a next step, or is outlived."""

import gzip
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError
from tests.tools.market.loopback.alpaca import KEY, SECRET, AlpacaLoopback, daily
from tests.tools.market.loopback.massive import MassiveLoopback, bar
from tests.tools.market.loopback.server import Fault
from tests.tools.market.providers.conftest import Hand

from neural_trader_governance.errors import ConfigurationError, DataError, NetworkError, NeuralTraderError
from neural_trader_tools.market.providers.alpaca import Alpaca
from neural_trader_tools.market.providers.massive import Massive
from neural_trader_tools.market.providers.port import HistoryRequest, Page
from neural_trader_tools.market.providers.settings import AlpacaSettings
from neural_trader_tools.market.providers.standing import standings

pytestmark = pytest.mark.anyio
START, END = datetime(2024, 1, 2, tzinfo=UTC), datetime(2024, 3, 1, tzinfo=UTC)
MakeAlpaca = Callable[..., Alpaca]
MakeMassive = Callable[..., Massive]


async def pages(provider: Alpaca | Massive, symbol: str = "AAPL") -> list[Page]:
    try:
        return [page async for page in provider.history(HistoryRequest((symbol,), "1d", START, END))]
    finally:
        await provider.aclose()


async def failure(provider: Alpaca | Massive, symbol: str = "AAPL") -> NeuralTraderError:
    with pytest.raises(NeuralTraderError) as raised:
        await pages(provider, symbol)
    error = raised.value
    assert error.next_step
    for secret in (KEY, SECRET):
        assert secret not in str(error), "a key was said"
    return error


@pytest.mark.parametrize(
    ("fault", "kind", "code", "tried"),
    [
        (Fault(status=401, times=-1), ConfigurationError, "provider_key_refused", 1),
        (Fault(status=403, times=-1), ConfigurationError, "provider_plan", 1),
        (Fault(status=422, times=-1), DataError, "provider_refused", 1),
        (Fault(status=302, headers={"location": "http://127.0.0.1:1/"}), DataError, "provider_redirects", 1),
        (Fault(status=429, times=-1), NetworkError, "provider_rate_limited", 4),
        (Fault(status=500, times=-1), NetworkError, "provider_failed", 4),
        (Fault(status=503, times=-1, body=b"<html>"), NetworkError, "provider_failed", 4),
        (Fault(drop_after=10, times=-1), NetworkError, "provider_connection_lost", 4),
        (Fault(cut_after=15, times=-1), DataError, "provider_answer_malformed", 4),
        (Fault(body=b"\xff\xfe\x00garbage", times=-1), DataError, "provider_answer_malformed", 4),
        (Fault(body=b"", times=-1), DataError, "provider_answer_malformed", 4),
        (Fault(body=b"[" * 200_000, times=-1), DataError, "provider_answer_malformed", 4),
        (Fault(body=b'{"corporate_actions":7}', times=-1), DataError, "provider_answer_malformed", 4),
        (Fault(body=b"null", times=-1), DataError, "provider_answer_malformed", 4),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
async def test_a_fault_that_stays_ends_in_a_clear_error_after_as_many_attempts_as_make_sense(
    alpaca_api: AlpacaLoopback,
    make_alpaca: MakeAlpaca,
    fault: Fault,
    kind: type[NeuralTraderError],
    code: str,
    tried: int,
) -> None:
    alpaca_api.faults = [replace(fault)]
    error = await failure(make_alpaca())
    assert (type(error), error.code) == (kind, code)
    assert len(alpaca_api.log) == tried


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=429, headers={"retry-after": "3"}),
        Fault(status=500),
        Fault(drop_after=10),
        Fault(cut_after=15),
        Fault(body=b"oops"),
    ],
    ids=["429", "500", "dropped", "cut", "garbage"],
)
async def test_a_fault_that_passes_is_outlived(
    alpaca_api: AlpacaLoopback, make_alpaca: MakeAlpaca, fault: Fault
) -> None:
    alpaca_api.bars["AAPL", "1Day"] = daily(date(2024, 1, 2), [180.0])
    alpaca_api.faults = [replace(fault)]
    found = await pages(make_alpaca())
    assert [one.close for page in found for one in page.bars] == ["180.0"]


async def test_a_429_is_not_asked_again_before_its_time(
    alpaca_api: AlpacaLoopback, make_alpaca: MakeAlpaca, hand: Hand
) -> None:
    alpaca_api.faults = [Fault(status=429, headers={"retry-after": "42"})]
    await pages(make_alpaca())
    assert hand.slept == [42.0]


async def test_a_service_that_says_nothing_is_given_up_at_the_deadline(
    alpaca_api: AlpacaLoopback, make_alpaca: MakeAlpaca
) -> None:
    alpaca_api.faults = [Fault(delay_s=0.5, times=-1)]
    error = await failure(make_alpaca(request_timeout_s=0.05, attempts_max=2))
    assert error.code == "provider_timeout"


async def test_a_port_that_nobody_listens_on_is_named(make_alpaca: MakeAlpaca) -> None:
    error = await failure(make_alpaca(url="http://127.0.0.1:9"))
    assert error.code == "provider_unreachable"
    assert "127.0.0.1" in error.what


async def test_a_flood_is_cut_off_packed_or_not(alpaca_api: AlpacaLoopback, make_alpaca: MakeAlpaca) -> None:
    alpaca_api.faults = [Fault(flood_bytes=100 << 20)]
    error = await failure(make_alpaca(body_bytes_max=2 << 20))
    assert error.code == "provider_answer_too_long"
    bomb = gzip.compress(b" " * (20 << 20))
    alpaca_api.faults = [Fault(body=bomb, headers={"content-encoding": "gzip"})]
    error = await failure(make_alpaca(body_bytes_max=2 << 20))
    assert error.code == "provider_answer_too_long"


async def test_what_the_service_says_never_brings_the_key_or_control_characters_along(
    alpaca_api: AlpacaLoopback, make_alpaca: MakeAlpaca
) -> None:
    said = f'{{"message": "no {SECRET}\\u001b[2J\\nforbidden {"x" * 5000}"}}'.encode()
    alpaca_api.faults = [Fault(status=401, body=said)]
    error = await failure(make_alpaca())
    assert "[redacted]" in error.what
    assert "\x1b" not in error.what
    assert "\n" not in error.what
    assert len(error.what) < 500


async def test_a_wrong_key_is_refused_by_both_services(
    make_alpaca: MakeAlpaca, make_massive: MakeMassive
) -> None:
    for provider, advice in (
        (make_alpaca(secret_key=SecretStr("another-one")), "APCA_API_SECRET_KEY"),
        (make_massive(api_key=SecretStr("another-one")), "MASSIVE_API_KEY"),
    ):
        error = await failure(provider)
        assert error.code == "provider_key_refused"
        assert advice in error.next_step


async def test_without_a_key_nothing_is_sent(
    alpaca_api: AlpacaLoopback,
    massive_api: MassiveLoopback,
    make_alpaca: MakeAlpaca,
    make_massive: MakeMassive,
) -> None:
    for provider in (make_alpaca(key_id=None), make_alpaca(secret_key=None), make_massive(api_key=None)):
        error = await failure(provider)
        assert error.code == "provider_key_missing"
        assert "keyring set neural-trader" in error.next_step
    assert alpaca_api.log == massive_api.log == []


@pytest.mark.parametrize("symbol", ["BTC/USD", "^GSPC", "A,B", "../..", "AAPL?x=1"])
async def test_a_symbol_that_is_no_stock_is_refused_before_anything_is_sent(
    alpaca_api: AlpacaLoopback,
    massive_api: MassiveLoopback,
    make_alpaca: MakeAlpaca,
    make_massive: MakeMassive,
    symbol: str,
) -> None:
    for provider in (make_alpaca(), make_massive()):
        assert (await failure(provider, symbol)).code == "symbol_not_offered"
    assert alpaca_api.log == massive_api.log == []


async def test_a_page_token_that_repeats_and_empty_pages_without_an_end_are_noticed(
    alpaca_api: AlpacaLoopback, make_alpaca: MakeAlpaca, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neural_trader_tools.market.providers.pages.EMPTY_PAGES_MAX", 9)
    again = b'{"bars": {}, "next_page_token": "QQ=="}'
    alpaca_api.faults = [Fault(match="bars", body=again, times=-1)]
    assert (await failure(make_alpaca())).code == "provider_pages_repeat"
    assert len(alpaca_api.asked("/v2/stocks/bars")) == 2
    alpaca_api.faults = [
        Fault(match="bars", body=f'{{"bars": {{}}, "next_page_token": "{number}"}}'.encode())
        for number in range(20)
    ]
    alpaca_api.log.clear()
    assert (await failure(make_alpaca())).code == "provider_pages_repeat"
    assert len(alpaca_api.log) == 10


async def test_a_next_url_leads_the_key_to_no_other_host(
    massive_api: MassiveLoopback, make_massive: MakeMassive
) -> None:
    massive_api.bars["AAPL", 1, "day"] = [
        bar(1_704_171_600_000 + 86_400_000 * day, 180.0) for day in range(3)
    ]
    massive_api.page_max = 2
    massive_api.next_host = "https://elsewhere.example"
    found = await pages(make_massive())
    assert sum(len(page.bars) for page in found) == 3
    assert {one.headers["host"] for one in massive_api.log} == {massive_api.url.removeprefix("http://")}
    massive_api.faults = [Fault(match="aggs", body=b'{"status": "OK", "next_url": "https://x/?page=2"}')]
    assert (await failure(make_massive())).code == "provider_answer_malformed"


async def test_a_service_that_keeps_failing_is_left_alone_by_the_next_process_too(
    alpaca_api: AlpacaLoopback, make_alpaca: MakeAlpaca, hand: Hand, tmp_path: Path
) -> None:
    alpaca_api.faults = [Fault(status=500, times=-1)]
    await failure(make_alpaca())
    assert (await failure(make_alpaca())).code == "provider_circuit_open"
    assert len(alpaca_api.log) == 5
    [standing] = standings(tmp_path / "archive")
    assert (standing.circuit, standing.failures, standing.last_failure) == ("open", 5, "provider_failed")
    alpaca_api.faults = []
    hand.now_s += 30
    await pages(make_alpaca())
    [standing] = standings(tmp_path / "archive")
    assert (standing.circuit, standing.failures) == ("closed", 0)


async def test_a_refused_key_says_nothing_about_the_service(
    alpaca_api: AlpacaLoopback, make_alpaca: MakeAlpaca
) -> None:
    for _ in range(6):
        assert (await failure(make_alpaca(key_id=SecretStr("PKWRONG")))).code == "provider_key_refused"
    assert len(alpaca_api.log) == 6


@pytest.mark.parametrize(
    "url",
    ["http://data.example.com", "ftp://127.0.0.1", "https://user:word@data.example.com", "https://x/?a=1"],
)
def test_a_key_is_sent_encrypted_or_to_this_machine_only(url: str) -> None:
    with pytest.raises(ValidationError, match="an address is https://"):
        AlpacaSettings(url=url)


def test_settings_refuse_what_they_do_not_know() -> None:
    unknown: Any = {"feeds": "sip"}
    with pytest.raises(ValidationError):
        AlpacaSettings(**unknown)
