"""`neural-trader orders report|export`: a day's statement, and the desk's orders as tables."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import anyio.to_thread
import typer

from neural_trader_server.cli.terminal import Json, emit, out, show_table, with_desk

if TYPE_CHECKING:
    from neural_trader_server.app import Services

Account = Annotated[str, typer.Option(help="Account name.")]
Method = Annotated[str, typer.Option("--lots", help="How sales choose lots: fifo or average.")]


def report(
    day: Annotated[
        str | None,
        typer.Option(help="Date in New York; by default the one on the desk's clock.", metavar="DATE"),
    ] = None,
    account: Account = "paper",
    lots: Method = "fifo",
    json_output: Json = False,
) -> None:
    """Show an account's day: trades, dividends, profit by strategy, what settles when, and the checks.

    The statement is folded from fills and payments, then compared with the ledger's balances and with the
    signed log. Exit code 1 where they disagree. Example: neural-trader orders report --day 2012-05-15
    """
    from neural_trader_tools.orders.statement import Statement, day_statement

    method, date = lot_method(lots), _date(day)

    async def run(services: "Services") -> Statement:
        def read() -> Statement:
            with services.store.read() as connection:
                return day_statement(
                    connection, account, services.archive, services.replay, day=date, lots=method
                )

        await services.desk.reconcile(services.person)
        return await anyio.to_thread.run_sync(read)

    statement = with_desk(run)
    facts = statement.model_dump(mode="json")
    if json_output:
        emit(facts)
    else:
        _show(facts)
    if not statement.reconciled:
        raise typer.Exit(1)


def export(
    folder: Annotated[Path, typer.Argument(help="Where orders, fills and payments go, a file each.")],
    form: Annotated[str, typer.Option("--format", help="csv or parquet.")] = "csv",
    account: Annotated[str | None, typer.Option(help="Only this account.")] = None,
    json_output: Json = False,
) -> None:
    """Write orders, fills and payments as CSV or Parquet, and check that they add up to the ledger.

    Decimals stay decimals in both. Exit code 1 where the cash of the exported rows is not the ledger's.
    Example: neural-trader orders export books-2012 --format parquet
    """
    from neural_trader_governance.errors import InputError
    from neural_trader_governance.terms.money import format_decimal
    from neural_trader_tools.orders.export import check_cash, read_tables, write_tables

    if form not in {"csv", "parquet"}:
        raise InputError("unknown_format", f"{form!r:.20} is no format", "use csv or parquet")
    chosen = "csv" if form == "csv" else "parquet"

    async def run(services: "Services") -> dict[str, Any]:
        def write() -> dict[str, Any]:
            with services.store.read() as connection:
                tables = read_tables(connection, account)
                checks = check_cash(connection, tables, account)
            paths = write_tables(folder, tables, chosen)
            return {
                "files": [
                    {"file": str(path), "rows": len(table.rows)}
                    for path, table in zip(paths, tables, strict=True)
                ],
                "cash": [
                    {
                        "account": check.account,
                        "currency": check.currency,
                        "exported": format_decimal(check.exported),
                        "ledger": format_decimal(check.ledger),
                        "ok": check.ok,
                    }
                    for check in checks
                ],
                "reconciled": all(check.ok for check in checks),
            }

        await services.desk.reconcile(services.person)
        return await anyio.to_thread.run_sync(write)

    result = with_desk(run)
    if json_output:
        emit(result)
    else:
        show_table("Written", ("file", "rows"), (tuple(row.values()) for row in result["files"]))
        show_table(
            "Opening cash and every exported movement, beside the ledger",
            ("account", "currency", "exported", "ledger", "agree"),
            (tuple(row.values()) for row in result["cash"]),
        )
    if not result["reconciled"]:
        raise typer.Exit(1)


def costs(
    client_order_id: Annotated[
        str | None, typer.Argument(help="Only this order, as `orders list` shows it.", metavar="[ID]")
    ] = None,
    day: Annotated[
        str | None, typer.Option(help="Only orders that were sent on this date in New York.", metavar="DATE")
    ] = None,
    account: Annotated[str | None, typer.Option(help="Only this account.")] = None,
    by: Annotated[str, typer.Option(help="Add up by strategy, symbol, side, type or all.")] = "strategy",
    json_output: Json = False,
) -> None:
    """Show what orders cost: implementation shortfall (Perold 1988), slippage to arrival and to VWAP.

    Shortfall = delay (decision to arrival) + trading (arrival to fills) + opportunity (what was not filled,
    at the last price) + fees; positive is a cost. Example: neural-trader orders costs --by symbol
    """
    from neural_trader_governance.errors import InputError
    from neural_trader_tools.orders.costs import summarise
    from neural_trader_tools.orders.measuring import Measured, measure_orders

    if by not in {"strategy", "symbol", "side", "type", "all"}:
        raise InputError(
            "unknown_group", f"{by!r:.20} is no group", "use strategy, symbol, side, type or all"
        )
    date = _date(day)

    async def run(services: "Services") -> Measured:
        def read() -> Measured:
            with services.store.read() as connection:
                return measure_orders(
                    connection,
                    services.archive,
                    services.replay,
                    client_order_id=client_order_id,
                    account=account,
                    day=date,
                )

        await services.desk.reconcile(services.person)
        return await anyio.to_thread.run_sync(read)

    measured = with_desk(run)
    orders = [each.model_dump(mode="json") for each in measured.costs]
    groups = [each.model_dump(mode="json") for each in summarise(measured.costs, by)]
    unmeasured = [{"client_order_id": order, "why": why} for order, why in measured.unmeasured]
    if json_output:
        emit({"orders": orders, "by": by, "groups": groups, "unmeasured": unmeasured})
        return
    shown = ("delay", "trading", "opportunity", "fees", "shortfall", "shortfall_bps")
    against = ("arrival_slippage_bps", "vwap_slippage_bps")
    show_table(
        "What orders cost (positive: a cost)",
        ("order", "symbol", "side", *shown[:5], "bp", "to arrival bp", "to vwap bp"),
        (
            (
                row["client_order_id"],
                row["symbol"],
                row["side"],
                *(row["cost"][n] for n in (*shown, *against)),
            )
            for row in orders
        ),
    )
    show_table(
        f"By {by}",
        (by, "orders", "value", *shown[:5], "bp"),
        ((row["group"], row["orders"], row["value"], *(row[name] for name in shown)) for row in groups),
    )
    if unmeasured:
        show_table("Not measured", ("order", "why"), (tuple(row.values()) for row in unmeasured))


def _show(facts: dict[str, Any]) -> None:
    title = f"{facts['account']} on {facts['day']}, {facts['currency']} (to {facts['until']})"
    show_table(
        title,
        ("", "cash", "settled cash", "equity"),
        ((name, *facts[name].values()) for name in ("opening", "closing")),
    )
    earned = ("day_pnl", "realized", "dividends", "fees", "paid_in")
    show_table("The day", earned, (tuple(facts[name] for name in earned),))
    show_table(
        "Positions",
        ("symbol", "quantity", "average cost", "price", "value", "unrealized"),
        (tuple(row.values()) for row in facts["positions"]),
    )
    show_table(
        "Trades",
        ("time", "order", "symbol", "quantity", "cash", "fee", "settles", "strategy"),
        (tuple(value for name, value in row.items() if name != "execution_id") for row in facts["trades"]),
    )
    if facts["payments"]:
        columns = ("time", "kind", "symbol", "amount")
        show_table("Payments", columns, (tuple(row.values()) for row in facts["payments"]))
    if facts["settles"]:
        show_table("Settles later", ("date", "proceeds"), facts["settles"].items())
    show_table(
        "By strategy",
        ("strategy", "day", "realized", "unrealized", "dividends", "fees"),
        (tuple(row.values()) for row in facts["strategies"]),
    )
    if facts["margin"] is not None:
        show_table("Margin", tuple(facts["margin"]), (tuple(facts["margin"].values()),))
    wrong = [row for row in facts["checks"] if not row["ok"]]
    if wrong:
        show_table(
            "The books and the ledger disagree",
            ("what", "books", "ledger"),
            ((row["what"], row["books"], row["ledger"]) for row in wrong),
        )
        out().print("Find out why before anybody trades: neural-trader audit verify", style="bold red")
    else:
        out().print(f"The books agree with the ledger and the log: {len(facts['checks'])} checks.")


def lot_method(text: str) -> Any:
    """Returns the method (typed Any: its package is imported lazily)."""
    from neural_trader_governance.errors import InputError

    if text not in {"fifo", "average"}:
        raise InputError("unknown_method", f"{text!r:.20} is no method of lots", "use fifo or average")
    return text


def _date(text: str | None) -> Any:
    """Returns the date that is meant, or None."""
    from datetime import date

    from neural_trader_governance.errors import InputError

    try:
        return None if text is None else date.fromisoformat(text)
    except ValueError:
        raise InputError("invalid_date", f"{text!r:.40} is no date", "write it like 2012-05-15") from None
