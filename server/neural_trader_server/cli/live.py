"""`neural-trader live`: the second switch for real money, a permit signed for the policy in force."""

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import anyio.to_thread
import typer

from neural_trader_server.cli.terminal import Json, emit, group, out, show_table, with_desk

if TYPE_CHECKING:
    from neural_trader_server.app import Services

app = group(
    "live",
    "Trading real money: off, unless the setting live_trading is on (the first switch), a person has signed a"
    " permit for the policy in force (the second), and that policy allows it. See docs/orders.md.",
)
Reason = Annotated[str, typer.Option(help="Why; it goes into the audit log.")]


@app.command()
def enable(
    reason: Reason,
    days: Annotated[float, typer.Option(help="For how long from now; 31 at most.", min=0.01, max=31)] = 1.0,
    json_output: Json = False,
) -> None:
    """Sign, with the issuer's key, that the policy in force may govern real money for a while.

    Example: neural-trader live enable --days 5 --reason "reviewed with risk on Monday"

    Another policy, once activated, ends it; so does `neural-trader live disable`, and the end of its time.
    """
    from neural_trader_governance.live import LivePermit, permit_live
    from neural_trader_server.founding import issuer_key

    async def run(services: "Services") -> dict[str, Any]:
        def commit() -> dict[str, Any]:
            now = services.clock.now()
            with services.store.unit() as unit:
                digest = services.policy.current(unit.connection).digest
                permit = LivePermit(
                    policy_digest=digest, not_before=now, expires=now + timedelta(days=days), reason=reason
                ).signed_by(issuer_key(services.home))
                permit_live(
                    unit,
                    permit,
                    issuer=services.issuer,
                    policy_digest=digest,
                    caller=services.person,
                    now=now,
                )
            return permit.model_dump(mode="json") | _standing(services)

        return await anyio.to_thread.run_sync(commit)

    made = with_desk(run)
    if json_output:
        emit(made)
        return
    out().print(
        f"{made['permit_id']} lets the policy {made['policy_digest'][:12]} govern real money until"
        f" {made['expires']}. End it with: neural-trader live disable --reason …",
        soft_wrap=True,
    )
    _show_standing(made)


@app.command()
def disable(reason: Reason, json_output: Json = False) -> None:
    """End every permit at once. It takes a person and no key; working orders stay (see `halt`)."""
    from neural_trader_governance.live import end_live

    async def run(services: "Services") -> dict[str, Any]:
        def commit() -> dict[str, Any]:
            with services.store.unit() as unit:
                seq = end_live(unit, caller=services.person, reason=reason)
            return {"seq": seq} | _standing(services)

        return await anyio.to_thread.run_sync(commit)

    ended = with_desk(run)
    if json_output:
        emit(ended)
        return
    out().print(f"No permit holds any more (entry {ended['seq']}).")
    _show_standing(ended)


@app.command()
def status(json_output: Json = False) -> None:
    """Show both switches, the venue, and every permit as it verifies now."""
    from neural_trader_governance.live import read_permits
    from neural_trader_governance.terms.clocks import format_time

    async def run(services: "Services") -> dict[str, Any]:
        def look() -> dict[str, Any]:
            now = services.clock.now()
            with services.store.read() as connection:
                digest = services.policy.current(connection).digest
                permits = read_permits(connection, issuer=services.issuer)
            rows = [
                {
                    "permit_id": each.permit_id,
                    "state": "in force" if each.holds(policy_digest=digest, now=now) else "not in force",
                    "policy_digest": each.permit.policy_digest if each.permit else "",
                    "expires": format_time(each.permit.expires) if each.permit else "",
                    "reason": each.permit.reason if each.permit else "its signature does not verify",
                }
                for each in permits
            ]
            return _standing(services) | {"permits": rows}

        return await anyio.to_thread.run_sync(look)

    found = with_desk(run)
    if json_output:
        emit(found)
        return
    _show_standing(found)
    if found["permits"]:
        columns = ("permit", "state", "policy", "expires", "reason")
        show_table("Permits", columns, (tuple(row.values()) for row in found["permits"]))


def _standing(services: "Services") -> dict[str, Any]:
    """Returns how the switches stand; the venue's adapter is not opened for it."""
    from neural_trader_governance.live import is_permitted
    from neural_trader_server.broker_services import is_live_address

    with services.store.read() as connection:
        digest = services.policy.current(connection).digest
        permitted = is_permitted(
            connection, issuer=services.issuer, policy_digest=digest, now=services.clock.now()
        )
    is_live = is_live_address(services.settings)
    switch = services.settings.live_trading
    return {
        "mode": "live" if is_live else "paper",
        "live_trading": switch,
        "permitted": permitted,
        "policy": digest,
        "real_money": is_live and switch and permitted,
    }


def _show_standing(found: dict[str, Any]) -> None:
    said = {True: "on", False: "off"}
    out().print(
        f"mode: {found['mode']}. Setting live_trading: {said[found['live_trading']]}. Permit for the policy"
        f" in force: {said[found['permitted']]}. Real money: {said[found['real_money']]}.",
        soft_wrap=True,
    )
