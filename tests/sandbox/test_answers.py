"""The host's reading of a guest: no sequence of frames raises anything but FrameError or breaks a bound."""

import json
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neural_trader_sandbox import frames
from neural_trader_sandbox.answers import Answer, plain_text
from neural_trader_sandbox.frames import FrameError
from neural_trader_sandbox.port import Limits

LIMITS = Limits(output_bytes=64, frame_bytes=2048, columns_bytes=800, json_depth=8)
RESULT = json.dumps({"value": {"a": [1]}, "columns": [["x", 2]]}).encode()
FAULT = json.dumps({"type": "ValueError", "message": "no", "line": 3}).encode()


def feed(answer: Answer, kind: int, payload: bytes) -> None:
    answer.expect(kind, len(payload))
    answer.take(kind, bytearray(payload))


@given(
    st.lists(
        st.tuples(
            st.integers(0, 10),
            st.binary(max_size=100) | st.sampled_from([RESULT, FAULT, b"[]", b"{}", bytes(16)]),
        ),
        max_size=12,
    )
)
def test_no_sequence_of_frames_escapes_the_bounds(sequence: list[tuple[int, bytes]]) -> None:
    answer = Answer(LIMITS)
    for kind, payload in sequence:
        try:
            feed(answer, kind, payload)
        except FrameError:
            break
    assert len(answer.output(frames.STDOUT)) <= 64 + len("\n[cut at 64 bytes]")
    assert sum(column.nbytes for column in answer.columns.values()) <= 800


def test_an_honest_answer_is_taken_whole() -> None:
    answer = Answer(LIMITS)
    feed(answer, frames.STDOUT, b"hello\n")
    feed(answer, frames.RESULT, RESULT)
    assert not answer.ended
    feed(answer, frames.COLUMN, np.array([1.5, np.nan]).tobytes())
    assert answer.ended
    assert answer.value == {"a": [1]}
    np.testing.assert_array_equal(answer.columns["x"], [1.5, np.nan])
    with pytest.raises(FrameError, match="after the last"):
        feed(answer, frames.STDOUT, b"more")


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (frames.RESULT, pickle.dumps(1)),
        (frames.RESULT, b'{"value": 1}'),
        (frames.RESULT, b'{"value": 1, "columns": [], "extra": 1}'),
        (frames.RESULT, b'{"value": 1, "columns": [["x", -1]]}'),
        (frames.RESULT, b'{"value": 1, "columns": [["x", true]]}'),
        (frames.RESULT, b'{"value": 1, "columns": [["x", 1.0]]}'),
        (frames.RESULT, b'{"value": 1, "columns": [["", 1]]}'),
        (frames.RESULT, b'{"value": 1, "columns": [["a\\u0000", 1]]}'),
        (frames.RESULT, b'{"value": 1, "columns": [["x", 1], ["x", 1]]}'),
        (frames.RESULT, b'{"value": 1, "columns": [["x", 101]]}'),
        (frames.RESULT, b'{"value": 1, "columns": [["x", 99999999999999999999]]}'),
        (frames.RESULT, b'{"value": 1, "columns": [[1, "x"]]}'),
        (frames.RESULT, b'{"value": NaN, "columns": []}'),
        (frames.RESULT, b'{"value": ' + b"[" * 9 + b"]" * 9 + b', "columns": []}'),
        (frames.RESULT, bytes(2049)),
        (frames.FAULT, b'{"type": "E", "message": "m", "line": 0}'),
        (frames.FAULT, b'{"type": "E", "message": "m", "line": "1"}'),
        (frames.FAULT, b'{"type": 1, "message": "m", "line": null}'),
        (frames.FAULT, json.dumps({"type": "E" * 101, "message": "m", "line": None}).encode()),
        (frames.STDOUT, b""),
        (frames.STDOUT, bytes(65)),
        (frames.COLUMN, bytes(8)),
        (frames.READY, b'{"layers": []}'),
        (frames.REFUSED, b'{"primitive": "x", "reason": "y"}'),
        (frames.JOB, b"{}"),
        (0, b""),
        (255, b"x"),
    ],
)
def test_a_forged_frame_is_rejected(kind: int, payload: bytes) -> None:
    with pytest.raises(FrameError):
        feed(Answer(LIMITS), kind, payload)


def test_a_length_of_so_many_digits_that_it_cannot_be_printed_is_rejected() -> None:
    answer = Answer(Limits())
    forged = b'{"value": 1, "columns": [["x", ' + b"9" * 4300 + b"]]}"
    with pytest.raises(FrameError, match="columns_bytes"):
        feed(answer, frames.RESULT, forged)


def test_a_column_of_another_length_than_announced_is_rejected_before_it_is_read() -> None:
    answer = Answer(LIMITS)
    feed(answer, frames.RESULT, RESULT)
    with pytest.raises(FrameError, match="was due"):
        answer.expect(frames.COLUMN, 8)


@pytest.mark.parametrize(
    ("raw", "plain"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]8;;http://x\x1b\\link", "link"),
        ("a\x00b\x08c\x7fd\x9be", "abcde"),
        ("kept\ttabs\nand lines\r\n", "kept\ttabs\nand lines\n"),
        ("\u202egnp.exe\u202c \u200bzero", "gnp.exe zero"),
        ("\u061calif \u00adsoft \U000e0041\U000e0042tags \ufe01\U000e0101bytes", "alif soft tags bytes"),
        ("\x1b" * 10_000 + "[" * 10_000, "[" * 9_998),
    ],
)
def test_untrusted_text_loses_what_could_move_a_cursor_or_hide(raw: str, plain: str) -> None:
    assert plain_text(raw) == plain


@given(st.binary(max_size=300))
def test_plain_text_never_holds_an_escape(data: bytes) -> None:
    text = plain_text(data)
    assert all(character in "\n\t" or ord(character) >= 32 for character in text)
