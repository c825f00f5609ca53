"""Overview: what each account holds and is worth now, and how it came to it."""

from typing import TYPE_CHECKING, Annotated, Any

import anyio.to_thread
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from neural_trader_governance.terms.clocks import format_time, to_epoch_us
from neural_trader_governance.terms.money import format_decimal
from neural_trader_governance.terms.term import Term
from neural_trader_server.console.guard import answer, read_query
from neural_trader_server.console.series import series_of

if TYPE_CHECKING:
    from neural_trader_server.app import Services


class _Which(Term):
    account: Annotated[str, Field(min_length=1, max_length=80)] | None = None


def routes(services: "Services") -> list[Route]:
    """Returns the routes of the accounts."""

    def accounts() -> list[dict[str, Any]]:
        from neural_trader_tools.orders.accounts import kind_of

        with services.store.read() as connection:
            rows = connection.execute("SELECT account, currency FROM accounts ORDER BY account").fetchall()
            return [
                {"account": account, "currency": currency, "kind": kind_of(connection, account)}
                for account, currency in rows
            ]

    async def shown(request: Request) -> Response:
        from neural_trader_tools.portfolio.get import describe

        listed = await anyio.to_thread.run_sync(accounts)
        wanted = read_query(request, _Which).account or _first(listed)
        portfolio = await describe(services.desk, wanted)
        return answer({"accounts": listed, "portfolio": portfolio.model_dump(mode="json")})

    def history(account: str) -> dict[str, Any]:
        import numpy as np

        from neural_trader_tools.orders.equity import equity_history

        now = services.replay.now()
        with services.store.read() as connection:
            points, unpriced = equity_history(connection, account, services.archive, now)
        times = np.array([to_epoch_us(each.time) for each in points], dtype=np.int64)
        equity = np.array([float(each.equity) for each in points])
        earned = [each.equity - points[0].equity - (each.paid_in - points[0].paid_in) for each in points]
        return {
            "account": account,
            "equity": series_of(times, equity),  # a picture: nothing is settled by these floats
            "unpriced": unpriced,
            "earned": format_decimal(earned[-1]) if earned else None,
            "since": format_time(points[0].time) if points else None,
        }

    async def equity(request: Request) -> Response:
        listed = await anyio.to_thread.run_sync(accounts)
        wanted = read_query(request, _Which).account or _first(listed)
        return answer(await anyio.to_thread.run_sync(history, wanted))

    return [
        Route("/overview", shown, methods=["GET"]),
        Route("/overview/equity", equity, methods=["GET"]),
    ]


def _first(listed: list[dict[str, Any]]) -> str:
    """Returns the account to show where none is asked for: `paper` where there is one, as the tools do."""
    names = [str(each["account"]) for each in listed]
    return "paper" if "paper" in names or not names else names[0]
