"""The guest's side of a stream: message in, the handler's answer out, until the host lets go.

Every byte written here is a stranger's: the handler shares this process and may write frames of its own.
"""

import socket
from collections.abc import Sequence
from typing import Any, NoReturn

from neural_trader_sandbox import frames
from neural_trader_sandbox.local.captured import Captured


def converse(
    wire: socket.socket, handler: object, limits: dict[str, int], printed: Sequence[Captured]
) -> NoReturn:
    """Say that the handler is there (answer 0), then answer every message with its number.

    Args:
        wire: The data socket.
        handler: What the entry returned.
        limits: `frame_bytes` and `json_depth` bound what is read.
        printed: Standard output and error; what they hold goes out before each answer.

    Raises:
        TypeError: There is no handler.
        EOFError: The host let go; the handler may raise it too, and anything else.
    """
    if not callable(handler):
        raise TypeError(f"the entry returned {type(handler).__name__}, not a function of messages")
    _answer(wire, 0, None, printed)
    number = 0
    while True:
        message = _message(wire, limits)
        number += 1
        _answer(wire, number, handler(message), printed)


def _message(wire: socket.socket, limits: dict[str, int]) -> Any:
    kind, size = frames.HEADER.unpack(frames.read_exact(wire, frames.HEADER.size))
    if kind != frames.MESSAGE or size > limits["frame_bytes"]:
        raise frames.FrameError("not a message")
    return frames.unpack_json(frames.read_exact(wire, size), limits["json_depth"])


def _answer(wire: socket.socket, number: int, value: Any, printed: Sequence[Captured]) -> None:
    frame = frames.pack_json(frames.ANSWER, {"number": number, "value": value})
    out, err = printed
    with out.lock:  # a thread of the guest's may be printing
        out.flush()
        err.flush()
        wire.sendall(frame)
        if number:  # what the entry printed counts with the first answer
            out.renew()
            err.renew()
