"""Length-prefixed frames between the host and the guest, and JSON that can be trusted in form.

A frame is ``<BI`` (kind, length) and its payload. The guest side of this module runs beside untrusted
code, so the host believes nothing about a frame but what it checks itself (`answers.py`). Standard
library only: the guest must not pay for more.
"""

import json
import math
import struct
from typing import Any, Final, Protocol, cast

HEADER: Final = struct.Struct("<BI")
READY, REFUSED, JOB, STDOUT, STDERR, FAULT, RESULT, COLUMN, MESSAGE, ANSWER, PROGRESS = range(1, 12)
CHUNK_BYTES = 1 << 18


class FrameError(ValueError):
    """The other side broke the framing: too long, too deep, not JSON, not the frame that was due."""


class Wire(Protocol):
    """The half of a blocking stream socket that this module needs."""

    def sendall(self, data: bytes | memoryview, /) -> None:
        """Write all of it."""
        ...

    def recv_into(self, buffer: memoryview, /) -> int:
        """Read some of it; 0 at the end."""
        ...


def pack(kind: int, payload: bytes) -> bytes:
    """One frame."""
    return HEADER.pack(kind, len(payload)) + payload


def pack_json(kind: int, value: object) -> bytes:
    """One frame of JSON.

    Raises:
        FrameError: The value is not JSON; NaN and infinity are not.
    """
    try:
        return pack(kind, _ENCODER.encode(value).encode())
    except (TypeError, ValueError, RecursionError, UnicodeEncodeError) as error:
        raise FrameError(f"not JSON: {error}") from None


def unpack_json(payload: bytes | bytearray, depth_max: int) -> Any:
    """Read JSON from the other side.

    Args:
        payload: UTF-8.
        depth_max: Deepest nesting of objects and arrays that is accepted.

    Raises:
        FrameError: Not JSON, too deep, NaN or infinity, or text that is not valid Unicode.
    """
    try:
        value: Any = _DECODER.decode(payload.decode())
    except FrameError:
        raise
    except (ValueError, RecursionError) as error:
        raise FrameError(f"not JSON: {type(error).__name__}") from None
    _check_form(value, depth_max)
    return value


def _reject_constant(text: str) -> float:
    raise FrameError(f"{text} is not JSON")


_ENCODER: Final = json.JSONEncoder(allow_nan=False, separators=(",", ":"))
_DECODER: Final = json.JSONDecoder(parse_constant=_reject_constant)
"""Made once: `json.dumps` and `json.loads` make one at every call that is not plain."""


def _check_form(value: Any, depth_max: int) -> None:
    level: list[Any] = [value]
    for depth in range(depth_max + 1):
        if depth == depth_max and any(isinstance(item, (dict, list)) for item in level):
            break
        below: list[Any] = []
        for item in level:
            kind = cast("type[Any]", type(item))  # what the parser made is of these very types
            if kind is str:
                if not _is_unicode(item):
                    raise FrameError("text holds a lone surrogate")
            elif kind is float:
                if not math.isfinite(item):
                    raise FrameError("a number overflows")
            elif kind is dict:
                below += item
                below += item.values()
            elif kind is list:
                below += item
        if not below:
            return
        level = below
    raise FrameError(f"nested deeper than {depth_max} levels")


def _is_unicode(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def read_exact(wire: Wire, size: int) -> bytearray:
    """Read `size` bytes, blocking; the guest's side only.

    Raises:
        EOFError: The other side has gone.
    """
    buffer = bytearray(size)
    view = memoryview(buffer)
    done = 0
    while done < size:
        count = wire.recv_into(view[done : done + CHUNK_BYTES])
        if count == 0:
            raise EOFError
        done += count
    return buffer
