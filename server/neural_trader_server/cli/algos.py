"""`neural-trader algos`: parents (TWAP, VWAP, POV, baskets) whose children pass policy one by one."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import anyio.to_thread
import typer

from neural_trader_server.cli.terminal import Json, emit, group, out, show_table, with_desk

if TYPE_CHECKING:
    from neural_trader_server.app import Services

app = group("algos", "Orders executed over time, and baskets; servers advance them every two seconds.")

Reason = Annotated[str, typer.Option(help="Why; it goes into every child's audit entry.")]
Account = Annotated[str, typer.Option(help="Account name.")]
Strategy = Annotated[str, typer.Option(help="Whom the fills are attributed to.")]
ParentId = Annotated[str, typer.Argument(help="As `algos list` shows it.", metavar="PARENT_ID")]


@app.command()
def start(
    algorithm: Annotated[str, typer.Argument(help="twap, vwap or pov.", metavar="twap|vwap|pov")],
    symbol: Annotated[str, typer.Argument(help="Ticker, such as AAPL.")],
    side: Annotated[str, typer.Argument(help="buy or sell.", metavar="buy|sell")],
    quantity: Annotated[str, typer.Argument(help="Units, as a decimal.")],
    reason: Reason,
    end: Annotated[str, typer.Option(help="RFC 3339 time or date by the desk's clock.", metavar="TIME")],
    begin: Annotated[
        str | None, typer.Option("--start", help="The same; by default now.", metavar="TIME")
    ] = None,
    slices: Annotated[int, typer.Option(help="Into how many parts (twap, vwap).", min=1, max=500)] = 10,
    participation_bps: Annotated[
        int, typer.Option(help="Share of the market's volume, 1 to 5000 (pov).", min=0, max=5000)
    ] = 0,
    limit: Annotated[str | None, typer.Option(help="Children are limit orders at this price.")] = None,
    lot: Annotated[str, typer.Option(help="Children are whole multiples of it.")] = "1",
    jitter: Annotated[str, typer.Option(help="Part of a slice, 0 to 0.9, by which it may be late.")] = "0",
    seed: Annotated[int, typer.Option(help="Of the jitter: the same seed, the same times.")] = 0,
    account: Account = "paper",
    strategy: Strategy = "",
    json_output: Json = False,
) -> None:
    """Start a parent; its children are market (or limit) orders that each pass policy and its approvals.

    Example: neural-trader algos start twap MSFT buy 400 --end 2012-06-08 --slices 4 --reason "build slowly"
    """
    from neural_trader_tools.orders.algos.plan import Leg, Plan
    from neural_trader_tools.orders.algos.request import Request

    async def run(services: "Services") -> dict[str, Any]:
        from neural_trader_governance.terms.clocks import parse_time
        from neural_trader_tools.orders.algos.volumes import day_profile

        now = services.replay.now()
        first, last = parse_time(begin) if begin else now, parse_time(end)
        weights: tuple[int, ...] = ()
        if algorithm == "vwap":
            weights = await anyio.to_thread.run_sync(
                lambda: day_profile(services.archive, symbol, start=first, end=last, slices=slices, as_of=now)
            )
        leg = _checked(Leg, {"symbol": symbol, "side": side, "quantity": quantity, "limit_price": limit})
        plan = _checked(
            Plan,
            {
                "algorithm": algorithm,
                "start": first,
                "end": last,
                "slices": 1 if algorithm == "pov" else slices,
                "weights": weights,
                "participation_bps": participation_bps,
                "lot": lot,
                "jitter": jitter,
                "seed": seed,
            },
        )
        return await _start(services, Request(account, (leg,), plan, reason, strategy))

    _tell(with_desk(run), json_output)


@app.command()
def basket(
    file: Annotated[Path, typer.Argument(help="CSV with symbol,side,quantity and perhaps limit_price.")],
    reason: Reason,
    account: Account = "paper",
    strategy: Strategy = "",
    json_output: Json = False,
) -> None:
    """Send several orders as one parent: each leg once, each past policy on its own.

    A leg that policy denies stops the ones after it. Example: neural-trader algos basket rebalance.csv
    --reason "monthly rebalance"
    """
    import csv

    from neural_trader_governance.errors import InputError
    from neural_trader_tools.orders.algos.plan import Leg, Plan
    from neural_trader_tools.orders.algos.request import Request

    try:
        with file.open(newline="", encoding="utf-8-sig") as opened:
            rows = list(csv.DictReader(opened))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError("invalid_basket", f"{file} cannot be read ({error})", "give a CSV file") from None
    known = {"symbol", "side", "quantity", "limit_price"}
    for row in rows:
        if not known - {"limit_price"} <= set(row) <= known:
            raise InputError(
                "invalid_basket",
                f"{file} has the columns {', '.join(map(str, row))}",
                "use symbol,side,quantity and, if you like, limit_price",
            )
    legs = tuple(_checked(Leg, {name: value or None for name, value in row.items()}) for row in rows)

    async def run(services: "Services") -> dict[str, Any]:
        now = services.replay.now()
        plan = _checked(Plan, {"algorithm": "now", "start": now, "end": now})
        return await _start(services, Request(account, legs, plan, reason, strategy))

    _tell(with_desk(run), json_output)


@app.command("list")
def list_all(
    everything: Annotated[bool, typer.Option("--all", help="Also those that are over.")] = False,
    json_output: Json = False,
) -> None:
    """Show the parents that are being executed."""
    from neural_trader_tools.orders.algos.parents import list_parents

    async def run(services: "Services") -> list[dict[str, Any]]:
        def read() -> list[dict[str, Any]]:
            with services.store.read() as connection:
                return [_row(each, connection) for each in list_parents(connection, open_only=not everything)]

        return await anyio.to_thread.run_sync(read)

    rows = with_desk(run)
    if json_output:
        emit({"parents": rows})
        return
    show_table(
        "Parents",
        ("parent", "plan", "wants", "filled", "children", "state", "detail"),
        (
            (
                row["parent_id"],
                row["plan"]["algorithm"],
                "; ".join(f"{leg['side']} {leg['quantity']} {leg['symbol']}" for leg in row["legs"]),
                ", ".join(row["filled"]),
                len(row["children"]),
                row["state"],
                row["detail"],
            )
            for row in rows
        ),
    )


@app.command()
def show(parent_id: ParentId, json_output: Json = False) -> None:
    """Show one parent with its children, and what it cost against the price at its start."""

    async def run(services: "Services") -> dict[str, Any]:
        from neural_trader_tools.orders.algos.parents import find_parent
        from neural_trader_tools.orders.algos.shortfall import measure_parent

        def measure() -> list[dict[str, Any]]:
            with services.store.read() as connection:
                parent = find_parent(connection, parent_id)
                costs = measure_parent(connection, services.archive, services.replay, parent)
                return [each.model_dump(mode="json") for each in costs]

        await services.desk.reconcile(services.person)
        costs = await anyio.to_thread.run_sync(measure)
        return await _look(services, parent_id) | {"costs": costs}

    row = with_desk(run)
    _tell(row, json_output)
    if not json_output:
        names = ("average_price", "decision_price", "vwap", "delay", "trading", "opportunity", "fees")
        bps = ("shortfall", "shortfall_bps", "vwap_slippage_bps")
        show_table(
            "What it cost (positive: a cost)",
            ("symbol", "average", "decision", *names[2:], "shortfall", "bp", "to vwap bp"),
            ((leg["symbol"], *(leg["cost"][name] for name in (*names, *bps))) for leg in row["costs"]),
        )


@app.command()
def cancel(parent_id: ParentId, json_output: Json = False) -> None:
    """Send nothing more of a parent, and cancel what of it works."""

    async def run(services: "Services") -> dict[str, Any]:
        await services.execution.cancel(parent_id, services.person)
        return await _look(services, parent_id)

    _tell(with_desk(run), json_output)


@app.command()
def step(json_output: Json = False) -> None:
    """Advance every parent once, as a server does by itself: for replays without one."""

    async def run(services: "Services") -> int:
        await services.start()
        await services.cosigner.confirm()
        await services.desk.reconcile(services.person)
        return await services.execution.step()

    sent = with_desk(run)
    if json_output:
        emit({"children": sent})
    else:
        out().print(f"{sent} {'child' if sent == 1 else 'children'} went out.")


async def _start(services: "Services", request: Any) -> dict[str, Any]:
    """Starts a parent as this home's agent and takes its first step (typed Any: imported lazily)."""
    await services.start()
    await services.cosigner.confirm()
    parent = await services.execution.start(request, services.caller)
    await services.execution.step()
    return await _look(services, parent.parent_id)


