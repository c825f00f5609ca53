"""`neural-trader data`: fill the archive, look at it, and move the replay clock."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import anyio.from_thread
import anyio.to_thread
import typer

from neural_trader_server.cli.terminal import Json, emit, group, out, progress_bar, show_table, with_desk

if TYPE_CHECKING:
    from neural_trader_server.app import Services
    from neural_trader_tools.market.manifest import Part

app = group("data", "The market archive: prices with the times at which they could be known.")
replay = group("replay", "The market's time on the paper desk: it stands until you move it, never backwards.")
app.add_typer(replay)
tier = group("tier", "Hot and cold: parts of past years on this disk, or in a store.")
app.add_typer(tier)
actions = group("actions", "Splits, dividends and symbol changes, each with the time at which it was known.")
app.add_typer(actions)


COMPACTED = ("files_before", "files_after", "bytes_before", "bytes_after", "rows")


class AssetClass(StrEnum):
    """The words of `terms.instruments.AssetClass`, which `--help` shows without importing them."""

    EQUITY = "equity"
    ETF = "etf"
    INDEX = "index"
    CRYPTO = "crypto"
    FX = "fx"
    FUTURE = "future"
    RATE = "rate"
    OTHER = "other"


@app.command()
def fetch(
    provider: Annotated[
        str,
        typer.Argument(
            help="sample: real daily prices that ship inside packages; a service: alpaca, massive;"
            " or an extra: ccxt (crypto exchanges), yfinance."
        ),
    ],
    symbol: Annotated[
        list[str] | None,
        typer.Option(help="A US stock or ETF, such as AAPL (ccxt: a pair, BTC/USD); again for each symbol."),
    ] = None,
    interval: Annotated[str, typer.Option(help="Bar length.")] = "1d",
    start: Annotated[str, typer.Option(help="First bar's open: an ISO date or RFC 3339.")] = "",
    end: Annotated[str, typer.Option(help="Exclusive; now where it is left out.")] = "",
    exchange: Annotated[
        str, typer.Option(help="ccxt: which exchange, such as kraken; the setting ccxt_exchange otherwise.")
    ] = "",
    restart: Annotated[
        bool, typer.Option("--restart", help="Forget where an interrupted fetch of the same words stood.")
    ] = False,
    json_output: Json = False,
) -> None:
    """Read prices from a provider into the archive. A second time adds nothing.

    Example: neural-trader data fetch alpaca --symbol AAPL --interval 1d --start 2020-01-01
    """
    from neural_trader_server.market_services import PACKAGES, SERVICES

    if provider == "sample":
        _fetch_sample(json_output)
    elif provider not in (*SERVICES, *PACKAGES):
        known = ", ".join(("sample", *SERVICES, *PACKAGES))
        raise typer.BadParameter(f"{provider!r} is no provider; they are: {known}")
    elif not symbol or not start:
        raise typer.BadParameter(f"{provider} needs at least one --symbol and a --start, such as 2020-01-01")
    else:
        _fetch_history(provider, exchange, symbol, interval, start, end, restart, json_output)


def _fetch_sample(json_output: bool) -> None:
    from neural_trader_tools.market.providers.sample import fetch_sample

    async def run(services: "Services") -> list[dict[str, Any]]:
        def work() -> list[dict[str, Any]]:
            rows = [
                {"symbol": one.symbol, "rows_new": one.rows_new, "rows_revised": one.rows_revised}
                for one in fetch_sample(services.archive, services.clock)
            ]
            _on_record(services, {"provider": "sample", "written": rows}, None)
            return rows

        return await anyio.to_thread.run_sync(work)

    rows = with_desk(run)
    if json_output:
        emit({"written": rows})
    else:
        show_table("Written", ("symbol", "new rows", "revised rows"), (tuple(row.values()) for row in rows))


def _fetch_history(
    name: str,
    exchange: str,
    symbols: list[str],
    interval: str,
    start: str,
    end: str,
    restart: bool,
    json_output: bool,
) -> None:
    from neural_trader_server.market_services import open_provider
    from neural_trader_tools.market.providers.fetch import fetch_history
    from neural_trader_tools.telling import tell

    async def run(services: "Services") -> dict[str, Any]:
        from neural_trader_governance.terms.clocks import parse_time

        provider, standing = open_provider(
            name, services.settings, services.home.config, services.archive.root, exchange=exchange
        )
        try:
            report = await fetch_history(
                services.archive,
                provider,
                tuple(symbols),
                interval,
                parse_time(start),
                parse_time(end) if end else None,
                clock=services.clock,
                tell=tell,
                restart=restart,
            )
        finally:
            await provider.aclose()
            await standing.close()
        document = report.model_dump(mode="json")
        kept = ("provider", "dataset_id", "interval", "start", "end", "symbols", "pages")
        await anyio.to_thread.run_sync(_on_record, services, {each: document[each] for each in kept}, None)
        return document

    with progress_bar(f"{name}: {', '.join(symbols[:5])} {interval}", quiet=json_output):
        report = with_desk(run)
    if json_output:
        emit(report)
        return
    show_table(
        f"{report['dataset_id']} {interval}, {report['start']} to {report['end']}",
        ("symbol", "read", "new", "revised", "unchanged", "refused", "actions"),
        (
            (
                symbol or "(none)",
                one["rows_read"],
                one["rows_new"],
                one["rows_revised"],
                one["rows_unchanged"],
                one["rows_quarantined"],
                one["actions_read"],
            )
            for symbol, one in report["symbols"].items()
        ),
    )
    if report["resumed"]:
        out().print("It went on from an interrupted fetch; the figures are of both.")
    for note in report["notes"]:
        out().print(note, soft_wrap=True, markup=False)
    if report["reasons"]:
        files = ", ".join(report["quarantine_files"])
        show_table(
            f"Refused rows, kept in the archive's {files}", ("reason", "rows"), report["reasons"].items()
        )


@app.command("import")
def import_prices(
    file: Annotated[
        Path, typer.Argument(help="CSV, Parquet or Arrow: time, open, high, low, close, volume.")
    ],
    symbol: Annotated[str, typer.Option(help="Ticker, such as AAPL.")],
    interval: Annotated[str, typer.Option(help="Bar length.")] = "1d",
    name: Annotated[str, typer.Option(help="The instrument's name, if it is new.")] = "",
    asset_class: Annotated[
        AssetClass, typer.Option(help="What kind of instrument it is, if it is new.")
    ] = AssetClass.EQUITY,
    calendar: Annotated[
        str, typer.Option(help="MIC whose sessions date daily bars, 24/7, or auto.")
    ] = "auto",
    time_zone: Annotated[str, typer.Option(help="Zone of times without an offset.")] = "UTC",
    source: Annotated[str, typer.Option(help="Where the file came from.")] = "",
    licence: Annotated[str, typer.Option(help="Its terms.")] = "unknown: the importer's own file",
    json_output: Json = False,
) -> None:
    """Import a file of bars; refused rows are kept aside with their reasons, nothing is dropped silently.

    Example: neural-trader data import prices.csv --symbol AAPL --interval 1d
    """
    from neural_trader_tools.market.ingest import import_file

    async def run(services: "Services") -> dict[str, Any]:
        def work() -> dict[str, Any]:
            report = import_file(
                services.archive,
                file,
                symbol,
                interval,
                name=name,
                asset_class=asset_class.value,
                calendar=calendar,
                time_zone=time_zone,
                source=source,
                licence=licence,
                clock=services.clock,
            )
            document = report.model_dump(mode="json")
            kept = ("symbol", "interval", "file_name", "rows_new", "rows_revised", "rows_quarantined")
            _on_record(services, {name: document[name] for name in kept}, symbol)
            return document

        return await anyio.to_thread.run_sync(work)

    report = with_desk(run)
    if json_output:
        emit(report)
        return
    show_table(
        f"{report['file_name']} as {symbol} {interval}",
        ("read", "new", "revised", "unchanged", "refused", "duplicates", "first", "last"),
        [
            (
                report["rows_read"],
                report["rows_new"],
                report["rows_revised"],
                report["rows_unchanged"],
                report["rows_quarantined"],
                report["duplicates"],
                report["first"],
                report["last"],
            )
        ],
    )
    for line in (*report["warnings"], *report["notes"]):
        out().print(line, soft_wrap=True, markup=False)
    if report["quarantined"]:
        show_table(
            f"Refused rows, all of them in the archive's {report['quarantine_file']}",
            ("line", "reason"),
            ((row["line"], row["reason"]) for row in report["quarantined"]),
        )


@app.command("list")
def list_data(json_output: Json = False) -> None:
    """Show every instrument, and where its prices come from under which licence."""

    async def run(services: "Services") -> dict[str, Any]:
        def read() -> dict[str, Any]:
            return {
                "instruments": [row.model_dump(mode="json") for row in services.archive.instruments()],
                "datasets": [row.model_dump(mode="json") for row in services.archive.datasets()],
            }

        return await anyio.to_thread.run_sync(read)

    result = with_desk(run)
    if json_output:
        emit(result)
        return
    show_table(
        "Instruments",
        ("symbol", "name", "venue", "first", "last", "intervals", "made of them"),
        (
            (
                row["symbol"],
                row["name"],
                row["venue"],
                (row["first"] or "")[:10],
                (row["last"] or "")[:10],
                ", ".join(row["intervals"]),
                ", ".join(row["derived"]),
            )
            for row in result["instruments"]
        ),
    )
    show_table(
        "Data sets",
        ("id", "source", "licence"),
        ((row["dataset_id"], row["source"], row["licence"]) for row in result["datasets"]),
    )


@actions.command("import")
def import_corporate_actions(
    file: Annotated[
        Path, typer.Argument(help="CSV, Parquet or Arrow: symbol, date, kind, value and perhaps known_time.")
    ],
    time_zone: Annotated[str, typer.Option(help="Zone in which a date starts.")] = "America/New_York",
    source: Annotated[str, typer.Option(help="Where the file came from.")] = "",
    licence: Annotated[str, typer.Option(help="Its terms.")] = "unknown: the importer's own file",
    json_output: Json = False,
) -> None:
    """Import corporate actions: split (2 for 2:1), dividend (cash per share), rename (value: the new symbol).

    Example line: FB,2022-06-09,rename,META
    """
    from neural_trader_tools.market.actions import import_actions

    async def run(services: "Services") -> dict[str, Any]:
        def work() -> dict[str, Any]:
            report = import_actions(
                services.archive,
                file,
                time_zone=time_zone,
                source=source,
                licence=licence,
                clock=services.clock,
            )
            document = report.model_dump(mode="json")
            kept = ("symbols", "file_name", "rows_new", "rows_revised", "rows_quarantined")
            _on_record(services, {name: document[name] for name in kept}, None)
            return document

        return await anyio.to_thread.run_sync(work)

    report = with_desk(run)
    if json_output:
        emit(report)
        return
    names = ("rows_read", "rows_new", "rows_revised", "rows_unchanged", "rows_quarantined", "duplicates")
    show_table(
        f"{report['file_name']}: {', '.join(report['symbols'])}",
        ("read", "new", "revised", "unchanged", "refused", "duplicates"),
        [tuple(report[name] for name in names)],
    )
    if report["quarantined"]:
        show_table(
            f"Refused rows, all of them in the archive's {report['quarantine_file']}",
            ("line", "reason"),
            ((row["line"], row["reason"]) for row in report["quarantined"]),
        )


@actions.command("list")
def list_actions(
    symbol: Annotated[str, typer.Argument(help="Ticker, old or new.")],
    as_of: Annotated[str, typer.Option(help="What was known then; everything where it is left out.")] = "",
    json_output: Json = False,
) -> None:
    """Show the splits, dividends and symbol changes of one symbol, upcoming ones too."""

    async def run(services: "Services") -> dict[str, Any]:
        def read() -> dict[str, Any]:
            from neural_trader_tools.market.get_calendar import corporate_actions

            found = corporate_actions(services.archive, symbol, parse_time(as_of) if as_of else None)
            return {"symbol": symbol, "actions": [one.model_dump(mode="json") for one in found]}

        from neural_trader_governance.terms.clocks import parse_time

        return await anyio.to_thread.run_sync(read)

    result = with_desk(run)
    if json_output:
        emit(result)
        return
    show_table(
        symbol,
        ("date from", "kind", "value", "known"),
        ((row["event_time"], row["kind"], row["value"], row["known_time"]) for row in result["actions"]),
    )


@app.command()
def compact(json_output: Json = False) -> None:
    """Rewrite many series' files as one part a year: half the space, and scans of all symbols in a second.

    Reads and imports go on meanwhile; killed at any instant it leaves the archive as it was.
    """
    from neural_trader_tools.telling import tell

    async def run(services: "Services") -> dict[str, Any]:
        def told(fraction: float) -> None:
            anyio.from_thread.run(tell, fraction)

        result = await anyio.to_thread.run_sync(services.archive.compact, told)
        return {name: getattr(result, name) for name in COMPACTED}

    with progress_bar("compacting", quiet=json_output):
        result = with_desk(run)
    if json_output:
        emit(result)
        return
    show_table("Compacted", tuple(name.replace("_", " ") for name in COMPACTED), [tuple(result.values())])


@tier.command()
def move(
    older_than: Annotated[str, typer.Option(help="Parts whose newest bar is older: a date or RFC 3339.")],
    to: Annotated[
        str,
        typer.Option(
            help="s3://BUCKET/PATH, gs://BUCKET/PATH, az://CONTAINER@ACCOUNT.dfs.core.windows.net/PATH, file:///PATH"
        ),
    ],
    json_output: Json = False,
) -> None:
    """Move compacted parts to a store: uploaded, compared, deleted here. First: `data compact`.

    Keys come from the environment (AWS_ACCESS_KEY_ID …), never from the address. Interrupted: run it again.
    """
    from neural_trader_tools.telling import tell

    async def run(services: "Services") -> dict[str, Any]:
        from neural_trader_governance.terms.clocks import parse_time

        def told(fraction: float) -> None:
            anyio.from_thread.run(tell, fraction)

        moved = await anyio.to_thread.run_sync(services.archive.move_cold, to, parse_time(older_than), told)
        return {"moved": [_part(one) for one in moved]}

    with progress_bar(f"moving to {to.split('?')[0]}", quiet=json_output):
        result = with_desk(run)
    _show_parts("Moved", result["moved"], {"moved": result["moved"]} if json_output else None)


@tier.command("list")
def list_parts(json_output: Json = False) -> None:
    """Show the parts that many symbols share, and where each lies."""

    async def run(services: "Services") -> list[dict[str, Any]]:
        return [_part(one) for one in await anyio.to_thread.run_sync(services.archive.parts)]

    rows = with_desk(run)
    _show_parts("Parts", rows, {"parts": rows} if json_output else None)


def _part(one: "Part") -> dict[str, Any]:
    named = {"interval", "period", "rows", "size", "file", "location"}
    return one.model_dump(mode="json", include=named)


def _show_parts(title: str, rows: list[dict[str, Any]], document: dict[str, Any] | None) -> None:
    if document is not None:
        emit(document)
        return
    show_table(
        title,
        ("interval", "period", "rows", "bytes", "where"),
        (
            (
                row["interval"],
                row["period"] or "import",
                row["rows"],
                row["size"],
                row["location"] or row["file"],
            )
            for row in rows
        ),
    )


@replay.command()
def status(json_output: Json = False) -> None:
    """Show where the replay clock stands."""

    async def run(services: "Services") -> dict[str, Any]:
        from neural_trader_governance.terms.clocks import format_time

        now, horizon = services.replay.now(), services.replay.horizon()
        return {"now": format_time(now), "set": horizon is not None}

    _show_clock(with_desk(run), json_output)


@replay.command("set")
def set_clock(
    moment: Annotated[str, typer.Argument(help="RFC 3339 time or date, such as 2012-12-31.")],
    json_output: Json = False,
) -> None:
    """Set the replay clock; from then on agents see nothing later."""

    async def run(services: "Services") -> dict[str, Any]:
        from neural_trader_governance.terms.clocks import format_time, parse_time

        return {"now": format_time(await services.desk.set_clock(parse_time(moment))), "set": True}

    _show_clock(with_desk(run), json_output)


@replay.command()
def step(
    sessions: Annotated[int, typer.Argument(help="How many sessions.", min=1)] = 1, json_output: Json = False
) -> None:
    """Move the replay clock to the end of the next session; working orders meet the new prices."""

    async def run(services: "Services") -> dict[str, Any]:
        from neural_trader_governance.terms.clocks import format_time

        fresh = await anyio.to_thread.run_sync(services.replay.step, sessions)
        settled = await services.desk.reconcile(services.person)
        return {
            "now": format_time(services.replay.now()),
            "set": True,
            "bars": {symbol: rows.height for symbol, rows in fresh},
            "settled": [found.client_order_id for found in settled],
        }

    _show_clock(with_desk(run), json_output)


def _on_record(services: "Services", payload: dict[str, Any], symbol: str | None) -> None:
    from neural_trader_governance.audit.entries import EntryType

    services.record(services.person, EntryType.DATA_IMPORT, symbol=symbol, payload=payload)


def _show_clock(result: dict[str, Any], json_output: bool) -> None:
    if json_output:
        emit(result)
        return
    how = "set" if result["set"] else "auto: the newest price of a tradable instrument"
    out().print(f"The replay clock stands at {result['now']} ({how}).")
    if result.get("settled"):
        out().print(f"Orders that changed: {', '.join(result['settled'])}")
