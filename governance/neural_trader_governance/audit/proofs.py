"""Proofs: one text that shows, offline and by the log's key alone, that an entry is in the log.

The form is https://c2sp.org/tlog-proof: index, audit path, and a signed checkpoint. Its `extra` line,
which nobody has to trust, carries what the checker would otherwise ask for: the entry itself, whose hash
the path leads from, and the log's key rotations, each of which the key before it signed.
"""

import base64
import binascii
import re
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

import orjson
from pydantic import Field, ValidationError

from neural_trader_governance.audit import log, merkle, witnessing
from neural_trader_governance.audit.archive import Shelf
from neural_trader_governance.audit.checkpoints import Checkpoint, open_checkpoint, read_checkpoint
from neural_trader_governance.audit.cosignatures import WitnessKey
from neural_trader_governance.audit.entries import LoggedEntry
from neural_trader_governance.audit.examination import Pins
from neural_trader_governance.audit.rotation import KeyChain, Rotation, open_signed, read_rotations
from neural_trader_governance.errors import InputError, IntegrityError
from neural_trader_governance.signing.canonical import canonical_bytes
from neural_trader_governance.signing.halves import decode_base64
from neural_trader_governance.signing.keys import VerifyingKey
from neural_trader_governance.signing.notes import parse_note
from neural_trader_governance.terms.term import Term

FIRST_LINE = "c2sp.org/tlog-proof@v1"
_INDEX = re.compile(r"index (0|[1-9][0-9]{0,15})")
_HASHES_MAX = 63


class PlacedRotation(Term):
    """A key rotation and the number of the entry that holds it."""

    seq: int = Field(ge=0)
    rotation: Rotation


class Extra(Term):
    """What the `extra` line carries, as canonical JSON."""

    entry: str | None = None
    rotations: tuple[PlacedRotation, ...] = ()


@dataclass(frozen=True, slots=True)
class Proven:
    """What a proof that verified shows: this leaf stands at this place under this checkpoint."""

    seq: int
    leaf_hash: str
    checkpoint: Checkpoint
    entry: LoggedEntry | None


def prove_entry(
    connection: sqlite3.Connection, seq: int, *, receipt: bool = False, shelf: Shelf | None = None
) -> str:
    """Returns the proof that a committed entry is in the log.

    Args:
        connection: Inside a transaction of the store.
        seq: The entry's number.
        receipt: Against the first checkpoint that covered the entry, instead of the newest one that a
            witness cosigned or, where none did, the newest one.
        shelf: Reads the entry's bytes; by default from the database or where they were archived to.

    Raises:
        InputError: the log has no such entry.
        StorageError: `entry_archived`, its archive is not where it was.
    """
    row = connection.execute("SELECT leaf_hash, entry FROM audit_entries WHERE seq = ?", (seq,)).fetchone()
    found = log.read_checkpoint(connection, covering=seq if receipt else None)
    if row is None or found is None or found[0] <= seq:
        raise InputError("unknown_seq", f"the audit log has no entry {seq}", "take a seq from audit_search")
    placed = read_rotations(connection)
    beyond = max(seq, placed[-1][0]) if placed else seq  # a proof is to hold for the newest key too
    size, note = (receipt and found) or _newest_cosigned(connection, beyond) or found
    data = (shelf or Shelf(connection)).read(seq, bytes(row[0]), bytes(row[1]))
    rotations = tuple(
        PlacedRotation(seq=place, rotation=rotation) for place, rotation in placed if place < size
    )
    path = merkle.inclusion_proof(log.node_reader(connection), seq, size)
    return write_proof(seq, path, note, Extra(entry=data.decode(), rotations=rotations))


def _newest_cosigned(connection: sqlite3.Connection, seq: int) -> tuple[int, str] | None:
    """Returns the newest checkpoint that covers an entry and that a witness cosigned, with its lines."""
    row = connection.execute(
        "SELECT size, note FROM audit_checkpoints JOIN audit_cosignatures USING (size)"
        " WHERE size > ? ORDER BY size DESC LIMIT 1",
        (seq,),
    ).fetchone()
    return None if row is None else (int(row[0]), f"{row[1]}{witnessing.cosigned_lines(connection, row[0])}")


def prove_receipt(connection: sqlite3.Connection, seq: int) -> str:
    """Returns the short proof that goes with a receipt: no entry in it, so check it with the leaf hash.

    Raises:
        InputError: the log has no such entry.
    """
    found = log.read_checkpoint(connection, covering=seq)
    if found is None or seq < 0:
        raise InputError("unknown_seq", f"the audit log has no entry {seq}", "take a seq from audit_search")
    return write_proof(
        seq, merkle.inclusion_proof(log.node_reader(connection), seq, found[0]), found[1], None
    )


