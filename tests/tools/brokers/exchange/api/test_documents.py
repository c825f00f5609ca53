"""What the exchange answers, held against the OpenAPI document that the wheel of alpaca-mcp-server ships."""

import json
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, files
from typing import Any

import pytest
from tests.tools.brokers.exchange.api.conftest import Served

jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed: make peers")
referencing = pytest.importorskip("referencing", reason="referencing is not installed: make peers")


@pytest.fixture(scope="module")
def violations() -> Callable[[str, str, str, Any], list[str]]:
    """Returns a function that names what is wrong with an answer to a path and method."""
    try:
        shipped = files("alpaca-mcp-server") or []
    except PackageNotFoundError:
        pytest.skip("alpaca-mcp-server is not installed: make peers")
    [spec] = [each for each in shipped if each.name == "trading-api.json"]
    document = json.loads(spec.read_text())
    resource = referencing.Resource(contents=document, specification=referencing.jsonschema.DRAFT202012)
    registry = referencing.Registry().with_resource("urn:spec", resource)

    def check(path: str, method: str, status: str, answer: Any) -> list[str]:
        pointer = path.replace("~", "~0").replace("/", "~1")
        where = f"urn:spec#/paths/{pointer}/{method}/responses/{status}/content/application~1json/schema"
        validator = jsonschema.Draft202012Validator({"$ref": where}, registry=registry)
        return [
            f"{'/'.join(map(str, each.path))}: {each.message[:120]}" for each in validator.iter_errors(answer)
        ]

    return check


def test_every_answer_has_the_documented_shape(
    served: Served, violations: Callable[[str, str, str, Any], list[str]]
) -> None:
    with served.client() as client:
        bought = {"symbol": "A", "qty": "100", "side": "buy", "type": "market", "time_in_force": "day"}
        bracket = bought | {
            "order_class": "bracket",
            "take_profit": {"limit_price": "120"},
            "stop_loss": {"stop_price": "80"},
        }
        resting = bought | {"type": "limit", "limit_price": "90", "qty": "1"}
        placed = [client.post("/v2/orders", json=each) for each in (bought, bracket, resting)]
        assert [answer.status_code for answer in placed] == [200] * 3
        for answer in placed:
            assert violations("/v2/orders", "post", "200", answer.json()) == []
        replaced = client.patch(f"/v2/orders/{placed[2].json()['id']}", json={"limit_price": "91"})
        assert violations("/v2/orders/{order_id}", "patch", "200", replaced.json()) == []
        for path, asked in (
            ("/v2/account", "/v2/account"),
            ("/v2/account/configurations", "/v2/account/configurations"),
            ("/v2/account/activities", "/v2/account/activities"),
            ("/v2/orders", "/v2/orders?status=all&nested=true"),
            ("/v2/orders/{order_id}", f"/v2/orders/{placed[0].json()['id']}"),
            (
                "/v2/orders:by_client_order_id",
                f"/v2/orders:by_client_order_id?client_order_id={placed[0].json()['client_order_id']}",
            ),
            ("/v2/positions", "/v2/positions"),
            ("/v2/positions/{symbol_or_asset_id}", "/v2/positions/A"),
            ("/v2/assets", "/v2/assets"),
            ("/v2/assets/{symbol_or_asset_id}", "/v2/assets/A"),
            ("/v2/clock", "/v2/clock"),
            ("/v2/calendar", "/v2/calendar?start=2024-01-02&end=2024-01-05"),
        ):
            answer = client.get(asked)
            assert answer.status_code == 200, asked
            assert answer.json() != [], asked
            assert violations(path, "get", "200", answer.json()) == [], asked
        served.venue.exchange.halt("B")
        closed = client.delete("/v2/positions?cancel_orders=true")
        assert violations("/v2/positions", "delete", "207", closed.json()) == []


def test_activities_are_paged_and_filtered(served: Served) -> None:
    with served.client() as client:
        for _ in range(5):
            order = {"symbol": "A", "qty": "1", "side": "buy", "type": "market", "time_in_force": "day"}
            client.post("/v2/orders", json=order)
        served.market(lambda exchange: exchange.pay_dividend("A", 500_000))
        first = client.get("/v2/account/activities/FILL?page_size=3&direction=asc").json()
        rest = client.get(f"/v2/account/activities/FILL?direction=asc&page_token={first[-1]['id']}").json()
        assert len(first) == 3
        assert len({each["id"] for each in first + rest}) == 5
        [paid] = client.get("/v2/account/activities?activity_types=DIV").json()
        assert (paid["net_amount"], paid["per_share_amount"], paid["qty"]) == ("2.5", "0.5", "5")
