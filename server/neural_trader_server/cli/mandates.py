"""`neural-trader mandates`: what agents may spend, signed by the issuer."""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import anyio.to_thread
import typer

from neural_trader_server.cli.terminal import Json, emit, group, note_stranger, out, show_table, with_desk

if TYPE_CHECKING:
    import sqlite3

    from neural_trader_governance.mandate_register import Mandate, Registered
    from neural_trader_server.app import Services

app = group(
    "mandates",
    "What agents may spend: signed by this desk's issuer key, enforced as each order is written. An agent"
    " that ever had a mandate needs one for every order, until `mandates release` sets it free.",
)

MandateId = Annotated[str, typer.Argument(help="As `mandates list` shows it, such as mn_3f9a2c11d0e4.")]


@app.command()
def issue(
    agent: Annotated[str, typer.Option(help="Whom it binds and permits, such as agent-1.")],
    symbol: Annotated[
        list[str], typer.Option(help="What it may trade, in capitals; repeat it, or * for everything.")
    ],
    per_order: Annotated[str, typer.Option(help="Most that one order may be worth, in USD.")],
    cap: Annotated[str, typer.Option(help="Most that all orders of a period may be worth, in USD.")],
    period: Annotated[
        str, typer.Option(help="day, week (from Monday), month, all in UTC; or total: from first to last.")
    ] = "day",
    days: Annotated[int, typer.Option(help="How long it lasts from now.", min=1, max=3660)] = 30,
    side: Annotated[
        list[str] | None, typer.Option(help="buy or sell; repeat it. Without: both; sells count, too.")
    ] = None,
    account: Annotated[str, typer.Option(help="The account it is for.")] = "paper",
    json_output: Json = False,
) -> None:
    """Sign a mandate with the issuer's key and put it in force.

    Example: neural-trader mandates issue --agent agent-1 --symbol AAPL --symbol MSFT --per-order 2000
    --cap 10000 --period week --days 30

    From then on the agent trades only what a mandate covers. Policy, approvals and halts go on to hold. An
    order counts with its worst-case value when it is submitted and with its actual value when it fills.
    """
    import secrets

    from neural_trader_governance import mandate_register
    from neural_trader_server.founding import issuer_key

    per_order_cents, cap_cents = _cents("per-order", per_order), _cents("cap", cap)

    async def run(services: "Services") -> dict[str, Any]:
        def commit() -> dict[str, Any]:
            now = services.clock.now().replace(microsecond=0)
            mandate = _mandate(
                mandate_id=f"mn_{secrets.token_hex(6)}",
                agent=agent,
                account=account,
                symbols="*" if "*" in symbol else sorted(set(symbol)),
                sides=sorted(set(side or ("buy", "sell"))),
                per_order_cap_cents=per_order_cents,
                cumulative_cap_cents=cap_cents,
                period=period,
                not_before=now,
                expires=now + timedelta(days=days),
            ).signed_by(issuer_key(services.home))
            with services.store.unit() as unit:
                mandate_register.issue(
                    unit, mandate, issuer=services.issuer, caller=services.person, now=services.clock.now()
                )
            note_stranger(services, agent)
            return _read(services, mandate.agent, mandate.mandate_id)[0]

        return await anyio.to_thread.run_sync(commit)

    row = with_desk(run)
    if json_output:
        emit(row)
        return
    out().print(
        f"{row['mandate_id']} lets {row['agent']} {' and '.join(row['sides'])} {_symbols(row)} on"
        f" {row['account']}: up to {row['per_order_cap_usd']} USD an order and {row['cumulative_cap_usd']}"
        f" USD {_PER[row['period']]}, until {row['expires']}. End it with: neural-trader mandates revoke"
        f" {row['mandate_id']} --reason …",
        soft_wrap=True,
    )


