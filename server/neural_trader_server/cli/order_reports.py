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
