"""`neural-trader orders reconcile|history`: the desk beside its venue, and beside its own log."""

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import anyio.to_thread
import typer

from neural_trader_server.cli.terminal import Json, emit, out, show_table, with_desk

if TYPE_CHECKING:
    from neural_trader_server.app import Services


def reconcile(
    settle: Annotated[
        bool,
        typer.Option(
            "--settle", help="Believe what differs now: adopt outside orders, open breaks. Look twice before."
        ),
    ] = False,
    json_output: Json = False,
) -> None:
    """Ask the venue about every unfinished order and the whole account; nothing is sent again.

    What the venue says of orders is booked. Where its account differs from the desk's books, it is shown; a
    server that runs acts on what lasts ten seconds, --settle at once. Then the desk's orders are compared
    with its own log.
    """
    from neural_trader_tools.orders.comparison import LASTS
    from neural_trader_tools.orders.history import disagreements

    async def run(services: "Services") -> dict[str, Any]:
        desk = services.desk
        settled = await desk.reconcile(services.person)
        differences = await desk.compare(services.person, lasts=timedelta(0) if settle else LASTS)

        def look() -> list[str]:
            with services.store.read() as connection:
                return disagreements(connection)

        return {
            "broker": desk.broker.name,
            "mode": desk.broker.mode,
            "settled": [
                {
                    "client_order_id": found.client_order_id,
                    "before": found.before.value,
                    "after": found.after.value,
                    "detail": found.detail,
                }
                for found in settled
            ],
            "differences": [
                {
                    "kind": each.kind,
                    "subject": each.subject,
                    "desk": each.desk,
                    "venue": each.venue,
                    "outcome": each.outcome,
                }
                for each in differences
            ],
            "not_as_logged": await anyio.to_thread.run_sync(look),
        }

    found = with_desk(run)
    if json_output:
        emit(found)
        return
    out().print(f"Venue: {found['broker']} ({found['mode']}).")
    if not found["settled"]:
        out().print("The desk and the venue agree; nothing had to be settled.")
    else:
        columns = ("id", "before", "after", "detail")
        show_table("Settled", columns, (tuple(row.values()) for row in found["settled"]))
    if found["differences"]:
        columns = ("kind", "what", "desk", "venue", "outcome")
        show_table("The account differs", columns, (tuple(row.values()) for row in found["differences"]))
        out().print("Breaks stop their account: neural-trader orders breaks", soft_wrap=True)
    if found["not_as_logged"]:
        out().print(
            f"[bold red]Not as the log has it[/]: {', '.join(found['not_as_logged'])}."
            " See: neural-trader orders history ID",
            soft_wrap=True,
        )


def history(
    client_order_id: Annotated[str, typer.Argument(help="As `orders list` shows it.")],
    json_output: Json = False,
) -> None:
    """Show what the log says happened to an order, played again through the state machine."""
    from neural_trader_governance.terms.clocks import format_time
    from neural_trader_governance.terms.money import format_decimal
    from neural_trader_tools.orders.history import replay

    async def run(services: "Services") -> dict[str, Any]:
        def look() -> dict[str, Any]:
            with services.store.read() as connection:
                found = replay(connection, client_order_id)
            return {
                "client_order_id": found.client_order_id,
                "state": found.state.value,
                "filled_quantity": format_decimal(found.filled),
                "agrees": found.agrees,
                "moments": [
                    {
                        "seq": each.seq,
                        "time": format_time(each.time),
                        "event": each.event,
                        "state": each.state.value,
                        "filled": format_decimal(each.filled),
                        "detail": each.detail,
                    }
                    for each in found.moments
                ],
            }

        return await anyio.to_thread.run_sync(look)

    found = with_desk(run)
    if json_output:
        emit(found)
        return
    columns = ("entry", "time", "event", "state", "filled", "detail")
    show_table(client_order_id, columns, (tuple(row.values()) for row in found["moments"]))
    if not found["agrees"]:
        out().print("[bold red]The table of orders says otherwise[/]: run `neural-trader audit verify`.")