@app.command("list")
def list_mandates(
    agent: Annotated[str | None, typer.Option(help="Only of this agent.")] = None, json_output: Json = False
) -> None:
    """Show every mandate, its state, and what is left of it in this period."""

    async def run(services: "Services") -> list[dict[str, Any]]:
        return await anyio.to_thread.run_sync(_read, services, agent)

    rows = with_desk(run)
    if json_output:
        emit({"mandates": rows})
        return
    show_table(
        "Mandates",
        (
            "id",
            "agent",
            "account",
            "symbols",
            "sides",
            "an order",
            "cap",
            "period",
            "spent",
            "expires",
            "state",
        ),
        (
            (
                row["mandate_id"],
                row["agent"],
                row["account"],
                _symbols(row),
                "/".join(row["sides"]),
                row["per_order_cap_usd"],
                row["cumulative_cap_usd"],
                row["period"],
                row["spent_usd"],
                row["expires"],
                row["state"],
            )
            for row in rows
        ),
    )


@app.command()
def show(mandate_id: MandateId, json_output: Json = False) -> None:
    """Show one mandate as it verifies now, with the orders that were charged to it."""

    async def run(services: "Services") -> dict[str, Any]:
        def look() -> dict[str, Any]:
            rows = _read(services, None, mandate_id)
            with services.store.read() as connection:
                charged = connection.execute(
                    "SELECT client_order_id, period, reserved_cents, filled_micros FROM mandate_spend"
                    " WHERE mandate_id = ? ORDER BY rowid DESC LIMIT 200",
                    (mandate_id,),
                ).fetchall()
            return {**rows[0], "orders": [_charge(row) for row in charged]}

        return await anyio.to_thread.run_sync(look)

    found = with_desk(run)
    if json_output:
        emit(found)
        return
    orders = found.pop("orders")
    show_table(mandate_id, ("field", "value"), ((name, _plain(value)) for name, value in found.items()))
    if orders:
        show_table(
            "Charged",
            ("order", "period", "reserved USD", "filled USD"),
            (tuple(order.values()) for order in orders),
        )


@app.command()
def revoke(
    mandate_id: MandateId,
    reason: Annotated[str, typer.Option(help="Why; it goes into the audit log.")],
    json_output: Json = False,
) -> None:
    """End a mandate for good, at once, also for orders that were previewed before.

    Example: neural-trader mandates revoke mn_3f9a2c11d0e4 --reason "the strategy is retired"

    The agent stays bound: without another mandate it trades nothing. Working orders stay; cancel them with
    `orders cancel`, or with `halt`. This needs no key.
    """
    from neural_trader_governance import mandate_register

    async def run(services: "Services") -> int:
        def commit() -> int:
            with services.store.unit() as unit:
                return mandate_register.revoke(unit, mandate_id, caller=services.person, reason=reason)

        return await anyio.to_thread.run_sync(commit)

    seq = with_desk(run)
    if json_output:
        emit({"mandate_id": mandate_id, "state": "revoked", "seq": seq})
    else:
        out().print(f"{mandate_id} is revoked (audit entry {seq}).")


@app.command()
def release(
    agent: Annotated[str, typer.Argument(help="Whose mandates shall bind it no more.")],
    json_output: Json = False,
) -> None:
    """Sign that an agent needs no mandate any more; its mandates end, permissions and policy go on to hold.

    A later mandate binds it again.
    """
    from neural_trader_governance import mandate_register
    from neural_trader_governance.errors import InputError
    from neural_trader_server.founding import issuer_key

    async def run(services: "Services") -> dict[str, Any]:
        def commit() -> dict[str, Any]:
            with services.store.unit() as unit:
                register = mandate_register.read_register(
                    unit.connection, issuer=services.issuer, agent=agent
                )
                ids = tuple(row.mandate_id for row in register)
                if not ids:
                    raise InputError(
                        "unknown_agent", f"{agent!r:.40} never had a mandate", "see mandates list"
                    )
                document = mandate_register.MandateRelease(agent=agent, mandate_ids=ids)
                mandate_register.release_agent(
                    unit,
                    document.signed_by(issuer_key(services.home)),
                    issuer=services.issuer,
                    caller=services.person,
                )
            return {"agent": agent, "released": list(ids)}

        return await anyio.to_thread.run_sync(commit)

    done = with_desk(run)
    if json_output:
        emit(done)
    else:
        out().print(f"{agent} is free of {', '.join(done['released'])}.")


