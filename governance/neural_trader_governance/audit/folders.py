"""Folders: an export as files, examined by what is in them and a key that is not."""

from collections.abc import Generator, Iterator
from contextlib import suppress
from pathlib import Path

from neural_trader_governance.audit import merkle
from neural_trader_governance.audit.bundles import (
    WIDTH,
    checkpoints_path,
    spans,
    split_bundle,
    tile_path,
)
from neural_trader_governance.audit.checkpoints import read_checkpoint
from neural_trader_governance.audit.entries import EntryType, LoggedEntry
from neural_trader_governance.audit.examination import AuditReport, Enough, Examination, Pins
from neural_trader_governance.audit.rotation import Rotation, read_rotation
from neural_trader_governance.errors import IntegrityError, StorageError
from neural_trader_governance.signing.keys import VerifyingKey
from neural_trader_governance.signing.notes import parse_note


def verify_export(folder: Path, vkey: str | VerifyingKey | Pins) -> AuditReport:
    """Verifies a tlog-tiles folder against pinned keys, at every checkpoint that it holds.

    Args:
        folder: What `export` wrote.
        vkey: A key that was the log's at any time; the rotations in the log lead to the others.

    Raises:
        StorageError: the folder holds no checkpoint.
        ConfigurationError: a verifier key is malformed.
    """
    pins = Pins.of(vkey)
    try:
        note = (folder / "checkpoint").read_bytes()
    except OSError as error:
        raise StorageError(
            "export_missing", f"{folder} holds no checkpoint ({error.strerror})", "give an export's folder"
        ) from None
    walk = _Walk(folder, note, Examination(pins, ()))
    with suppress(Enough):
        walk.run(pins)
    return walk.examination.report()


class _Walk:
    """One pass over the files of an export."""

    def __init__(self, folder: Path, note: bytes, examination: Examination) -> None:
        self._folder = folder
        self._note = note
        self._hashes: list[bytes] = []
        self.examination = examination

    def run(self, pins: Pins) -> None:
        try:
            size = read_checkpoint(parse_note(self._note)).size
        except IntegrityError as error:
            self.examination.problem(None, f"checkpoint: {error.what}")
            return
        if any(True for _ in self._rotations(size)):
            self.examination = Examination(pins, self._rotations(size))
        entries = self._entries(size)
        for note in self._notes():
            if not self._upto(note, entries):
                return
            self.examination.seal(note)
        self.examination.finish()
        if self.examination.size != size:
            self.examination.problem(None, "the checkpoints before the newest one do not lead up to it")
            return
        self._compare_tiles()

    def _upto(self, note: bytes, entries: Iterator[bytes]) -> bool:
        try:
            size = read_checkpoint(parse_note(note)).size
        except IntegrityError as error:
            self.examination.problem(None, f"an earlier checkpoint: {error.what}")
            return True
        if size < self.examination.size or (size == 0 and self.examination.checkpoints):
            self.examination.problem(None, f"checkpoint {size} does not stand where it belongs")
            return True
        while self.examination.size < size:
            data = next(entries, None)
            if data is None:
                if not self.examination.problems:
                    what = f"the entries end here, but {size} were signed"
                    self.examination.problem(self.examination.size, what)
                return False
            self._hashes.append(merkle.leaf_hash(data))
            self.examination.take(data)
        return True

    def _notes(self) -> Generator[bytes]:
        """Yields the checkpoints in their order, up to the one that the folder stands by."""
        index = 0
        while True:
            data = _read(self._folder / checkpoints_path(index))
            notes, fault = ([], "is missing") if data is None else split_bundle(data, WIDTH)
            if not fault and not any(self._is_newest(note) for note in notes[:-1]):
                yield from notes
                if self._is_newest(notes[-1]):
                    return
                index += 1
                continue
            found = self._last_notes(index)
            if found is None:
                what = f"{checkpoints_path(index)} does not lead up to the newest checkpoint"
                self.examination.problem(None, f"{what}; export again to complete the folder")
                yield self._note
            else:
                yield from found
            return

    def _last_notes(self, index: int) -> list[bytes] | None:
        """Returns the notes of the partial bundle that ends with the newest checkpoint.

        An export that was interrupted left others beside it, which reach further than its checkpoint.
        """
        folder = self._folder / f"{checkpoints_path(index)}.p"
        names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
        for width in sorted((int(name) for name in names if name.isascii() and name.isdigit()), reverse=True):
            data = _read(self._folder / checkpoints_path(index, width)) if 0 < width < WIDTH else None
            if data is not None:
                notes, fault = split_bundle(data, width)
                if not fault and self._is_newest(notes[-1]):
                    return notes
        return None

    def _is_newest(self, note: bytes) -> bool:
        return self._note.startswith(note)  # cosignatures of a witness may follow the log's own lines

    def _entries(self, size: int) -> Generator[bytes]:
        for index, width in spans(size):
            name = tile_path("entries", index, width)
            bundle = _read(self._folder / name)
            if bundle is None:
                self.examination.problem(index * WIDTH, f"{name} is missing")
                return
            items, fault = split_bundle(bundle, width)
            if fault and len(items) == width:
                self.examination.problem(None, f"{name} holds bytes beyond its entries")
            yield from items
            if len(items) < width:
                self.examination.problem(index * WIDTH + len(items), f"{name} ends within the entry")
                return

    def _rotations(self, size: int) -> Generator[Rotation]:
        """Yields the rotations that the entries hold, unproven, to find the log's first key by."""
        marker = f'"type":"{EntryType.KEY_ROTATE.value}"'.encode()
        for index, width in spans(size):
            bundle = _read(self._folder / tile_path("entries", index, width))
            if bundle is None or marker not in bundle:
                if bundle is None:
                    return
                continue
            for item in split_bundle(bundle, width)[0]:
                try:
                    if marker in item and (entry := LoggedEntry.decode(item)).type is EntryType.KEY_ROTATE:
                        yield read_rotation(entry)
                except IntegrityError:
                    continue

    def _compare_tiles(self) -> None:
        hashes, level = self._hashes, 0
        while hashes:
            above: list[bytes] = []
            for index, width in spans(len(hashes)):
                first = index * WIDTH
                wanted = hashes[first : first + width]
                name = tile_path(str(level), index, width)
                stored = _read(self._folder / name)
                if stored != b"".join(wanted):
                    bad = first if stored is None else _first_difference(stored, wanted) + first
                    self.examination.problem(
                        bad if level == 0 else None, f"{name} does not match the entries"
                    )
                if width == WIDTH:
                    above.append(merkle.tree_hash(wanted))
            hashes, level = above, level + 1


def _first_difference(stored: bytes, wanted: list[bytes]) -> int:
    for offset, expected in enumerate(wanted):
        if stored[offset * 32 : offset * 32 + 32] != expected:
            return offset
    return len(wanted) - 1


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None
