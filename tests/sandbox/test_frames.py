"""The wire format: what is JSON goes through unchanged, everything else is a FrameError."""

import contextlib
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neural_trader_sandbox import frames
from neural_trader_sandbox.frames import FrameError

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=("Cs",))),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=20,
)


@given(JSON)
def test_json_goes_through_a_frame_unchanged(value: object) -> None:
    frame = frames.pack_json(frames.RESULT, value)
    kind, size = frames.HEADER.unpack_from(frame)
    assert (kind, size) == (frames.RESULT, len(frame) - frames.HEADER.size)
    assert frames.unpack_json(frame[frames.HEADER.size :], 64) == value


@given(st.binary(max_size=200))
def test_any_bytes_are_json_or_a_frame_error(payload: bytes) -> None:
    with contextlib.suppress(FrameError):
        frames.unpack_json(payload, 8)


@pytest.mark.parametrize(
    "text",
    [
        "NaN",
        "Infinity",
        "-Infinity",
        "1e999",
        "[1e999]",
        '"\\ud800"',
        '{"\\udfff": 1}',
        "",
        "{",
        "nul",
        "\ufeff1",
    ],
)
def test_what_is_not_json_is_rejected(text: str) -> None:
    with pytest.raises(FrameError):
        frames.unpack_json(text.encode(), 8)


@pytest.mark.parametrize("value", [math.nan, math.inf, object(), {1, 2}, b"bytes", "\ud800"])
def test_what_is_not_json_cannot_be_sent(value: object) -> None:
    if value == "\ud800":
        assert json.loads(frames.pack_json(frames.JOB, value)[frames.HEADER.size :]) == value
        return
    with pytest.raises(FrameError):
        frames.pack_json(frames.JOB, value)


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_depth_is_bounded_exactly_and_absurd_depth_is_survived(opening: str) -> None:
    closing = "]" if opening == "[" else "}"

    def nested(levels: int) -> bytes:
        return (opening * levels + "1" + closing * levels).encode()

    assert frames.unpack_json(nested(8), 8)
    for levels in (9, 1_000, 100_000):
        with pytest.raises(FrameError):
            frames.unpack_json(nested(levels), 8)
