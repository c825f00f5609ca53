"""Witnessed: does a log, or an export of it, contain the newest tree that a witness vouches for?

A log that was cut short, or written anew with its own key, is whole in itself. Only what somebody
else remembers shows it: give the newest checkpoint that the witness cosigned, got from the witness.
"""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from neural_trader_governance.audit import log, merkle, witnessing
from neural_trader_governance.audit.bundles import WIDTH, tile_path
from neural_trader_governance.audit.checkpoints import Checkpoint, read_checkpoint
from neural_trader_governance.audit.cosignatures import WitnessKey
from neural_trader_governance.audit.verify import opened
from neural_trader_governance.errors import IntegrityError, StorageError
from neural_trader_governance.signing.notes import parse_note

RootReader = Callable[[int], bytes]
"""Returns the root of the log's first so many entries."""


def open_cosigned(note: str | bytes, key: WitnessKey) -> tuple[Checkpoint, int]:
    """Returns what a witness vouched for, and when (seconds since 1970).

    Raises:
        IntegrityError: malformed, or not cosigned by this witness.
    """
    parsed = parse_note(note)
    time_s = key.verify(parsed)
    return read_checkpoint(parsed), time_s


def missing_from(
    cosigned: str | bytes, key: WitnessKey, *, origin: str, size: int, root_at: RootReader
) -> str | None:
    """Says in what a log falls short of what its witness saw; None if it contains all of it.

    Args:
        cosigned: The newest checkpoint that the witness cosigned.
        key: The pinned key of the witness.
        origin: The log's name.
        size: How many entries the log, or the export, holds.
        root_at: Its root at any size up to that one.
    """
    try:
        seen, _ = open_cosigned(cosigned, key)
    except IntegrityError as error:
        return error.what
    if seen.origin != origin:
        return f"the witness vouches for the log {seen.origin!r:.80}, not for {origin!r:.80}"
    if seen.size > size:
        return f"the witness saw {seen.size} entries, only {size} are here"
    if root_at(seen.size) != seen.root:
        return f"the first {seen.size} entries are not those that the witness saw"
    return None


def missing_in(place: Path, key: WitnessKey, *, size: int, cosigned: str | None) -> str | None:
    """Says in what a store's file or an export's folder falls short of its witness; None if in nothing.

    Args:
        place: What `verify` has just found to be whole.
        key: The pinned key of the witness.
        size: How many entries `verify` found.
        cosigned: What the witness remembers. None takes the newest cosignature that the place itself
            brings: that finds a fork of it, but not that its end was cut off.
    """
    origin = origin_of(place)
    if place.is_dir():
        known = cosigned or (place / "checkpoint").read_text(encoding="utf-8")
        return missing_from(known, key, origin=origin, size=size, root_at=export_root(place, size))
    with opened(place) as connection:
        known = cosigned or witnessing.newest_cosigned(connection, key)
        if known is None:
            return f"no checkpoint in it is cosigned by {key.name}+{key.key_id.hex()}"
        return missing_from(known, key, origin=origin, size=size, root_at=store_root(connection))


def origin_of(place: Path) -> str:
    """Returns the name of the log in a store's file or an export's folder."""
    if place.is_dir():
        return (place / "checkpoint").read_text(encoding="utf-8").partition("\n")[0]
    with opened(place) as connection:
        found = log.read_checkpoint(connection)
    return "" if found is None else found[1].partition("\n")[0]


def remembered(folder: Path, origin: str) -> str | None:
    """Returns the newest checkpoint of a log from a witness's folder, or a copy of one, without its key.

    Raises:
        StorageError: it holds no witness's memory.
    """
    path = (folder / "witness.db").absolute()
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
            row = connection.execute("SELECT note FROM logs WHERE origin = ?", (origin,)).fetchone()
    except sqlite3.Error as error:
        raise StorageError(
            "witness_unavailable", f"{path} cannot be read ({error})", "give a witness's folder"
        ) from error
    return None if row is None else str(row[0])


def store_root(connection: sqlite3.Connection) -> RootReader:
    """Reads roots from a store; run `verify` first, which proves that its hashes are its entries'."""
    return lambda size: merkle.root_of(log.read_frontier(connection, size))


def export_root(folder: Path, export_size: int) -> RootReader:
    """Reads roots from an export's tiles of level 0; run `verify` first."""

    def root_at(size: int) -> bytes:
        frontier: tuple[bytes, ...] = ()
        for index in range(-(-size // WIDTH)):
            width = min(WIDTH, export_size - index * WIDTH)
            tile = (folder / tile_path("0", index, width)).read_bytes()
            for offset in range(min(width, size - index * WIDTH)):
                leaf = tile[offset * 32 : offset * 32 + 32]
                frontier, _ = merkle.extend(index * WIDTH + offset, frontier, leaf)
        return merkle.root_of(frontier)

    return root_at
