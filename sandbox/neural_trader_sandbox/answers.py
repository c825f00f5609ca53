"""The host's reading of what a guest sends: every frame is forged until it has been checked here."""

import re
from typing import Annotated, Any, Final, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from neural_trader_sandbox import frames
from neural_trader_sandbox.frames import FrameError
from neural_trader_sandbox.port import Fault, Limits

FrameT = TypeVar("FrameT", bound=BaseModel)
COLUMNS_MAX: Final = 1024
_SMALL_FRAME_BYTES = 16 << 10
_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\^_])")
# C0 but tab and newline, DEL, C1, and the characters that reorder or hide text: a model reads tags and
# variation selectors, which a person does not see
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U000e0000-\U000e0fff]"
)


class _Frame(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class ReadyFrame(_Frame):
    """The child is locked; sent before any untrusted code exists in it."""

    layers: Annotated[list[str], Field(max_length=64)]


class RefusedFrame(_Frame):
    """The child could not be locked."""

    primitive: Annotated[str, Field(max_length=100)]
    reason: Annotated[str, Field(max_length=4000)]


class FaultFrame(_Frame):
    """The guest raised."""

    type: Annotated[str, Field(max_length=100)]
    message: Annotated[str, Field(max_length=2000)]
    line: Annotated[int, Field(gt=0, lt=2**31)] | None


ColumnHead = Annotated[list[str | int], Field(min_length=2, max_length=2)]


class ResultFrame(_Frame):
    """The guest returned; one column frame per head follows, in this order."""

    value: Any  # `frames.unpack_json` has made sure that it is JSON; to walk it again would hold up the desk
    columns: Annotated[list[ColumnHead], Field(max_length=COLUMNS_MAX)]


class ProgressFrame(_Frame):
    """The guest says how far it is."""

    fraction: Annotated[float, Field(allow_inf_nan=False)]


class AnswerFrame(_Frame):
    """The guest of a stream answered a message."""

    number: Annotated[int, Field(ge=0)]
    value: Any  # as above


def plain_text(data: bytes | str) -> str:
    """Untrusted text without ANSI sequences, control characters and text-direction tricks."""
    text = data if isinstance(data, str) else data.decode(errors="replace")
    return _CONTROL.sub("", _ANSI.sub("", text.replace("\r\n", "\n")))


class Watcher(Protocol):
    """Whoever is told what a guest does while it runs."""

    def expect(self, size: int) -> None:
        """Accept a frame of progress by its size, or raise `FrameError`."""
        ...

    def progress(self, fraction: float) -> None:
        """The guest claims this finished part; finite, and nothing else is known of it."""
        ...

    def text(self, kind: int, data: bytes | bytearray) -> None:
        """The guest printed these bytes, within its allowance."""
        ...


class Answer:
    """Assembles one guest's frames; raises `FrameError` at the first that is out of order or bounds.

    Args:
        limits: Bounds of the frames.
        watcher: Told what is printed and how far the guest is; without one, frames of progress are forged.

    Attributes:
        value: What the entry returned, once `ended`.
        columns: Its columns, once `ended`.
        fault: Why it raised, once `ended`.
        ended: The guest's last frame has arrived; any further byte is a violation.
    """

    def __init__(self, limits: Limits, watcher: "Watcher | None" = None) -> None:
        self._limits = limits
        self._watcher = watcher
        self._outputs: dict[int, bytearray] = {frames.STDOUT: bytearray(), frames.STDERR: bytearray()}
        self._due: list[tuple[str, int]] | None = None
        self.value: JsonValue = None
        self.columns: dict[str, NDArray[np.float64]] = {}
        self.fault: Fault | None = None

    @property
    def ended(self) -> bool:
        """Nothing more may come."""
        return self.fault is not None or self._due == []

    def expect(self, kind: int, size: int) -> None:
        """Accept or reject a frame by its header, before a byte of its payload is read."""
        if self.ended:
            raise FrameError("a frame after the last one")
        if self._due:
            name, length = self._due[0]
            if kind != frames.COLUMN or size != 8 * length:
                raise FrameError(
                    f"column {name!r} of {8 * length} bytes was due, frame {kind} of {size} bytes came"
                )
            return
        if kind in self._outputs:
            left = self._limits.output_bytes - len(self._outputs[kind])
            if not 0 < size <= left:
                raise FrameError(f"output frame of {size} bytes where {left} are left")
        elif kind == frames.PROGRESS and self._watcher is not None:
            self._watcher.expect(size)
        elif kind == frames.FAULT:
            if size > _SMALL_FRAME_BYTES:
                raise FrameError(f"fault frame of {size} bytes")
        elif kind == frames.RESULT:
            if size > self._limits.frame_bytes:
                raise FrameError(f"result of {size} bytes exceeds frame_bytes {self._limits.frame_bytes}")
        else:
            raise FrameError(f"frame of unknown kind {kind}")

    def take(self, kind: int, payload: bytearray) -> None:
        """Take in the payload of a frame that `expect` accepted."""
        if kind in self._outputs:
            self._outputs[kind] += payload
            if self._watcher is not None:
                self._watcher.text(kind, payload)
        elif kind == frames.PROGRESS and self._watcher is not None:
            self._watcher.progress(read(ProgressFrame, payload, 1).fraction)
        elif kind == frames.COLUMN and self._due:
            self.take_column(np.frombuffer(payload, dtype="<f8").astype(np.float64, copy=False))
        elif kind == frames.FAULT:
            fault = read(FaultFrame, payload, self._limits.json_depth)
            self.fault = Fault(plain_text(fault.type), plain_text(fault.message), fault.line)
        else:
            result = read(ResultFrame, payload, self._limits.json_depth)
            self._due = _column_heads(result.columns, self._limits.columns_bytes)
            self.value = result.value

    def take_column(self, column: NDArray[np.float64]) -> None:
        """Take in the column that was due and that `expect` accepted."""
        assert self._due, "accepted first"  # noqa: S101 - both callers do
        name, _ = self._due.pop(0)
        self.columns[name] = column

    def output(self, kind: int) -> str:
        """Captured text of `frames.STDOUT` or `frames.STDERR`; says so where it was cut."""
        data = self._outputs[kind]
        text = plain_text(bytes(data))
        cut = len(data) >= self._limits.output_bytes
        return f"{text}\n[cut at {self._limits.output_bytes} bytes]" if cut else text


class MessageAnswer(Answer):
    """What a stream's guest sends in answer to one message: what it printed, then a value or a fault.

    Args:
        limits: Bounds of the frames.
        number: The message's, from 1; 0 is the entry's return.
        before: The answer before, where its output counts with this one's.

    Attributes:
        is_asked: The message is on its way; before that, only output may come.
    """

    def __init__(self, limits: Limits, number: int, before: "MessageAnswer | None" = None) -> None:
        super().__init__(limits)
        self._number = number
        self._is_answered = False
        self.is_asked = False
        if before is not None:
            self._outputs = before._outputs

    @property
    def ended(self) -> bool:
        """The message is answered."""
        return self.fault is not None or self._is_answered

    def expect(self, kind: int, size: int) -> None:
        """Accept or reject a frame by its header, before its payload is looked at."""
        if kind in self._outputs:
            super().expect(kind, size)
        elif kind not in (frames.ANSWER, frames.FAULT):
            raise FrameError(f"frame of unknown kind {kind}")
        elif not self.is_asked:
            raise FrameError("an answer that nobody asked for")
        elif size > (self._limits.frame_bytes if kind == frames.ANSWER else _SMALL_FRAME_BYTES):
            raise FrameError(f"answer of {size} bytes exceeds frame_bytes {self._limits.frame_bytes}")

    def take(self, kind: int, payload: bytearray) -> None:
        """Take in the payload of a frame that `expect` accepted."""
        if kind != frames.ANSWER:
            super().take(kind, payload)
            return
        answer = read(AnswerFrame, payload, self._limits.json_depth)
        if answer.number != self._number:
            raise FrameError(f"answer {answer.number} where answer {self._number} was due")
        self.value = answer.value
        self._is_answered = True


def read(model: type[FrameT], payload: bytes | bytearray, depth_max: int) -> FrameT:
    """Parse one JSON frame strictly.

    Raises:
        FrameError: Not JSON, too deep, or not what the model says.
    """
    parsed = frames.unpack_json(payload, depth_max + 1)  # the frame's own object is one level
    try:
        return model.model_validate(parsed)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        raise FrameError(f"{model.__name__}: {first['msg'][:200]}") from None


def _column_heads(heads: list[list[str | int]], bytes_max: int) -> list[tuple[str, int]]:
    due: list[tuple[str, int]] = []
    for name, length in heads:
        if not isinstance(name, str) or not isinstance(length, int) or isinstance(length, bool):
            raise FrameError("a column head is a name and a length")
        if not 0 < len(name) <= 200 or not name.isprintable() or length < 0:
            raise FrameError("a column has no usable name or length")
        if length > bytes_max:  # it may have thousands of digits, which cannot even be printed
            raise FrameError(f"a column exceeds columns_bytes {bytes_max}")
        due.append((name, length))
    if len({name for name, _ in due}) != len(due):
        raise FrameError("two columns have one name")
    total = sum(8 * length for _, length in due)
    if total > bytes_max:
        raise FrameError(f"columns of {total} bytes exceed columns_bytes {bytes_max}")
    return due