def write_proof(seq: int, path: Sequence[bytes], note: str, extra: Extra | None) -> str:
    """Returns a proof in the form of c2sp.org/tlog-proof."""
    lines = [FIRST_LINE]
    if extra is not None:
        plain = extra.model_dump(mode="json", exclude_defaults=True)
        lines.append(f"extra {base64.b64encode(canonical_bytes(plain)).decode()}")
    lines += [f"index {seq}", *(base64.b64encode(step).decode() for step in path)]
    return "\n".join(lines) + "\n\n" + note


def verify_proof(
    text: str,
    vkey: str | VerifyingKey | Pins,
    *,
    entry: bytes | None = None,
    leaf_hash: bytes | None = None,
    witness: WitnessKey | None = None,
) -> Proven:
    """Checks a proof offline, with nothing but the log's pinned key.

    Args:
        text: The proof.
        vkey: A key that was the log's at any time.
        entry: The entry's canonical bytes, where they came another way; else those in the proof.
        leaf_hash: The leaf hash of a receipt, where the entry itself is not at hand.
        witness: Who must have cosigned the checkpoint, where one is asked for.

    Raises:
        IntegrityError: malformed, not signed by the log's keys, not cosigned where that was asked for, or
            the entry is not where it says.
        InputError: neither the proof nor the caller has the entry or its leaf hash.
        ConfigurationError: the verifier key is malformed.
    """
    pins = Pins.of(vkey)
    seq, path, note, extra = _parse(text)
    carried = None if extra.entry is None else extra.entry.encode()
    data = carried if entry is None else entry
    if data is None and leaf_hash is None:
        raise InputError(
            "entry_needed", "the proof does not carry the entry", "give the entry's bytes or its leaf hash"
        )
    leaf = leaf_hash if data is None else merkle.leaf_hash(data)
    if leaf is None or (leaf_hash is not None and leaf != leaf_hash):
        raise _refusal("the leaf hash is not the entry's")
    checkpoint = _open(note, pins, extra)
    if witness is not None:
        witness.verify(parse_note(note))
    if not merkle.verify_inclusion(leaf, seq, checkpoint.size, path, checkpoint.root):
        raise _refusal(f"the entry is not number {seq} under the signed root of {checkpoint.size} entries")
    logged = None if data is None else LoggedEntry.decode(data)
    if logged is not None and (logged.seq != seq or logged.origin != checkpoint.origin):
        raise _refusal(f"the entry calls itself number {logged.seq} of {logged.origin!r:.80}")
    return Proven(seq, leaf.hex(), checkpoint, logged)


def _open(note: str, pins: Pins, extra: Extra) -> Checkpoint:
    unproven = read_checkpoint(parse_note(note))
    chain = KeyChain.anchored(pins.log, (placed.rotation for placed in extra.rotations))
    last = -1
    for placed in extra.rotations:
        if not last < placed.seq < unproven.size:
            raise _refusal("its key rotations are not in order")
        chain.admit(placed.seq, placed.rotation, unproven.origin)
        last = placed.seq
    checkpoint = open_signed(note, chain)
    if pins.log not in chain.keys:
        raise _refusal("the pinned key is not one of the log's")
    if pins.mldsa is not None:
        open_checkpoint(note, pins.mldsa)
    return checkpoint


def _parse(text: str) -> tuple[int, list[bytes], str, Extra]:
    head, separator, note = text.partition("\n\n")
    first, *lines = head.split("\n")
    if first != FIRST_LINE or not separator or not lines:
        raise _refusal(f"it does not begin with {FIRST_LINE}")
    extra = Extra()
    if lines[0].startswith("extra "):
        try:
            extra = Extra.model_validate(orjson.loads(decode_base64(lines.pop(0).removeprefix("extra "))))
        except (ValueError, ValidationError):
            raise _refusal("its extra line is not ours") from None
    match = _INDEX.fullmatch(lines[0]) if lines else None
    if match is None or len(lines) - 1 > _HASHES_MAX:
        raise _refusal("it has no index line where one belongs, or too many hashes")
    try:
        path = [decode_base64(line) for line in lines[1:]]
    except (ValueError, binascii.Error):
        raise _refusal("a hash is not canonical base64") from None
    if any(len(step) != 32 for step in path):
        raise _refusal("a hash is not 32 bytes")
    return int(match[1]), path, note, extra


def _refusal(why: str) -> IntegrityError:
    return IntegrityError("proof_invalid", f"the proof does not hold: {why}", "treat the entry as unproven")
