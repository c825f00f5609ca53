"""`neural-trader orders`: what agents want to trade, and a person's answer."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import anyio.to_thread
import typer

from neural_trader_server.cli import order_books, order_controls, order_reports
from neural_trader_server.cli.terminal import Json, emit, group, out, show_table, with_desk

if TYPE_CHECKING:
    from neural_trader_governance.terms.orders import OrderIntent
    from neural_trader_server.app import Services
    from neural_trader_tools.orders.inbox import Draft

app = group("orders", "Orders, and the previews that wait for a person.")

PreviewId = Annotated[
    str, typer.Argument(help="As orders_preview or `orders list` shows it, such as pv_3f9a2c11d0e4.")
]


@app.command("list")
def list_orders(
    state: Annotated[str | None, typer.Option(help="Only this state, such as filled.")] = None,
    limit: Annotated[int, typer.Option(help="At most this many.", min=1, max=200)] = 20,
    json_output: Json = False,
) -> None:
    """Show submitted orders, newest first, and the previews that wait for your approval."""

    async def run(services: "Services") -> dict[str, Any]:
        listed = await services.call("orders_list", state=state, limit=limit)
        return listed | await anyio.to_thread.run_sync(_standing, services)

    result = with_desk(run)
    if json_output:
        emit(result)
        return
    from rich.markup import escape

    if result["mode"] == "live":
        out().print(f"[bold red]Live: real money[/] at {result['broker']}")
    for row in result["halts"]:
        out().print(f"[bold red]Halted[/] ({row['scope']}): {escape(row['reason'])}", soft_wrap=True)
    show_table(
        "Orders",
        ("id", "symbol", "side", "quantity", "type", "state", "filled", "price", "detail"),
        (
            (
                row["client_order_id"],
                row["symbol"],
                row["side"],
                row["quantity"],
                row["type"],
                row["state"],
                row["filled_quantity"],
                row["average_price"],
                row["detail"],
            )
            for row in result["orders"]
        ),
    )
    if result["awaiting_approval"]:
        show_table(
            "Waiting for your approval",
            ("preview", "agent", "order", "notional USD", "missing", "expires", "reason"),
            (
                (
                    row["preview_id"],
                    row["agent"],
                    f"{row['side']} {row['quantity']} {row['symbol']} ({row['terms']})",
                    row["notional"],
                    row["missing"],
                    row["expires_at"],
                    row["reason"],
                )
                for row in result["awaiting_approval"]
            ),
        )
        out().print("Decide with: neural-trader orders approve PREVIEW_ID, or orders reject PREVIEW_ID")


@app.command()
def approve(
    preview_id: PreviewId,
    approver: Annotated[
        str | None, typer.Option("--as", help="Who signs; by default the owner of this home.", metavar="NAME")
    ] = None,
    key_file: Annotated[
        Path | None,
        typer.Option(
            "--key", help="The approver's key, if it is not keys/approver[-NAME].key.", metavar="FILE"
        ),
    ] = None,
    request: Annotated[
        Path | None, typer.Option(help="Sign nothing: write what is to be signed elsewhere.", metavar="FILE")
    ] = None,
    signed_file: Annotated[
        Path | None, typer.Option("--signed", help="Take what `orders sign` wrote.", metavar="FILE")
    ] = None,
    json_output: Json = False,
) -> None:
    """Sign a preview with the approver's key and extend it to 15 minutes; it does not submit it.

    Where the policy wants several persons, each signs with a key of their own. A key that lives on another
    account or machine signs there: --request, then `orders sign`, then --signed.
    """
    if request is not None:
        _write_request(preview_id, approver, request, json_output)
        return
    from neural_trader_governance.identity import Caller
    from neural_trader_server.keyholder import KeyRole, load_key

    async def run(services: "Services") -> dict[str, Any]:
        def sign() -> dict[str, Any]:
            person = services.person if approver is None else Caller(approver, "")
            if signed_file is not None:
                signed = services.inbox.accept(_read_draft(signed_file).approval, person=person)
            else:
                key = load_key(key_file or services.home.approver_key_of(approver), KeyRole.APPROVER)
                signed = services.inbox.approve(preview_id, key=key, person=person)
            return signed.approval.model_dump(mode="json") | {
                "person": person.principal,
                "missing": signed.missing,
            }

        # Policy judges again in this process, which the witness has not answered yet.
        await services.cosigner.confirm()
        return await anyio.to_thread.run_sync(sign)

    approval = with_desk(run)
    if json_output:
        emit(approval)
        return
    missing = approval["missing"]
    out().print(
        f"Approved {preview_id}, signed by {approval['approver']}: valid until {approval['expires_at']} while"
        f" the price stays within {approval['price_low']} to {approval['price_high']} USD."
        + (
            f" It still waits for {missing} more: neural-trader orders approve {preview_id} --as NAME"
            if missing
            else " Its agent may submit it now."
        ),
        soft_wrap=True,
    )


@app.command()
def sign(
    file: Annotated[Path, typer.Argument(help="What `orders approve --request` wrote.")],
    key_file: Annotated[Path, typer.Option("--key", help="Your approver's key.", metavar="FILE")],
    json_output: Json = False,
) -> None:
    """Show the order in a request and sign it, on the approver's own account or machine; opens no desk."""
    from neural_trader_governance.terms.money import format_decimal
    from neural_trader_server.keyholder import KeyRole, load_key

    draft = _read_draft(file)
    order = draft.intent
    if not json_output:
        out().print(
            f"{order.side} {format_decimal(order.quantity)} {order.symbol} ({_terms(order)})"
            f" on {order.account} by {order.agent} of {draft.approval.principal},"
            f" about {format_decimal(draft.notional)} USD and at most"
            f" {format_decimal(draft.approval.price_high * order.quantity)}: {order.reason}",
            soft_wrap=True,
            markup=False,
        )
    approval = draft.approval.signed_by(load_key(key_file, KeyRole.APPROVER))
    signed = draft.model_copy(update={"approval": approval})
    file.write_text(signed.model_dump_json() + "\n", encoding="utf-8")
    if json_output:
        emit(approval.model_dump(mode="json"))
    else:
        out().print(
            f"Signed by {approval.approver}. Give it back: neural-trader orders approve {approval.preview_id}"
            f" --as NAME --signed {file}",
            soft_wrap=True,
        )


