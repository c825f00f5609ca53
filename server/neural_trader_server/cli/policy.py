"""`neural-trader policy`: what the rules are, which are in force, and what a change of them would do."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neural_trader_governance.errors import ConfigurationError, RiskError
from neural_trader_server.cli import policy_overrides, policy_proofs
from neural_trader_server.cli.terminal import FAILED, Json, emit, err, group, out, show_table, with_desk

if TYPE_CHECKING:
    from neural_trader_server.app import Services

app = group("policy", "The rules that every order is judged by.")


@app.command()
def check(
    file: Annotated[str, typer.Argument(help="A Cedar file, a bundle, a bundle's digest, or `default`.")],
    schema: policy_proofs.Schema = None,
    json_output: Json = False,
) -> None:
    """Check that a policy parses, fits its schema and can judge this version's orders."""
    from neural_trader_governance.policy.engine import PolicyEngine
    from neural_trader_server.enactment import read_candidate
    from neural_trader_server.home import Home

    candidate = read_candidate(Home.locate(), file, schema)
    engine = PolicyEngine(candidate.policy, candidate.schema)
    rules = [
        {
            "rule": rule.id,
            "effect": rule.effect,
            "class": rule.rule_class,
            "overridable": rule.overridable,
            "source": rule.source,
        }
        for rule in engine.rules.values()
    ]
    if json_output:
        emit({"ok": True, "policy_digest": engine.digest, "rules": rules})
        return
    show_table(
        f"{candidate.name}: usable",
        ("rule", "effect", "class", "overridable", "source"),
        (tuple(row.values()) for row in rules),
    )
    out().print(f"digest {engine.digest}")


app.command()(policy_proofs.prove)
app.command()(policy_proofs.diff)
app.command()(policy_overrides.override)
app.command("overrides")(policy_overrides.list_overrides)
app.command("revoke-override")(policy_overrides.revoke_override)


@app.command()
def activate(
    file: Annotated[str, typer.Argument(help="A Cedar file, a bundle, a bundle's digest, or `default`.")],
    schema: policy_proofs.Schema = None,
    comment: Annotated[str, typer.Option(help="Why; it is signed and logged.")] = "",
    accept_refuted: Annotated[
        bool, typer.Option(help="Activate although a property is refuted, or a proof is missing.")
    ] = False,
    timeout_s: policy_proofs.Timeout = 10.0,
    json_output: Json = False,
) -> None:
    """Sign a policy with the issuer's key and put it in force; running servers change over at once.

    To go back, activate the older digest again: `neural-trader policy status` lists them. `default` is the
    policy that this version ships.
    """
    from neural_trader_governance.policy.activation import activate as put_in_force
    from neural_trader_governance.policy.activation import newest_activation
    from neural_trader_governance.policy.bundles import BundleFolder
    from neural_trader_governance.policy.engine import PolicyEngine
    from neural_trader_server.enactment import is_draft, read_candidate, refresh_draft, sign_candidate

    async def run(services: "Services") -> dict[str, Any]:
        home = services.home
        candidate = read_candidate(home, file, schema)
        PolicyEngine(candidate.policy, candidate.schema)
        proof = _prove(candidate.policy, candidate.schema, timeout_s, show=not json_output)
        if proof is not None and not proof["ok"] and not accept_refuted:
            open_claims = [each["name"] for each in proof["findings"] if each["status"] != "proved"]
            raise RiskError(
                "policy_not_proved",
                f"{', '.join(open_claims)}: not proved of {candidate.name}, so the policy in force stays",
                "run `neural-trader policy prove` on it; `--accept-refuted` activates it all the same",
                findings=open_claims,
            )
        bundle = sign_candidate(home, candidate, now=services.clock.now(), comment=comment)
        with services.store.unit() as unit:
            before = newest_activation(unit.connection)
            done = put_in_force(
                unit,
                bundle,
                folder=BundleFolder(home.bundles),
                issuer=services.issuer,
                caller=services.person,
            )
        if before is not None and not is_draft(home, before.digest):
            refresh_draft(home, bundle)  # nobody's edits are lost: the file was the policy in force
        return {
            "activated": True,
            "version": done.version,
            "policy_digest": done.digest,
            "replaces": done.replaces,
            "seq": done.seq,
            "signer": done.signer,
            "proof": proof,
        }

    result = with_desk(run)
    if json_output:
        emit(result)
        return
    out().print(
        f"Version {result['version']} is in force (entry {result['seq']}), signed by {result['signer']}.\n"
        f"Digest {result['policy_digest']}; it replaces {result['replaces']}.",
        soft_wrap=True,
    )


