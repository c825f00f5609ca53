"""Submissions: the body of `add-checkpoint` (https://c2sp.org/tlog-witness), read and written.

A line `old SIZE`, the hashes of a consistency proof in base64, one to a line, an empty line, and
the checkpoint.
"""

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass

from neural_trader_governance.errors import InputError
from neural_trader_governance.signing.halves import decode_base64

BODY_BYTES_MAX = 131_072
"""Holds 63 proof lines and 16 signatures of 5 kB, which a note must be allowed (c2sp.org/signed-note)."""
_PROOF_MAX = 63
_OLD = re.compile(r"old (0|[1-9][0-9]{0,17})")


@dataclass(frozen=True, slots=True)
class Submission:
    """One request: the size that the proof starts from, the proof, and the checkpoint as it came."""

    old: int
    proof: tuple[bytes, ...]
    note: str

    def encode(self) -> bytes:
        """Returns the request's body."""
        lines = [f"old {self.old}", *(base64.b64encode(node).decode() for node in self.proof)]
        return ("\n".join(lines) + "\n\n" + self.note).encode()


def parse_submission(body: bytes) -> Submission:
    """Reads a request strictly; the checkpoint in it is not judged yet.

    Raises:
        InputError: too long, not UTF-8, a malformed size or hash, or more than 63 proof lines.
    """
    if len(body) > BODY_BYTES_MAX:
        raise _malformed(f"it is longer than {BODY_BYTES_MAX} bytes")
    try:
        head, separator, note = body.decode().partition("\n\n")
    except UnicodeDecodeError:
        raise _malformed("it is not UTF-8") from None
    if not separator:
        raise _malformed("no empty line parts proof and checkpoint")
    first, *lines = head.split("\n")
    match = _OLD.fullmatch(first)
    if match is None:
        raise _malformed("its first line is not `old SIZE`")
    return Submission(int(match[1]), _read_proof(lines), note)


def _read_proof(lines: Sequence[str]) -> tuple[bytes, ...]:
    if len(lines) > _PROOF_MAX:
        raise _malformed(f"it has more than {_PROOF_MAX} proof lines")
    try:
        proof = tuple(decode_base64(line) for line in lines)
    except ValueError as error:
        raise _malformed(str(error)) from None
    if any(len(node) != 32 for node in proof):
        raise _malformed("a proof line is not a hash of 32 bytes")
    return proof


def _malformed(why: str) -> InputError:
    return InputError("malformed_submission", f"this is no add-checkpoint request: {why}", "see tlog-witness")
