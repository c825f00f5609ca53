"""`neural-trader memory`: look at what agents have learned."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from neural_trader_server.cli.terminal import Json, call_tool, emit, group, show_table, with_desk

if TYPE_CHECKING:
    from neural_trader_server.app import Services

app = group("memory", "What agents have learned.")


@app.command()
def search(
    query: Annotated[str, typer.Argument(help="What you are looking for, in your own words.")],
    k: Annotated[int, typer.Option(help="How many.", min=1, max=10)] = 5,
    kind: Annotated[str | None, typer.Option(help="Only this kind, such as lesson.")] = None,
    as_of: Annotated[str | None, typer.Option(help="Only what was known at this time.")] = None,
    json_output: Json = False,
) -> None:
    """Find memories by meaning.

    Example: neural-trader memory search "what failed in falling markets".
    """
    result = call_tool("memory_search", query=query, k=k, kind=kind, as_of=as_of)
    _show(result, json_output)


@app.command("list")
def list_memories(
    limit: Annotated[int, typer.Option(help="At most this many.", min=1, max=200)] = 20,
    json_output: Json = False,
) -> None:
    """Show this home's agent's memories, newest first, as the audit log has them on record."""

    async def run(services: "Services") -> dict[str, Any]:
        agent = services.caller.agent
        with services.store.read() as connection:
            rows = connection.execute(
                "SELECT seq FROM audit_entries WHERE type = ? AND agent = ? ORDER BY seq DESC LIMIT ?",
                ("memory.write", agent, limit),
            ).fetchall()
            written = [read_entry(connection, int(row[0])) for row in rows]
        return {"hits": [await _recalled(services, str(entry.payload["memory_id"])) for entry in written]}

    from neural_trader_governance.audit.log import read_entry

    _show(with_desk(run), json_output)


async def _recalled(services: "Services", memory_id: str) -> dict[str, Any]:
    """Returns a memory that the log has on record; one that a crash kept from being stored says so."""
    from neural_trader_governance.errors import InputError
    from neural_trader_governance.terms.clocks import format_time

    try:
        found = await services.memory.get(memory_id, agent=services.caller.agent)
    except InputError:
        return {"memory_id": memory_id, "kind": None, "text": None, "known_time": None, "symbols": []}
    return {
        "memory_id": memory_id,
        "kind": found.kind,
        "text": found.text,
        "known_time": format_time(found.known_time),
        "symbols": list(found.symbols),
    }


def _show(result: dict[str, Any], json_output: bool) -> None:
    if json_output:
        emit(result)
        return
    show_table(
        "Memories",
        ("id", "kind", "score", "known", "text"),
        (
            (hit["memory_id"], hit["kind"], hit.get("score"), hit["known_time"], hit["text"])
            for hit in result["hits"]
        ),
    )