def _prove(policy: str, schema: str, timeout_s: float, *, show: bool) -> dict[str, Any] | None:
    """Returns the proof of a policy, or None (and a word about it) where there is no solver."""
    from neural_trader_governance.policy.proofs import prove

    try:
        proof = prove(policy, schema, timeout_s=timeout_s)
    except ConfigurationError as error:
        if error.code != "z3_missing":
            raise
        err().print(f"Nothing is proved about this policy: {error.what}; {error.next_step}", soft_wrap=True)
        return None
    if show:
        policy_proofs.show_proof("The new policy", proof)
    return policy_proofs.proof_document(proof)


@app.command()
def status(json_output: Json = False) -> None:
    """Show the policy in force, who signed it, and every version before it."""
    from neural_trader_governance.policy.activation import ClosedPolicy, read_activations
    from neural_trader_server.enactment import is_draft

    async def run(services: "Services") -> dict[str, Any]:
        with services.store.read() as connection:
            judge = services.policy.current(connection)
            versions = read_activations(connection)
        closed = judge if isinstance(judge, ClosedPolicy) else None
        return {
            "ok": closed is None,
            "policy_digest": judge.digest,
            "problem": closed.problem if closed else None,
            "next_step": closed.next_step if closed else None,
            "draft_differs": is_draft(services.home, judge.digest),
            "draft": str(services.home.policy_file),
            "versions": [
                {
                    "version": each.version,
                    "seq": each.seq,
                    "policy_digest": each.digest,
                    "signer": each.signer or None,
                    "comment": each.comment,
                }
                for each in reversed(versions)
            ],
        }

    result = with_desk(run)
    if json_output:
        emit(result)
    else:
        show_table(
            "Policies, newest first",
            ("version", "entry", "digest", "signer", "comment"),
            (tuple(each.values()) for each in result["versions"]),
        )
        if result["problem"]:
            out().print(f"[bold red]EVERY ORDER IS DENIED[/]: {result['problem']}; {result['next_step']}")
        elif result["draft_differs"]:
            out().print(f"{result['draft']} differs and has no effect until it is activated.", soft_wrap=True)
    if not result["ok"]:
        raise typer.Exit(FAILED)


@app.command()
def replay(
    seq: Annotated[int, typer.Argument(help="Number of a policy.decision entry.", min=0)],
    json_output: Json = False,
) -> None:
    """Decide a logged decision again, with its inputs and the policy of its day; exits 1 if it differs."""
    from neural_trader_governance.policy.bundles import BundleFolder
    from neural_trader_governance.policy.replay import replay_seq

    async def run(services: "Services") -> dict[str, Any]:
        with services.store.read() as connection:
            again = replay_seq(connection, seq, BundleFolder(services.home.bundles))
        return {"ok": again.ok, "identical": again.outcome == "identical", **asdict(again)}

    result = with_desk(run)
    if json_output:
        emit(result)
    else:
        words = {
            "identical": "[green]identical[/]",
            "failed_closed": "denied for want of a working policy; there is nothing to compute again",
            "before_bundles": "an earlier version decided it, and kept no policy to compute with again",
        }
        said = words.get(result["outcome"], result["outcome"].replace("_", " "))
        out().print(f"entry {seq} under the policy {result['policy_digest'][:12]}: {said}", soft_wrap=True)
        show_table(
            "Decision",
            ("", "decision", "rules"),
            (
                ("logged", result["decision"], ", ".join(result["rules"])),
                ("decided again", result["decision_recomputed"], ", ".join(result["rules_recomputed"])),
            ),
        )
        if not result["ok"]:
            out().print(result["detail"], soft_wrap=True)
    if not result["ok"]:
        raise typer.Exit(FAILED)


@app.command()
def explain(
    preview_id: Annotated[str, typer.Argument(help="As orders_preview or `orders list` shows it.")],
    json_output: Json = False,
) -> None:
    """Show what policy said of a preview: the decision, and every rule that decided."""
    from neural_trader_tools.orders.previews import find_preview

    async def run(services: "Services") -> dict[str, Any]:
        with services.store.read() as connection:
            preview = find_preview(connection, preview_id)
        return {"preview_id": preview_id, "state": preview.state.value} | preview.verdict.model_dump(
            mode="json"
        )

    result = with_desk(run)
    if json_output:
        emit(result)
        return
    out().print(f"{preview_id} is {result['state']}; policy said: {result['decision']}")
    show_table(
        "Deciding rules",
        ("rule", "message", "next step"),
        ((reason["rule"], reason["message"], reason["next_step"]) for reason in result["reasons"]),
    )
