"""What governance costs an order: the decision and the durable commit, beside the disk itself.

The peer is a raw append of the same bytes (entry and checkpoint) with one fdatasync, on the same
disk, measured alternately with ours: the floor that no log which survives a power cut can pass.
Throughput: 1, 8 and 64 threads that each wait for their own entry, beside the same threads at a plain
group commit (`group_commit`); the figure is the time per entry, the best of three turns each. The 64
are measured on one core too: Python runs one thread at a time, and waking the next one costs more on
another core.
"""

import os
import tempfile
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from statistics import quantiles

import cedarpy
from group_commit import FileGroupCommit, Peer, SqliteGroupCommit, per_s
from results import Case, write_results

from neural_trader_governance.audit.entries import AuditEntry, EntryType
from neural_trader_governance.identity import Caller
from neural_trader_governance.policy.contexts import ORDINARY
from neural_trader_governance.policy.engine import POLICY_FILE, SCHEMA_FILE, SHIPPED_POLICY, PolicyEngine
from neural_trader_governance.signing.keys import SigningKey
from neural_trader_governance.store import Store
from neural_trader_governance.terms.clocks import WallClock
from neural_trader_tools.orders.order_ids import random_id

ROUNDS = 400
BATCH = 64
RAW = "append + fdatasync"
CLIENTS = ((1, ""), (8, ""), (64, ""), (64, ", all on one core"))
TURNS = 3
TURN_S = 1.5
UNITS_PER_S_MAX = 30_000
CALLER = Caller("bench", "bench-bot")


def alternate(
    ours: Callable[[], object], peer: Callable[[], object], rounds: int
) -> tuple[list[float], list[float]]:
    """Returns the wall times of both in milliseconds, taken in turns so that load meets both alike."""
    samples: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds + 20):
        for action, times in zip((ours, peer), samples, strict=True):
            start = time.perf_counter()
            action()
            times.append((time.perf_counter() - start) * 1e3)
    return samples[0][20:], samples[1][20:]


def cases(
    name: str, peer_name: str, unit: str, pair: tuple[list[float], list[float]], per: float = 1.0
) -> list[Case]:
    """Returns the median and the 99th percentile of both as two cases."""
    ours, peer = (quantiles(times, n=100) for times in pair)
    scale = (1e3 if unit == "us" else 1.0) / per
    return [
        Case(f"{name}, {label}", ours[rank] * scale, peer[rank] * scale, peer_name, unit)
        for label, rank in (("p50", 49), ("p99", 98))
    ]


def decision_entry() -> AuditEntry:
    """Returns an entry as a decision writes it, with all its inputs."""
    payload = {"context": ORDINARY.model_dump(mode="json"), "decision": "allow"}
    return AuditEntry.by(CALLER, EntryType.POLICY_DECISION, symbol="AAPL", payload=payload)


def order_entry() -> AuditEntry:
    """Returns an entry as a submitted order writes it."""
    intent = {
        "symbol": "AAPL", "side": "buy", "quantity": "100", "order_type": "limit", "limit_price": "187.25",
        "time_in_force": "day", "account": "paper", "agent": "bench-bot", "reason": "a crossover",
    }  # fmt: skip
    return AuditEntry.by(
        CALLER,
        EntryType.ORDER_INTENT,
        account="paper",
        symbol="AAPL",
        intent_hash="f" * 64,
        client_order_id=random_id("nt"),
        payload={"intent": intent, "decision_seq": 12_345},
    )


def throughput(place: Path, key: SigningKey) -> list[Case]:
    """Returns the time per entry with 1, 8 and 64 threads: one entry to a unit, then a submission's two.

    Entries are made before the clock runs, as the peers' bytes are: placing, validating, encoding, hashing,
    indexing, signing and syncing them is what is timed.
    """
    found: list[Case] = []
    cores = os.sched_getaffinity(0)
    with Store.open(place / "crowd.db", origin="bench/log", signer=key, clock=WallClock()) as store:
        ready: deque[tuple[AuditEntry, ...]] = deque()

        def put() -> None:
            entries = ready.popleft()
            with store.unit() as unit:
                for entry in entries:
                    unit.append(entry)

        def one() -> tuple[AuditEntry, ...]:
            return (order_entry(),)

        def two() -> tuple[AuditEntry, ...]:
            return decision_entry(), order_entry()

        for name, make, count in (("one entry", one, 1), ("a submission's two entries", two, 2)):
            ready.append(make())
            put()
            with store.read() as connection:
                rows = connection.execute(
                    "SELECT entry FROM audit_entries ORDER BY seq DESC LIMIT ?", (count,)
                )
                data = b"".join(bytes(row[0]) for row in rows)
            peers: dict[str, Peer] = {
                "plain SQLite table, group commit": SqliteGroupCommit(place / f"plain-{count}.db", data),
                "append + fdatasync, group commit": FileGroupCommit(place / f"plain-{count}.log", data),
            }
            for clients, where in CLIENTS:
                if where:
                    os.sched_setaffinity(0, {min(cores)})  # of this thread, and of those that it starts
                ours, theirs = 0.0, dict.fromkeys(peers, 0.0)
                for _ in range(TURNS):
                    ready.clear()
                    ready.extend(make() for _ in range(int(TURN_S * UNITS_PER_S_MAX)))
                    ours = max(ours, count * per_s(clients, put, duration_s=TURN_S))
                    for peer_name, peer in peers.items():
                        theirs[peer_name] = max(
                            theirs[peer_name], count * per_s(clients, peer.put, duration_s=TURN_S)
                        )
                os.sched_setaffinity(0, cores)
                case = f"{clients} clients{where}, {name} a unit ({ours:,.0f} entries/s), per entry"
                found += [Case(case, 1e6 / ours, 1e6 / best, peer, "us") for peer, best in theirs.items()]
            for peer in peers.values():
                peer.close()
    return found


def main() -> None:
    # Beside the results, not in /tmp: that may be memory, where a sync costs nothing.
    with tempfile.TemporaryDirectory(dir=Path(__file__).parent) as folder:
        place = Path(folder)
        key, engine = SigningKey.generate("bench/log"), PolicyEngine.load()
        store = Store.open(place / "desk.db", origin="bench/log", signer=key, clock=WallClock())

        def commit(count: int = 1) -> None:
            with store.unit() as unit:
                for _ in range(count):
                    unit.append(decision_entry())

        def decide_and_commit() -> None:
            assert engine.decide(ORDINARY).decision == "allow"
            commit()

        commit()
        with store.read() as connection:
            (data,) = connection.execute("SELECT entry FROM audit_entries").fetchone()
        raw_bytes = data + store.head().checkpoint.encode()
        raw = os.open(place / "raw.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

        def sync(count: int = 1) -> None:
            os.write(raw, raw_bytes * count)
            os.fdatasync(raw)

        texts = [(SHIPPED_POLICY / name).read_text() for name in (POLICY_FILE, SCHEMA_FILE)]
        policies, schema = cedarpy.PolicySet.from_str(texts[0]), cedarpy.Schema.from_str(texts[1])
        request = {
            "principal": {"type": "Agent", "id": "bench-bot"},
            "action": {"type": "Action", "id": "submit_order"},
            "resource": {"type": "Account", "id": "paper"},
            "context": ORDINARY.facts(),
        }
        found = [
            *cases(
                "policy decision", "Cedar alone, parsed handles", "us",
                alternate(
                    lambda: engine.decide(ORDINARY),
                    lambda: cedarpy.is_authorized(request, policies, [], schema),
                    ROUNDS,
                ),
            ),
            *cases("durable commit of one entry", RAW, "ms", alternate(commit, sync, ROUNDS)),
            *cases("decision + durable commit", RAW, "ms", alternate(decide_and_commit, sync, ROUNDS)),
            *cases(
                f"{BATCH} entries in one unit, per entry", f"append of {BATCH} + fdatasync", "us",
                alternate(lambda: commit(BATCH), lambda: sync(BATCH), ROUNDS // 8), per=BATCH,
            ),
        ]  # fmt: skip
        os.close(raw)
        store.close()
        found += throughput(place, key)
    write_results("gateway", found)


if __name__ == "__main__":
    main()
