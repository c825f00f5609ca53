"""A fetch lands what a service has in the archive, goes on where it was interrupted, and loses no row."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import anyio
import polars as pl
import pytest
from tests.tools.market.loopback import massive as massive_service
from tests.tools.market.loopback.alpaca import AlpacaLoopback, bar, daily, dividend, minutes, split
from tests.tools.market.loopback.massive import MassiveLoopback
from tests.tools.market.loopback.server import Fault

from neural_trader_governance.errors import DataError, InputError, NetworkError, NeuralTraderError
from neural_trader_governance.terms.clocks import SimulatedClock
from neural_trader_tools.market.archive import Archive
from neural_trader_tools.market.providers.alpaca import Alpaca
from neural_trader_tools.market.providers.fetch import FetchReport, fetch_history
from neural_trader_tools.market.providers.massive import Massive

pytestmark = pytest.mark.anyio
START, END = datetime(2024, 1, 2, tzinfo=UTC), datetime(2024, 2, 1, tzinfo=UTC)
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class Desk:
    """An archive, its clock, and what a test fetches with."""

    archive: Archive
    clock: SimulatedClock

    async def fetch(
        self,
        provider: Alpaca | Massive,
        *symbols: str,
        interval: str = "1d",
        end: datetime | None = END,
        restart: bool = False,
        portion_rows: int = 100_000,
        told: list[float] | None = None,
    ) -> FetchReport:
        async def tell(fraction: float) -> None:
            if told is not None:
                told.append(fraction)

        try:
            return await fetch_history(
                self.archive,
                provider,
                symbols or ("AAPL",),
                interval,
                START,
                end,
                clock=self.clock,
                tell=tell,
                restart=restart,
                portion_rows=portion_rows,
            )
        finally:
            await provider.aclose()

    def closes(self, symbol: str = "AAPL", interval: str = "1d") -> list[float]:
        return self.archive.bars(symbol, interval, adjust="none").get_column("close").to_list()


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    clock = SimulatedClock(NOW)
    return Desk(Archive(tmp_path / "archive", clock), clock)


MakeAlpaca = Callable[..., Alpaca]
MakeMassive = Callable[..., Massive]


async def test_daily_bars_are_known_at_their_sessions_close_and_adjusted_by_the_split_from_its_day(
    alpaca_api: AlpacaLoopback, make_alpaca: MakeAlpaca, desk: Desk
) -> None:
    alpaca_api.bars["AAPL", "1Day"] = daily(date(2024, 1, 2), [400.0, 404.0, 100.5])
    alpaca_api.actions["forward_split"] = [split("AAPL", "2024-01-04", 4)]
    report = await desk.fetch(make_alpaca())
    assert (report.symbols["AAPL"].rows_new, report.symbols["AAPL"].actions_read) == (3, 1)
    stored = desk.archive.bars("AAPL", adjust="none")
    assert stored.get_column("event_time").to_list()[0] == datetime(2024, 1, 2, 14, 30, tzinfo=UTC)
    assert stored.get_column("known_time").to_list()[0] == datetime(2024, 1, 2, 21, 0, tzinfo=UTC)
    assert desk.archive.bars("AAPL").get_column("close").to_list() == [100.0, 101.0, 100.5]
    eve = desk.archive.bars("AAPL", as_of=datetime(2024, 1, 3, 22, tzinfo=UTC))
    assert eve.get_column("close").to_list() == [400.0, 404.0]
    [dataset] = desk.archive.datasets()
    assert (dataset.dataset_id, dataset.known_time_assumed) == ("alpaca-sip", True)
    assert "your subscription" in dataset.licence
    asked = alpaca_api.asked("/v2/stocks/bars")[0].query
    assert (asked["adjustment"], asked["end"]) == ("raw", "2024-01-31T23:59:59.999999Z")


async def test_minute_bars_are_known_when_the_minute_is_over(
    alpaca_api: AlpacaLoopback, make_alpaca: MakeAlpaca, desk: Desk
) -> None:
    first = datetime(2024, 1, 2, 14, 30, tzinfo=UTC)
    alpaca_api.bars["AAPL", "1Min"] = minutes(first, [180.25, 180.5])
    await desk.fetch(make_alpaca(), interval="1m")
    stored = desk.archive.bars("AAPL", "1m")
    assert stored.get_column("event_time").to_list() == [first, first + timedelta(minutes=1)]
    assert stored.get_column("known_time").to_list()[0] == first + timedelta(minutes=1)


async def test_massive_gives_the_same_archive_as_alpaca(
    alpaca_api: AlpacaLoopback,
    massive_api: MassiveLoopback,
    make_alpaca: MakeAlpaca,
    make_massive: MakeMassive,
    tmp_path: Path,
) -> None:
    rows = daily(date(2024, 1, 2), [180.0 + place / 7 for place in range(9)])
    alpaca_api.bars["AAPL", "1Day"] = rows
    alpaca_api.actions = {
        "forward_split": [split("AAPL", "2024-01-05", 4)],
        "cash_dividend": [
            dividend("AAPL", "2024-01-08", 0.24),
            dividend("AAPL", "2024-01-08", 1.0, 2, special=True),
        ],
    }
    massive_api.bars["AAPL", 1, "day"] = [
        massive_service.bar(int(datetime.fromisoformat(row["t"]).timestamp() * 1000), row["c"])
        for row in rows
    ]
    massive_api.splits = [
        {"id": "E1", "ticker": "AAPL", "execution_date": "2024-01-05", "split_from": 1, "split_to": 4}
    ]
    massive_api.dividends = [
        {
            "id": name,
            "ticker": "AAPL",
            "ex_dividend_date": "2024-01-08",
            "cash_amount": cash,
            "currency": "USD",
        }
        for name, cash in (("E2", 0.24), ("E3", 1.0), ("E3", 1.0))  # a record that is shown twice counts once
    ]
    massive_api.page_max = 2
    desks: list[Desk] = []
    for name, provider in (("a", make_alpaca()), ("m", make_massive())):
        clock = SimulatedClock(NOW)
        desks.append(Desk(Archive(tmp_path / name, clock), clock))
        await desks[-1].fetch(provider)
    versions = {each.archive.data_version("AAPL") for each in desks}
    assert len(versions) == 1
    paid = desks[0].archive.actions("AAPL").filter(pl.col("kind") == "dividend")
    assert paid.get_column("value").to_list() == [1.24]


async def test_a_price_keeps_every_digit_that_a_double_holds(
    alpaca_api: AlpacaLoopback, make_alpaca: MakeAlpaca, desk: Desk
) -> None:
    alpaca_api.bars["AAPL", "1Day"] = [bar("2024-01-02T05:00:00Z", 178.235733)]
    await desk.fetch(make_alpaca())
    assert desk.closes() == [178.235733]


async def test_rows_that_cannot_be_used_are_quarantined_with_what_they_said(
    alpaca_api: AlpacaLoopback, make_alpaca: MakeAlpaca, desk: Desk
) -> None:
    good = bar("2024-01-02T05:00:00Z", 180.0)
    bad = [
        {**good, "t": "2024-01-03T05:00:00Z", "c": "181"},
        {**good, "t": "2024-01-04T05:00:00Z", "h": 1.0},
        {**good, "t": 17},
        {**good, "t": "2024-01-05T05:00:00Z", "v": None},
        {"t": "2024-01-08T05:00:00Z", "o": 1.0},
        "a bar",
        {**good, "t": "2024-01-09T05:00:00Z", "o": -1.0},
    ]
    answer = {"bars": {"AAPL": [good, *bad], "MSFT": [good]}, "next_page_token": None}
    actions = {
        "forward_splits": [
            split("AAPL", "2024-01-04", 0),
            {**split("AAPL", "2024-01-04", 2), "ex_date": "soon"},
            {"symbol": "AAPL"},
        ],
        "cash_dividends": [{**dividend("AAPL", "2024-01-04", 0.1), "currency": "EUR"}],
    }
    told = {"corporate_actions": actions, "next_page_token": None}
    alpaca_api.faults = [
        Fault(match="bars", body=json.dumps(answer).encode()),
        Fault(match="corporate", body=json.dumps(told).encode()),
    ]
    report = await desk.fetch(make_alpaca())
    one = report.symbols["AAPL"]
    assert desk.closes() == [180.0]
    assert (one.rows_new, one.rows_quarantined, one.actions_read) == (1, 10, 0)
    assert (report.symbols["MSFT"].rows_quarantined, report.symbols[""].rows_quarantined) == (1, 1)
    assert sum(report.reasons.values()) == 12
    kept = "".join((desk.archive.root / file).read_text("utf-8") for file in report.quarantine_files)
    for said in ('""181""', "in another currency", "a bar", "2024-01-09T05:00:00Z", "was not asked for"):
        assert said in kept
    assert [listed.symbol for listed in desk.archive.instruments()] == ["AAPL"]


async def test_a_bar_that_is_not_over_yet_waits_in_quarantine_and_comes_with_the_next_fetch(
    alpaca_api: AlpacaLoopback, make_alpaca: MakeAlpaca, desk: Desk
) -> None:
    desk.clock = SimulatedClock(datetime(2024, 1, 3, 18, tzinfo=UTC))
    alpaca_api.bars["AAPL", "1Day"] = daily(date(2024, 1, 2), [180.0, 181.0])
    report = await desk.fetch(make_alpaca(), end=None)
    assert report.reasons == {"the bar was not complete yet when it was imported": 1}
    desk.clock.advance(timedelta(hours=4))
    await desk.fetch(make_alpaca(), end=None)
    assert desk.closes() == [180.0, 181.0]


async def test_a_correction_by_the_service_is_a_revision_known_from_the_fetch_on(
    alpaca_api: AlpacaLoopback, make_alpaca: MakeAlpaca, desk: Desk
) -> None:
    alpaca_api.bars["AAPL", "1Day"] = daily(date(2024, 1, 2), [180.0, 181.0])
    await desk.fetch(make_alpaca())
    alpaca_api.bars["AAPL", "1Day"] = daily(date(2024, 1, 2), [180.0, 181.5])
    again = (await desk.fetch(make_alpaca())).symbols["AAPL"]
    assert (again.rows_new, again.rows_revised, again.rows_unchanged) == (0, 1, 1)
    before = desk.archive.bars("AAPL", as_of=NOW - timedelta(days=1))
    assert before.get_column("close").to_list() == [180.0, 181.0]
    assert desk.closes() == [180.0, 181.5]


@pytest.mark.parametrize("fails_at", range(1, 8))
async def test_an_interrupted_fetch_goes_on_where_it_stood_and_ends_with_the_same_archive(
    massive_api: MassiveLoopback, make_massive: MakeMassive, desk: Desk, tmp_path: Path, fails_at: int
) -> None:
    for symbol in ("AAPL", "MSFT"):
        massive_api.bars[symbol, 1, "day"] = [
            massive_service.bar(1_704_171_600_000 + 86_400_000 * day, 180.0 + day) for day in range(4)
        ]
    massive_api.splits = [
        {"id": "E1", "ticker": "MSFT", "execution_date": "2024-01-04", "split_from": 1, "split_to": 2}
    ]
    massive_api.page_max = 2
    whole = Desk(Archive(tmp_path / "whole", desk.clock), desk.clock)
    report = await whole.fetch(make_massive(), "AAPL", "MSFT")
    requests = len(massive_api.log)
    massive_api.log.clear()
    provider = make_massive(attempts_max=1)
    seen = 0

    async def tell(_: float) -> None:
        nonlocal seen
        seen += 1
        if seen == fails_at:
            massive_api.faults = [Fault(status=500)]

    with pytest.raises(NetworkError):
        await fetch_history(
            desk.archive,
            provider,
            ("AAPL", "MSFT"),
            "1d",
            START,
            END,
            clock=desk.clock,
            tell=tell,
            portion_rows=2,
        )
    await provider.aclose()
    resumed = await desk.fetch(make_massive(), "AAPL", "MSFT", portion_rows=2)
    assert len(massive_api.log) <= requests + 1 + 3, "it began anew"
    for symbol in ("AAPL", "MSFT"):
        assert desk.archive.data_version(symbol) == whole.archive.data_version(symbol)
        assert resumed.symbols[symbol].rows_new == report.symbols[symbol].rows_new == 4
    assert list((desk.archive.root / "fetches").iterdir()) == []


async def test_a_killed_fetch_goes_on_from_its_last_portion_and_restart_forgets_it(
    alpaca_api: AlpacaLoopback, make_alpaca: MakeAlpaca, desk: Desk
) -> None:
    alpaca_api.bars["AAPL", "1Day"] = daily(date(2024, 1, 2), [180.0 + place for place in range(8)])
    alpaca_api.page_max = 2
    provider = make_alpaca()
    with anyio.CancelScope() as scope:

        async def stop(fraction: float) -> None:
            if len(alpaca_api.asked("/v2/stocks/bars")) == 3:
                scope.cancel()
                await anyio.lowlevel.checkpoint()

        await fetch_history(
            desk.archive, provider, ("AAPL",), "1d", START, END, clock=desk.clock, tell=stop, portion_rows=4
        )
    await provider.aclose()
    assert desk.closes() == [180.0, 181.0, 182.0, 183.0]
    alpaca_api.log.clear()
    report = await desk.fetch(make_alpaca(), portion_rows=4)
    assert report.resumed
    assert len(alpaca_api.log) == 2, "pages that were landed were asked for again"
    assert desk.closes() == [180.0 + place for place in range(8)]
    again = await desk.fetch(make_alpaca(), restart=True)
    assert (again.resumed, again.symbols["AAPL"].rows_unchanged) == (False, 8)


async def test_how_far_it_is_only_grows_and_ends_at_one(
    alpaca_api: AlpacaLoopback, make_alpaca: MakeAlpaca, desk: Desk
) -> None:
    for symbol in ("AAPL", "MSFT"):
        alpaca_api.bars[symbol, "1Day"] = daily(date(2024, 1, 2), [180.0] * 20)
    alpaca_api.page_max = 7
    told: list[float] = []
    await desk.fetch(make_alpaca(), "AAPL", "MSFT", told=told)
    assert told == sorted(told)
    assert (told[0], told[-1]) == (0.0, 1.0)
    assert len(set(told)) > 4


async def test_an_unknown_symbol_is_an_error_alone_and_a_note_among_others(
    alpaca_api: AlpacaLoopback, make_alpaca: MakeAlpaca, desk: Desk
) -> None:
    with pytest.raises(DataError) as nothing:
        await desk.fetch(make_alpaca(), "QQQQX")
    assert nothing.value.code == "nothing_fetched"
    assert desk.archive.instruments() == []
    alpaca_api.bars["AAPL", "1Day"] = daily(date(2024, 1, 2), [180.0])
    report = await desk.fetch(make_alpaca(), "AAPL", "QQQQX")
    assert report.notes == ["no bars in that range, or unknown there: QQQQX"]


async def test_another_sources_bars_are_noted_before_they_become_revisions(
    alpaca_api: AlpacaLoopback, make_alpaca: MakeAlpaca, desk: Desk
) -> None:
    alpaca_api.bars["AAPL", "1Day"] = daily(date(2024, 1, 2), [180.0])
    await desk.fetch(make_alpaca())
    report = await desk.fetch(make_alpaca(feed="iex"))
    assert "already came from alpaca-sip" in report.notes[0]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ({"interval": "2d"}, "interval_not_offered"),
        ({"interval": "90m"}, "interval_not_offered"),
        ({"interval": "30s"}, "interval_not_offered"),
        ({"interval": "day"}, "invalid_interval"),
        ({"end": START}, "invalid_range"),
    ],
)
async def test_what_cannot_be_asked_for_is_refused_before_anything_is_sent(
    alpaca_api: AlpacaLoopback, make_alpaca: MakeAlpaca, desk: Desk, words: dict[str, str], code: str
) -> None:
    with pytest.raises(InputError) as refused:
        await desk.fetch(make_alpaca(), **words)  # pyright: ignore[reportArgumentType]
    assert refused.value.code == code
    assert alpaca_api.log == []


async def test_a_damaged_place_to_go_on_is_named_with_the_way_out(
    alpaca_api: AlpacaLoopback, make_alpaca: MakeAlpaca, desk: Desk
) -> None:
    alpaca_api.bars["AAPL", "1Day"] = daily(date(2024, 1, 2), [180.0 + place for place in range(4)])
    alpaca_api.page_max = 2
    alpaca_api.faults = []
    provider = make_alpaca(attempts_max=1)

    async def break_it(_: float) -> None:
        if len(alpaca_api.log) == 2:
            alpaca_api.faults = [Fault(status=500)]

    with pytest.raises(NeuralTraderError):
        await fetch_history(
            desk.archive, provider, ("AAPL",), "1d", START, END, clock=desk.clock, tell=break_it
        )
    await provider.aclose()
    [file] = (desk.archive.root / "fetches").iterdir()
    assert desk.closes() == [180.0, 181.0], "what came before the failure was not kept"
    file.write_text("{}")
    with pytest.raises(DataError, match="--restart"):
        await desk.fetch(make_alpaca())
    assert (await desk.fetch(make_alpaca(), restart=True)).symbols["AAPL"].rows_read == 4
