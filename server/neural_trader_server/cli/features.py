"""`neural-trader features`: what can be computed from bars, and computing it."""

from typing import Annotated

import typer

from neural_trader_server.cli.terminal import Json, call_tool, emit, group, out, show_table

app = group("features", "Indicators over bars, computed without look-ahead.")


@app.command("list")
def list_features(
    query: Annotated[str | None, typer.Argument(help="Only features that match this.")] = None,
    json_output: Json = False,
) -> None:
    """Show the features that can be computed, with their parameters and sources."""
    result = call_tool("features_search", query=query, limit=200)
    if json_output:
        emit(result)
        return
    show_table(
        "Features",
        ("example", "title", "outputs", "lookback bars", "source"),
        (
            (row["example"], row["title"], ", ".join(row["outputs"]), row["lookback_bars"], row["source"])
            for row in result["features"]
        ),
    )


@app.command()
def compute(
    symbol: Annotated[str, typer.Argument(help="Ticker, such as AAPL.")],
    names: Annotated[list[str], typer.Argument(help="Features, such as 'rsi(14)' 'sma(20)'.")],
    interval: Annotated[str, typer.Option(help="Bar length.")] = "1d",
    start: Annotated[str | None, typer.Option(help="First bar, inclusive.")] = None,
    end: Annotated[str | None, typer.Option(help="End, exclusive.")] = None,
    as_of: Annotated[str | None, typer.Option(help="Only what was known at this time.")] = None,
    json_output: Json = False,
) -> None:
    """Compute features of a symbol. Example: neural-trader features compute AAPL 'rsi(14)' 'sma(20)'."""
    result = call_tool(
        "features_compute",
        symbol=symbol,
        features=names,
        interval=interval,
        start=start,
        end=end,
        as_of=as_of,
    )
    if json_output:
        emit(result)
        return
    show_table(f"{symbol} {interval}", ("feature", "latest"), result["latest"].items())
    out().print(f"{result['row_count']} rows behind {result['handle']}")
