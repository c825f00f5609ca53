"""Checkpoints: the log's signed statement of its size and root (https://c2sp.org/tlog-checkpoint)."""

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass

from neural_trader_governance.errors import IntegrityError
from neural_trader_governance.signing.halves import decode_base64
from neural_trader_governance.signing.notes import Note, NoteSigner, NoteVerifier, parse_note, sign_note

_SIZE = re.compile(r"0|[1-9][0-9]{0,17}")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Origin, tree size and root hash of a log at one moment."""

    origin: str
    size: int
    root: bytes

    def body(self) -> str:
        """Returns the text that is signed."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"

    def sign(self, keys: Sequence[NoteSigner]) -> str:
        """Returns the checkpoint as a signed note."""
        return sign_note(self.body(), keys).encode()


def open_checkpoint(note: str | bytes, key: NoteVerifier, *, origin: str | None = None) -> Checkpoint:
    """Reads a checkpoint and proves that the key signed it.

    Args:
        note: The signed note.
        key: The pinned key of the log.
        origin: The log's name, where it is known beforehand.

    Raises:
        IntegrityError: malformed, not signed by the key, or of another log.
    """
    parsed = parse_note(note)
    parsed.verify(key)
    return read_checkpoint(parsed, origin=origin)


def read_checkpoint(parsed: Note, *, origin: str | None = None) -> Checkpoint:
    """Reads what a note says, having proven nothing: the keys that must have signed may depend on it.

    Raises:
        IntegrityError: malformed, or of another log.
    """
    lines = parsed.text.split("\n")
    try:
        if len(lines) < 4 or not lines[0] or not _SIZE.fullmatch(lines[1]):
            raise ValueError("it needs origin, size and root lines")
        if any(line == "" for line in lines[3:-1]):
            raise ValueError("an extension line is empty")
        root = decode_base64(lines[2])
        if len(root) != 32:
            raise ValueError("the root is not 32 bytes")
    except ValueError as error:
        raise IntegrityError(
            "malformed_checkpoint", f"this is not a checkpoint: {error}", "fetch or restore it again"
        ) from None
    if origin is not None and lines[0] != origin:
        raise IntegrityError(
            "foreign_checkpoint",
            f"the checkpoint is of the log {lines[0]!r:.80}, not {origin!r:.80}",
            "check which log this folder belongs to",
        )
    return Checkpoint(lines[0], int(lines[1]), root)