@app.command()
def reject(
    preview_id: PreviewId,
    reason: Annotated[str, typer.Option(help="Why; it goes into the audit log.")] = "rejected by the person",
    json_output: Json = False,
) -> None:
    """Refuse a preview for good."""

    async def run(services: "Services") -> None:
        def refuse() -> None:
            services.inbox.reject(preview_id, person=services.person, reason=reason)

        await anyio.to_thread.run_sync(refuse)

    with_desk(run)
    if json_output:
        emit({"preview_id": preview_id, "state": "rejected"})
    else:
        out().print(f"Rejected {preview_id}.")


@app.command()
def cancel(
    client_order_id: Annotated[str, typer.Argument(help="As `orders list` shows it.")],
    json_output: Json = False,
) -> None:
    """Cancel a working order, of whatever agent."""
    from neural_trader_tools.orders.cancel import orders_cancel

    async def run(services: "Services") -> dict[str, Any]:
        # A person, and recorded as one: the agent of this home may cancel only its own.
        canceled = await orders_cancel(services.desk, services.person, client_order_id=client_order_id)
        return canceled.model_dump(mode="json")

    result = with_desk(run)
    if json_output:
        emit(result)
    else:
        out().print(f"{client_order_id} is {result['state']}.")


app.command()(order_books.reconcile)
app.command()(order_books.history)
app.command()(order_controls.enable)
app.command("breaks")(order_controls.list_breaks)
app.command()(order_controls.resolve)
app.command()(order_reports.report)
app.command()(order_reports.export)
app.command()(order_reports.costs)


def _write_request(preview_id: str, approver: str | None, file: Path, json_output: bool) -> None:
    from neural_trader_governance.identity import Caller

    async def run(services: "Services") -> str:
        def draft() -> str:
            person = services.person if approver is None else Caller(approver, "")
            return services.inbox.draft(preview_id, person=person).model_dump_json()

        return await anyio.to_thread.run_sync(draft)

    file.write_text(with_desk(run) + "\n", encoding="utf-8")
    if json_output:
        emit({"preview_id": preview_id, "request": str(file)})
    else:
        out().print(f"To be signed within 15 minutes: neural-trader orders sign {file} --key FILE")


def _read_draft(file: Path) -> "Draft":
    """Reads a request whose order is the one that is signed."""
    from pydantic import ValidationError

    from neural_trader_governance.errors import InputError
    from neural_trader_tools.orders.inbox import Draft

    try:
        draft = Draft.model_validate_json(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValidationError):
        raise InputError(
            "invalid_request",
            f"{file} is no request for an approval",
            "write one with `neural-trader orders approve --request`",
        ) from None
    draft.require_whole()
    return draft


def _terms(order: "OrderIntent") -> str:
    """Returns the order's type with the prices that belong to it: all that the venue will be told."""
    from neural_trader_governance.terms.money import format_decimal

    prices = {
        "limit": order.limit_price,
        "stop": order.stop_price,
        "trail USD": order.trail_price,
        "trail %": order.trail_percent,
        "take profit": order.take_profit,
        "stop loss": order.stop_loss,
    }
    given = [f"{name} {format_decimal(price)}" for name, price in prices.items() if price is not None]
    if order.replaces is not None:
        given.append(f"replaces {order.replaces}")
    return ", ".join((order.type, *given, *(() if order.time_in_force == "day" else (order.time_in_force,))))


def _standing(services: "Services") -> dict[str, Any]:
    """Returns what stands still, and what waits for persons."""
    from neural_trader_governance.halts import read_halts

    with services.store.read() as connection:
        halts = [{"scope": str(each.scope), "reason": each.reason} for each in read_halts(connection)]
    waiting = [_waiting_row(each, services.inbox.missing(each)) for each in services.inbox.pending()]
    mode = services.broker.mode
    return {"mode": mode, "broker": services.broker.name, "halts": halts, "awaiting_approval": waiting}


def _waiting_row(preview: Any, missing: int) -> dict[str, Any]:
    """Returns a preview as its row (typed Any: the model's package is imported lazily)."""
    from neural_trader_governance.terms.clocks import format_time
    from neural_trader_governance.terms.money import format_decimal

    return {
        "preview_id": preview.preview_id,
        "agent": preview.caller.agent,
        "symbol": preview.intent.symbol,
        "side": preview.intent.side,
        "quantity": format_decimal(preview.intent.quantity),
        "terms": _terms(preview.intent),
        "notional": format_decimal(preview.notional),
        "missing": missing,
        "reasons": [reason.model_dump() for reason in preview.verdict.reasons],
        "reason": preview.intent.reason,
        "expires_at": format_time(preview.expires_time),
    }
