"""What a memory is: its kinds, whom it can be trusted from, and the record that a store keeps."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, get_args

from neural_trader_governance.errors import IntegrityError
from neural_trader_governance.terms.clocks import format_time

Kind = Literal["note", "decision", "outcome", "reflection", "skill", "backtest", "order", "trade"]
Source = Literal["agent", "desk", "person", "import", "outside"]
Trust = Literal["verified", "asserted", "untrusted", "quarantined"]
State = Literal["live", "forgotten"]

KINDS: tuple[Kind, ...] = get_args(Kind)
TRUSTS: tuple[Trust, ...] = get_args(Trust)
"""From the most to the least."""
TRUSTED: Final = frozenset[Trust](("verified", "asserted"))
REGIME_DIMENSION: Final = 33
"""16 features, 9 quantiles of returns, 8 spectral bands; see docs/memory.md."""

# What the desk saw or a person wrote is verified; what an agent says is a claim until something proves it.
TRUST_BY_SOURCE: Mapping[Source, Trust] = {
    "desk": "verified",
    "person": "verified",
    "agent": "asserted",
    "import": "untrusted",
    "outside": "untrusted",  # an agent's own words, written after it had read text from outside
}

_SECOND_FORMAT: Final = ("importance", "expires_at", "causes", "origin", "state", "regime")


@dataclass(frozen=True, slots=True)
class Record:
    """One revision of one memory, as it is hashed and kept; never changed once written.

    Attributes:
        memory_id: Names the memory through all its revisions.
        rev: 1 for the first; a correction is a new revision, not an overwrite.
        agent: Whose memory it is; the namespace that a search cannot leave.
        symbols: What it is about, sorted, without duplicates.
        data: Canonical JSON text of an object, or "" where there is none.
        event_time: When it happened.
        known_time: When this desk came to know this revision, by the server's clock.
        about_seq: The audit entry that the memory speaks of, such as an order's.
        prev_hash: Content hash of the revision before, or "".
        importance: 0 to 1; None lets the kind speak.
        expires_at: From when on it is not found any more; None: never.
        causes: Ids of the memories that it follows from.
        origin: Where an imported memory comes from, in its importer's words; "" for one of our own.
        state: `forgotten` is a tombstone: from its `known_time` on the memory is not found.
        regime: The market's regime vector when it was written (`REGIME_DIMENSION` numbers), if there was one.
    """

    memory_id: str
    rev: int
    agent: str
    kind: Kind
    text: str
    symbols: tuple[str, ...]
    data: str
    event_time: datetime
    known_time: datetime
    source: Source
    trust: Trust
    about_seq: int | None
    prev_hash: str
    importance: float | None = None
    expires_at: datetime | None = None
    causes: tuple[str, ...] = ()
    origin: str = ""
    state: State = "live"
    regime: tuple[float, ...] | None = None

    @property
    def content_hash(self) -> str:
        """Returns the SHA-256, in hex, of every field; the audit log carries it.

        A record that uses no field of the second format hashes as it did in the first, so that what was
        written then still verifies; the two are kept apart by their prefix.
        """
        fields = {name: getattr(self, name) for name in self.__slots__}
        fields["event_time"] = format_time(self.event_time)
        fields["known_time"] = format_time(self.known_time)
        added = {name: fields.pop(name) for name in _SECOND_FORMAT}
        if added == _DEFAULTS:
            return hashlib.sha256(b"neural-trader/memory/v1\0" + canonical(fields)).hexdigest()
        if self.expires_at is not None:
            added["expires_at"] = format_time(self.expires_at)
        return hashlib.sha256(b"neural-trader/memory/v2\0" + canonical(fields | added)).hexdigest()

    def verify(self, recorded_hash: str) -> None:
        """Checks the record against the hash that was kept beside it.

        Raises:
            IntegrityError: a field was changed after it was written.
        """
        if self.content_hash != recorded_hash:
            raise IntegrityError(
                "memory_altered",
                f"memory {self.memory_id} does not match its content hash {recorded_hash[:16]}…",
                "compare it with its `memory.write` audit entry and restore the folder from a backup",
                memory_id=self.memory_id,
            )


_DEFAULTS: Final = {
    "importance": None,
    "expires_at": None,
    "causes": (),
    "origin": "",
    "state": "live",
    "regime": None,
}


def least_trust(*trusts: Trust) -> Trust:
    """Returns the lowest of them: what is made from several things is trusted as its worst part is."""
    return max(trusts, key=TRUSTS.index)


def canonical(value: object) -> bytes:
    """Returns the one JSON text of a value: sorted keys, no spaces, UTF-8.

    Raises:
        ValueError: it is not JSON; NaN, infinities and lone surrogates are not either.
        TypeError: as ValueError.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()  # a lone surrogate ends here, as a UnicodeEncodeError (a ValueError)
