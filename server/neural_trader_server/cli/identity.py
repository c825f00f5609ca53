"""`neural-trader identity`: who may do what, and the keys by which they are known.

Every change is signed with the issuer's key, so it takes the person who holds it.
"""

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import anyio.to_thread
import typer

from neural_trader_server.cli.terminal import Json, emit, group, out, show_table, with_desk

if TYPE_CHECKING:
    from neural_trader_governance.principals import Enrolment, Kind
    from neural_trader_server.app import Services

app = group("identity", "People and agents, their roles and their keys.")
keys = group("key", "API keys of agents that call over HTTP.")
app.add_typer(keys)

Name = Annotated[str, typer.Argument(help="The person's or the agent's name, as orders and the log say it.")]
IsAgent = Annotated[bool, typer.Option("--agent", help="It is an agent, and no person.")]
Roles = Annotated[
    list[str],
    typer.Option("--role", help="reader, researcher, trader; a person also: approver, admin. Repeat it."),
]
Vkey = Annotated[
    str | None,
    typer.Option(
        help="An approver's verifier key, or the file that holds it (see keygen).", metavar="KEY|FILE"
    ),
]


@app.command("list")
def list_people(json_output: Json = False) -> None:
    """Show who is enrolled with which roles, and whose row does not verify."""
    from neural_trader_governance import principals

    async def run(services: "Services") -> dict[str, Any]:
        with services.store.read() as connection:
            found = principals.list_enrolments(connection, issuer=services.issuer)
            broken = principals.unverified(connection, issuer=services.issuer)
        return {"enrolled": [_row(each) for each in found], "unverified": broken}

    result = with_desk(run)
    if json_output:
        emit(result)
        return
    show_table(
        "Enrolled",
        ("kind", "name", "roles", "version", "approver's key", "since"),
        (
            (
                row["kind"],
                row["name"],
                ", ".join(row["roles"]) or "retired",
                row["version"],
                row["vkey"],
                row["time"],
            )
            for row in result["enrolled"]
        ),
    )
    for subject in result["unverified"]:
        out().print(f"[bold red]{subject} does not verify[/] and may do nothing: its row was edited.")


@app.command()
def enroll(
    name: Name,
    role: Roles,
    agent: IsAgent = False,
    vkey: Vkey = None,
    account: Annotated[
        list[str] | None, typer.Option(help="Let the agent trade this account. Repeat it.")
    ] = None,
    json_output: Json = False,
) -> None:
    """Enrol a person or an agent, or set the roles of one who is enrolled.

    Example: neural-trader identity enroll bob --role approver --vkey bob.vkey
    """
    result = _enroll(name, role, agent=agent, vkey=vkey, accounts=account or [])
    if json_output:
        emit(result)
    else:
        out().print(f"{result['kind']} {name} is enrolled: {', '.join(result['roles'])}.", soft_wrap=True)


@app.command("role")
def set_roles(
    name: Name, role: Roles, agent: IsAgent = False, vkey: Vkey = None, json_output: Json = False
) -> None:
    """Set the roles of one who is enrolled; an approver's key is kept unless another is given."""
    result = _enroll(name, role, agent=agent, vkey=vkey, accounts=[], known=True)
    if json_output:
        emit(result)
    else:
        out().print(f"{result['kind']} {name} has now: {', '.join(result['roles'])}.", soft_wrap=True)


@app.command()
def retire(name: Name, agent: IsAgent = False, json_output: Json = False) -> None:
    """Take every role from a person or an agent, at once; approvals they gave are void."""
    result = _enroll(name, [], agent=agent, vkey=None, accounts=[], known=True)
    if json_output:
        emit(result)
    else:
        out().print(f"{result['kind']} {name} is retired.")


@app.command()
def keygen(
    name: Annotated[str, typer.Argument(help="Whose key; it becomes part of the key's name.")],
    folder: Annotated[Path, typer.Option("--out", help="Where the two files go.", file_okay=False)] = Path(),
    json_output: Json = False,
) -> None:
    """Make an approver's key pair, on the approver's own machine or account; opens no desk.

    Writes approver-NAME.key (keep it) and approver-NAME.vkey (give it to whoever enrols you).
    """
    import secrets

    from neural_trader_governance.signing.keys import SigningKey
    from neural_trader_server.founding import write_vkey
    from neural_trader_server.keyholder import KeyRole, choose_passphrase

    private, public = folder / f"approver-{name}.key", folder / f"approver-{name}.vkey"
    key = SigningKey.generate(f"neural-trader.local/approver/{name}/{secrets.token_hex(4)}")
    passphrase = choose_passphrase(KeyRole.APPROVER)
    key.save(private, passphrase)
    write_vkey(public, key.vkey)
    if json_output:
        emit(
            {
                "key": str(private),
                "vkey_file": str(public),
                "vkey": key.vkey,
                "locked": passphrase is not None,
            }
        )
        return
    out().print(f"The key is {private}{'' if passphrase else ' (without a passphrase)'}.", soft_wrap=True)
    out().print(
        f"Have yourself enrolled: neural-trader identity enroll {name} --role approver --vkey {public}",
        soft_wrap=True,
    )


