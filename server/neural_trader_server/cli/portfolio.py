"""`neural-trader portfolio`: accounts, what they hold, and cash that is paid in or taken out."""

from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import anyio.to_thread
import typer

from neural_trader_server.cli.terminal import Json, emit, group, note_stranger, out, show_table, with_desk

if TYPE_CHECKING:
    from neural_trader_server.app import Services

app = group("portfolio", "Accounts: cash, positions and lots, deposits and withdrawals.")

AccountName = Annotated[str, typer.Argument(help="Account name.", metavar="ACCOUNT")]
Reason = Annotated[str, typer.Option(help="Why; it goes into the audit log.")]
Amount = Annotated[str, typer.Argument(help="Amount in the account's currency, such as 2500.00.")]


@app.command("list")
def list_accounts(json_output: Json = False) -> None:
    """Show every account with its cash and the agents that may trade it."""
    from neural_trader_governance.terms.money import format_decimal, from_micros
    from neural_trader_tools.orders import accounts

    async def run(services: "Services") -> list[dict[str, Any]]:
        def read() -> list[dict[str, Any]]:
            with services.store.read() as connection:
                rows = connection.execute(
                    "SELECT account, currency, accounts.cash, (SELECT group_concat(agent, ', ')"
                    " FROM permissions WHERE permissions.account = accounts.account)"
                    " FROM accounts ORDER BY account"
                ).fetchall()
                return [
                    {
                        "account": account,
                        "kind": accounts.kind_of(connection, account),
                        "currency": currency,
                        "cash": format_decimal(from_micros(cash)),
                        "reserved_cash": format_decimal(accounts.reserved_cash(connection, account)),
                        "agents": (agents or "").split(", ") if agents else [],
                    }
                    for account, currency, cash, agents in rows
                ]

        await services.desk.reconcile(services.person)
        return await anyio.to_thread.run_sync(read)

    rows = with_desk(run)
    if json_output:
        emit({"accounts": rows})
        return
    show_table(
        "Accounts",
        ("account", "kind", "currency", "cash", "reserved", "agents"),
        ((*list(row.values())[:5], ", ".join(row["agents"])) for row in rows),
    )


@app.command()
def show(account: AccountName = "paper", json_output: Json = False) -> None:
    """Show an account as the tool portfolio_get does: cash, settled cash, buying power, positions, profit."""

    async def run(services: "Services") -> dict[str, Any]:
        return await services.call("portfolio_get", account=account)

    facts = with_desk(run)
    if json_output:
        emit(facts)
        return
    names = ("cash", "settled_cash", "reserved_cash", "buying_power", "equity", "exposure", "day_pnl")
    show_table(f"{facts['account']}, {facts['currency']}", names, (tuple(facts[name] for name in names),))
    show_table(
        "Positions",
        ("symbol", "quantity", "average", "price", "value", "unrealized", "realized"),
        (tuple(row.values()) for row in facts["positions"]),
    )


@app.command()
def lots(
    account: AccountName = "paper",
    method: Annotated[str, typer.Option(help="fifo or average.")] = "fifo",
    json_output: Json = False,
) -> None:
    """Show the open lots, oldest first, and what closed ones realised.

    `fifo` sells the oldest shares first; `average` keeps one lot at the mean cost.
    """
    from neural_trader_governance.terms.clocks import format_time
    from neural_trader_governance.terms.money import format_decimal, from_micros, from_nanos
    from neural_trader_server.cli.order_reports import lot_method
    from neural_trader_tools.orders.accounting.books import Books, per_unit
    from neural_trader_tools.orders.journal import read_journal

    chosen = lot_method(method)

    async def run(services: "Services") -> Books:
        def read() -> Books:
            now = services.replay.now()
            with services.store.read() as connection:
                journal = read_journal(connection, account, services.archive, now)
            return Books.replay(journal.events, journal.currency, chosen)

        await services.desk.reconcile(services.person)
        return await anyio.to_thread.run_sync(read)

    books = with_desk(run)
    opened = [
        {
            "symbol": symbol,
            "opened": format_time(lot.opened_time),
            "quantity": format_decimal(from_nanos(lot.quantity)),
            "cost": format_decimal(from_micros(lot.cost)),
            "unit_cost": format_decimal(per_unit(lot.cost, lot.quantity)),
        }
        for symbol, held in sorted(books.positions.items())
        for lot in held.lots
    ]
    closed = [
        {
            "symbol": symbol,
            "opened": format_time(each.opened_time),
            "closed": format_time(each.closed_time),
            "quantity": format_decimal(from_nanos(each.quantity)),
            "cost": format_decimal(from_micros(each.cost)),
            "proceeds": format_decimal(from_micros(each.proceeds)),
            "realized": format_decimal(from_micros(each.profit)),
        }
        for symbol, each in books.closed
    ]
    if json_output:
        emit(
            {
                "account": account,
                "currency": books.currency,
                "method": method,
                "open": opened,
                "closed": closed,
            }
        )
        return
    show_table(
        f"Open lots of {account}, {books.currency}",
        ("symbol", "opened", "quantity", "cost", "unit cost"),
        (tuple(row.values()) for row in opened),
    )
    show_table(
        "Closed",
        ("symbol", "opened", "closed", "quantity", "cost", "proceeds", "realized"),
        (tuple(row.values()) for row in closed),
    )


