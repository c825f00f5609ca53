"""Providers that are packages: ccxt and yfinance, unmodified, against servers on this machine."""

import sys
from collections.abc import Generator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.tools.market.loopback.candles import CandlesLoopback
from tests.tools.market.loopback.charts import ChartsLoopback, opened
from tests.tools.market.loopback.server import Fault
from tests.tools.market.providers.conftest import Hand

from neural_trader_governance.errors import ConfigurationError, DataError, InputError, NetworkError
from neural_trader_governance.terms.clocks import SimulatedClock
from neural_trader_tools.market.archive import Archive
from neural_trader_tools.market.providers.ccxt_exchanges import CcxtExchange
from neural_trader_tools.market.providers.fetch import FetchReport, fetch_history
from neural_trader_tools.market.providers.settings import CcxtSettings, YfinanceSettings
from neural_trader_tools.market.providers.standing import Standing
from neural_trader_tools.market.providers.yahoo import Yahoo

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:The inplace keyword"),  # what yfinance asks of a newer pandas
]
NOW = datetime(2026, 1, 1, tzinfo=UTC)
DAY_MS = 86_400_000


@pytest.fixture(scope="module")
def candles_server() -> Generator[CandlesLoopback]:
    pytest.importorskip("ccxt", reason="the extra `ccxt` is not installed: make peers")
    server = CandlesLoopback()
    with server.serve():
        yield server


@pytest.fixture(scope="module")
def charts_server() -> Generator[ChartsLoopback]:
    pytest.importorskip("yfinance", reason="the extra `yfinance` is not installed: make peers")
    server = ChartsLoopback()
    with server.serve():
        yield server


@pytest.fixture
def candles(candles_server: CandlesLoopback) -> CandlesLoopback:
    candles_server.reset()
    return candles_server


@pytest.fixture
def charts(charts_server: ChartsLoopback) -> ChartsLoopback:
    charts_server.reset()
    return charts_server


class Desk:
    """An archive, and the packages pointed at this machine."""

    def __init__(self, root: Path, hand: Hand) -> None:
        self.root, self.hand = root, hand
        self.archive = Archive(root, SimulatedClock(NOW))

    def exchange(self, server: CandlesLoopback, name: str, **settings: Any) -> CcxtExchange:
        given: dict[str, Any] = {"exchange": name, "url": server.url, "retry_wait_s": 0, **settings}
        return CcxtExchange(CcxtSettings(**given), **self._standing(name))

    def yahoo(self, server: ChartsLoopback, **settings: Any) -> Yahoo:
        return Yahoo(YfinanceSettings(url=server.url, retry_wait_s=0, **settings), **self._standing("yahoo"))

    def _standing(self, name: str) -> dict[str, Any]:
        standing = Standing(self.root, name, 60, clock=self.hand, sleep=self.hand.sleep)
        return {"breaker": standing.breaker, "budget": standing.budget, "on_change": standing.changed}

    async def fetch(
        self, provider: CcxtExchange | Yahoo, *symbols: str, start: datetime, end: datetime, **words: Any
    ) -> FetchReport:
        words = {"interval": "1d", **words}
        try:
            return await fetch_history(
                self.archive,
                provider,
                symbols,
                words.pop("interval"),
                start,
                end,
                clock=SimulatedClock(NOW),
                **words,
            )
        finally:
            await provider.aclose()


@pytest.fixture
def desk(tmp_path: Path, hand: Hand) -> Desk:
    return Desk(tmp_path / "archive", hand)


def days(first: date, count: int, price: float = 42_283.58, step: int = DAY_MS) -> list[list[Any]]:
    start = int(datetime(first.year, first.month, first.day, tzinfo=UTC).timestamp()) * 1000
    return [
        [start + i * step, f"{price + i:.8f}", f"{price + i + 2:.8f}", f"{price + i - 2:.8f}",
         f"{price + i + 1:.8f}", "27174.29903"]
        for i in range(count)
    ]  # fmt: skip


START, LONG = datetime(2020, 1, 1, tzinfo=UTC), datetime(2023, 6, 1, tzinfo=UTC)


