"""`neural-trader serve`: the MCP server, over stdio or streamable HTTP."""

import functools
import gc
from enum import StrEnum
from typing import Annotated

import typer


class Transport(StrEnum):
    """How messages travel."""

    STDIO = "stdio"
    HTTP = "http"


def serve(
    transport: Annotated[
        Transport, typer.Option(help="stdio for a client that starts us, http for one that connects.")
    ] = Transport.STDIO,
    host: Annotated[
        str, typer.Option(help="HTTP: loopback; a public address needs TLS and a door: docs/security.md.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="HTTP: port; 0 takes a free one.", min=0, max=65535)] = 8765,
    toolsets: Annotated[
        str | None,
        typer.Option(
            help="core, market, features, strategy, backtest, memory, portfolio, trading, audit, ui, with"
            " commas between, or all. Default: all but trading. trading_halt is always served."
        ),
    ] = None,
    workers: Annotated[
        int,
        typer.Option(help="HTTP: processes that share the port; more calls at once.", min=1, max=64),
    ] = 1,
    read_only: Annotated[
        bool,
        typer.Option("--read-only", help="Serve no tool that writes, whatever the toolsets; only the halt."),
    ] = False,
) -> None:
    """Serve the desk's tools to agents over MCP.

    stdout carries the protocol, stderr the logs. A new home is initialised first.
    Examples: neural-trader serve --toolsets all; neural-trader serve --transport http --port 8765
    """
    import anyio

    gc.disable()  # until we serve: what is imported stays; to look for its garbage is a tenth of a start
    from neural_trader_server.home import Home
    from neural_trader_server.listening import serve_stdio
    from neural_trader_server.logs import configure_logs
    from neural_trader_server.settings import load_settings

    home = Home.locate()
    settings = load_settings(home)
    configure_logs(settings.log_level, settings.log_format)
    if transport is Transport.STDIO:
        anyio.run(serve_stdio, home, settings, toolsets, read_only)
    else:
        from neural_trader_server.hosting import run, serve_http, serve_workers

        if workers == 1:
            run(functools.partial(serve_http, home, settings, toolsets, read_only, host, port))
        else:
            raise typer.Exit(serve_workers(home, settings, toolsets, read_only, host, port, workers))
