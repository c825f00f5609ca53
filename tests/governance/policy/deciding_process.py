"""A process that judges COUNT orders or more, until its stdin ends, or activates two policies in turn.

python deciding_process.py judge DB KEY FOLDER ISSUER_VKEY NAME COUNT
python deciding_process.py activate DB KEY FOLDER ISSUER_KEY NAME COUNT
"""

import select
import sys
import time
from pathlib import Path

from neural_trader_governance.audit.entries import AuditEntry, EntryType
from neural_trader_governance.identity import Caller
from neural_trader_governance.policy.activation import ActivePolicy, activate
from neural_trader_governance.policy.bundles import BundleFolder, PolicyBundle
from neural_trader_governance.policy.contexts import ORDINARY
from neural_trader_governance.policy.engine import POLICY_FILE, SCHEMA_FILE, SHIPPED_POLICY
from neural_trader_governance.signing.keys import SigningKey, VerifyingKey
from neural_trader_governance.store import Store
from neural_trader_governance.terms.clocks import WallClock

DEADLINE_S = 60


def main(task: str, database: str, key: str, folder: str, issuer: str, name: str, count: str) -> None:
    signer, clock = SigningKey.load(Path(key)), WallClock()
    bundles = BundleFolder(Path(folder))
    with Store.open(Path(database), origin=signer.name, signer=signer, clock=clock) as store:
        if task == "judge":
            judge(store, ActivePolicy(bundles, VerifyingKey.parse(issuer)), name, int(count))
        else:
            take_turns(store, bundles, SigningKey.load(Path(issuer)), int(count))


def judge(store: Store, policy: ActivePolicy, name: str, count: int) -> None:
    """An order of 45,000 USD, signed by a person: one of the two policies allows it."""
    order = ORDINARY.model_copy(update={"notional_cents": 4_500_000, "approvals": 1})
    judged = 0
    while judged < count or not select.select([sys.stdin], [], [], 0)[0]:
        judged += 1
        with store.unit() as unit:
            verdict = policy.current(unit.connection).decide(order)
            payload = {
                "context": order.model_dump(mode="json"),
                "decision": verdict.decision,
                "rules": [reason.rule for reason in verdict.reasons],
                "policy_digest": verdict.policy_digest,
            }
            unit.append(AuditEntry.by(Caller("alice", name), EntryType.POLICY_DECISION, payload=payload))


def take_turns(store: Store, folder: BundleFolder, issuer: SigningKey, count: int) -> None:
    """Lets others judge by each policy before the next one: however busy the machine, both are judged by."""
    policy = (SHIPPED_POLICY / POLICY_FILE).read_text(encoding="utf-8")
    schema = (SHIPPED_POLICY / SCHEMA_FILE).read_text(encoding="utf-8")
    for number in range(count):
        text = policy if number % 2 else policy.replace("> 5000000 &&", "> 4000000 &&")
        bundle = PolicyBundle.sign(issuer, policy=text, schema=schema, created=WallClock().now())
        with store.unit() as unit:
            activate(unit, bundle, folder=folder, issuer=issuer.verifying_key, caller=Caller("alice", ""))
        activated, deadline = decisions(store), time.monotonic() + DEADLINE_S
        while decisions(store) == activated and time.monotonic() < deadline:
            time.sleep(0.001)  # a condition with a deadline: SQLite offers nothing to wait on


def decisions(store: Store) -> int:
    """Returns how many decisions are in the log."""
    with store.read() as connection:
        question = "SELECT count(*) FROM audit_entries WHERE type = ?"
        return int(connection.execute(question, (EntryType.POLICY_DECISION,)).fetchone()[0])


if __name__ == "__main__":
    main(*sys.argv[1:])