@app.command("open")
def open_one(
    account: AccountName,
    cash: Annotated[str, typer.Option(help="Opening cash, such as 50000.")] = "0",
    currency: Annotated[str, typer.Option(help="ISO 4217; every amount of the account is in it.")] = "USD",
    kind: Annotated[
        str, typer.Option(help="cash, or margin: buys with Regulation T's buying power.")
    ] = "cash",
    agent: Annotated[list[str] | None, typer.Option(help="Who may trade it; may be repeated.")] = None,
    json_output: Json = False,
) -> None:
    """Open another account at the paper venue.

    Example: neural-trader portfolio open growth --cash 50000 --kind margin --agent agent-1
    """
    from pydantic import BaseModel, ValidationError

    from neural_trader_governance.errors import InputError
    from neural_trader_governance.terms.clocks import format_time
    from neural_trader_governance.terms.money import Currency, DecimalText, format_decimal
    from neural_trader_governance.terms.orders import AccountId, AgentId
    from neural_trader_tools.orders.accounting.margin import AccountKind

    class Wanted(BaseModel):
        account: AccountId
        cash: DecimalText
        currency: Currency
        kind: AccountKind
        agents: list[AgentId]

    try:
        wanted = Wanted.model_validate(
            {"account": account, "cash": cash, "currency": currency, "kind": kind, "agents": agent or []}
        )
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        raise InputError(
            "invalid_account",
            f"{first['loc'][0]}: {first['msg']}",
            "lower-case names, an amount, a code as USD",
        ) from None
    if wanted.cash < 0:
        raise InputError("invalid_account", f"cash: {cash} is less than nothing", "give 0 or more")

    async def run(services: "Services") -> bool:
        from neural_trader_governance.audit.entries import AuditEntry, EntryType
        from neural_trader_tools.orders.accounts import open_account, permit_agent

        def commit() -> bool:
            opened = format_time(services.clock.now())
            with services.store.unit() as unit:
                new = open_account(
                    unit.connection,
                    account=wanted.account,
                    cash=wanted.cash,
                    currency=wanted.currency,
                    opened_time=opened,
                    kind=wanted.kind,
                )
                if new:
                    for name in wanted.agents:
                        permit_agent(unit.connection, account=wanted.account, agent=name)
                    payload = {
                        "cash": format_decimal(wanted.cash),
                        "currency": wanted.currency,
                        "kind": wanted.kind,
                        "agents": wanted.agents,
                    }
                    unit.append(
                        AuditEntry.by(
                            services.person, EntryType.ACCOUNT_OPEN, account=wanted.account, payload=payload
                        )
                    )
            return new

        new = await anyio.to_thread.run_sync(commit)
        for name in wanted.agents:
            note_stranger(services, name)
        return new

    if not with_desk(run):
        raise InputError(
            "account_exists", f"there is an account {account} already", "see `neural-trader portfolio list`"
        )
    if json_output:
        facts = {"cash": format_decimal(wanted.cash), "currency": currency, "kind": kind}
        emit({"account": account, **facts})
    else:
        out().print(f"Opened {account} with {format_decimal(wanted.cash)} {currency}.")