async def test_candles_come_page_by_page_and_are_a_coins_days(candles: CandlesLoopback, desk: Desk) -> None:
    candles.candles["1d"] = days(date(2020, 1, 1), 1_200)
    report = await desk.fetch(desk.exchange(candles, "binance"), "BTC/USDT", start=START, end=LONG)
    assert report.symbols["BTC/USDT"].rows_new == 1_200
    asked = [one.query["startTime"] for one in candles.asked("/api/v3/klines")]
    assert asked[:2] == ["1577836800000", str(1577836800000 + 1_000 * DAY_MS)]
    bars = desk.archive.bars("BTC/USDT")
    first = bars.row(0, named=True)
    assert (first["event_time"], first["known_time"]) == (START, START + timedelta(days=1))
    assert (first["open"], first["close"], first["volume"]) == (42_283.58, 42_284.58, 27_174.29903)
    listed = desk.archive.instrument("BTC/USDT")
    assert (listed.asset_class, listed.tradable) == ("crypto", False)  # a tether is no dollar
    [dataset] = desk.archive.datasets()
    assert dataset.dataset_id == "ccxt-binance"
    assert "by ccxt" in dataset.source
    again = await desk.fetch(desk.exchange(candles, "binance"), "BTC/USDT", start=START, end=LONG)
    assert (again.symbols["BTC/USDT"].rows_new, again.symbols["BTC/USDT"].rows_unchanged) == (0, 1_200)


async def test_five_weekdays_of_a_coin_open_at_midnight_too(candles: CandlesLoopback, desk: Desk) -> None:
    candles.candles["1d"] = days(date(2024, 1, 8), 5)
    monday = datetime(2024, 1, 8, tzinfo=UTC)
    kraken = desk.exchange(candles, "kraken")
    await desk.fetch(kraken, "BTC/USD", "ETH/EUR", start=monday, end=monday + timedelta(days=30))
    assert desk.archive.bars("BTC/USD")["event_time"][0] == monday
    listed = {one.symbol: (one.currency, one.tradable) for one in desk.archive.instruments()}
    assert listed == {"BTC/USD": ("USD", True), "ETH/EUR": ("EUR", True)}


async def test_an_exchange_that_keeps_its_newest_candles_gives_these(
    candles: CandlesLoopback, desk: Desk
) -> None:
    candles.candles["1d"] = days(date(2020, 1, 1), 1_000)
    report = await desk.fetch(desk.exchange(candles, "kraken"), "BTC/USD", start=START, end=LONG)
    assert report.symbols["BTC/USD"].rows_new == 720
    assert desk.archive.bars("BTC/USD")["event_time"][0] == START + timedelta(days=280)


async def test_an_interrupted_fetch_of_candles_goes_on(candles: CandlesLoopback, desk: Desk) -> None:
    candles.candles["1d"] = days(date(2020, 1, 1), 1_200)
    candles.faults = [Fault("klines", times=1, cut_after=10**9), Fault("klines", times=-1, status=503)]
    broken = desk.exchange(candles, "binance", attempts_max=2)
    with pytest.raises(NetworkError) as failed:
        await desk.fetch(broken, "BTC/USDT", start=START, end=LONG)
    assert failed.value.code == "provider_failed"
    candles.reset()
    candles.candles["1d"] = days(date(2020, 1, 1), 1_200)
    report = await desk.fetch(desk.exchange(candles, "binance"), "BTC/USDT", start=START, end=LONG)
    assert report.resumed
    assert report.symbols["BTC/USDT"].rows_new == 1_200
    assert candles.asked("/api/v3/klines")[0].query["startTime"] == str(1577836800000 + 1_000 * DAY_MS)


async def test_bad_candles_are_quarantined_alone(candles: CandlesLoopback, desk: Desk) -> None:
    rows = days(date(2024, 1, 1), 6, step=3_600_000)
    rows[1][4] = "nonsense"
    rows[2][2] = "1"  # a high below the low
    rows[3][5] = "-3"
    rows.append([int(NOW.timestamp() * 1000) - 1_800_000, *rows[0][1:]])  # not over
    candles.candles["1h"] = rows
    words: dict[str, Any] = {"start": datetime(2024, 1, 1, tzinfo=UTC), "end": NOW, "interval": "1h"}
    report = await desk.fetch(desk.exchange(candles, "binance"), "BTC/USDT", **words)
    one = report.symbols["BTC/USDT"]
    assert (one.rows_read, one.rows_new, one.rows_quarantined) == (7, 3, 4)
    assert len(report.quarantine_files) == 1


