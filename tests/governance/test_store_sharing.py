"""Two stores in one process beside others that come and go: one log, whoever closes what."""

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from neural_trader_governance.audit.entries import AuditEntry, EntryType
from neural_trader_governance.audit.verify import verify_store
from neural_trader_governance.identity import Caller
from neural_trader_governance.signing.keys import SigningKey
from neural_trader_governance.store import Store
from neural_trader_governance.terms.clocks import SimulatedClock

ORIGIN = "neural-trader.test/sharing"
CLOCK = SimulatedClock(datetime(2026, 11, 22, tzinfo=UTC))
VISITOR = """
import sys
from pathlib import Path
from neural_trader_governance.audit.entries import AuditEntry, EntryType
from neural_trader_governance.identity import Caller
from neural_trader_governance.signing.keys import SigningKey
from neural_trader_governance.store import Store
from neural_trader_governance.terms.clocks import WallClock
home = Path(sys.argv[1])
key = SigningKey.load(home / "log.key")
with Store.open(home / "desk.db", origin=key.name, signer=key, clock=WallClock()) as store:
    with store.unit() as unit:
        unit.append(AuditEntry.by(Caller("visitor", ""), EntryType.KILL))
"""


def visit(home: Path) -> None:
    """Another process opens the log, adds an entry, and closes it for good."""
    subprocess.run([sys.executable, "-c", VISITOR, str(home)], check=True, timeout=60)


def append(store: Store) -> int:
    with store.unit() as unit:
        return unit.append(AuditEntry.by(Caller("resident", ""), EntryType.KILL))


def test_a_visitor_that_leaves_takes_nothing_away_from_two_stores_of_one_process(tmp_path: Path) -> None:
    key = SigningKey.generate(ORIGIN)
    key.save(tmp_path / "log.key")
    path = tmp_path / "desk.db"
    with Store.open(path, origin=ORIGIN, signer=key, clock=CLOCK) as one:
        append(one)
        # Opening the same file once more must not drop the locks that the first store holds.
        with Store.open(path, origin=ORIGIN, signer=key, clock=CLOCK) as two:
            visit(tmp_path)
            assert one.head().size == two.head().size == 2
            assert append(one) == 2
            visit(tmp_path)
            assert append(two) == 4
        visit(tmp_path)
        assert append(one) == 6
        assert one.head().size == 7
    report = verify_store(path, key.vkey)
    assert report.ok, report.problems
    assert report.size == 7
