"""Our Alpaca adapter against the paper exchange, with everything going wrong that does at a broker."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from tests.tools.brokers.exchange.api.conftest import KEY, SECRET, Served

from neural_trader_governance.errors import ConfigurationError, IntegrityError, NetworkError
from neural_trader_governance.terms.clocks import WallClock
from neural_trader_governance.terms.orders import OrderIntent
from neural_trader_tools.brokers.alpaca import AlpacaBroker
from neural_trader_tools.brokers.alpaca_documents import LIVE_URL, AlpacaTradingSettings

pytestmark = pytest.mark.anyio


class Trouble:
    """Stands between the adapter and the exchange.

    Attributes:
        before: Status answered instead of asking the exchange, by method.
        after: Status answered although the exchange did what was asked, by method.
        drop: Methods whose connection falls after the exchange did it.
        posts: Orders that were sent.
        rewrite: Changes the documents answered.
    """

    def __init__(self) -> None:
        self.before: dict[str, int] = {}
        self.after: dict[str, int] = {}
        self.drop: set[str] = set()
        self.posts: list[str] = []
        self.rewrite: Callable[[str, Any], Any] | None = None
        self.headers: list[tuple[bytes, bytes]] = []

    def wrap(self, app: Any) -> Any:
        async def between(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            method = scope["method"]
            if method == "POST":
                self.posts.append(scope["path"])
            if method in self.before:
                await _answer(send, self.before[method], {"message": "on demand"}, self.headers)
                return
            sent: list[Any] = []

            async def collect(message: Any) -> None:
                sent.append(message)

            await app(scope, receive, collect)
            if method in self.drop:
                start = {
                    "type": "http.response.start",
                    "status": 200,
                    "headers": [(b"content-length", b"99")],
                }
                await send(start)
                await send({"type": "http.response.body", "body": b"{", "more_body": True})
                raise ConnectionResetError  # uvicorn lets the connection fall
            status: int = self.after.get(method) or sent[0]["status"]
            body = b"".join(each.get("body", b"") for each in sent[1:])
            document = json.loads(body) if body else None
            if self.rewrite is not None:
                document = self.rewrite(scope["path"], document)
            await _answer(send, status, document, [*sent[0]["headers"], *self.headers])

        return between


async def _answer(send: Any, status: int, document: Any, headers: list[tuple[bytes, bytes]]) -> None:
    body = b"" if document is None else json.dumps(document).encode()
    kept = [pair for pair in headers if pair[0] != b"content-length"]
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*kept, length]})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture
def trouble() -> Trouble:
    return Trouble()


@pytest.fixture
def venue(tmp_path: Path, trouble: Trouble) -> Generator[Served]:
    with Served(tmp_path / "exchange.db", wrap=trouble.wrap).serve() as exchange:
        exchange.quote(99.99, 100.00)
        yield exchange


@asynccontextmanager
async def adapter(venue: Served, **settings: Any) -> AsyncGenerator[AlpacaBroker]:
    given = {"key_id": SecretStr(KEY), "secret_key": SecretStr(SECRET), "stand_in_symbol": "B"} | settings
    broker = AlpacaBroker(AlpacaTradingSettings.model_validate({"url": venue.url} | given), WallClock())
    try:
        yield broker
    finally:
        await broker.aclose()


def intent(**terms: Any) -> OrderIntent:
    given = {"symbol": "A", "side": "buy", "quantity": "10", "agent": "agent-1", "reason": "test"}
    return OrderIntent.model_validate(given | terms)


def orders(venue: Served) -> list[tuple[str, str]]:
    return [(each.symbol, each.status) for each in venue.venue.exchange.registry.orders.values()]


async def test_an_order_is_filled_and_its_fills_are_exact(venue: Served) -> None:
    venue.quote(99.99, 100.00, size=4)
    async with adapter(venue) as broker:
        report = await broker.submit("nt_1", intent())
        assert (report.state, [str(fill.quantity) for fill in report.fills]) == ("partially_filled", ["4"])
        await asyncio.to_thread(venue.quote, 100.01, 100.02)
        report = await broker.order("nt_1")
        assert report is not None
        assert report.state == "filled"
        assert [(fill.quantity, fill.price) for fill in report.fills] == [
            (Decimal(4), Decimal(100)),
            (Decimal(6), Decimal("100.02")),
        ]
        assert len({fill.execution_id for fill in report.fills}) == 2
        assert (broker.name, broker.mode) == ("alpaca", "paper")


async def test_more_fills_than_a_page_are_all_found(venue: Served) -> None:
    async with adapter(venue) as broker:
        venue.quote(99.99, 100.00, size=1)
        await broker.submit("nt_1", intent(quantity="120"))
        for _ in range(119):
            await asyncio.to_thread(venue.quote, 99.99, 100.00, 1)
        report = await broker.order("nt_1")
    assert report is not None
    assert (report.state, len(report.fills)) == ("filled", 120)


async def test_a_known_id_is_looked_up_and_never_executed_again(venue: Served, trouble: Trouble) -> None:
    async with adapter(venue) as broker:
        first, again = [await broker.submit("nt_1", intent()) for _ in range(2)]
    assert [fill.execution_id for fill in first.fills] == [fill.execution_id for fill in again.fills]
    assert again.state == "filled"
    assert orders(venue) == [("A", "filled")]


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504])
async def test_an_answer_lost_after_the_order_was_taken_is_unknown_and_found_by_its_id(
    venue: Served, trouble: Trouble, status: int
) -> None:
    trouble.after = {"POST": status}
    async with adapter(venue) as broker:
        with pytest.raises(NetworkError, match="nothing is sent again"):
            await broker.submit("nt_1", intent())
        assert len(trouble.posts) == 1
        trouble.after = {}
        report = await broker.close_unknown("nt_1")
    assert report.state == "filled"
    assert orders(venue) == [("A", "filled")]


async def test_a_connection_that_falls_after_the_order_was_taken_is_unknown(
    venue: Served, trouble: Trouble
) -> None:
    trouble.drop = {"POST"}
    async with adapter(venue) as broker:
        with pytest.raises(NetworkError, match="did not answer"):
            await broker.submit("nt_1", intent())
        trouble.drop = set()
        report = await broker.order("nt_1")
        assert report is not None
        assert report.state == "filled"
    assert len(trouble.posts) == 1


@pytest.mark.parametrize("status", [401, 403, 429])
async def test_what_was_heard_and_not_taken_is_rejected(venue: Served, trouble: Trouble, status: int) -> None:
    trouble.before = {"POST": status}
    async with adapter(venue) as broker:
        report = await broker.submit("nt_1", intent())
    assert (report.state, report.detail) == ("rejected", f"{status}: on demand")
    assert orders(venue) == []


async def test_the_exchange_s_reason_arrives(venue: Served) -> None:
    async with adapter(venue) as broker:
        report = await broker.submit("nt_1", intent(quantity="100000"))
    assert report.state == "rejected"
    assert "insufficient buying power" in report.detail


async def test_an_id_that_never_arrived_is_used_up_so_that_it_cannot_arrive_late(venue: Served) -> None:
    async with adapter(venue) as broker:
        assert await broker.order("nt_1") is None
        report = await broker.close_unknown("nt_1")
        assert (report.state, report.fills) == ("canceled", ())
        assert "will not take it" in report.detail
        late = await broker.submit("nt_1", intent())
        assert (late.state, late.detail) == (report.state, report.detail)
    assert orders(venue) == [("B", "canceled")]


async def test_an_id_that_stands_for_another_order_is_a_contradiction(venue: Served) -> None:
    async with adapter(venue) as broker:
        await broker.submit("nt_1", intent())
        with pytest.raises(IntegrityError, match="nt_1 is to sell 5 A, and Alpaca has it as buy 10 A"):
            await broker.submit("nt_1", intent(side="sell", quantity="5"))


async def test_a_late_arrival_wins_over_its_barring(venue: Served, trouble: Trouble) -> None:
    async with adapter(venue) as late, adapter(venue) as broker:
        await late.submit("nt_1", intent())
        found = broker._find  # pyright: ignore[reportPrivateUsage] - a look-up that is overtaken

        async def overtaken(client_order_id: str) -> Any:
            broker._find = found  # type: ignore[method-assign]
            return None

        broker._find = overtaken  # type: ignore[method-assign]
        report = await broker.close_unknown("nt_1")
    assert report.state == "filled"
    assert orders(venue) == [("A", "filled")]


async def test_a_cancel_tells_how_it_ended(venue: Served) -> None:
    async with adapter(venue) as broker:
        await broker.submit("nt_1", intent(type="limit", limit_price="90"))
        assert (await broker.cancel("nt_1")).state == "canceled"
        await broker.submit("nt_2", intent())
        assert (await broker.cancel("nt_2")).state == "filled"
        assert (await broker.cancel("nt_3")).state == "canceled", "an unknown id is barred"


async def test_fills_that_are_not_listed_yet_are_half_a_truth(venue: Served, trouble: Trouble) -> None:
    def unlisted(path: str, document: Any) -> Any:
        return [] if path.endswith("/FILL") else document

    trouble.rewrite = unlisted
    async with adapter(venue) as broker:
        with pytest.raises(NetworkError, match="has not listed every fill"):
            await broker.submit("nt_1", intent())
        trouble.rewrite = None
        report = await broker.order("nt_1")
        assert report is not None
        assert len(report.fills) == 1


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"status": "odd"}, "no state that we know"),
        ({"filled_qty": "NaN"}, "not what it documents"),
        ({"id": None}, "not what it documents"),
        (None, "not what it documents"),
    ],
)
async def test_an_answer_that_makes_no_sense_is_unknown(
    venue: Served, trouble: Trouble, change: dict[str, Any] | None, why: str
) -> None:
    def rewritten(path: str, document: Any) -> Any:
        if path != "/v2/orders":
            return document
        return [document] if change is None else document | change

    trouble.rewrite = rewritten
    async with adapter(venue) as broker:
        with pytest.raises(NetworkError, match=why):
            await broker.submit("nt_1", intent())


async def test_the_last_requests_of_a_minute_are_kept_for_cancels(venue: Served, trouble: Trouble) -> None:
    trouble.headers = [(b"x-ratelimit-remaining", b"5")]
    async with adapter(venue) as broker:
        await broker.submit("nt_1", intent(type="limit", limit_price="90"))
        report = await broker.submit("nt_2", intent())
        assert (report.state, "kept for cancels" in report.detail) == ("rejected", True)
        assert (await broker.cancel("nt_1")).state == "canceled"
    assert len(trouble.posts) == 1


async def test_nobody_answers_is_unknown_and_no_key_is_a_mistake(venue: Served) -> None:
    async with adapter(venue, url="http://127.0.0.1:1") as broker:
        with pytest.raises(NetworkError, match="did not answer"):
            await broker.submit("nt_1", intent())
    with pytest.raises(ConfigurationError, match="needs a key"):
        AlpacaBroker(AlpacaTradingSettings(), WallClock())
    live = AlpacaTradingSettings(url=LIVE_URL, key_id=SecretStr("a"), secret_key=SecretStr("b"))
    assert AlpacaBroker(live, WallClock()).mode == "live"
