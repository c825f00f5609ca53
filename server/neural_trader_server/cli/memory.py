"""`neural-trader memory`: look at what agents have learned, and put it right."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neural_trader_server.cli import memory_files, memory_skills
from neural_trader_server.cli.terminal import Json, call_tool, emit, group, out, show_table, with_desk

if TYPE_CHECKING:
    from neural_trader_memory.memory import Draft, Hit, Memory, Remembered
    from neural_trader_server.app import Services

app = group("memory", "What agents have learned.")
app.command("export")(memory_files.export)
app.command("import")(memory_files.import_file)
app.command("reindex")(memory_files.reindex)
app.command("verify")(memory_files.verify)
app.command("promote")(memory_skills.promote)
app.command("skills")(memory_skills.skills)
app.command("capture")(memory_skills.capture)

Agent = Annotated[str | None, typer.Option(help="Whose memory; default: that of this home's agent.")]
MemoryId = Annotated[str, typer.Argument(help="The memory, such as mem-9f86d081884c7d65.")]


@app.command()
def search(
    query: Annotated[str, typer.Argument(help="What you are looking for, in your own words.")],
    k: Annotated[int, typer.Option(help="How many.", min=1, max=10)] = 5,
    kind: Annotated[str | None, typer.Option(help="Only this kind, such as decision.")] = None,
    symbol: Annotated[list[str] | None, typer.Option(help="Only about this; again for each.")] = None,
    as_of: Annotated[str | None, typer.Option(help="Only what was known at this time.")] = None,
    regime_of: Annotated[
        str | None, typer.Option(help="Prefer what was learned in a market like this symbol's.")
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Show what each score is made of.")] = False,
    json_output: Json = False,
) -> None:
    """Find memories by meaning, by words, and by the market that they were written in.

    Example: neural-trader memory search "what failed in falling markets" --regime-of AAPL --explain
    """
    narrow: dict[str, Any] = {"k": k, "kind": kind, "symbols": symbol, "as_of": as_of, "regime_of": regime_of}
    result = call_tool("memory_search", query=query, **narrow)
    if explain:
        result["explanations"] = with_desk(lambda services: _explained(services, query, narrow))
    if json_output:
        emit(result)
        return
    _show(result["hits"])
    if explain:
        show_table(
            "Why",
            ("id", "part", "says", "weight", "adds"),
            (
                (row["memory_id"], part["name"], part["value"], part["weight"], part["adds"])
                for row in result["explanations"]
                for part in row["parts"]
            ),
        )


@app.command("list")
def list_memories(
    limit: Annotated[int, typer.Option(help="At most this many.", min=1, max=10_000)] = 20,
    agent: Agent = None,
    as_of: Annotated[str | None, typer.Option(help="As they stood at this time.")] = None,
    json_output: Json = False,
) -> None:
    """Show an agent's memories, newest first, those in quarantine too.

    Example: neural-trader memory list --limit 50
    """
    from neural_trader_governance.terms.clocks import parse_time

    async def run(services: "Services") -> list[dict[str, Any]]:
        moment = None if as_of is None else parse_time(as_of)
        found = await services.memory.newest(limit, agent=agent or _own(services), as_of=moment)
        return [_told(each) for each in found]

    rows = with_desk(run)
    if json_output:
        emit({"hits": rows})
    else:
        _show(rows)


@app.command()
def show(memory_id: MemoryId, agent: Agent = None, json_output: Json = False) -> None:
    """Show one memory: all its revisions, what it follows from, and what came of it.

    Outcomes are those that name it as their cause, or speak of the same audit entries and orders.

    Example: neural-trader memory show mem-9f86d081884c7d65
    """

    async def run(services: "Services") -> dict[str, Any]:
        from neural_trader_tools.memory.orders import entries_of_order

        owner = agent or _own(services)
        memory = services.memory
        revisions = await memory.revisions(memory_id, agent=owner)
        told: dict[str, Any] = {
            "revisions": [_told(each) for each in revisions],
            "causes": [],
            "outcomes": [],
        }
        if revisions[-1].state == "live":
            seqs = await entries_of_order(services.store, revisions[-1].provenance.about_seq)
            causes = await memory.causes(memory_id, agent=owner)
            outcomes = await memory.outcomes(memory_id, agent=owner, seqs=seqs)
            told |= {
                "causes": [_told(each) for each in causes],
                "outcomes": [_told(each) for each in outcomes],
            }
        return told

    told = with_desk(run)
    if json_output:
        emit(told)
        return
    for title, rows in told.items():
        if rows:
            _show(rows, title.capitalize())


@app.command()
def correct(
    memory_id: MemoryId,
    text: Annotated[str, typer.Argument(help="What it should say.")],
    agent: Agent = None,
    json_output: Json = False,
) -> None:
    """Correct a memory: a new revision, in your words and therefore verified; the old one stays in the past.

    Example: neural-trader memory correct mem-9f86d081884c7d65 "The gap closed after two days, not one."
    """
    _revise(
        lambda memory, owner: memory.draft_correction(memory_id, agent=owner, source="person", text=text),
        agent,
        json_output,
    )


@app.command()
def forget(
    memory_id: MemoryId,
    reason: Annotated[str, typer.Option(help="Why; it is kept as the memory's last revision.")],
    agent: Agent = None,
    json_output: Json = False,
) -> None:
    """Forget a memory: it is found no more. Searches as of an earlier time, and the audit log, still know it.

    Example: neural-trader memory forget mem-9f86d081884c7d65 --reason "a rumour, denied"
    """
    _revise(
        lambda memory, owner: memory.draft_tombstone(memory_id, agent=owner, reason=reason),
        agent,
        json_output,
    )


@app.command()
def trust(
    memory_id: MemoryId,
    trust_as: Annotated[
        str, typer.Argument(metavar="TRUST", help="verified, asserted, untrusted or quarantined.")
    ],
    agent: Agent = None,
    json_output: Json = False,
) -> None:
    """Say how far a memory is trusted. Only a person can raise it; one in quarantine is never found.

    Example: neural-trader memory trust mem-9f86d081884c7d65 quarantined
    """
    _revise(
        lambda memory, owner: memory.draft_trust(memory_id, agent=owner, trust=trust_as, source="person"),
        agent,
        json_output,
    )


def _revise(draft: "Callable[[Memory, str], Awaitable[Draft]]", agent: str | None, json_output: bool) -> None:
    """Puts a person's change of a memory on record, and keeps it."""

    async def run(services: "Services") -> dict[str, Any]:
        from neural_trader_tools.memory.recording import keep

        owner = agent or _own(services)
        made = await draft(services.memory, owner)
        (kept,) = await keep(services.memory, services.store, services.person, [made])
        record = made.record
        return {
            "memory_id": kept.memory_id,
            "rev": record.rev,
            "state": record.state,
            "trust": record.trust,
            "content_hash": kept.content_hash,
            "audit_seq": kept.audit_seq,
        }

    done = with_desk(run)
    if json_output:
        emit(done)
    else:
        words = f"{done['memory_id']} revision {done['rev']}: {done['state']}, {done['trust']}"
        out().print(f"{words}; audit entry {done['audit_seq']}.", markup=False, soft_wrap=True)


