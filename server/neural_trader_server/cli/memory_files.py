"""`neural-trader memory export|import|reindex|verify`: the memory as a whole."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neural_trader_server.cli.terminal import FAILED, Json, emit, out, progress_bar, show_table, with_desk

if TYPE_CHECKING:
    from neural_trader_memory.reindex import Reindexed
    from neural_trader_server.app import Services
    from neural_trader_tools.memory.imports import MemoriesImported
    from neural_trader_tools.memory.verification import MemoryVerified

Agent = Annotated[str | None, typer.Option(help="Whose memory; default: that of this home's agent.")]


def export(
    target: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="A new .jsonl or .parquet file; default: stdout.")
    ] = None,
    agent: Agent = None,
    as_of: Annotated[str | None, typer.Option(help="As it stood at this time.")] = None,
    history: Annotated[
        bool, typer.Option("--history", help="All revisions, forgotten and expired memories too.")
    ] = False,
    json_output: Json = False,
) -> None:
    """Export an agent's memories, each with its provenance, hashes and audit entry; vectors stay here.

    Example: neural-trader memory export memories.parquet --history
    """
    from neural_trader_governance.terms.clocks import parse_time

    async def run(services: "Services") -> dict[str, Any]:
        from neural_trader_tools.memory.files import line, row_of, write_rows
        from neural_trader_tools.memory.recording import namespace_of

        owner = agent or namespace_of(services.caller)
        moment = None if as_of is None else parse_time(as_of)
        read = services.memory.history if history else services.memory.newest
        found = await read(agent=owner, as_of=moment)
        if not history:
            found.reverse()  # oldest first, as they were written
        if target is None and not json_output:
            sys.stdout.buffer.writelines(line(row_of(each)) for each in found)
            sys.stdout.buffer.flush()
        elif target is not None:
            write_rows(target, found)
        return {"agent": owner, "rows": len(found), "file": target and str(target)}

    done = with_desk(run)
    if json_output:
        emit(done)
    elif target is not None:
        out().print(
            f"{done['rows']} memories of {done['agent']} are in {target}", markup=False, soft_wrap=True
        )


def import_file(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="A .jsonl or .parquet file of memories.")],
    origin: Annotated[str, typer.Option(help="Where it comes from, in your words; kept with each memory.")],
    agent: Agent = None,
    json_output: Json = False,
) -> None:
    """Import memories as a stranger's words: untrusted, known from now on, each with an audit entry.

    The file is checked whole before anything is kept. What is there already is not written twice, so an
    import that was stopped is run again. A person raises trust one by one (memory trust).

    Example: neural-trader memory import memories.jsonl --origin "export of the London desk, 2012-03-01"
    """

    async def run(services: "Services") -> "MemoriesImported":
        from neural_trader_tools.memory.imports import import_memories
        from neural_trader_tools.memory.recording import namespace_of

        return await import_memories(
            services.memory,
            services.store,
            services.person,
            services.clock,
            source,
            agent=agent or namespace_of(services.caller),
            origin=origin,
        )

    with progress_bar(f"importing {source.name}", quiet=json_output):
        done = with_desk(run).model_dump(mode="json")
    if json_output:
        emit(done)
        return
    out().print(
        f"{done['imported']} imported, {done['known']} known already, {done['skipped']} skipped"
        f" (earlier revisions, forgotten, expired, future), of {done['read']}.",
        soft_wrap=True,
    )


def reindex(json_output: Json = False) -> None:
    """Embed every memory anew with this version's model, after `embedder_mismatch`. Ctrl-C loses nothing.

    Run again, it goes on where it stopped. Servers of another model are refused from its end on.
    Its beginning and its end are entries of the audit log.

    Example: neural-trader memory reindex
    """

    async def run(services: "Services") -> "Reindexed":
        from neural_trader_tools.memory.reindexing import reindex_memory
        from neural_trader_tools.telling import tell

        return await reindex_memory(
            services.memory_uri, services.memory.embedder, services.store, services.person, tell
        )

    with progress_bar("embedding", quiet=json_output):
        done = with_desk(run)
    if json_output:
        emit(
            {
                "rows": done.rows,
                "embedded": done.embedded,
                "embedder_before": done.embedder_before,
                "embedder": done.embedder,
                "dimension": done.dimension,
            }
        )
        return
    out().print(
        f"{done.rows} rows are of {done.embedder} ({done.dimension} dimensions), {done.embedded} made now.",
        markup=False,
        soft_wrap=True,
    )


def verify(
    archive: Annotated[
        Path | None,
        typer.Option(help="Where archived audit entries lie now, if not where they were archived to."),
    ] = None,
    json_output: Json = False,
) -> None:
    """Hold the memory of all agents against the audit log, both ways; exit 1 where they do not agree.

    Each entry of a write must have its row, and each row its entry, its hash and the revision before it.
    Whether the log itself is whole: neural-trader audit verify.

    Example: neural-trader memory verify --json
    """

    async def run(services: "Services") -> "MemoryVerified":
        from neural_trader_tools.memory.verification import verify_memory

        return await verify_memory(services.memory, services.store, archive)

    found = with_desk(run)
    if json_output:
        emit(found.model_dump(mode="json"))
    else:
        if found.problems:
            show_table(
                "Problems",
                ("problem", "id", "rev", "agent", "entry", "what"),
                (
                    (each.code, each.memory_id, each.rev, each.agent, each.audit_seq, each.what)
                    for each in found.problems
                ),
            )
        state = "agree" if found.ok else f"differ in {found.problem_count} places"
        out().print(f"The memory ({found.rows} rows) and the log ({found.entries} entries) {state}.")
    if not found.ok:
        raise typer.Exit(FAILED)
