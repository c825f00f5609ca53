"""`policy prove` and `policy diff`: what is true of every order, and a concrete one where it is not."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neural_trader_governance.errors import InputError
from neural_trader_server.cli.terminal import FAILED, Json, emit, out, show_table

if TYPE_CHECKING:
    from neural_trader_governance.policy.contexts import PolicyContext
    from neural_trader_governance.policy.differences import Change
    from neural_trader_governance.policy.engine import Verdict
    from neural_trader_governance.policy.proofs import Finding, Proof

Schema = Annotated[
    Path | None,
    typer.Option(help="Its Cedar schema; default: the one beside it, else the home's.", exists=True),
]
Timeout = Annotated[float, typer.Option(help="Seconds per claim.", min=0.001, max=3600)]

_ALWAYS_SHOWN = ("side", "symbol", "quantity_micros", "notional_cents")


def prove(
    file: Annotated[str, typer.Argument(help="A Cedar file, a bundle, a bundle's digest, or `default`.")],
    schema: Schema = None,
    properties: Annotated[
        Path | None,
        typer.Option(help="Your own properties (Cedar forbids) instead of the shipped ones.", exists=True),
    ] = None,
    as_written: Annotated[
        bool, typer.Option(help="Hold the policy against the properties' own numbers, not against its own.")
    ] = False,
    at_most: Annotated[
        list[str] | None, typer.Option(help="Also prove a hard bound, such as notional_cents=5000000.")
    ] = None,
    timeout_s: Timeout = 10.0,
    json_output: Json = False,
) -> None:
    """Prove what no allowed order can be; exits 1 with a real order if it can, or if time ran out.

    Example: neural-trader policy prove mine.cedar --at-most notional_cents=5000000
    """
    from neural_trader_governance.policy.proofs import at_most as bound
    from neural_trader_governance.policy.proofs import prove as prove_policy
    from neural_trader_governance.policy.proofs import shipped_properties
    from neural_trader_server.enactment import read_candidate
    from neural_trader_server.home import Home

    candidate = read_candidate(Home.locate(), file, schema)
    text = shipped_properties() if properties is None else properties.read_text(encoding="utf-8")
    for wish in at_most or []:
        name, _, number = wish.partition("=")
        if not number.lstrip("-").isdecimal():
            raise InputError(
                "invalid_bound", f"{wish!r:.60} is not FACT=NUMBER", "write notional_cents=5000000"
            )
        text += "\n" + bound(name, int(number))
    proof = prove_policy(
        candidate.policy, candidate.schema, properties=text, as_written=as_written, timeout_s=timeout_s
    )
    if json_output:
        emit(proof_document(proof))
    else:
        show_proof(candidate.name, proof)
    if not proof.ok:
        raise typer.Exit(FAILED)


def diff(
    old: Annotated[str, typer.Argument(help="A Cedar file, a bundle, a bundle's digest, or `default`.")],
    new: Annotated[str, typer.Argument(help="The same, for the policy that might replace it.")],
    schema: Schema = None,
    timeout_s: Timeout = 10.0,
    json_output: Json = False,
) -> None:
    """Print an order that NEW allows and OLD denies, and one the other way round, or prove there is none."""
    from neural_trader_governance.policy.differences import PolicyText, compare
    from neural_trader_server.enactment import read_candidate
    from neural_trader_server.home import Home

    home = Home.locate()
    one, other = read_candidate(home, old, schema), read_candidate(home, new, schema)
    found = compare(
        PolicyText(one.name, one.policy, one.schema),
        PolicyText(other.name, other.policy, other.schema),
        timeout_s=timeout_s,
    )
    if json_output:
        emit(
            {
                "ok": found.is_proved,
                "old": {"name": one.name, "policy_digest": found.old_digest},
                "new": {"name": other.name, "policy_digest": found.new_digest},
                "loosened": _change_document(found.loosened),
                "tightened": _change_document(found.tightened),
                "rules": [
                    {"rule": rule.rule, "what": rule.what, "old": rule.old, "new": rule.new}
                    for rule in found.rules
                ],
            }
        )
    else:
        if found.rules:
            rows = ((rule.rule, rule.what, rule.old or None, rule.new or None) for rule in found.rules)
            show_table("Rules", ("rule", "", one.name, other.name), rows)
        _show_change(f"{other.name} allows and {one.name} does not", found.loosened)
        _show_change(f"{one.name} allows and {other.name} does not", found.tightened)
    if not found.is_proved:
        raise typer.Exit(FAILED)


def proof_document(proof: "Proof") -> dict[str, Any]:
    """Returns a proof as `--json` prints it."""
    return {
        "ok": proof.ok,
        "policy_digest": proof.policy_digest,
        "elapsed_ms": proof.elapsed_ms,
        "findings": [
            {
                "name": finding.name,
                "claim": finding.claim,
                "status": finding.status,
                "detail": finding.detail,
                "elapsed_ms": finding.elapsed_ms,
                "order": None if finding.order is None else finding.order.model_dump(mode="json"),
                "verdict": _verdict_document(finding.verdict),
            }
            for finding in proof.findings
        ],
    }


def show_proof(name: str, proof: "Proof") -> None:
    """Prints a proof for people: each property, and of the rules only what is wrong."""
    from neural_trader_governance.policy.proofs import RULE_CLAIM

    alive = [f for f in proof.findings if f.claim.startswith(RULE_CLAIM) and f.status == "proved"]
    shown = [finding for finding in proof.findings if finding not in alive]
    show_table(f"{name}: every order there can be", ("claim", "", "detail"), (_row(f) for f in shown))
    out().print(
        f"{len(alive)} rules each decide some order alone. Took {proof.elapsed_ms / 1000:.1f} s. "
        f"Digest {proof.policy_digest}",
        soft_wrap=True,
    )
    for finding in proof.findings:
        if finding.order is not None:
            _show_order(f"Not so, {finding.name}: this order is allowed (Cedar says so too)", finding.order)


def _row(finding: "Finding") -> tuple[str, str, str]:
    status = f"unproved ({finding.detail})" if finding.status == "unproved" else finding.status
    return finding.claim, status, "" if finding.status == "unproved" else finding.detail


def _show_change(title: str, change: "Change") -> None:
    if change.status == "none":
        out().print(f"There is no order that {title} (proved).", soft_wrap=True)
    elif change.status == "unproved" or change.order is None:
        out().print(f"[bold red]unproved[/]: whether there is an order that {title} ({change.detail})")
    else:
        _show_order(f"An order that {title}", change.order)
        for name, verdict in (("old", change.old), ("new", change.new)):
            if verdict is not None:
                reasons = "; ".join(f"{reason.rule}: {reason.message}" for reason in verdict.reasons)
                out().print(
                    f"  {name}: {verdict.decision}{f' ({reasons})' if reasons else ''}", soft_wrap=True
                )


def _show_order(title: str, order: "PolicyContext") -> None:
    """Prints what distinguishes an order from an ordinary one."""
    from neural_trader_governance.policy.contexts import ORDINARY
    from neural_trader_governance.policy.rules import format_fact

    facts, ordinary = order.facts(), ORDINARY.facts()
    shown = [name for name in facts if name in _ALWAYS_SHOWN or facts[name] != ordinary[name]]
    show_table(
        title,
        ("fact", "value", "ordinarily"),
        ((name, format_fact(name, facts[name]), format_fact(name, ordinary[name])) for name in shown),
    )


def _change_document(change: "Change") -> dict[str, Any]:
    return {
        "status": change.status,
        "detail": change.detail,
        "order": None if change.order is None else change.order.model_dump(mode="json"),
        "old": _verdict_document(change.old),
        "new": _verdict_document(change.new),
    }


def _verdict_document(verdict: "Verdict | None") -> dict[str, Any] | None:
    return None if verdict is None else verdict.model_dump(mode="json")
