"""`neural-trader halt` and `resume`: the kill switch in a person's hand."""

from typing import Annotated

import anyio.to_thread
import typer

from neural_trader_server.cli.terminal import Json, emit, out, with_desk


def halt(
    reason: Annotated[str, typer.Option(help="Why; it goes into the audit log.")], json_output: Json = False
) -> None:
    """Stop all new orders at once and cancel the working ones. Works while servers run.

    Example: neural-trader halt --reason "the agent buys the same thing again and again"
    """
    from neural_trader_server.app import Services
    from neural_trader_tools.trading.halt import HaltResult, trading_halt

    async def run(services: Services) -> HaltResult:
        return await trading_halt(services.store, services.desk, services.person, reason=reason)

    result = with_desk(run).model_dump(mode="json")
    if json_output:
        emit(result)
    else:
        canceled = ", ".join(result["canceled"]) or "none were working"
        out().print(f"Trading is halted. Canceled orders: {canceled}. To trade again: neural-trader resume")
        if result["working"]:
            waiting = ", ".join(result["working"])
            out().print(f"No answer yet, they may still fill: {waiting}. Run: neural-trader orders reconcile")


def resume(json_output: Json = False) -> None:
    """Release the halt; only a person at the command line can."""
    from neural_trader_governance.halts import resume as release
    from neural_trader_server.app import Services

    async def run(services: Services) -> None:
        def commit() -> None:
            with services.store.unit() as unit:
                release(unit, caller=services.person)

        await anyio.to_thread.run_sync(commit)

    with_desk(run)
    if json_output:
        emit({"halted": False})
    else:
        out().print("Trading is released.")
