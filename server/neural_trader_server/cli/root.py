"""The root of the command line: every group and command, and how a failure ends the process."""

import atexit
import gc
import sys
from importlib.metadata import version
from typing import Annotated

import typer

from neural_trader_governance.errors import NeuralTraderError
from neural_trader_server.cli import (
    alerts,
    algos,
    audit,
    backtest,
    bus,
    console,
    data,
    demo,
    doctor,
    exchange,
    features,
    feed,
    halt,
    identity,
    install,
    keys,
    live,
    mandates,
    memory,
    news,
    orders,
    policy,
    portfolio,
    sandbox,
    serve,
    setup,
    similar,
    taint,
    usage,
    witness,
)
from neural_trader_server.cli.terminal import emit, fail

app = typer.Typer(
    name="neural-trader",
    help="The trading desk that an AI agent can be trusted with: data, features, backtests, memory and"
    " governed, audited orders, served over MCP. Begin with `neural-trader demo`.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    epilog="Home: NEURAL_TRADER_HOME, else the platform's data folder. Settings: NEURAL_TRADER_* or"
    " config.toml in the home. Exit codes: 0 done, 1 failed or refused, 2 usage, 3 this host lacks what it"
    " needs.",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(version("neural-trader"))
        raise typer.Exit


@app.callback()
def _root(  # pyright: ignore[reportUnusedFunction]  # registered by the decorator
    _: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None: ...


app.command()(demo.demo)
app.command()(setup.setup)
app.command()(setup.init)
app.command()(serve.serve)
app.command()(console.console)
app.command()(install.install)
app.command()(doctor.doctor)
data.app.command()(similar.similar)
app.add_typer(data.app)
app.add_typer(feed.app)
app.add_typer(news.app)
app.add_typer(bus.app)
app.add_typer(exchange.app)
app.add_typer(features.app)
app.add_typer(backtest.app)
app.add_typer(sandbox.app)
app.add_typer(orders.app)
app.add_typer(portfolio.app)
app.add_typer(algos.app)
app.add_typer(live.app)
app.command()(halt.halt)
app.command()(halt.resume)
app.add_typer(identity.app)
app.add_typer(policy.app)
app.add_typer(audit.app)
app.add_typer(mandates.app)
app.add_typer(usage.app)
app.add_typer(memory.app)
app.add_typer(taint.app)
app.add_typer(alerts.app)
app.add_typer(witness.app)
app.add_typer(keys.app)


def main() -> None:
    """Runs the command line; failures of our tree end in one line on stderr and their exit code."""
    # Imports make a hundred thousand objects that all stay. To look through them over and over while they are
    # made, and once more when the process ends, is a third of a short command's time.
    gc.set_threshold(50_000, 20, 20)
    atexit.register(gc.freeze)
    try:
        app()
    except SystemExit as ended:
        _report_usage(ended)
        raise
    except NeuralTraderError as error:
        sys.exit(fail(error))
    except BaseExceptionGroup as errors:  # a task group wraps even a single failure
        ours, others = errors.split(NeuralTraderError)
        if ours is None or others is not None:
            raise
        sys.exit(fail(_first(ours)))


def _report_usage(ended: SystemExit) -> None:
    """Gives a wrong use its JSON document too: who asked for one parses stdout whatever happens."""
    message = getattr(ended.__context__, "format_message", None)  # of what typer has printed on stderr
    if "--json" in sys.argv and message is not None:
        facts = {"code": "usage", "what": str(message()), "next_step": "see the command's --help"}
        emit({"ok": False, "error": facts})


def _first(errors: BaseExceptionGroup[NeuralTraderError]) -> NeuralTraderError:
    inner = errors.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner
