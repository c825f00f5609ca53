"""Replay: deciding a logged decision again, from its logged inputs, with the policy of its day.

A decision entry holds every input, and its digest names the bundle that judged it, which is kept for
ever. Whoever doubts a decision recomputes it; a bundle needs no signature for that, because the
digest stands in the signed log and covers every byte.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from neural_trader_governance.audit.archive import Shelf
from neural_trader_governance.audit.bundles import spans, split_bundle, tile_path
from neural_trader_governance.audit.entries import EntryType, LoggedEntry
from neural_trader_governance.audit.log import read_entry
from neural_trader_governance.errors import InputError, IntegrityError, NeuralTraderError
from neural_trader_governance.policy.activation import (
    UNAVAILABLE_RULE,
    Activation,
    activation_of,
    read_activations,
)
from neural_trader_governance.policy.bundles import BundleFolder
from neural_trader_governance.policy.engine import ENGINE_RULE, PolicyEngine

Outcome = Literal["identical", "different", "not_replayable", "failed_closed", "before_bundles"]

_FOR_EVER = 2**63
_FAILED_CLOSED = ({UNAVAILABLE_RULE}, {ENGINE_RULE})


@dataclass(frozen=True, slots=True)
class Replayed:
    """One decision, decided again.

    Attributes:
        outcome: `failed_closed` marks a denial for want of a working policy: there was nothing to
            compute, and nothing was allowed. `before_bundles` marks a decision of the time before
            policies were signed and kept. `not_replayable` and `different` are problems.
        rules: As logged, in the policy's order.
        detail: Why it is not identical.
    """

    seq: int
    outcome: Outcome
    policy_digest: str
    decision: str
    rules: tuple[str, ...]
    decision_recomputed: str | None = None
    rules_recomputed: tuple[str, ...] = ()
    detail: str = ""

    @property
    def ok(self) -> bool:
        """True where nothing speaks against the entry."""
        return self.outcome in {"identical", "failed_closed", "before_bundles"}


class Replayer:
    """Decides logged decisions again; each policy is read and parsed once.

    Args:
        folder: The bundles.
        activations: Every activation of the log, oldest first: they say which policies an earlier version
            put in force without keeping them. After the first signed one, no bundle may be missing.
    """

    def __init__(self, folder: BundleFolder, activations: Sequence[Activation] = ()) -> None:
        self._folder = folder
        self._unkept: dict[str, int] = {}
        first_signed = next((each.seq for each in activations if each.bundle_signature), None)
        for each in activations:
            if each.bundle_signature:
                break
            self._unkept[each.digest] = _FOR_EVER if first_signed is None else first_signed
        self._engines: dict[str, PolicyEngine | str] = {}

    def replay(self, entry: LoggedEntry) -> Replayed:
        """Decides one entry again.

        Raises:
            InputError: it is no decision.
        """
        if entry.type is not EntryType.POLICY_DECISION:
            raise InputError(
                "not_a_decision",
                f"entry {entry.seq} is a {entry.type.value}",
                "take the seq of a policy.decision: `neural-trader audit search --type policy.decision`",
            )
        digest, decision = entry.payload.get("policy_digest"), entry.payload.get("decision")
        rules, context = entry.payload.get("rules"), entry.payload.get("context")
        if not (
            isinstance(digest, str)
            and isinstance(decision, str)
            and isinstance(rules, list)
            and isinstance(context, dict)
        ):
            return Replayed(entry.seq, "not_replayable", "", "", (), detail="the entry lacks its inputs")
        logged = tuple(map(str, rules))
        if decision == "deny" and set(logged) in _FAILED_CLOSED:
            return Replayed(entry.seq, "failed_closed", digest, decision, logged)
        if entry.seq < self._unkept.get(digest, 0):
            why = "an earlier version decided this, which neither signed nor kept its policies"
            return Replayed(entry.seq, "before_bundles", digest, decision, logged, detail=why)
        engine = self._engine(digest)
        if isinstance(engine, str):
            return Replayed(entry.seq, "not_replayable", digest, decision, logged, detail=engine)
        verdict = engine.decide(context)
        again = tuple(reason.rule for reason in verdict.reasons)
        same = (verdict.decision, again) == (decision, logged)
        detail = "" if same else "; ".join(reason.message for reason in verdict.reasons)
        outcome: Outcome = "identical" if same else "different"
        return Replayed(entry.seq, outcome, digest, decision, logged, verdict.decision, again, detail)

    def _engine(self, digest: str) -> PolicyEngine | str:
        """Returns the engine of a digest, or why there is none."""
        if digest not in self._engines:
            try:
                bundle = self._folder.read(digest)
                # Time decides nothing here: what was decided in time may be recomputed at leisure.
                engine = PolicyEngine(bundle.policy, bundle.cedar_schema, monotonic_ns=lambda: 0)
                self._engines[digest] = engine
            except NeuralTraderError as error:
                self._engines[digest] = error.what
        return self._engines[digest]


def replay_seq(connection: sqlite3.Connection, seq: int, folder: BundleFolder) -> Replayed:
    """Decides the entry at a seq again.

    Raises:
        InputError: there is no such entry, or it is no decision.
        IntegrityError: its bytes are damaged.
    """
    return Replayer(folder, read_activations(connection)).replay(read_entry(connection, seq))


def decisions(connection: sqlite3.Connection, archive: Path | None = None) -> Iterator[LoggedEntry]:
    """Yields every decision of a log, oldest first.

    Args:
        connection: Inside a read transaction.
        archive: Where archived entries lie now, if not where they were archived to.

    Raises:
        StorageError: an entry was archived, and the archive is not where it was.
        IntegrityError: an entry is damaged.
    """
    shelf = Shelf(connection, archive)
    query = "SELECT seq, leaf_hash, entry FROM audit_entries WHERE type = ? ORDER BY seq"
    for seq, leaf_hash, stored in connection.execute(query, (EntryType.POLICY_DECISION.value,)):
        yield LoggedEntry.decode(shelf.read(int(seq), bytes(leaf_hash), bytes(stored)))


def exported_decisions(folder: Path, size: int) -> Iterator[LoggedEntry]:
    """Yields every decision of an export, oldest first.

    Args:
        folder: A C2SP tlog-tiles folder that was verified.
        size: How many entries it holds.

    Raises:
        IntegrityError: an entry is missing or damaged.
    """
    return _exported(folder, size, EntryType.POLICY_DECISION)


def exported_activations(folder: Path, size: int) -> list[Activation]:
    """Returns every activation of an export, oldest first; see `exported_decisions`."""
    found = _exported(folder, size, EntryType.POLICY_ACTIVATE)
    return [activation_of(entry, count) for count, entry in enumerate(found, start=1)]


def _exported(folder: Path, size: int, wanted: EntryType) -> Iterator[LoggedEntry]:
    for index, width in spans(size):
        path = folder / tile_path("entries", index, width)
        try:
            items, problem = split_bundle(path.read_bytes(), width)
        except OSError as error:
            items, problem = [], f"cannot be read ({type(error).__name__})"
        for item in items:
            entry = LoggedEntry.decode(item)
            if entry.type is wanted:
                yield entry
        if problem:
            raise IntegrityError("bundle_damaged", f"{path} {problem}", "export the log again")


def replay_all(
    entries: Iterable[LoggedEntry],
    folder: BundleFolder,
    *,
    activations: Sequence[Activation] = (),
    progress: Callable[[int], None] = lambda done: None,
) -> Iterator[Replayed]:
    """Decides logged decisions again.

    Args:
        entries: Decisions of a log or of an export.
        folder: The bundles.
        activations: Of the same log; see `Replayer`.
        progress: Told how many were decided, after each.
    """
    replayer = Replayer(folder, activations)
    for done, entry in enumerate(entries, start=1):
        yield replayer.replay(entry)
        progress(done)
