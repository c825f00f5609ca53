"""Memory: what the desk's agents learned, for people to look at. Nothing here writes or marks anybody."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, get_args

import anyio.to_thread
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from neural_trader_governance.principals import list_enrolments
from neural_trader_governance.terms.clocks import parse_time
from neural_trader_governance.terms.term import Term
from neural_trader_memory.records import Kind
from neural_trader_server.console.guard import answer, read_query

if TYPE_CHECKING:
    from neural_trader_memory.memory import Remembered
    from neural_trader_server.app import Services

LISTED_MAX = 50

_Words = Annotated[str, Field(min_length=1, max_length=120)]


class _Whose(Term):
    agent: _Words | None = None
    as_of: _Words | None = None


class _Search(_Whose):
    text: Annotated[str, Field(min_length=1, max_length=1_000)] | None = None
    kind: Kind | None = None
    symbol: _Words | None = None


def routes(services: "Services") -> list[Route]:
    """Returns the routes of the memories."""
    from neural_trader_tools.memory.recording import namespace_of

    own = namespace_of(services.caller)

    def owners() -> list[str]:
        with services.store.read() as connection:
            enrolled = list_enrolments(connection, issuer=services.issuer)
        agents = {each.name for each in enrolled if each.kind == "agent"}
        people = {f"person:{each.name}" for each in enrolled if each.kind == "person"}
        return [own, *sorted((agents | people) - {own})]

    async def found(request: Request) -> Response:
        query = read_query(request, _Search)
        owner, as_of = query.agent or own, query.as_of and parse_time(query.as_of)
        symbols = (query.symbol,) if query.symbol else ()
        memory = services.memory
        hits: Sequence[Remembered]
        if query.text is not None:
            hits = await memory.search(
                query.text, agent=owner, k=LISTED_MAX, kind=query.kind, symbols=symbols, as_of=as_of or None
            )
        else:
            every = await memory.newest(agent=owner, as_of=as_of or None)
            hits = [
                each
                for each in every
                if (query.kind is None or each.kind == query.kind)
                and (not symbols or query.symbol in each.symbols)
            ][:LISTED_MAX]
        return answer(
            {
                "agent": owner,
                "agents": await anyio.to_thread.run_sync(owners),
                "kinds": get_args(Kind),
                "limit": LISTED_MAX,
                "hits": [_told(each) for each in hits],
            }
        )

    async def one(request: Request) -> Response:
        from neural_trader_tools.memory.orders import entries_of_order

        query, memory_id = read_query(request, _Whose), request.path_params["memory_id"]
        owner, memory = query.agent or own, services.memory
        revisions = await memory.revisions(memory_id, agent=owner)
        causes, outcomes = list["Remembered"](), list["Remembered"]()
        if revisions[-1].state == "live":
            seqs = await entries_of_order(services.store, revisions[-1].provenance.about_seq)
            causes = await memory.causes(memory_id, agent=owner)
            outcomes = await memory.outcomes(memory_id, agent=owner, seqs=seqs)
        return answer(
            {
                "agent": owner,
                "revisions": [_told(each) for each in revisions[::-1]],
                "causes": [_told(each) for each in causes],
                "outcomes": [_told(each) for each in outcomes],
            }
        )

    return [
        Route("/memory", found, methods=["GET"]),
        Route("/memory/{memory_id}", one, methods=["GET"]),
    ]


def _told(memory: "Remembered") -> dict[str, Any]:
    """Returns a memory as a row, with what its score is made of where it was searched for."""
    from neural_trader_memory.hits import Hit
    from neural_trader_tools.memory.files import row_of

    row = row_of(memory)
    if isinstance(memory, Hit):
        row["score"] = memory.score
        row["parts"] = [
            {"name": each.name, "value": each.value, "weight": each.weight} for each in memory.parts
        ]
    return row
