"""`neural-trader usage`: what agents' calls cost, and the budgets that they are held to."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import anyio.to_thread
import typer

from neural_trader_server.cli.terminal import Json, emit, note_stranger, out, show_table, with_desk

if TYPE_CHECKING:
    from neural_trader_server.app import Services

app = typer.Typer(
    name="usage",
    help="What agents' calls cost, by day and strategy, and the budgets that they are held to.",
    invoke_without_command=True,
    pretty_exceptions_enable=False,
)

Agent = Annotated[str | None, typer.Option(help="Only of this agent.")]
Strategy = Annotated[str | None, typer.Option(help="A strategy_id, or its first 12 digits.")]


@app.callback()
def usage(
    context: typer.Context,
    agent: Agent = None,
    strategy: Strategy = None,
    since: Annotated[str | None, typer.Option(help="First day (UTC), such as 2026-11-01.")] = None,
    json_output: Json = False,
) -> None:
    """Show calls, sandbox seconds, data calls and cost by day, agent and strategy, and each budget's state.

    Example: neural-trader usage --agent agent-1 --since 2026-11-01

    Prices are the operator's (setting `usage_prices`). Bound an agent with `neural-trader usage budget`.
    """
    if context.invoked_subcommand is not None:
        return
    first = _day(since)
    short = None if strategy is None else _short(strategy)

    async def run(services: "Services") -> dict[str, Any]:
        return await anyio.to_thread.run_sync(_report, services, agent, short, first)

    report = with_desk(run)
    if json_output:
        emit(report)
        return
    show_table(
        "Usage",
        (
            "day",
            "agent",
            "strategy",
            "principal",
            "calls",
            "sandbox s",
            "data calls",
            "rows",
            "wall s",
            "USD",
        ),
        (
            (
                row["day"],
                row["agent"] or "(a person)",
                row["strategy"],
                row["principal"],
                row["calls"],
                row["sandbox_s"],
                row["data_calls"],
                row["data_rows"],
                row["wall_s"],
                row["cost_usd"],
            )
            for row in report["usage"]
        ),
    )
    total = report["total"]
    out().print(
        f"In all: {total['calls']} calls, {total['sandbox_s']} s in the sandbox, {total['data_calls']} data"
        f" calls, {total['cost_usd']} USD; {total['reserved_usd']} USD reserved by calls in flight or cut"
        " off.",
        soft_wrap=True,
    )
    if report["budgets"]:
        show_table(
            "Budgets",
            ("agent", "strategy", "period", "budget USD", "used USD", "left USD"),
            (
                (
                    row["agent"],
                    row["strategy"],
                    row["period"],
                    row["budget_usd"],
                    row["used_usd"],
                    row["left_usd"],
                )
                for row in report["budgets"]
            ),
        )


@app.command()
def budget(
    agent: Annotated[str, typer.Option(help="Whom it bounds, such as agent-1.")],
    usd: Annotated[str | None, typer.Option(help="Most that its calls may cost in a period, in USD.")] = None,
    lift: Annotated[bool, typer.Option("--lift", help="Take the bound away instead.")] = False,
    period: Annotated[str, typer.Option(help="day or month, by the calendar in UTC.")] = "day",
    strategy: Annotated[
        str | None, typer.Option(help="Only this strategy: its strategy_id, or the first 12 digits.")
    ] = None,
    json_output: Json = False,
) -> None:
    """Sign a budget with the issuer's key; it replaces the one of the same agent, strategy and period.

    Example: neural-trader usage budget --agent agent-1 --usd 5 --period day

    Once it is used up, calls that cost are refused (budget_exhausted) until the next period. Halts, orders,
    status and reading results go on to work. It holds from this commit on, in every running server.
    """
    from neural_trader_governance.errors import InputError
    from neural_trader_server.founding import issuer_key

    if (usd is None) != lift:
        raise InputError("invalid_budget", "give either --usd or --lift", "such as --usd 5")
    limit = None if usd is None else _micros(usd)
    short = None if strategy is None else _short(strategy)

    async def run(services: "Services") -> dict[str, Any]:
        def commit() -> dict[str, Any]:
            from neural_trader_governance.budgets import set_budget

            document = _budget(
                agent=agent,
                strategy=short,
                period=period,
                limit_micros=limit,
                issued_time=services.clock.now(),
            ).signed_by(issuer_key(services.home))
            with services.store.unit() as unit:
                seq = set_budget(unit, document, issuer=services.issuer, caller=services.person)
            note_stranger(services, agent)
            text = None if usd is None else _usd(limit or 0)
            return {"agent": agent, "strategy": short, "period": period, "budget_usd": text, "seq": seq}

        return await anyio.to_thread.run_sync(commit)

    done = with_desk(run)
    if json_output:
        emit(done)
        return
    whose = agent if short is None else f"{agent}'s strategy {short}"
    bound = "any amount" if limit is None else f"at most {done['budget_usd']} USD"
    out().print(f"{whose} may cost {bound} a {period} from now on (audit entry {done['seq']}).")


def _report(services: "Services", agent: str | None, strategy: str | None, since: str) -> dict[str, Any]:
    ledger = services.meter.ledger
    rows = ledger.rows(agent=agent, strategy=strategy, since=since)
    reserved = ledger.reserved_micros(agent=agent, strategy=strategy, since=since)
    return {
        "usage": [
            {
                "day": row.day,
                "agent": row.agent,
                "strategy": row.strategy or None,
                "principal": row.principal,
                "calls": row.calls,
                "sandbox_s": row.sandbox_ms / 1000,
                "data_calls": row.data_calls,
                "data_rows": row.data_rows,
                "wall_s": row.wall_ms / 1000,
                "result_bytes": row.result_bytes,
                "cost_usd": _usd(row.cost_micros),
            }
            for row in rows
        ],
        "total": {
            "calls": sum(row.calls for row in rows),
            "sandbox_s": sum(row.sandbox_ms for row in rows) / 1000,
            "data_calls": sum(row.data_calls for row in rows),
            "cost_usd": _usd(sum(row.cost_micros for row in rows)),
            "reserved_usd": _usd(reserved),
        },
        "budgets": _budgets(services, _agents(services, agent)),
        "prices_usd": services.meter.prices.model_dump(mode="json"),
    }


def _budgets(services: "Services", agents: Sequence[str]) -> list[dict[str, Any]]:
    from neural_trader_governance.budgets import bound_of, read_budgets

    now = services.clock.now()
    found: list[dict[str, Any]] = []
    with services.store.read() as connection:
        standing = [
            item
            for name in agents
            for item in read_budgets(connection, issuer=services.issuer, agent=name)
            if item.limit_micros is not None
        ]
    for item in standing:
        bound = bound_of(item, now)
        used = services.meter.ledger.used_micros(item.agent, bound)
        found.append(
            {
                "agent": item.agent,
                "strategy": item.strategy,
                "period": item.period,
                "first_day": bound.first_day,
                "last_day": bound.last_day,
                "budget_usd": _usd(bound.limit_micros),
                "used_usd": _usd(used),
                "left_usd": _usd(max(0, bound.limit_micros - used)),
            }
        )
    return found


def _agents(services: "Services", agent: str | None) -> list[str]:
    if agent is not None:
        return [agent]
    with services.store.read() as connection:
        return [row[0] for row in connection.execute("SELECT DISTINCT agent FROM budgets ORDER BY agent")]


def _budget(**fields: object) -> Any:
    from pydantic import ValidationError

    from neural_trader_governance.budgets import Budget
    from neural_trader_governance.errors import InputError

    try:
        return Budget.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(
            "invalid_budget", f"{where}: {first['msg']}", "see `neural-trader usage budget --help`"
        ) from None


def _day(text: str | None) -> str:
    from neural_trader_governance.terms.clocks import parse_time

    return "" if text is None else f"{parse_time(text):%Y-%m-%d}"


def _short(strategy: str) -> str:
    from neural_trader_governance.errors import InputError
    from neural_trader_server.metering import strategy_of

    short = strategy_of({"strategy_id": strategy})
    if not short:
        raise InputError(
            "invalid_strategy", f"{strategy!r:.40} is no strategy_id", "give 12 to 64 hex digits of one"
        )
    return short


def _micros(usd: str) -> int:
    from neural_trader_governance.errors import InputError
    from neural_trader_governance.terms.money import parse_decimal, to_micros

    try:
        micros = to_micros(parse_decimal(usd))
    except ValueError as error:
        raise InputError("invalid_amount", f"--usd {error}", "give an amount of USD such as 5") from None
    if micros < 0:
        raise InputError("invalid_amount", f"--usd {usd} is negative", "give an amount of USD such as 5")
    return micros


def _usd(micros: int) -> str:
    from neural_trader_governance.usage import usd_text

    return usd_text(micros)
