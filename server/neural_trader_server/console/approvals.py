"""Approvals: what waits for a person, and the answer that the person's browser signed.

The desk's inbox drafts and judges here as it does for `orders approve --request` and `--signed`. The key
never comes here: the browser gets a draft, checks it against the order that it shows, and signs it.
"""

import sqlite3
from typing import TYPE_CHECKING, Any

import anyio.to_thread
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from neural_trader_governance import principals, taints
from neural_trader_governance.approvals import Approval
from neural_trader_governance.errors import InputError
from neural_trader_governance.principals import Role
from neural_trader_governance.terms.clocks import format_time
from neural_trader_governance.terms.money import format_decimal
from neural_trader_governance.terms.term import Term
from neural_trader_server.console.guard import answer, read_body, visitor_of

if TYPE_CHECKING:
    from neural_trader_server.app import Services
    from neural_trader_tools.orders.previews import Preview


class _Accepted(Term):
    approval: Approval


class _Rejected(Term):
    reason: str = Field(min_length=1, max_length=500)


def routes(services: "Services") -> list[Route]:
    """Returns the routes of the inbox."""

    def read(person: str) -> dict[str, Any]:
        waiting = [(each, services.inbox.missing(each)) for each in services.inbox.pending()]
        with services.store.read() as connection:
            keys = principals.approver_keys(connection, issuer=services.issuer)
            rows = [_row(connection, each, missing) for each, missing in waiting]
        own = keys.get(person)
        return {
            "person": person,
            "key": None if own is None else own.name,
            "mode": services.broker.mode,
            "now": format_time(services.clock.now()),
            "waiting": rows,
        }

    async def pending(request: Request) -> Response:
        return answer(await anyio.to_thread.run_sync(read, visitor_of(request).session.person))

    async def draft(request: Request) -> Response:
        preview_id, person = request.path_params["preview_id"], visitor_of(request).caller
        return answer(await anyio.to_thread.run_sync(lambda: services.inbox.draft(preview_id, person=person)))

    async def accept(request: Request) -> Response:
        person = visitor_of(request).caller
        approval = (await read_body(request, _Accepted)).approval
        if approval.preview_id != request.path_params["preview_id"]:
            raise InputError(
                "approval_preview_mismatch",
                f"the approval is for the preview {approval.preview_id}",
                "reload the page and sign the order that it shows",
            )
        await services.cosigner.confirm()  # policy judges again, as it does for the command
        signed = await anyio.to_thread.run_sync(lambda: services.inbox.accept(approval, person=person))
        return answer(
            {
                "preview_id": approval.preview_id,
                "missing": signed.missing,
                "expires_at": format_time(signed.approval.expires_at),
            }
        )

    async def reject(request: Request) -> Response:
        visitor = visitor_of(request)
        visitor.require(Role.APPROVER, Role.TRADER, Role.ADMIN)
        preview_id, reason = request.path_params["preview_id"], (await read_body(request, _Rejected)).reason

        def refuse() -> None:
            services.inbox.reject(preview_id, person=visitor.caller, reason=reason)

        await anyio.to_thread.run_sync(refuse)
        return answer({"preview_id": preview_id, "state": "rejected"})

    return [
        Route("/approvals", pending, methods=["GET"]),
        Route("/approvals/{preview_id}/draft", draft, methods=["GET"]),
        Route("/approvals/{preview_id}/accept", accept, methods=["POST"]),
        Route("/approvals/{preview_id}/reject", reject, methods=["POST"]),
    ]


def _row(connection: sqlite3.Connection, preview: "Preview", missing: int) -> dict[str, Any]:
    from neural_trader_tools.orders.previews import find_approvals

    caller = preview.caller
    return {
        "preview_id": preview.preview_id,
        "agent": caller.agent,
        "principal": caller.principal,
        "intent": preview.intent.model_dump(mode="json"),
        "price": format_decimal(preview.price),
        "notional": format_decimal(preview.notional),
        "policy_digest": preview.verdict.policy_digest,
        "reasons": [reason.model_dump() for reason in preview.verdict.reasons],
        "taint": taints.standing(connection, principal=caller.principal, agent=caller.agent),
        "signed_by": sorted(find_approvals(connection, preview.preview_id)),
        "missing": missing,
        "created_at": format_time(preview.created_time),
        "expires_at": format_time(preview.expires_time),
    }
