"""Signed notes: text, an empty line, and one signature line per key (https://c2sp.org/signed-note)."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from neural_trader_governance.errors import IntegrityError
from neural_trader_governance.signing.halves import decode_base64

_NOTE_BYTES_MAX = 1_000_000
_SIGNATURES_MAX = 100
_DASH = "\u2014 "


class NoteVerifier(Protocol):
    """A public key, of whatever type, that verifies its own lines of a note."""

    @property
    def name(self) -> str:
        """The key's name, as it stands in signature lines."""
        ...

    @property
    def key_id(self) -> bytes:
        """Four bytes that tell this key from others of the same name."""
        ...

    def verify(self, message: bytes, signature: bytes, /) -> bool:
        """Says whether this key signed the note with this text."""
        ...


class NoteSigner(Protocol):
    """A private key, of whatever type, that signs the text of a note."""

    @property
    def name(self) -> str:
        """The key's name, as it stands in signature lines."""
        ...

    @property
    def key_id(self) -> bytes:
        """Four bytes that tell this key from others of the same name."""
        ...

    def sign(self, message: bytes, /) -> bytes:
        """Returns the signature over the note's text."""
        ...


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature line: the key's name, its four-byte id, and what it signed with."""

    name: str
    key_id: bytes
    signature: bytes

    def line(self) -> str:
        """Returns the line, with its newline."""
        return f"{_DASH}{self.name} {base64.b64encode(self.key_id + self.signature).decode()}\n"


@dataclass(frozen=True, slots=True)
class Note:
    """A parsed note; nothing about its signatures is proven until `verify` has said so."""

    text: str
    signatures: tuple[Signature, ...]

    def encode(self) -> str:
        """Returns the whole note as it is stored and sent."""
        return self.text + "\n" + "".join(signature.line() for signature in self.signatures)

    def names(self, key: NoteVerifier) -> bool:
        """Says whether a line of this key is there, right or wrong."""
        return any(s.name == key.name and s.key_id == key.key_id for s in self.signatures)

    def verify(self, key: NoteVerifier) -> None:
        """Checks that this key signed the text; signatures of unknown keys are ignored.

        Raises:
            IntegrityError: the key's signature is absent or wrong.
        """
        found = [s for s in self.signatures if s.name == key.name and s.key_id == key.key_id]
        if not found:
            raise IntegrityError(
                "signature_missing",
                f"the note is not signed by {key.name}+{key.key_id.hex()}",
                "check that the verifier key is the log's own",
            )
        if not all(key.verify(self.text.encode(), s.signature) for s in found):
            raise IntegrityError(
                "signature_invalid",
                f"the signature of {key.name} does not match the text",
                "treat the note as forged or damaged",
            )


def sign_note(text: str, keys: Sequence[NoteSigner]) -> Note:
    """Signs a text that ends in a newline, once with each key.

    Raises:
        IntegrityError: the text cannot stand in a note.
    """
    _check_text(text)
    signatures = tuple(Signature(key.name, key.key_id, key.sign(text.encode())) for key in keys)
    return Note(text, signatures)


def parse_note(data: str | bytes) -> Note:
    """Reads a note strictly: UTF-8, canonical base64, nothing after the signature lines.

    Raises:
        IntegrityError: it is not a well-formed signed note.
    """
    try:
        encoded = data if isinstance(data, bytes) else data.encode()
        whole = encoded.decode()
    except UnicodeError:
        raise _malformed("it is not UTF-8") from None
    if len(encoded) > _NOTE_BYTES_MAX:
        raise _malformed("it is longer than 1 MB")
    split = whole.rfind("\n\n")
    if split < 0:
        raise _malformed("no empty line parts text and signatures")
    text, block = whole[: split + 1], whole[split + 2 :]
    _check_text(text)
    if not block.endswith("\n"):
        raise _malformed("the last signature line is not ended")
    lines = block[:-1].split("\n")
    if len(lines) > _SIGNATURES_MAX:
        raise _malformed(f"it has more than {_SIGNATURES_MAX} signatures")
    return Note(text, tuple(_parse_line(line) for line in lines))


def _parse_line(line: str) -> Signature:
    name, space, encoded = line.removeprefix(_DASH).partition(" ")
    try:
        if not line.startswith(_DASH) or not space:
            raise ValueError("a signature line starts with an em dash and a space")
        # Only what the specification forbids: whom we do not know we must ignore, not refuse.
        if not name or any(c.isspace() or c == "+" or c < " " for c in name):
            raise ValueError("a signature line has no key name that can be one")
        data = decode_base64(encoded)
        if len(data) < 5:
            raise ValueError("the signature is too short")
    except ValueError as error:
        raise _malformed(str(error)) from None
    return Signature(name, data[:4], data[4:])


def _check_text(text: str) -> None:
    if not text.endswith("\n"):
        raise _malformed("its text does not end in a newline")
    if any(c < " " and c != "\n" for c in text):
        raise _malformed("its text holds control characters")


def _malformed(why: str) -> IntegrityError:
    return IntegrityError("malformed_note", f"this is not a signed note: {why}", "fetch or restore it again")