async def _explained(services: "Services", query: str, narrow: dict[str, Any]) -> list[dict[str, Any]]:
    from neural_trader_governance.terms.clocks import parse_time
    from neural_trader_tools.memory.search import recall

    if narrow["as_of"] is not None:
        narrow = {**narrow, "as_of": parse_time(narrow["as_of"])}
    hits: list[Hit] = await recall(
        services.memory, services.archive, services.replay, services.caller, query, **narrow
    )
    return [
        {
            "memory_id": hit.memory_id,
            "score": hit.score,
            "parts": [
                {
                    "name": part.name,
                    "value": part.value,
                    "weight": round(part.weight, 4),
                    "adds": round(part.value * part.weight, 4),
                }
                for part in hit.parts
            ],
        }
        for hit in hits
    ]


def _own(services: "Services") -> str:
    from neural_trader_tools.memory.recording import namespace_of

    return namespace_of(services.caller)


def _told(memory: "Remembered") -> dict[str, Any]:
    from neural_trader_tools.memory.files import row_of

    return row_of(memory)


def _show(rows: list[dict[str, Any]], title: str = "Memories") -> None:
    def trust_of(row: dict[str, Any]) -> str:
        return str(row["trust"] if "trust" in row else row["provenance"]["trust"])

    show_table(
        title,
        ("id", "rev", "kind", "trust", "score", "known", "text"),
        (
            (
                row["memory_id"],
                row.get("rev"),
                row["kind"],
                trust_of(row),
                row.get("score"),
                row["known_time"],
                row["text"],
            )
            for row in rows
        ),
    )
