"""`neural-trader feed signals`: have a strategy follow a feed and say on the bus what it wants to hold."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neural_trader_governance.errors import ConfigurationError, InputError
from neural_trader_server.cli import backtest_options as options
from neural_trader_server.cli.terminal import emit, err, out, with_desk

if TYPE_CHECKING:
    from neural_trader_server.app import Services
    from neural_trader_tools.backtest.signals import Signals
    from neural_trader_tools.bus.events import SignalEvent

HISTORY_BARS = 1_000


def signals(
    strategy: Annotated[str, typer.Argument(help="A Python file, or the id of a saved strategy.")],
    symbol: Annotated[
        list[str], typer.Option(help="That `feed run` listens to; again for each: one strategy each.")
    ],
    interval: Annotated[
        str, typer.Option(help="Of the bars that decide; a feed has 1m, and what it makes.")
    ] = "1m",
    param: options.Params = None,
    history: Annotated[
        int, typer.Option(help="Bars of the archive that it knows at the start, at most.", min=2)
    ] = HISTORY_BARS,
    name: Annotated[
        str,
        typer.Option(help="In the subject signal.NAME.SYMBOL; the saved id or the file's name otherwise."),
    ] = "",
    seed: Annotated[int, typer.Option(help="Seed of random numbers in the strategy.", min=0)] = 0,
    for_s: Annotated[float | None, typer.Option(help="End after so many seconds.", min=0.1)] = None,
    limit: Annotated[int | None, typer.Option("--limit", "-n", help="End after so many.", min=1)] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print a JSON document a line.")] = False,
) -> None:
    """Follow a feed's bars until Ctrl-C: the strategy runs in the sandbox, its signals go onto the event bus.

    A signal is a wish (a part of equity, -1 … 1): no order comes of it. Run `feed run` beside it; whoever
    listens reads them with `neural-trader bus tail 'signal.>'`. It takes strategies with `signals` or `rule`.

    Examples: neural-trader feed signals trend.py --symbol AAPL --symbol MSFT;
    neural-trader feed signals trend.py --symbol AAPL --interval 5m --param fast=20
    """
    import anyio

    given = dict(options.parameter(text) for text in param or [])
    asked = list(dict.fromkeys(symbol))

    async def work(services: "Services") -> None:
        from neural_trader_server.bus_services import make_bus
        from neural_trader_tools.backtest.settings import BacktestRequest
        from neural_trader_tools.backtest.signals import Signals

        source, called = _source_of(services, strategy)
        bus = make_bus(services.home, services.settings)
        if bus is None:
            raise ConfigurationError(
                "bus_off", "signals go onto the event bus, which is off", 'set bus = "local" in config.toml'
            )
        shown = 0

        async def follow(one: str, scope: anyio.CancelScope) -> None:
            nonlocal shown
            request = BacktestRequest(
                source=source, symbols=(one,), interval=interval, params=given, seed=seed
            )
            async with await Signals.open(
                bus,
                services.sandbox,
                services.archive,
                services.clock,
                request,
                name or called,
                bars=history,
            ) as following:
                if not json_output:
                    err().print(_begun(one, interval, following))
                async for said in following:
                    _show(said, json_output)
                    shown += 1
                    if shown == limit:
                        scope.cancel()

        try:
            with anyio.move_on_after(float("inf") if for_s is None else for_s):
                async with anyio.create_task_group() as tasks:
                    for one in asked:
                        tasks.start_soon(follow, one, tasks.cancel_scope)
        finally:
            with anyio.CancelScope(shield=True):
                await bus.aclose()

    with_desk(work)


def _source_of(services: "Services", strategy: str) -> tuple[str, str]:
    """Returns the source, and what the strategy is called on the bus."""
    file = Path(strategy)
    if file.is_file():
        return file.read_text(encoding="utf-8"), file.stem[:60]
    if strategy.endswith(".py"):
        raise InputError("file_missing", f"there is no file {strategy!r:.100}", "check the path")
    saved = services.registry.get(strategy)
    return saved.source, saved.strategy_id


def _begun(symbol: str, interval: str, following: "Signals") -> str:
    known = f"{following.known:,} bars of history" if following.known else "no history in the archive"
    return f"{symbol} {interval}: {known}; waiting for bars (Ctrl-C ends)"


def _show(said: "SignalEvent", json_output: bool) -> None:
    import msgspec

    event: dict[str, Any] = msgspec.to_builtins(said)
    if json_output:
        emit(event)
        return
    moment = datetime.fromtimestamp(said.ts_event_ns // 1_000_000_000, UTC)
    out().print(f"{moment:%Y-%m-%d %H:%M:%S}Z  {said.symbol:<8} {said.exposure:+.2f}", markup=False)
