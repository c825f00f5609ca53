"""`neural-trader orders enable|breaks|resolve`: what only a person sets right."""

from typing import TYPE_CHECKING, Annotated, Any

import anyio.to_thread
import typer

from neural_trader_server.cli.terminal import Json, emit, out, show_table, with_desk

if TYPE_CHECKING:
    from neural_trader_server.app import Services

Reason = Annotated[str, typer.Option(help="What you found; it goes into the audit log.")]


def enable(
    agent: Annotated[str, typer.Argument(help="As `orders breaks` shows it, such as agent-1.")],
    reason: Reason,
    json_output: Json = False,
) -> None:
    """Switch an agent on again that repeated execution had switched off. Look at its orders first.

    Example: neural-trader orders enable agent-1 --reason "it was rebalancing, as meant"
    """
    from neural_trader_governance import throttles

    async def run(services: "Services") -> int:
        def commit() -> int:
            with services.store.unit() as unit:
                now = services.clock.now()
                return throttles.enable(unit, agent, person=services.person, reason=reason, now=now)

        return await anyio.to_thread.run_sync(commit)

    seq = with_desk(run)
    if json_output:
        emit({"agent": agent, "enabled": True, "seq": seq})
    else:
        out().print(f"{agent} may trade again; what it sent before counts no more (entry {seq}).")


def list_breaks(json_output: Json = False) -> None:
    """Show where the venue contradicts the desk, and which agents are switched off."""
    from neural_trader_governance import throttles
    from neural_trader_governance.terms.clocks import format_time
    from neural_trader_tools.orders import breaks

    async def run(services: "Services") -> dict[str, Any]:
        def look() -> dict[str, Any]:
            with services.store.read() as connection:
                found, off = breaks.list_open(connection), throttles.tripped(connection)
            return {
                "breaks": [
                    {
                        "break_id": each.break_id,
                        "client_order_id": each.client_order_id,
                        "account": each.account,
                        "kind": each.kind,
                        "opened": format_time(each.opened_time),
                        "seq": each.seq,
                        "detail": each.detail,
                    }
                    for each in found
                ],
                "switched_off": [
                    {"agent": agent, "reason": throttle.reason, "seq": throttle.seq}
                    for agent, throttle in off
                ],
            }

        return await anyio.to_thread.run_sync(look)

    result = with_desk(run)
    if json_output:
        emit(result)
        return
    if not result["breaks"] and not result["switched_off"]:
        out().print("The desk and the venue agree, and no agent is switched off.")
    if result["breaks"]:
        columns = ("break", "order", "account", "kind", "opened", "entry", "detail")
        show_table("Open breaks", columns, (tuple(row.values()) for row in result["breaks"]))
        out().print("Compare with the venue, then: neural-trader orders resolve BREAK_ID --reason …")
    if result["switched_off"]:
        columns = ("agent", "why", "entry")
        show_table("Switched off", columns, (tuple(row.values()) for row in result["switched_off"]))
        out().print("Look at its orders, then: neural-trader orders enable AGENT --reason …")


def resolve(
    break_id: Annotated[str, typer.Argument(help="As `orders breaks` shows it, such as br_3f9a2c11d0e4.")],
    reason: Reason,
    json_output: Json = False,
) -> None:
    """Close a break once you have compared with the venue; its account may trade again."""
    from neural_trader_tools.orders import breaks

    async def run(services: "Services") -> int:
        def commit() -> int:
            with services.store.unit() as unit:
                return breaks.resolve(unit, break_id, person=services.person, reason=reason)

        return await anyio.to_thread.run_sync(commit)

    seq = with_desk(run)
    if json_output:
        emit({"break_id": break_id, "resolved": True, "seq": seq})
    else:
        out().print(f"{break_id} is resolved (entry {seq}).")
