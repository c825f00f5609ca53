"""`neural-trader bus`: listen to what happens on this desk, as it happens or from a sequence on."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from neural_trader_server.cli.terminal import Json, emit, err, group, out, run_async, show_table

if TYPE_CHECKING:
    from neural_trader_tools.bus.port import Bus, Delivery

app = group("bus", "The event bus: market, signal, order, audit and backtest events, replayable by sequence.")

_Answer = TypeVar("_Answer")
PENDING_MAX = 10_000


@app.command()
def tail(
    subject: Annotated[
        str,
        typer.Argument(
            help="Such as 'order.>', 'market.bar.AAPL.1m', audit.entry; * is a word, > the rest, '>' all."
        ),
    ],
    from_seq: Annotated[
        int | None,
        typer.Option(
            "--from-seq", help="Begin with this stored event (1 is the oldest), not with new ones.", min=0
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", "-n", help="End after so many.", min=1)] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print a JSON document a line.")] = False,
) -> None:
    """Show events until Ctrl-C. It holds nobody up: where this terminal is too slow, the oldest are left out.

    Examples: neural-trader bus tail 'order.>'; neural-trader bus tail audit.entry --from-seq 1 --json
    """
    from neural_trader_tools.bus.subjects import FAMILIES

    families = FAMILIES if subject == ">" else ()
    if families and from_seq is not None:
        raise typer.BadParameter(f"each family has its own sequence: name one, such as '{FAMILIES[0]}.>'")

    async def run(bus: "Bus") -> None:
        import anyio

        shown = 0
        async with anyio.create_task_group() as tasks:

            async def follow(subject_filter: str) -> None:
                nonlocal shown
                start = "new" if from_seq is None else from_seq
                async with await bus.subscribe(
                    subject_filter, start=start, policy="drop_oldest", pending_max=PENDING_MAX
                ) as subscription:
                    async for delivery in subscription:
                        _show(delivery, json_output)
                        shown += 1
                        if shown == limit:
                            break
                    report = subscription.report()
                if report.missed or report.dropped:
                    err().print(f"{report.missed} are no longer kept, {report.dropped} were left out")
                tasks.cancel_scope.cancel()

            for each in [f"{family}.>" for family in families] or [subject]:
                tasks.start_soon(follow, each)

    _with_bus(run)


@app.command()
def status(json_output: Json = False) -> None:
    """Show which bus this home has, and what it keeps for replay."""

    async def run(bus: "Bus") -> list[dict[str, Any]]:
        from neural_trader_tools.bus.subjects import FAMILIES

        rows: list[dict[str, Any]] = []
        for family in FAMILIES:
            span = await bus.span(family)
            rows.append(
                {"family": family, "first": span.first, "last": span.last, "kept": span.last - span.first + 1}
            )
        return rows

    kind, rows = _with_bus(run)
    if json_output:
        emit({"bus": kind, "families": rows})
        return
    show_table(f"Bus: {kind}", ("family", "first", "last", "kept"), (tuple(row.values()) for row in rows))


def _show(delivery: "Delivery", json_output: bool) -> None:
    import msgspec

    event: dict[str, Any] = msgspec.to_builtins(delivery.event)
    if json_output:
        emit({"subject": delivery.subject, "seq": delivery.seq, "id": delivery.message_id, "event": event})
        return
    words = " ".join(
        f"{name}={value}"
        for name, value in event.items()
        if value not in ("", None, []) and name not in _LONG
    )
    out().print(f"{delivery.seq:>8}  {delivery.subject}  {words}", soft_wrap=True, markup=False)


_LONG = ("kind", "entry", "leaf_hash")


def _with_bus(work: "Callable[[Bus], Awaitable[_Answer]]") -> tuple[str, _Answer]:
    import anyio

    from neural_trader_server.bus_services import open_bus
    from neural_trader_server.home import Home
    from neural_trader_server.logs import configure_logs
    from neural_trader_server.settings import load_settings

    home = Home.locate()
    settings = load_settings(home)
    configure_logs("warning" if settings.log_level == "info" else settings.log_level, settings.log_format)
    home.make()

    async def run() -> _Answer:
        bus = await open_bus(home, settings)
        try:
            return await work(bus)
        finally:
            with anyio.CancelScope(shield=True):
                await bus.aclose()

    return settings.bus, run_async(run)
