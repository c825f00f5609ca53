"""Export as static files: a C2SP tlog-tiles folder that anybody can check without us.

    checkpoint                         the newest signed checkpoint, written last
    log.vkey                           the key, for convenience; a checker pins its own copy
    tile/<L>/<N>[.p/<W>]               hashes of level 8L, 256 to a tile (https://c2sp.org/tlog-tiles)
    tile/entries/<N>[.p/<W>]           the entries, each behind its length as a big-endian uint16
    checkpoints/<N>[.p/<W>]            every checkpoint up to the newest, bundled as the entries are

Every file is written beside its place, synced and renamed, and the checkpoint only after all that
it covers: a reader, or a crash, finds the old export or the new one.
"""

import fcntl
import os
import shutil
import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from neural_trader_governance.audit import log, merkle, witnessing
from neural_trader_governance.audit.archive import Shelf
from neural_trader_governance.audit.bundles import WIDTH, checkpoints_path, join_bundle, spans, tile_path
from neural_trader_governance.audit.rotation import open_signed
from neural_trader_governance.errors import IntegrityError, StorageError
from neural_trader_governance.signing.at_rest import sync_folder
from neural_trader_governance.store import Store

__all__ = ["TILE_WIDTH", "Export", "export", "spans", "tile_path"]

TILE_WIDTH = WIDTH
_TILE_HEIGHT = 8


@dataclass(frozen=True, slots=True)
class Export:
    """What an export covers, and how much of it was new."""

    folder: Path
    size: int
    root_hex: str
    files_written: int


def export(store: Store, folder: Path, *, archive: Path | None = None) -> Export:
    """Writes what the folder lacks up to the log's newest checkpoint.

    Args:
        store: The log.
        folder: A new folder, or one of an earlier export of this log.
        archive: Where archived entries lie now, if not where they were archived to.

    Raises:
        IntegrityError: the folder holds an export of another log, or of another history.
        StorageError: the folder cannot be written, or archived entries are not at hand.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder), store.read() as connection:
            return _Exporter(connection, store, folder, archive).run()
    except OSError as error:
        raise StorageError(
            "export_failed", f"{folder} could not be written ({error})", "choose a writable folder"
        ) from error


class _Exporter:
    """One export: from what the folder holds to the newest checkpoint."""

    def __init__(
        self, connection: sqlite3.Connection, store: Store, folder: Path, archive: Path | None
    ) -> None:
        self._connection = connection
        self._vkey = store.vkey
        self._origin = store.origin
        self._chain = store.signer.chain(connection, store.origin)
        self._folder = folder
        self._shelf = Shelf(connection, archive)
        self._writer = _Writer(folder)

    def run(self) -> Export:
        found = log.read_checkpoint(self._connection)
        if found is None:
            raise IntegrityError(
                "no_checkpoint", "the audit log has no checkpoint", "restore it from a backup"
            )
        checkpoint = open_signed(found[1], self._chain, origin=self._origin)
        earlier = self._exported(checkpoint.size)
        start = 0 if earlier is None else earlier
        self._write_entries(checkpoint.size, start)
        self._write_tiles(checkpoint.size, start)
        self._write_checkpoints(earlier)
        writer = self._writer
        writer.write("log.vkey", f"{self._vkey}\n".encode())
        writer.sync()
        cosigned = witnessing.cosigned_lines(self._connection, checkpoint.size)
        writer.write("checkpoint", (found[1] + cosigned).encode())
        writer.sync()
        writer.drop_superseded()
        return Export(self._folder, checkpoint.size, checkpoint.root.hex(), writer.count)

    def _exported(self, size: int) -> int | None:
        """Returns how many entries the folder holds, having checked that they are this log's."""
        try:
            note = (self._folder / "checkpoint").read_bytes()
        except FileNotFoundError:
            return None
        earlier = open_signed(note, self._chain, origin=self._origin)
        diverged = earlier.size > size
        if diverged or merkle.root_of(log.read_frontier(self._connection, earlier.size)) != earlier.root:
            raise IntegrityError(
                "export_diverged",
                f"{self._folder} holds {earlier.size} entries that this log of {size} does not contain",
                "keep both, run `neural-trader audit verify`, and export into an empty folder",
            )
        return earlier.size

    def _write_entries(self, size: int, start: int) -> None:
        for index, width in spans(size, start):
            rows = self._connection.execute(
                "SELECT seq, leaf_hash, entry FROM audit_entries WHERE seq >= ? AND seq < ? ORDER BY seq",
                (index * WIDTH, index * WIDTH + width),
            )
            items = [self._shelf.read(int(seq), bytes(leaf), bytes(data)) for seq, leaf, data in rows]
            self._writer.write(tile_path("entries", index, width), join_bundle(items))

    def _write_tiles(self, size: int, start: int) -> None:
        level = 0
        while (nodes := size >> level * _TILE_HEIGHT) > 0:
            for index, width in spans(nodes, start >> level * _TILE_HEIGHT):
                places = range(index * WIDTH, index * WIDTH + width)
                hashes = [log.read_node(self._connection, level * _TILE_HEIGHT, place) for place in places]
                self._writer.write(tile_path(str(level), index, width), b"".join(hashes))
            level += 1

    def _write_checkpoints(self, earlier: int | None) -> None:
        count = "SELECT count(*) FROM audit_checkpoints"
        (total,) = self._connection.execute(count).fetchone()
        done = 0
        # A folder of a version that kept none gets them all.
        if earlier is not None and (self._folder / "checkpoints").is_dir():
            (done,) = self._connection.execute(f"{count} WHERE size <= ?", (earlier,)).fetchone()
        notes = self._connection.execute(
            "SELECT note FROM audit_checkpoints ORDER BY size LIMIT -1 OFFSET ?", (done // WIDTH * WIDTH,)
        )
        for index, width in spans(total, done):
            bundle = join_bundle(str(note).encode() for (note,) in notes.fetchmany(width))
            self._writer.write(checkpoints_path(index, width), bundle)


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
