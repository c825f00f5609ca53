"""Intact: does every entry of the log still hold the bytes that the newest checkpoint was signed for?

Whoever opens the log checks its newest checkpoint only, for that takes no time. A server asks for more
before it serves: the desk looks into old entries for who was retired, what was revoked and what was
sent, by the columns that find them. `verify` does all of this and more, and takes ten times as long.
"""

import sqlite3

import orjson

from neural_trader_governance.audit import merkle
from neural_trader_governance.audit.checkpoints import read_checkpoint
from neural_trader_governance.audit.entries import EntryType, LoggedEntry
from neural_trader_governance.audit.log import read_checkpoint as newest_checkpoint
from neural_trader_governance.errors import IntegrityError
from neural_trader_governance.signing.notes import parse_note

_ARCHIVE = EntryType.AUDIT_ARCHIVE.value.encode()


def require_intact(connection: sqlite3.Connection) -> int:
    """Passes a log whose entries make up the newest root and are found by what they say; returns its size.

    Call it with a store that `Store.open` accepted: that has checked the checkpoint's signature.

    Raises:
        IntegrityError: `audit_log_altered`, with the first entry that is not what was signed.
    """
    newest = newest_checkpoint(connection)
    if newest is None:
        raise _altered("it has no checkpoint")
    signed = read_checkpoint(parse_note(newest[1].encode()))
    frontier: tuple[bytes, ...] = ()
    size = 0
    bare: list[int] = []  # entries without their bytes, and what the log says was moved to archives
    moved: list[range] = []
    rows = connection.execute(
        "SELECT seq, leaf_hash, entry, CAST(type AS BLOB), CAST(agent AS BLOB), CAST(client_order_id AS BLOB)"
        " FROM audit_entries ORDER BY seq"
    )
    for seq, leaf, data, kind, agent, order_id in rows:
        if seq != size:
            raise _altered(f"entry {size} is missing")
        if not data:
            bare.append(seq)
        elif merkle.leaf_hash(data) != leaf or not _is_found(data, kind, agent, order_id):
            raise _altered(f"entry {seq} is not what was written")
        elif kind == _ARCHIVE:
            moved.append(_segment(data))
        frontier, _ = merkle.extend(size, frontier, leaf)
        size += 1
    if (size, merkle.root_of(frontier)) != (signed.size, signed.root):
        raise _altered(f"its {size} entries do not make up the signed root")
    for seq in bare:
        if not any(seq in segment for segment in moved):
            raise _altered(f"entry {seq} is empty, and was never archived")
    return size


def _is_found(data: bytes, kind: bytes, agent: bytes, order_id: bytes | None) -> bool:
    """Says whether the columns by which an entry is found are its own fields.

    Canonical JSON sorts its keys: what stands before the payload is the entry's, whatever that holds.
    """
    head, _, _ = data.partition(b',"payload":')
    named = b'"client_order_id":' in head
    return (
        data.endswith(b'"type":"%b","v":1}' % kind)
        and b'"agent":%b' % _json(agent) in head
        and (not named if order_id is None else b'"client_order_id":%b' % _json(order_id) in head)
    )


def _segment(data: bytes) -> range:
    payload = LoggedEntry.decode(data).payload
    start, end = payload.get("start"), payload.get("end")
    return range(start, end) if isinstance(start, int) and isinstance(end, int) else range(0)


def _json(text: bytes) -> bytes:
    return orjson.dumps(text.decode(errors="replace"))


def _altered(what: str) -> IntegrityError:
    return IntegrityError(
        "audit_log_altered",
        f"the audit log was altered while nobody served it: {what}",
        "do not trade; keep the files, and run `neural-trader audit verify`",
    )