async def test_what_an_exchange_says_is_told(candles: CandlesLoopback, desk: Desk) -> None:
    words: dict[str, Any] = {"start": START, "end": LONG}
    candles.candles["1d"] = days(date(2020, 1, 1), 3)
    candles.faults = [Fault("klines", times=1, status=429), Fault("klines", times=1, body=b"<html>")]
    report = await desk.fetch(desk.exchange(candles, "binance"), "BTC/USDT", **words)
    assert report.symbols["BTC/USDT"].rows_new == 3  # the third attempt
    candles.faults = [Fault("klines", times=-1, status=429)]
    with pytest.raises(NetworkError) as limited:
        await desk.fetch(desk.exchange(candles, "binance", attempts_max=2), "BTC/USD", **words)
    assert limited.value.code == "provider_rate_limited"
    candles.faults = []
    with pytest.raises(InputError, match="lists no pair BTC/USTD") as unknown:
        await desk.fetch(desk.exchange(candles, "binance"), "BTC/USTD", **words)
    assert "BTC/USDT" in unknown.value.next_step
    with pytest.raises(DataError) as nothing:
        await desk.fetch(desk.exchange(candles, "kraken"), "ETH/EUR", **words, interval="1h")
    assert nothing.value.code == "nothing_fetched"


async def test_an_exchange_that_fails_is_left_alone(candles: CandlesLoopback, desk: Desk) -> None:
    candles.faults = [Fault("", times=-1, status=500)]
    codes: list[str] = []
    exchange = desk.exchange(candles, "kraken", attempts_max=1)
    for _ in range(7):
        with pytest.raises(NetworkError) as failed:
            await desk.fetch(exchange, "BTC/USD", start=START, end=LONG)
        codes.append(failed.value.code)
    assert codes == ["provider_failed"] * 5 + ["provider_circuit_open"] * 2
    assert len(candles.log) == 5


@pytest.mark.parametrize(
    ("symbol", "interval", "code"),
    [
        ("btc/usdt", "1d", "symbol_not_offered"),
        ("BTC", "1d", "symbol_not_offered"),
        ("BTC/USDT:USDT", "1d", "symbol_not_offered"),
        ("BTC/USDT", "7m", "interval_not_offered"),
        ("BTC/USDT", "1M", "invalid_interval"),
    ],
)
async def test_what_no_exchange_has_is_refused_before_it_is_asked(
    candles: CandlesLoopback, desk: Desk, symbol: str, interval: str, code: str
) -> None:
    exchange = desk.exchange(candles, "binance")
    with pytest.raises(InputError) as refused:
        await desk.fetch(exchange, symbol, start=START, end=LONG, interval=interval)
    assert refused.value.code == code
    assert candles.log == []


async def test_an_exchange_must_be_named_and_known(candles: CandlesLoopback, desk: Desk) -> None:
    with pytest.raises(ConfigurationError, match="none was chosen"):
        desk.exchange(candles, "")
    with pytest.raises(InputError, match="no exchange 'krakn'") as unknown:
        desk.exchange(candles, "krakn")
    assert "kraken" in unknown.value.next_step


@pytest.mark.parametrize(("module", "extra"), [("ccxt.async_support", "ccxt"), ("yfinance", "yfinance")])
async def test_without_the_extra_the_error_says_what_to_install(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, module: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)  # as Python has it where nothing is to be found
    nowhere: Any = type("Nowhere", (), {"url": "http://127.0.0.1:1"})
    with pytest.raises(ConfigurationError) as missing:
        _ = desk.exchange(nowhere, "kraken") if extra == "ccxt" else desk.yahoo(nowhere)
    assert missing.value.code == "extra_missing"
    assert missing.value.next_step == f"install it: pip install 'neural-trader[{extra}]'"


SPLIT = date(2020, 8, 31)
DAYS = [date(2020, 8, 27), date(2020, 8, 28), SPLIT, date(2020, 9, 1)]


def apple(charts: ChartsLoopback) -> None:
    """Apple around its split of 4:1 as Yahoo shows it: prices before are divided by four."""
    closes = [125.010002, 124.807503, 129.039993, 134.179993]
    charts.rows["AAPL", "1d"] = {
        opened(day): (close, close + 1, close - 1, close, 4_000_000)
        for day, close in zip(DAYS, closes, strict=True)
    }
    charts.splits["AAPL"] = {SPLIT: (4, 1)}
    charts.dividends["AAPL"] = {DAYS[1]: 0.205}