_FIELDS = (
    "mandate_id", "agent", "account", "symbols", "sides", "per_order_cap_usd", "cumulative_cap_usd", "period",
    "not_before", "expires", "spent_usd", "left_usd", "state", "seq",
)  # fmt: skip
_PER = {"day": "a day", "week": "a week", "month": "a month", "total": "in total"}


def _cents(name: str, text: str) -> int:
    from neural_trader_governance.errors import InputError
    from neural_trader_governance.terms.money import parse_decimal

    try:
        cents = parse_decimal(text) * 100
    except ValueError as error:
        raise InputError(
            "invalid_amount", f"--{name} {error}", "give an amount of USD such as 2500"
        ) from None
    if cents != cents.to_integral_value() or cents <= 0:
        raise InputError(
            "invalid_amount", f"--{name} {text} is no positive amount of cents", "give an amount such as 2500"
        )
    return int(cents)


def _mandate(**fields: object) -> "Mandate":
    from pydantic import ValidationError

    from neural_trader_governance.errors import InputError
    from neural_trader_governance.mandate_register import Mandate

    try:
        return Mandate.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = str(first["loc"][0]) if first["loc"] else "the mandate"
        raise InputError(
            "invalid_mandate",
            f"{where}: {first['msg'].removeprefix('Value error, ')}",
            "see `neural-trader mandates issue --help`",
        ) from None


def _read(services: "Services", agent: str | None, mandate_id: str | None = None) -> list[dict[str, Any]]:
    from neural_trader_governance.errors import InputError
    from neural_trader_governance.mandate_register import mandated_agents, read_register, released_ids

    now, issuer = services.clock.now(), services.issuer
    rows: list[dict[str, Any]] = []
    with services.store.read() as connection:
        for name in mandated_agents(connection) if agent is None else [agent]:
            released = released_ids(connection, issuer=issuer, agent=name)
            rows += [
                _row(connection, item, name, item.mandate_id in released, now)
                for item in read_register(connection, issuer=issuer, agent=name)
                if mandate_id in {None, item.mandate_id}
            ]
    if mandate_id is not None and not rows:
        raise InputError(
            "unknown_mandate", f"there is no mandate {mandate_id!r:.40}", "run `neural-trader mandates list`"
        )
    return rows


def _row(
    connection: "sqlite3.Connection", item: "Registered", agent: str, released: bool, now: datetime
) -> dict[str, Any]:
    from neural_trader_governance.mandates import spent_cents

    row: dict[str, Any] = dict.fromkeys(_FIELDS)
    row |= {"mandate_id": item.mandate_id, "agent": agent, "symbols": [], "sides": [], "state": "invalid"}
    mandate = item.mandate
    if mandate is None:  # the row does not verify: nothing that it says is repeated here
        return row | {"seq": item.seq}
    spent = spent_cents(connection, mandate, now)
    state = "in_force"
    if item.revoked or released:
        state = "revoked" if item.revoked else "released"
    elif not mandate.not_before <= now < mandate.expires:
        state = "not_yet" if now < mandate.not_before else "expired"
    plain = {name: value for name, value in mandate.model_dump(mode="json").items() if name in _FIELDS}
    return {
        **row,
        **plain,
        "per_order_cap_usd": _usd(mandate.per_order_cap_cents),
        "cumulative_cap_usd": _usd(mandate.cumulative_cap_cents),
        "spent_usd": _usd(spent),
        "left_usd": _usd(max(0, mandate.cumulative_cap_cents - spent)),
        "state": state,
        "seq": item.seq,
    }


def _charge(row: tuple[Any, ...]) -> dict[str, Any]:
    from neural_trader_governance.usage import usd_text

    return {
        "client_order_id": row[0],
        "period": row[1],
        "reserved_usd": _usd(row[2]),
        "filled_usd": usd_text(row[3]),
    }


def _usd(cents: int) -> str:
    from neural_trader_governance.terms.money import CENT, format_decimal

    return format_decimal(cents * CENT)


def _symbols(row: dict[str, Any]) -> str:
    symbols = row["symbols"]
    return "everything" if symbols == "*" else ", ".join(symbols)


def _plain(value: object) -> object:
    return ", ".join(map(str, value)) if isinstance(value, list) else value  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]  # a JSON list of words
