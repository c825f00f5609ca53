"""Witnessed: does a log, or an export of it, contain the newest tree that a witness vouches for?

A log that was cut short, or written anew with its own key, is whole in itself. Only what somebody
else remembers shows it: give the newest checkpoint that the witness cosigned, got from the witness.
"""

import sqlite3
from collections.abc import Callable
from pathlib import Path

from neural_trader_governance.audit import log, merkle
from neural_trader_governance.audit.bundles import WIDTH, tile_path
from neural_trader_governance.audit.checkpoints import Checkpoint, read_checkpoint
from neural_trader_governance.audit.cosignatures import WitnessKey
from neural_trader_governance.audit.tiles import WIDTH, tile_path
from neural_trader_governance.errors import IntegrityError
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