@keys.command("issue")
def issue_key(
    agent: Annotated[str, typer.Option(help="Who calls with it; enrolled.")],
    principal: Annotated[
        str | None, typer.Option(help="For whom the agent calls; by default this home's owner.")
    ] = None,
    days: Annotated[int, typer.Option(help="How long it opens the door.", min=1, max=3650)] = 90,
    json_output: Json = False,
) -> None:
    """Issue an API key and show it once; from the first one on, HTTP callers need one."""
    from neural_trader_governance import apikeys
    from neural_trader_server.founding import issuer_key

    async def run(services: "Services") -> dict[str, Any]:
        def issue() -> dict[str, Any]:
            now = services.clock.now()
            with services.store.unit() as unit:
                grant, token = apikeys.issue(
                    unit,
                    issuer_key(services.home),
                    caller=services.person,
                    principal=principal or services.person.principal,
                    agent=agent,
                    now=now,
                    expires=now + timedelta(days=days),
                )
            facts = grant.model_dump(mode="json", include={"key_id", "principal", "agent", "expires"})
            return {**facts, "token": token}

        return await anyio.to_thread.run_sync(issue)

    result = with_desk(run)
    if json_output:
        emit(result)
        return
    out().print(
        f"Key {result['key_id']}: {agent} for {result['principal']}, until {result['expires']}. Shown once:",
        soft_wrap=True,
    )
    out().print(result["token"], soft_wrap=True)


@keys.command("list")
def list_keys(json_output: Json = False) -> None:
    """Show every key that was issued, without its secret."""
    from neural_trader_governance import apikeys
    from neural_trader_governance.terms.clocks import format_time

    async def run(services: "Services") -> list[dict[str, Any]]:
        now = services.clock.now()
        with services.store.read() as connection:
            found = apikeys.list_keys(connection, issuer=services.issuer)
        return [
            {
                "key_id": each.key_id,
                "principal": each.grant.principal if each.grant else None,
                "agent": each.grant.agent if each.grant else None,
                "expires": format_time(each.grant.expires) if each.grant else None,
                "state": _state(each, each.is_active(now)),
            }
            for each in found
        ]

    rows = with_desk(run)
    if json_output:
        emit({"keys": rows})
    else:
        columns = ("key_id", "principal", "agent", "expires", "state")
        show_table("API keys", columns, (tuple(row[name] for name in columns) for row in rows))


@keys.command("revoke")
def revoke_key(
    key_id: Annotated[str, typer.Argument(help="As `identity key list` shows it.")],
    reason: Annotated[str, typer.Option(help="Why; it goes into the audit log.")],
    json_output: Json = False,
) -> None:
    """End a key at once, also for servers that run."""
    from neural_trader_governance import apikeys

    async def run(services: "Services") -> int:
        def revoke() -> int:
            with services.store.unit() as unit:
                return apikeys.revoke(unit, key_id, caller=services.person, reason=reason)

        return await anyio.to_thread.run_sync(revoke)

    seq = with_desk(run)
    if json_output:
        emit({"key_id": key_id, "state": "revoked", "seq": seq})
    else:
        out().print(f"Key {key_id} is revoked.")


def _enroll(
    name: str, roles: list[str], *, agent: bool, vkey: str | None, accounts: list[str], known: bool = False
) -> dict[str, Any]:
    from neural_trader_governance import principals
    from neural_trader_governance.errors import InputError
    from neural_trader_server.founding import issuer_key

    kind: Kind = "agent" if agent else "person"
    for role in roles:
        if role not in set(principals.Role):
            raise InputError(
                "unknown_role", f"{role!r:.40} is no role", f"choose from {', '.join(principals.Role)}"
            )

    async def run(services: "Services") -> dict[str, Any]:
        def enroll() -> dict[str, Any]:
            with services.store.unit() as unit:
                before = principals.find_enrolment(unit.connection, kind, name, issuer=services.issuer)
                if known and before is None:
                    raise InputError(
                        "not_enrolled",
                        f"the {kind} {name!r:.60} is not enrolled",
                        "see `neural-trader identity list`; agents need --agent",
                    )
                kept = before.vkey if before is not None and vkey is None else None
                document = principals.sign_enrolment(
                    unit.connection,
                    issuer_key(services.home),
                    kind=kind,
                    name=name,
                    roles=frozenset(principals.Role(role) for role in roles),
                    time=services.clock.now(),
                    vkey=(_read_vkey(vkey) or kept) if "approver" in roles else None,
                )
                seq = principals.enroll(unit, document, issuer=services.issuer, caller=services.person)
                _permit(services, unit, name, accounts)
            return _row(document) | {"seq": seq}

        return await anyio.to_thread.run_sync(enroll)

    return with_desk(run)


def _permit(services: "Services", unit: Any, agent: str, accounts: list[str]) -> None:
    from neural_trader_governance.audit.entries import AuditEntry, EntryType
    from neural_trader_tools.orders.accounts import permit_agent

    for account in accounts:
        if permit_agent(unit.connection, account=account, agent=agent):
            payload = {"agents": [agent]}
            unit.append(
                AuditEntry.by(services.person, EntryType.ACCOUNT_OPEN, account=account, payload=payload)
            )


def _read_vkey(text: str | None) -> str | None:
    """Returns the verifier key that is given, or that stands in the file that is named."""
    if text is None or "+" in text:
        return text
    from neural_trader_governance.errors import InputError

    try:
        return Path(text).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        raise InputError(
            "vkey_unreadable", f"{text!r:.60} is no file of a verifier key", "give approver-NAME.vkey"
        ) from None


def _row(document: "Enrolment") -> dict[str, Any]:
    return document.model_dump(mode="json", include={"kind", "name", "roles", "version", "vkey", "time"})


def _state(standing: Any, active: bool) -> str:
    if standing.grant is None:
        return "does not verify"
    if standing.revoked:
        return "revoked"
    return "active" if active else "expired"
