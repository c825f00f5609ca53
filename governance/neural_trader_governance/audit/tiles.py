"""Export as static files: a C2SP tlog-tiles folder that anybody can check without us.

    checkpoint                         the newest signed checkpoint, written last
    log.vkey                           the key, for convenience; a checker pins its own copy
    tile/<L>/<N>[.p/<W>]               hashes of level 8L, 256 to a tile (https://c2sp.org/tlog-tiles)
    tile/entries/<N>[.p/<W>]           the entries, each behind its length as a big-endian uint16

Every file is written beside its place, synced and renamed, and the checkpoint only after all that
it covers: a reader, or a crash, finds the old export or the new one.
"""

import fcntl
import os
import shutil
import sqlite3
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from neural_trader_governance.audit import log, merkle
from neural_trader_governance.audit.checkpoints import open_checkpoint
from neural_trader_governance.errors import IntegrityError, StorageError
from neural_trader_governance.signing.keys import VerifyingKey, sync_folder
from neural_trader_governance.store import Store

TILE_WIDTH = 256
_TILE_HEIGHT = 8


@dataclass(frozen=True, slots=True)
class Export:
    """What an export covers, and how much of it was new."""

    folder: Path
    size: int
    root_hex: str
    files_written: int


def tile_path(kind: str, index: int, width: int = TILE_WIDTH) -> str:
    """Returns the path of a tile or an entry bundle, such as `tile/0/x001/234.p/12`.

    Args:
        kind: A tile level as a number, or `entries`.
        index: Position of the tile in its level.
        width: Hashes in the tile; below 256 it is a partial one.
    """
    parts = [f"{index % 1000:03d}"]
    while index >= 1000:
        index //= 1000
        parts.insert(0, f"x{index % 1000:03d}")
    suffix = "" if width == TILE_WIDTH else f".p/{width}"
    return f"tile/{kind}/{'/'.join(parts)}{suffix}"


def spans(size: int, start: int = 0) -> Iterator[tuple[int, int]]:
    """Yields (index, width) of the tiles that cover `size` hashes, from the one that holds `start`."""
    for index in range(start // TILE_WIDTH, -(-size // TILE_WIDTH)):
        yield index, min(TILE_WIDTH, size - index * TILE_WIDTH)


def export(store: Store, folder: Path) -> Export:
    """Writes what the folder lacks up to the log's newest checkpoint.

    Raises:
        IntegrityError: the folder holds an export of another log, or of another history.
        StorageError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder), store.read() as connection:
            return _export(connection, VerifyingKey.parse(store.vkey), store.origin, folder)
    except OSError as error:
        raise StorageError(
            "export_failed", f"{folder} could not be written ({error})", "choose a writable folder"
        ) from error


def _export(connection: sqlite3.Connection, key: VerifyingKey, origin: str, folder: Path) -> Export:
    found = log.read_checkpoint(connection)
    if found is None:
        raise IntegrityError("no_checkpoint", "the audit log has no checkpoint", "restore it from a backup")
    checkpoint = open_checkpoint(found[1], key, origin=origin)
    start = _exported_size(connection, key, origin, folder, checkpoint.size)
    writer = _Writer(folder)
    for index, width in spans(checkpoint.size, start):
        rows = connection.execute(
            "SELECT entry FROM audit_entries WHERE seq >= ? AND seq < ? ORDER BY seq",
            (index * TILE_WIDTH, index * TILE_WIDTH + width),
        )
        bundle = b"".join(len(row[0]).to_bytes(2, "big") + bytes(row[0]) for row in rows)
        writer.write(tile_path("entries", index, width), bundle)
    level = 0
    while (nodes := checkpoint.size >> level * _TILE_HEIGHT) > 0:
        for index, width in spans(nodes, start >> level * _TILE_HEIGHT):
            first = index * TILE_WIDTH
            hashes = [
                log.read_node(connection, level * _TILE_HEIGHT, first + offset) for offset in range(width)
            ]
            writer.write(tile_path(str(level), index, width), b"".join(hashes))
        level += 1
    writer.write("log.vkey", f"{key.vkey}\n".encode())
    writer.sync()
    writer.write("checkpoint", found[1].encode())
    writer.sync()
    writer.drop_superseded()
    return Export(folder, checkpoint.size, checkpoint.root.hex(), writer.count)


def _exported_size(
    connection: sqlite3.Connection, key: VerifyingKey, origin: str, folder: Path, size: int
) -> int:
    """Returns how many entries the folder holds, having checked that they are this log's."""
    try:
        note = (folder / "checkpoint").read_bytes()
    except FileNotFoundError:
        return 0
    earlier = open_checkpoint(note, key, origin=origin)
    if earlier.size > size or merkle.root_of(log.read_frontier(connection, earlier.size)) != earlier.root:
        raise IntegrityError(
            "export_diverged",
            f"{folder} holds {earlier.size} entries that this log of {size} does not contain",
            "keep both, run `neural-trader audit verify`, and export into an empty folder",
        )
    return earlier.size


@contextmanager
def _locked(folder: Path) -> Generator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


class _Writer:
    """Writes files durably and atomically below one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._touched: set[Path] = set()
        self._superseded: list[Path] = []
        self.count = 0

    def write(self, name: str, data: bytes) -> None:
        path = self._folder / name
        for parent in reversed(path.relative_to(self._folder).parents):
            place = self._folder / parent
            if not place.is_dir():
                place.mkdir()
                self._touched.add(place.parent)
        beside = path.with_name(f".{path.name}.new")
        with beside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
        self._touched.add(path.parent)
        self._superseded.append(path.with_name(f"{path.name}.p"))
        self.count += 1

    def sync(self) -> None:
        for place in self._touched:
            sync_folder(place)
        self._touched.clear()

    def drop_superseded(self) -> None:
        """Removes partial tiles whose full tile is in place and covered by the checkpoint."""
        for path in self._superseded:
            if path.is_dir():
                shutil.rmtree(path)
