"""Standing: what every page shows above itself: paper or live, halted or not, who waits; and the switch."""

from typing import TYPE_CHECKING, Any

import anyio.to_thread
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from neural_trader_governance.halts import Scope, read_halts
from neural_trader_governance.terms.clocks import format_time
from neural_trader_governance.terms.term import Term
from neural_trader_server.console.guard import answer, read_body, visitor_of

if TYPE_CHECKING:
    from neural_trader_server.app import Services


class _Halt(Term):
    reason: str = Field(min_length=1, max_length=500)
    account: str | None = Field(default=None, max_length=80)
    symbol: str | None = Field(default=None, max_length=80)
    strategy_id: str | None = Field(default=None, max_length=80)
    agent: str | None = Field(default=None, max_length=80)


def routes(services: "Services") -> list[Route]:
    """Returns the routes of the standing and of the halt. Releasing one is left to the command line."""

    def read() -> dict[str, Any]:
        with services.store.read() as connection:
            halts = read_halts(connection)
            size = connection.execute("SELECT COALESCE(MAX(seq) + 1, 0) FROM audit_entries").fetchone()[0]
        return {
            "mode": services.broker.mode,
            "broker": services.broker.name,
            "halts": [
                {
                    "scope": str(each.scope),
                    "reason": each.reason,
                    "by": each.agent or each.principal,
                    "resume": f"neural-trader resume {each.scope.options}".rstrip(),
                }
                for each in halts
            ],
            "waiting": len(services.inbox.pending()),
            "log_size": size,
            "now": format_time(services.clock.now()),
        }

    async def standing(_: Request) -> Response:
        return answer(await anyio.to_thread.run_sync(read))

    async def halt(request: Request) -> Response:
        from neural_trader_tools.trading.halt import trading_halt

        body = await read_body(request, _Halt)
        scope = body.model_dump(exclude={"reason"})
        Scope.choose(**scope)  # says what is wrong with it before anything is written
        halted = await trading_halt(
            services.store, services.desk, visitor_of(request).caller, reason=body.reason, **scope
        )
        return answer(halted)

    return [Route("/standing", standing, methods=["GET"]), Route("/halt", halt, methods=["POST"])]