@app.command("import")
def import_lots(
    file: Annotated[Path, typer.Argument(help="CSV or JSON: symbol, quantity, cost or unit_cost, opened.")],
    reason: Reason,
    account: Annotated[str, typer.Option(help="The account that brings them.")] = "paper",
    json_output: Json = False,
) -> None:
    """Take the positions that an account brings with it, lot by lot; no cash moves. All are booked, or none.

    A quantity is on today's share basis, below zero where it is short. A date is its 00:00 UTC.
    Again is refused: what was brought, or ever traded, is not brought twice.

    Example: neural-trader portfolio import lots.csv --reason "moved from another broker"
    """
    from neural_trader_governance.terms.money import format_decimal
    from neural_trader_governance.terms.words import one_line
    from neural_trader_tools.orders.transfers import read_lots, receive

    lots = read_lots(file)

    async def run(services: "Services") -> list[int]:
        def commit() -> list[int]:
            with services.store.unit() as unit:
                return receive(
                    unit,
                    account,
                    lots,
                    services.person,
                    archive=services.archive,
                    now=services.replay.now(),
                    reason=one_line(reason)[:300],
                )

        return await anyio.to_thread.run_sync(commit)

    seqs = with_desk(run)
    held: dict[str, Decimal] = {}
    for lot in lots:
        held[lot.symbol] = held.get(lot.symbol, Decimal(0)) + lot.quantity
    quantities = {symbol: format_decimal(quantity) for symbol, quantity in sorted(held.items())}
    if json_output:
        emit({"account": account, "lots": len(lots), "seqs": seqs, "quantities": quantities})
        return
    words = ", ".join(f"{quantity} {symbol}" for symbol, quantity in quantities.items())
    out().print(f"Booked {len(lots)} lots in {account}, an audit entry each: {words}.", markup=False)


@app.command()
def deposit(account: AccountName, amount: Amount, reason: Reason, json_output: Json = False) -> None:
    """Pay cash into an account; it is no profit.

    Example: neural-trader portfolio deposit paper 2500 --reason "more room"
    """
    _move(account, amount, "deposit", reason, json_output)


@app.command()
def withdraw(account: AccountName, amount: Amount, reason: Reason, json_output: Json = False) -> None:
    """Take cash out of an account, as far as no order holds it back."""
    _move(account, amount, "withdrawal", reason, json_output)


def _move(account: str, amount: str, kind: Any, reason: str, json_output: bool) -> None:
    import secrets

    from neural_trader_governance.errors import InputError
    from neural_trader_governance.terms.money import Money, format_decimal, parse_decimal
    from neural_trader_governance.terms.words import one_line

    try:
        value = parse_decimal(amount)
    except ValueError as error:
        raise InputError("invalid_amount", str(error), "write it like 2500.00") from None

    async def run(services: "Services") -> int | None:
        from neural_trader_tools.orders.postings import Posting, post

        if services.settings.broker != "paper":
            raise InputError(
                "cash_elsewhere",
                f"the cash of {account} is kept by {services.settings.broker}",
                "move it there; a desk that only said so would no longer agree with its broker",
            )

        def commit() -> int | None:
            with services.store.unit() as unit:
                row = unit.connection.execute(
                    "SELECT currency FROM accounts WHERE account = ?", (account,)
                ).fetchone()
                posting = Posting(
                    posting_id=f"{kind}/{account}/{secrets.token_hex(6)}",
                    account=account,
                    symbol=None,
                    kind=kind,
                    event_time=services.replay.now(),
                    amount=Money(
                        amount=value if kind == "deposit" else -value, currency=row[0] if row else "USD"
                    ),
                    detail=one_line(reason)[:300],
                )
                return post(unit, posting, services.person)

        return await anyio.to_thread.run_sync(commit)

    seq = with_desk(run)
    if json_output:
        emit({"account": account, "kind": kind, "amount": format_decimal(value), "seq": seq})
    else:
        out().print(f"Booked a {kind} of {format_decimal(value)} in {account} (entry {seq}).")
