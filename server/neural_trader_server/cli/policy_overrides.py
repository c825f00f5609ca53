"""`neural-trader policy override|overrides|revoke-override`: a person lifts a rule for a while."""

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import anyio.to_thread
import typer
from pydantic import ValidationError

from neural_trader_governance.errors import InputError
from neural_trader_server.cli.terminal import Json, emit, note_stranger, out, show_table, with_desk

if TYPE_CHECKING:
    from neural_trader_governance.overrides import Granted
    from neural_trader_server.app import Services


def override(
    rule: Annotated[list[str], typer.Argument(help="Rules, such as max_notional; see `policy check`.")],
    agent: Annotated[str, typer.Option(help="Whose orders, such as agent-1.")],
    reason: Annotated[str, typer.Option(help="Why; it is signed and goes into the audit log.")],
    symbol: Annotated[str, typer.Option(help="One symbol in capitals, or * for every one.")],
    hours: Annotated[float, typer.Option(help="For how long from now; 24 at most.", min=0.01, max=24)] = 1.0,
    account: Annotated[str, typer.Option(help="The account it is for.")] = "paper",
    json_output: Json = False,
) -> None:
    """Lift rules for a while, signed with the issuer's key. Only rules that the policy calls overridable.

    Example: neural-trader policy override max_notional --agent agent-1 --symbol AAPL --hours 2
    --reason "the block that the committee agreed on"

    Approvals go on to hold: above 50,000 USD an order then needs two persons, one of them not the agent's.
    """
    from neural_trader_governance import overrides
    from neural_trader_governance.policy.engine import PolicyEngine
    from neural_trader_server.founding import issuer_key

    async def run(services: "Services") -> dict[str, Any]:
        def commit() -> dict[str, Any]:
            now = services.clock.now()
            fields = {
                "rules": tuple(sorted(set(rule))),
                "agent": agent,
                "account": account,
                "symbol": symbol,
                "not_before": now,
                "expires": now + timedelta(hours=hours),
                "reason": reason,
            }
            try:
                document = overrides.Override.model_validate(fields)
            except ValidationError as error:
                first = error.errors(include_url=False, include_context=False)[0]
                place = ".".join(str(part) for part in first["loc"]) or "override"
                raise InputError("invalid_override", f"{place}: {first['msg']}", f"correct {place}") from None
            signed = document.signed_by(issuer_key(services.home))
            with services.store.unit() as unit:
                engine = services.policy.current(unit.connection)
                overrides.grant(
                    unit,
                    signed,
                    issuer=services.issuer,
                    overridable=engine.overridable if isinstance(engine, PolicyEngine) else (),
                    caller=services.person,
                    now=now,
                )
            note_stranger(services, agent)
            return signed.model_dump(mode="json")

        return await anyio.to_thread.run_sync(commit)

    granted = with_desk(run)
    if json_output:
        emit(granted)
        return
    out().print(
        f"{granted['override_id']} lifts {', '.join(granted['rules'])} for {granted['agent']} on"
        f" {granted['account']} ({granted['symbol']}) until {granted['expires']}. End it before with:"
        f" neural-trader policy revoke-override {granted['override_id']} --reason …",
        soft_wrap=True,
    )


def list_overrides(json_output: Json = False) -> None:
    """Show every override, as it verifies now."""
    from neural_trader_governance import overrides

    async def run(services: "Services") -> list[dict[str, Any]]:
        def look() -> list[dict[str, Any]]:
            with services.store.read() as connection:
                rows = overrides.read_overrides(connection, issuer=services.issuer)
            return [_row(each, services) for each in rows]

        return await anyio.to_thread.run_sync(look)

    rows = with_desk(run)
    if json_output:
        emit({"overrides": rows})
        return
    columns = ("id", "state", "rules", "agent", "account", "symbol", "expires", "reason")
    show_table("Overrides", columns, (tuple(row.values()) for row in rows))


def revoke_override(
    override_id: Annotated[str, typer.Argument(help="As `policy overrides` shows it.")],
    reason: Annotated[str, typer.Option(help="Why; it goes into the audit log.")],
    json_output: Json = False,
) -> None:
    """End an override at once. It takes a person and no key."""
    from neural_trader_governance import overrides

    async def run(services: "Services") -> int:
        def commit() -> int:
            with services.store.unit() as unit:
                return overrides.revoke(unit, override_id, caller=services.person, reason=reason)

        return await anyio.to_thread.run_sync(commit)

    seq = with_desk(run)
    if json_output:
        emit({"override_id": override_id, "revoked": True, "seq": seq})
    else:
        out().print(f"{override_id} is revoked (entry {seq}).")


def _row(granted: "Granted", services: "Services") -> dict[str, Any]:
    from neural_trader_governance.terms.clocks import format_time

    document = granted.override
    if document is None:
        return {"override_id": granted.override_id, "state": "does not verify"} | dict.fromkeys(
            ("rules", "agent", "account", "symbol", "expires", "reason"), ""
        )
    now = services.clock.now()
    state = "revoked" if granted.revoked else "ended" if now >= document.expires else "in force"
    return {
        "override_id": granted.override_id,
        "state": state,
        "rules": ", ".join(document.rules),
        "agent": document.agent,
        "account": document.account,
        "symbol": document.symbol,
        "expires": format_time(document.expires),
        "reason": document.reason,
    }