async def _look(services: "Services", parent_id: str) -> dict[str, Any]:
    from neural_trader_tools.orders.algos.parents import find_parent

    def read() -> dict[str, Any]:
        with services.store.read() as connection:
            return _row(find_parent(connection, parent_id), connection)

    return await anyio.to_thread.run_sync(read)


def _row(parent: Any, connection: Any) -> dict[str, Any]:
    from decimal import Decimal

    from neural_trader_governance.terms.money import format_decimal
    from neural_trader_tools.orders.algos.parents import children_of

    children = children_of(connection, parent.parent_id)
    filled = [
        sum((child.filled for child in children if child.leg == index), Decimal(0))
        for index in range(len(parent.legs))
    ]
    return {
        "parent_id": parent.parent_id,
        "account": parent.account,
        "agent": parent.caller.agent,
        "state": parent.state.value,
        "detail": parent.detail,
        "reason": parent.reason,
        "strategy": parent.strategy,
        "plan": parent.plan.model_dump(mode="json"),
        "legs": [leg.model_dump(mode="json") for leg in parent.legs],
        "filled": [format_decimal(each) for each in filled],
        "children": [
            {
                "number": child.number,
                "symbol": parent.legs[child.leg].symbol,
                "quantity": format_decimal(child.quantity),
                "filled": format_decimal(child.filled),
                "client_order_id": child.client_order_id,
                "preview_id": child.preview_id,
                "state": child.state.value if child.state else "void" if child.void else "pending",
                "why": child.void,
            }
            for child in children
        ],
    }


def _tell(row: dict[str, Any], json_output: bool) -> None:
    if json_output:
        emit(row)
        return
    wants = "; ".join(f"{leg['side']} {leg['quantity']} {leg['symbol']}" for leg in row["legs"])
    detail = f": {row['detail']}" if row["detail"] else ""
    out().print(
        f"{row['parent_id']} ({row['plan']['algorithm']}, {wants}) is {row['state']}{detail}",
        soft_wrap=True,
        markup=False,
    )
    show_table(
        "Children",
        ("number", "symbol", "quantity", "filled", "order", "preview", "state", "why"),
        (tuple(child.values()) for child in row["children"]),
    )


def _checked(kind: Any, values: dict[str, Any]) -> Any:
    """Returns the model, or says which field of it is wrong (typed Any: imported lazily)."""
    from pydantic import ValidationError

    from neural_trader_governance.errors import InputError

    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise InputError(
            "invalid_order",
            f"{place + ': ' if place else ''}{first['msg'].removeprefix('Value error, ')}",
            "see `neural-trader algos start --help`",
        ) from None
