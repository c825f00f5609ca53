"""`neural-trader halt` and `resume`: the kill switch in a person's hand."""

from typing import Annotated

import anyio.to_thread
import typer

from neural_trader_server.cli.terminal import Json, emit, note_stranger, out, with_desk

Account = Annotated[str | None, typer.Option(help="Only this account.")]
Symbol = Annotated[str | None, typer.Option(help="Only this symbol.")]
Strategy = Annotated[str | None, typer.Option(help="Only this strategy, by its id.")]
Agent = Annotated[str | None, typer.Option(help="Only this agent.")]


def halt(
    reason: Annotated[str, typer.Option(help="Why; it goes into the audit log.")],
    account: Account = None,
    symbol: Symbol = None,
    strategy: Strategy = None,
    agent: Agent = None,
    json_output: Json = False,
) -> None:
    """Stop new orders at once and cancel the working ones: all, or in one scope. Works while servers run.

    Example: neural-trader halt --reason "the agent buys the same thing again and again" --symbol AAPL
    """
    from neural_trader_server.app import Services
    from neural_trader_tools.trading.halt import HaltResult, trading_halt

    async def run(services: Services) -> HaltResult:
        halted = await trading_halt(
            services.store,
            services.desk,
            services.person,
            reason=reason,
            account=account,
            symbol=symbol,
            strategy_id=strategy,
            agent=agent,
        )
        note_stranger(services, agent)
        return halted

    halted = with_desk(run)
    result = halted.model_dump(mode="json")
    if json_output:
        emit(result)
        return
    from neural_trader_governance.halts import Scope

    again = f"neural-trader resume {Scope.parse(halted.scope).options}".rstrip()
    canceled = ", ".join(result["canceled"]) or "none were working"
    out().print(
        f"Trading is halted ({halted.scope}). Canceled orders: {canceled}. To trade again: {again}",
        soft_wrap=True,
    )
    if result["working"]:
        waiting = ", ".join(result["working"])
        out().print(f"No answer yet, they may still fill: {waiting}. Run: neural-trader orders reconcile")


def resume(
    account: Account = None,
    symbol: Symbol = None,
    strategy: Strategy = None,
    agent: Agent = None,
    json_output: Json = False,
) -> None:
    """Release the halt of exactly this scope; only a person at the command line can."""
    from neural_trader_governance.halts import Halt, Scope, read_halts
    from neural_trader_governance.halts import resume as release
    from neural_trader_server.app import Services

    scope = Scope.choose(account=account, symbol=symbol, strategy_id=strategy, agent=agent)

    async def run(services: Services) -> list[Halt]:
        def commit() -> list[Halt]:
            with services.store.unit() as unit:
                release(unit, caller=services.person, scope=scope)
                return read_halts(unit.connection)

        return await anyio.to_thread.run_sync(commit)

    standing = [str(each.scope) for each in with_desk(run)]
    if json_output:
        emit({"halted": "all" in standing, "scope": str(scope), "standing": standing})
    else:
        left = f" Still halted: {', '.join(standing)}." if standing else ""
        out().print(f"Trading is released ({scope}).{left}")