SEPTEMBER = {"start": datetime(2020, 8, 27, tzinfo=UTC), "end": datetime(2020, 9, 2, tzinfo=UTC)}


async def test_yahoos_split_prices_are_stored_raw(charts: ChartsLoopback, desk: Desk) -> None:
    apple(charts)
    report = await desk.fetch(desk.yahoo(charts), "AAPL", **SEPTEMBER)
    assert (report.symbols["AAPL"].rows_new, report.symbols["AAPL"].actions_read) == (4, 2)
    raw = desk.archive.bars("AAPL", adjust="none")
    assert raw["close"].to_list() == [500.04, 499.23, 129.04, 134.18]  # what the exchange printed
    assert raw["volume"].to_list() == [1e6, 1e6, 4e6, 4e6]
    assert raw["event_time"][0] == datetime(2020, 8, 27, 13, 30, tzinfo=UTC)
    assert desk.archive.bars("AAPL")["close"].to_list() == [125.01, 124.8075, 129.04, 134.18]
    told = dict(desk.archive.actions("AAPL").select("kind", "value").iter_rows())
    assert told == {"split": 4.0, "dividend": 0.82}


async def test_a_split_after_the_range_is_undone_all_the_same(charts: ChartsLoopback, desk: Desk) -> None:
    apple(charts)
    until = {**SEPTEMBER, "end": datetime(2020, 8, 29, tzinfo=UTC)}
    await desk.fetch(desk.yahoo(charts), "AAPL", **until)
    assert desk.archive.bars("AAPL")["close"].to_list() == [500.04, 499.23]
    assert desk.archive.actions("AAPL", upcoming=True)["kind"].to_list() == ["dividend"]


async def test_minutes_come_in_the_portions_that_yahoo_serves(charts: ChartsLoopback, desk: Desk) -> None:
    apple(charts)
    first = datetime(2020, 8, 31, 13, 30, tzinfo=UTC)
    charts.rows["AAPL", "1m"] = {
        int((first + timedelta(days=day, minutes=minute)).timestamp()): (129.5, 130.5, 128.5, 129.5, 100)
        for day in (0, 9)
        for minute in range(3)
    }
    words = {"start": datetime(2020, 8, 31, tzinfo=UTC), "end": datetime(2020, 9, 10, tzinfo=UTC)}
    report = await desk.fetch(desk.yahoo(charts), "AAPL", **words, interval="1m")
    assert report.symbols["AAPL"].rows_new == 6
    assert desk.archive.bars("AAPL", "1m")["event_time"][0] == first
    assert [one.query["interval"] for one in charts.asked("/v8/")].count("1m") == 2


async def test_a_symbol_that_yahoo_lacks_is_noted_and_the_next_is_fetched(
    charts: ChartsLoopback, desk: Desk
) -> None:
    apple(charts)
    report = await desk.fetch(desk.yahoo(charts), "AAPL", "AAA", **SEPTEMBER)
    assert report.symbols["AAPL"].rows_new == 4
    assert "Yahoo has no prices there" in report.reasons
    charts.currency = "EUR"
    with pytest.raises(DataError, match="quoted in 'EUR'"):
        await desk.fetch(desk.yahoo(charts), "AAPL", **SEPTEMBER)
    for symbol, interval in (("^GSPC", "1d"), ("SAP.DE", "1d"), ("AAPL", "1w"), ("AAPL", "4h")):
        with pytest.raises(InputError):
            await desk.fetch(desk.yahoo(charts), symbol, **SEPTEMBER, interval=interval)


async def test_what_goes_wrong_at_yahoo_is_told(charts: ChartsLoopback, desk: Desk) -> None:
    apple(charts)
    charts.faults = [Fault("chart", times=-1, status=429)]
    with pytest.raises(NetworkError) as limited:
        await desk.fetch(desk.yahoo(charts, attempts_max=2), "AAPL", **SEPTEMBER)
    assert limited.value.code == "provider_rate_limited"
    charts.faults = [Fault("chart", times=-1, body=b"<html>")]
    with pytest.raises(DataError) as malformed:
        await desk.fetch(desk.yahoo(charts, attempts_max=2), "AAPL", **SEPTEMBER)
    assert malformed.value.code == "provider_answer_malformed"
