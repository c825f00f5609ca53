"""`neural-trader taint`: which agents have read text from outside, and a person's word on it."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import anyio.to_thread
import typer

from neural_trader_server.cli.terminal import Json, emit, group, out, show_table, with_desk

if TYPE_CHECKING:
    from neural_trader_server.app import Services

app = group("taint", "Agents that have read text from outside: their larger orders wait for a person.")


@app.command("list")
def list_taints(json_output: Json = False) -> None:
    """Show every mark that stands: who was shown what, by which tool, and the log entry that says so."""
    from neural_trader_governance import taints

    async def run(services: "Services") -> list[dict[str, Any]]:
        def look() -> list[dict[str, Any]]:
            with services.store.read() as connection:
                return [asdict(taint) for taint in taints.read(connection)]

        return await anyio.to_thread.run_sync(look)

    rows = with_desk(run)
    if json_output:
        emit({"taints": rows})
        return
    show_table(
        "Tainted agents",
        ("principal", "agent", "text from", "shown by", "text's digest", "entry"),
        (
            (row["principal"], row["agent"], row["source"], row["tool"], row["digest"][:16], row["seq"])
            for row in rows
        ),
    )
    if rows:
        out().print("An entry: neural-trader audit show SEQ. Clear: neural-trader taint clear --agent A")


@app.command()
def clear(
    agent: Annotated[str, typer.Option(help="The agent.")],
    reason: Annotated[str, typer.Option(help="Why it is harmless; it goes into the audit log.")],
    principal: Annotated[
        str | None, typer.Option(help="Whom the agent serves; default: the principal of this home.")
    ] = None,
    json_output: Json = False,
) -> None:
    """Clear an agent. Its next text from outside marks it again.

    Example: neural-trader taint clear --agent agent-1 --reason "a plain division by zero"
    """
    from neural_trader_governance import taints

    async def run(services: "Services") -> int:
        def commit() -> int:
            with services.store.unit() as unit:
                return taints.clear(
                    unit,
                    person=services.person,
                    principal=principal or services.person.principal,
                    agent=agent,
                    reason=reason,
                )

        return await anyio.to_thread.run_sync(commit)

    texts = with_desk(run)
    if json_output:
        emit({"agent": agent, "cleared": texts})
    else:
        out().print(f"Cleared {agent}: {texts} texts were on it.")
