"""Asking through the client: a reminder in both eras of the protocol, and never an approval."""

from typing import Any

import pytest
from mcp import Client
from mcp_types import ElicitRequestParams, ElicitResult

from neural_trader_governance.terms.orders import OrderState
from neural_trader_server.app import Services, build_server, open_desk
from neural_trader_server.home import Home
from neural_trader_server.keyholder import KeyRole, load_key
from neural_trader_server.settings import Settings

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("mode", ["auto", "legacy"])]
LARGE = {"symbol": "AAPL", "side": "buy", "quantity": "30", "reason": "large enough for a person"}


class User:
    """Answers what the client asks, and may sign meanwhile."""

    def __init__(self, services: Services, action: str, *, signs: bool) -> None:
        self.services = services
        self.action = action
        self.signs = signs
        self.preview_id = ""
        self.asked: list[str] = []

    async def __call__(self, context: Any, params: ElicitRequestParams) -> ElicitResult:
        self.asked.append(params.message)
        if self.signs:
            key = load_key(self.services.home.approver_key, KeyRole.APPROVER)
            self.services.inbox.approve(self.preview_id, key=key, person=self.services.person)
        return ElicitResult(action=self.action, content={"done": True} if self.action == "accept" else None)  # pyright: ignore[reportArgumentType]  # one of the three


async def submitted(home: Home, mode: Any, action: str, *, signs: bool) -> tuple[Any, User]:
    async with open_desk(home, Settings()) as services:
        await services.start()
        user = User(services, action, signs=signs)
        server = build_server(services, toolsets="all")
        async with Client(server, mode=mode, elicitation_callback=user) as client:
            preview = await client.call_tool("orders_preview", LARGE)
            assert preview.structured_content is not None, preview
            user.preview_id = preview.structured_content["preview_id"]
            return await client.call_tool("orders_submit", {"preview_id": user.preview_id}), user


@pytest.mark.parametrize("action", ["accept", "decline", "cancel"])
async def test_whatever_the_client_answers_without_a_signature_nothing_is_submitted(
    home: Home, mode: str, action: str
) -> None:
    answer, user = await submitted(home, mode, action, signs=False)
    assert answer.is_error
    assert answer.content[0].text.startswith("approval_required: ")
    assert len(user.asked) == 1, "it is asked once"
    assert "orders approve" in user.asked[0]
    async with open_desk(home, Settings()) as services:
        assert await services.desk.orders() == []


async def test_a_user_who_has_the_order_signed_is_done_in_one_call(home: Home, mode: str) -> None:
    answer, user = await submitted(home, mode, "accept", signs=True)
    assert not answer.is_error, answer.content
    assert answer.structured_content["state"] == OrderState.FILLED
    assert len(user.asked) == 1


async def test_a_client_that_cannot_ask_gets_the_refusal(home: Home, mode: Any) -> None:
    async with open_desk(home, Settings()) as services:
        await services.start()
        async with Client(build_server(services, toolsets="all"), mode=mode) as client:
            preview = await client.call_tool("orders_preview", LARGE)
            assert preview.structured_content is not None
            preview_id = preview.structured_content["preview_id"]
            answer = await client.call_tool("orders_submit", {"preview_id": preview_id})
    assert answer.content[0].model_dump()["text"].startswith("approval_required: ")
