"""What `backtest run` and `backtest sweep` both offer: prices of a file, costs and rules of the market."""

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neural_trader_server.cli.terminal import err

if TYPE_CHECKING:
    from neural_trader_server.app import Services
    from neural_trader_tools.market.ingest import ImportReport


class Fill(StrEnum):
    """When a decision of bar i is filled."""

    NEXT_OPEN = "next_open"
    CLOSE = "close"


class Lots(StrEnum):
    """Which quantities can be traded."""

    FRACTIONAL = "fractional"
    WHOLE = "whole"


class Dividends(StrEnum):
    """What happens to dividends."""

    IGNORED = "ignored"
    PAID = "paid"


class SameBar(StrEnum):
    """How a bracket fares in the bar of its entry."""

    PESSIMISTIC = "pessimistic"
    NEXT_BAR = "next_bar"


Symbols = Annotated[
    list[str] | None, typer.Option("--symbol", help="Ticker in the archive; may be repeated.")
]
Data = Annotated[
    Path | None,
    typer.Option(help="Prices of one instrument (CSV or Parquet) instead.", exists=True, dir_okay=False),
]
Start = Annotated[str | None, typer.Option(help="First bar, inclusive.")]
End = Annotated[str | None, typer.Option(help="End, exclusive.")]
Interval = Annotated[str, typer.Option(help="Bar length.")]
Params = Annotated[
    list[str] | None, typer.Option("--param", help="Strategy parameter, NAME=VALUE; may be repeated.")
]
Cash = Annotated[str, typer.Option(help="Starting cash, USD.")]
CommissionBps = Annotated[float, typer.Option(help="Commission in basis points of the notional.")]
SlippageBps = Annotated[float, typer.Option(help="Slippage in basis points.")]
FillRule = Annotated[Fill, typer.Option(help="When decisions are filled.")]
LotsRule = Annotated[Lots, typer.Option(help="Quantities.")]
CommissionPerUnit = Annotated[str, typer.Option(help="Commission for each unit, USD.")]
CommissionMin = Annotated[str, typer.Option(help="Least commission of a fill, USD.")]
SpreadBps = Annotated[float, typer.Option(help="Half of it worsens market and stop fills.")]
BorrowBps = Annotated[float, typer.Option(help="What a short costs a year.")]
Margin = Annotated[float, typer.Option(help="Part of a position that equity covers.")]
VolumeCap = Annotated[float | None, typer.Option(help="Part of a bar's volume to trade.")]
SettlementDays = Annotated[int, typer.Option(help="Sessions until proceeds settle: 0, 1, 2.")]
DividendsRule = Annotated[Dividends, typer.Option(help="Whether they are paid.")]
SameBarRule = Annotated[SameBar, typer.Option(help="Brackets in their entry's bar.")]
Convention = Annotated[str, typer.Option(help="Whose definitions of metrics.")]


def parameter(text: str) -> tuple[str, Any]:
    """Reads NAME=VALUE; a value that is JSON is taken as such, any other as text."""
    name, is_given, value = text.partition("=")
    if not is_given or not name.strip():
        raise typer.BadParameter(f"{text!r:.60} is not NAME=VALUE", param_hint="--param")
    try:
        return name.strip(), json.loads(value)
    except ValueError:
        return name.strip(), value


def require_prices(symbols: list[str] | None, data: Path | None) -> None:
    """Refuses a command that names no prices, or both kinds of them."""
    if bool(symbols) == (data is not None):
        raise typer.BadParameter("give either --symbol (once or more) or --data FILE")


async def import_prices(services: "Services", file: Path, interval: str) -> str:
    """Reads the file into the archive of this run alone and returns its symbol."""
    import anyio.to_thread

    plain = "".join(letter for letter in file.stem.upper() if letter.isascii() and letter.isalnum())
    symbol = plain[:16] or "DATA"

    def read() -> "ImportReport":
        from neural_trader_tools.market.ingest import import_file  # here: it holds up nothing else

        return import_file(services.archive, file, symbol, interval)

    written = await anyio.to_thread.run_sync(read)
    if written.rows_quarantined:
        err().print(f"{written.rows_quarantined} rows of {file.name} were refused: {written.reasons}")
    return symbol
