"""The loopback services, judged by others: the vendors' own clients, and Alpaca's OpenAPI document."""

import importlib
import importlib.util
import json
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, NoReturn

import pytest
from tests.tools.market.loopback import alpaca as alpaca_service
from tests.tools.market.loopback import massive as massive_service
from tests.tools.market.loopback.alpaca import AlpacaLoopback, daily, dividend, split
from tests.tools.market.loopback.massive import MassiveLoopback

from neural_trader_tools.market.providers.alpaca import Alpaca
from neural_trader_tools.market.providers.port import HistoryRequest

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:websockets.* is deprecated:DeprecationWarning"),  # alpaca-py's
]
Peer = Callable[[str], Any]
START, END = datetime(2024, 1, 2, tzinfo=UTC), datetime(2024, 2, 1, tzinfo=UTC)


@pytest.fixture
def peer(lacking: Callable[[str], NoReturn]) -> Peer:
    """Imports a module of a peer, untyped as it is."""

    def load(name: str) -> Any:
        if importlib.util.find_spec(name.partition(".")[0]) is None:
            lacking(f"{name} is not installed: make peers")
        return importlib.import_module(name)

    return load


def fill(api: AlpacaLoopback) -> None:
    api.bars["AAPL", "1Day"] = daily(date(2024, 1, 2), [180.0 + place for place in range(7)])
    api.bars["MSFT", "1Day"] = daily(date(2024, 1, 2), [370.5, 371.25])
    api.actions["forward_split"] = [split("AAPL", "2024-01-09", 4)]
    api.actions["cash_dividend"] = [dividend("MSFT", "2024-01-05", 0.75)]
    api.page_max = 4


def test_alpacas_own_client_reads_every_page_of_bars(alpaca_api: AlpacaLoopback, peer: Peer) -> None:
    fill(alpaca_api)
    client = peer("alpaca.data.historical").StockHistoricalDataClient(
        alpaca_service.KEY, alpaca_service.SECRET, url_override=alpaca_api.url
    )
    wanted = peer("alpaca.data.requests").StockBarsRequest(
        symbol_or_symbols=["AAPL", "MSFT"],
        timeframe=peer("alpaca.data.timeframe").TimeFrame.Day,
        start=START,
        end=END,
    )
    found = client.get_stock_bars(wanted).data
    assert {symbol: [one.close for one in rows] for symbol, rows in found.items()} == {
        "AAPL": [180.0, 181.0, 182.0, 183.0, 184.0, 185.0, 186.0],
        "MSFT": [370.5, 371.25],
    }
    assert found["AAPL"][0].timestamp == datetime(2024, 1, 2, 5, tzinfo=UTC)
    assert len(alpaca_api.log) == 3


def test_alpacas_own_client_reads_corporate_actions_and_is_refused_with_a_wrong_key(
    alpaca_api: AlpacaLoopback, peer: Peer
) -> None:
    fill(alpaca_api)
    wanted = peer("alpaca.data.requests").CorporateActionsRequest(
        symbols=["AAPL", "MSFT"], start=START.date(), end=date(2024, 6, 1)
    )
    make, key = peer("alpaca.data.historical.corporate_actions").CorporateActionsClient, alpaca_service.KEY
    client = make(key, alpaca_service.SECRET, url_override=alpaca_api.url)
    found = client.get_corporate_actions(wanted).data
    assert [(one.symbol, one.new_rate) for one in found["forward_splits"]] == [("AAPL", 4.0)]
    assert [(one.symbol, one.rate) for one in found["cash_dividends"]] == [("MSFT", 0.75)]
    stranger = make(key, "another", url_override=alpaca_api.url)
    with pytest.raises(peer("alpaca.common.exceptions").APIError) as refused:
        stranger.get_corporate_actions(wanted)
    error: Any = refused.value
    assert error.status_code == 401


async def test_every_answer_holds_to_alpacas_openapi_document(
    alpaca_api: AlpacaLoopback,
    make_alpaca: Callable[..., Alpaca],
    peer: Peer,
    lacking: Callable[[str], NoReturn],
) -> None:
    wheel = importlib.util.find_spec("alpaca_mcp_server")  # read, never run: it needs another mcp
    if wheel is None:
        lacking("alpaca-mcp-server is not installed: make peers")
    [folder] = wheel.submodule_search_locations or []
    document = json.loads((Path(folder) / "specs" / "market-data-api.json").read_text("utf-8"))
    referencing, draft = peer("referencing"), peer("referencing.jsonschema").DRAFT202012
    resource = referencing.Resource(contents=document, specification=draft)
    registry = referencing.Registry().with_resource("urn:a", resource)
    validator = peer("jsonschema").Draft202012Validator
    fill(alpaca_api)
    provider = make_alpaca()
    async for _ in provider.history(HistoryRequest(("AAPL", "MSFT"), "1d", START, END)):
        pass
    await provider.aclose()
    assert {one.path for one in alpaca_api.log} == {"/v2/stocks/bars", "/v1/corporate-actions"}
    for one in alpaca_api.log:
        operation = document["paths"][one.path]["get"]
        place = one.path.replace("/", "~1")
        reference = f"urn:a#/paths/{place}/get/responses/200/content/application~1json/schema"
        validator({"$ref": reference}, registry=registry).validate(one.document)
        spelled = (each.get("$ref", "").rpartition("/")[2] for each in operation["parameters"])
        known = {document["components"]["parameters"][each]["name"] for each in spelled}
        assert set(one.query) <= known, "our adapter sends a parameter that the document does not have"


def test_massives_own_client_reads_every_page(massive_api: MassiveLoopback, peer: Peer) -> None:
    first_ms = 1_704_171_600_000
    rows = [massive_service.bar(first_ms + 86_400_000 * place, 180.0 + place) for place in range(5)]
    massive_api.bars["AAPL", 1, "day"] = rows
    massive_api.splits = [
        {"id": "E1", "ticker": "AAPL", "execution_date": "2020-08-31", "split_from": 1, "split_to": 4}
    ]
    massive_api.dividends = [
        {
            "id": "E2",
            "ticker": "AAPL",
            "ex_dividend_date": "2024-02-09",
            "cash_amount": 0.24,
            "currency": "USD",
        }
    ]
    massive_api.page_max = 2
    client = peer("massive").RESTClient(api_key=massive_service.KEY, base=massive_api.url, retries=0)
    found = list(client.list_aggs("AAPL", 1, "day", first_ms, first_ms + 86_400_000 * 9, adjusted=False))
    assert [(one.timestamp, one.close) for one in found] == [(row["t"], row["c"]) for row in rows]
    assert [one.split_to for one in client.list_splits("AAPL")] == [4]
    assert [one.cash_amount for one in client.list_dividends("AAPL")] == [0.24]
    assert len(massive_api.log) == 5
