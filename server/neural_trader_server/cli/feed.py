"""`neural-trader feed`: live market data, from a service or replayed from a recording."""

import contextlib
import sys
import time
from collections.abc import Callable, Generator
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from neural_trader_server.cli.signals import signals
from neural_trader_server.cli.terminal import Json, emit, err, group, out, show_table, with_desk

if TYPE_CHECKING:
    from neural_trader_server.app import Services
    from neural_trader_tools.market.feed.board import FeedStanding

app = group("feed", "Live market data: recorded, made into bars for the archive, shown as quotes.")
app.command()(signals)


class Source(StrEnum):
    """Where a feed's data come from."""

    ALPACA = "alpaca"
    MASSIVE = "massive"
    REPLAY = "replay"


class Channel(StrEnum):
    """What a service is asked for, per symbol."""

    TRADES = "trades"
    QUOTES = "quotes"
    BARS = "bars"


@app.command()
def run(
    source: Annotated[
        Source, typer.Argument(help="A service (alpaca, massive), or replay: what a feed here recorded.")
    ],
    symbol: Annotated[
        list[str] | None, typer.Option(help="A US stock or ETF, such as AAPL; again for each; '*' is all.")
    ] = None,
    channel: Annotated[
        list[Channel] | None, typer.Option(help="Again for each; all three where it is left out.")
    ] = None,
    make: Annotated[
        list[str] | None, typer.Option(help="Bars to make of trades, such as 5m; again for each.")
    ] = None,
    mute_after_s: Annotated[
        float, typer.Option(help="In session, connect again after such a silence.", min=1)
    ] = 60.0,
    for_s: Annotated[float | None, typer.Option(help="End after so many seconds.", min=0.1)] = None,
    every_s: Annotated[
        float, typer.Option(help="How often to say how it stands where nobody looks.", min=0.1)
    ] = 10.0,
    recording: Annotated[
        str, typer.Option("--from", help="replay: a feed of `feed status`, or the folder of one.")
    ] = "",
    speed: Annotated[float, typer.Option(help="replay: times faster; 0 is without pauses.", min=0)] = 1.0,
    start: Annotated[str, typer.Option(help="replay: first event's time.")] = "",
    end: Annotated[str, typer.Option(help="replay: exclusive.")] = "",
    land: Annotated[bool, typer.Option("--land", help="replay: put its bars into the archive too.")] = False,
    json_output: Annotated[
        bool,
        typer.Option("--json", help="Print how it stands as a JSON document a line, one at the end."),
    ] = False,
) -> None:
    """Run a feed in the foreground until Ctrl-C: what came is on disk then, and the next run goes on.

    It reconnects by itself and backfills minute bars that it missed. Meanwhile market_get_quotes answers from
    it, and market_get_bars has its bars some seconds after they are over.

    Examples: neural-trader feed run alpaca --symbol AAPL --symbol MSFT;
    neural-trader feed run replay --speed 10
    """
    from neural_trader_server.feeding import feed_live, feed_replay

    if source is not Source.REPLAY and not symbol:
        raise typer.BadParameter(f"{source.value} needs at least one --symbol, such as AAPL, or '*' for all")

    async def work(services: "Services") -> "FeedStanding":
        with _shown(every_s, json_output) as tell:
            if source is Source.REPLAY:
                return await feed_replay(
                    services,
                    recording,
                    symbols=symbol or (),
                    speed=speed,
                    start=start,
                    end=end,
                    make=make or (),
                    lands=land,
                    for_s=for_s,
                    tell=tell,
                )
            return await feed_live(
                services,
                source.value,
                symbol or (),
                channels=[each.value for each in dict.fromkeys(channel or Channel)],
                make=make or (),
                mute_after_s=mute_after_s,
                for_s=for_s,
                tell=tell,
            )

    last = with_desk(work)
    if json_output:
        emit(last.model_dump(mode="json"))
        return
    out().print(
        f"{last.feed} {last.state}: {last.events:,} events received, {last.acknowledged:,} rows on disk,"
        f" {last.bars_landed:,} bars in the archive, {last.gaps} gaps, {last.dropped:,} dropped,"
        f" {last.quarantined:,} quarantined.",
        soft_wrap=True,
    )
    if last.problem:
        out().print(last.problem, soft_wrap=True, markup=False)


@app.command()
def status(json_output: Json = False) -> None:
    """Show the feeds of this home: whether one runs, how it stands, what it left."""

    async def read(services: "Services") -> "list[tuple[FeedStanding, str]]":
        from neural_trader_tools.market.feed.board import feed_standings

        now = services.clock.now()
        return [(one, one.said(now)) for one in feed_standings(services.archive.root)]

    found = with_desk(read)
    if json_output:
        emit({"feeds": [{**one.model_dump(mode="json"), "said": said} for one, said in found]})
        return
    show_table("Feeds", ("feed", "how it stands"), ((one.feed, said) for one, said in found))
    if not found:
        out().print("Start one: neural-trader feed run alpaca --symbol AAPL")


@contextlib.contextmanager
def _shown(every_s: float, as_json: bool) -> "Generator[Callable[[FeedStanding], object]]":
    """Yields what shows how a feed stands: a line that changes where a person looks, else line after line."""
    if not as_json and sys.stderr.isatty():
        from rich.live import Live
        from rich.text import Text

        with Live(Text("connecting"), console=err(), refresh_per_second=4, transient=True) as line:
            yield lambda standing: line.update(Text(_line(standing)))
        return
    due_s = time.monotonic() + every_s

    def say(standing: "FeedStanding") -> None:
        nonlocal due_s
        if time.monotonic() < due_s:
            return
        due_s = time.monotonic() + every_s
        if as_json:
            emit(standing.model_dump(mode="json"))
        else:
            err().print(_line(standing), soft_wrap=True, markup=False)

    yield say


def _line(standing: "FeedStanding") -> str:
    return f"{standing.feed}: {standing.said(standing.written_time)}"
