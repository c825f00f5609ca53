"""`neural-trader exchange`: a paper exchange that clients written for Alpaca trade on."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from neural_trader_server.cli.terminal import Json, emit, group, out, with_desk

if TYPE_CHECKING:
    from neural_trader_server.app import Services
    from neural_trader_server.exchanging import ServedAt

app = group(
    "exchange",
    "A paper exchange with Alpaca's trading API, over the prices of the archive.\n\n"
    "neural-trader exchange serve --symbol AAPL --every-s 1; then point a client at its address, with the key"
    " that it prints. See docs/exchange.md.",
)
_PORT = 8931


@app.command()
def serve(
    symbol: Annotated[
        list[str] | None, typer.Option(help="Of the archive; again for each. Default: all that trade.")
    ] = None,
    interval: Annotated[str, typer.Option(help="Of the bars that are the market.")] = "1d",
    start: Annotated[
        str, typer.Option(help="Where the market stands at first; default: the oldest common price.")
    ] = "",
    end: Annotated[str, typer.Option(help="What became known later does not happen.")] = "",
    every_s: Annotated[
        float, typer.Option(help="Seconds from bar to bar; 0 waits for `exchange step`.", min=0)
    ] = 1.0,
    live: Annotated[
        bool,
        typer.Option("--live", help="The market is the running feed's (`feed run`), now."),
    ] = False,
    stale_s: Annotated[
        float, typer.Option(help="Live: a symbol whose newest price is older is halted.", min=0.1, max=86_400)
    ] = 15.0,
    recorded: Annotated[
        str, typer.Option(help="The market is what the feed of this name recorded, tick by tick.")
    ] = "",
    host: Annotated[str, typer.Option(help="A loopback address.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.", min=0, max=65535)] = _PORT,
    cash: Annotated[int, typer.Option(help="Dollars of a new account.", min=1)] = 100_000,
    margin: Annotated[bool, typer.Option("--margin", help="Regulation T margin, and short sales.")] = False,
    fill_at_last: Annotated[
        bool, typer.Option("--fill-at-last", help="Orders meet the last close at once, not the next bar.")
    ] = False,
    participation_bps: Annotated[
        int,
        typer.Option(help="Share of a bar's volume that orders may take; 0 is no bound.", min=0, max=10_000),
    ] = 1_000,
    slippage_bps: Annotated[int, typer.Option(help="Against market and stop orders.", min=0, max=5_000)] = 0,
    impact_bps: Annotated[
        int, typer.Option(help="More, for a whole bar's volume; by its square root.", min=0, max=5_000)
    ] = 0,
    commission_bps: Annotated[float, typer.Option(help="Of each fill's value.", min=0, max=1_000)] = 0.0,
    latency_ms: Annotated[int, typer.Option(help="Of orders, cancels and replacements.", min=0)] = 0,
    jitter_ms: Annotated[int, typer.Option(help="Up to so much more, by the seed.", min=0)] = 0,
    reject_percent: Annotated[
        float, typer.Option(help="Chance that an order is rejected.", min=0, max=100)
    ] = 0.0,
    calendar: Annotated[str, typer.Option(help="Sessions: a MIC such as XNYS, or 24/7.")] = "XNYS",
    seed: Annotated[int, typer.Option(help="Of ids and of all chance.")] = 0,
    per_minute: Annotated[int, typer.Option(help="Requests a minute for a key; 0 is no bound.", min=0)] = 200,
    json_output: Json = False,
) -> None:
    """Serve the exchange until Ctrl-C; it is kept in the home, and the next run goes on.

    Example: neural-trader exchange serve --symbol AAPL --symbol MSFT --start 2012-01-01 --every-s 0

    Live, beside `feed run` (setting bus_market = "all"): neural-trader exchange serve --symbol AAPL --live
    """
    if live and (recorded or start or end):
        raise typer.BadParameter("--live is now: it goes with neither --recorded nor --start nor --end")
    from neural_trader_server.exchanging import ExchangePlan, serve_exchange
    from neural_trader_tools.brokers.exchange.matching import FillRules
    from neural_trader_tools.brokers.exchange.venue import Fees, VenueRules

    venue = VenueRules(
        fills=FillRules(
            participation_bp=participation_bps,
            fills_at_last=fill_at_last,
            slippage_bp=slippage_bps,
            impact_bp=impact_bps,
        ),
        fees=Fees(commission_millionths=round(commission_bps * 100)),
        latency_ns=latency_ms * 1_000_000,
        jitter_ns=jitter_ms * 1_000_000,
        reject_millionths=round(reject_percent * 10_000),
    )
    plan = ExchangePlan(
        symbols=tuple(symbol or ()),
        interval=interval,
        start=_moment(start),
        end=_moment(end),
        every_s=every_s,
        cash=cash,
        margin=margin,
        calendar=calendar,
        seed=seed,
        per_minute=per_minute,
        venue=venue,
        live=live,
        recorded=recorded,
        stale_s=stale_s,
    )

    def tell(served: "ServedAt") -> None:
        if json_output:
            emit(
                {
                    "url": served.url,
                    "stream": f"{served.url.replace('http', 'ws', 1)}/stream",
                    "key_id": served.key_id,
                    "secret_key": served.secret_key,
                    "symbols": list(served.symbols),
                    "time": served.start.isoformat(),
                }
            )
            return
        out().print(
            f"Exchange at {served.url}: {', '.join(served.symbols)} from {served.start:%Y-%m-%d %H:%M} UTC"
        )
        out().print(
            f"  APCA_API_KEY_ID={served.key_id}  APCA_API_SECRET_KEY={served.secret_key}", soft_wrap=True
        )
        out().print(f'  TradingClient(KEY, SECRET, url_override="{served.url}")', soft_wrap=True)
        if live:
            out().print(f"  Live: a symbol trades while its newest price is younger than {stale_s:g} s")
        elif every_s == 0:
            out().print(f"  Its time stands still: neural-trader exchange step --url {served.url}")

    async def work(services: "Services") -> None:
        if not live:
            await serve_exchange(services.home, services.archive, plan, host, port, tell)
            return
        from neural_trader_server.bus_services import open_bus

        bus = await open_bus(services.home, services.settings)
        try:
            await serve_exchange(services.home, services.archive, plan, host, port, tell, bus)
        finally:
            await bus.aclose()

    with_desk(work)


@app.command()
def step(
    count: Annotated[int, typer.Argument(help="How many instants of the market.", min=1)] = 1,
    url: Annotated[str, typer.Option(help="Where the exchange is served.")] = f"http://127.0.0.1:{_PORT}",
    json_output: Json = False,
) -> None:
    """Let the next bars happen, such as five of them: neural-trader exchange step 5."""
    import httpx

    from neural_trader_governance.errors import NetworkError
    from neural_trader_governance.terms.words import visible

    try:
        answer = httpx.post(f"{url}/market/step", params={"count": count}, timeout=60, trust_env=False)
        said = answer.json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise NetworkError(
            "exchange_unreachable",
            f"no exchange answers at {url} ({type(error).__name__})",
            "start one: neural-trader exchange serve --every-s 0; or give its --url",
        ) from error
    if answer.status_code != 200:
        raise NetworkError(
            "exchange_refused", visible(str(said.get("message", said)))[:300], "see exchange step --help"
        )
    if json_output:
        emit(said)
        return
    prices = ", ".join(f"{name} {price:g}" for name, price in said["prices"].items())
    over = " Nothing more happens." if said["is_over"] else ""
    out().print(f"{said['time']}: {said['stepped']} played. {prices}.{over}", soft_wrap=True, markup=False)


def _moment(text: str) -> datetime | None:
    from neural_trader_governance.terms.clocks import parse_time

    return parse_time(text) if text else None
