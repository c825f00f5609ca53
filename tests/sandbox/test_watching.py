"""What a watch may be told, whatever a guest sends."""

import math
import socket
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neural_trader_sandbox import frames
from neural_trader_sandbox.answers import Answer, plain_text
from neural_trader_sandbox.frames import FrameError
from neural_trader_sandbox.local import reports
from neural_trader_sandbox.local.reports import Report, reporting
from neural_trader_sandbox.port import Limits, Progress
from neural_trader_sandbox.watching import FRAMES_MAX, LINE_BYTES, TEXTS_MAX, Watching

NASTY = st.lists(
    st.sampled_from(
        [b"\x1b", b"[31m", b"]0;", b"\x07", b"\n", b"\r", b"x", b"\xc2", b"\x9b", b"\xe2\x80", b"\xae"]
    )
    | st.binary(min_size=1, max_size=4),
    min_size=1,
    max_size=40,
)


@given(NASTY, st.sampled_from([frames.STDOUT, frames.STDERR]))
def test_however_bytes_are_split_the_text_is_that_of_their_lines(pieces: list[bytes], kind: int) -> None:
    told: list[Progress] = []
    watching = Watching(told.append, Limits())
    for piece in pieces:
        watching.text(kind, piece)
    watching.close()
    text = "".join(progress.text for progress in told)
    assert text == plain_text(text), "nothing is left to clean"
    if b"\x1b]" not in b"".join(pieces):  # a title may span lines
        assert text.replace("\r", "") == plain_text(b"".join(pieces)).replace("\r", "")
    assert {progress.stream for progress in told} <= {"stdout" if kind == frames.STDOUT else "stderr"}


@given(st.integers(1, 3 * LINE_BYTES), st.integers(0, 200))
def test_no_line_is_held_back_beyond_its_bound(size: int, offset: int) -> None:
    told: list[Progress] = []
    watching = Watching(told.append, Limits())
    data = b"a" * offset + b"\n" + b"x" * size
    for start in range(0, len(data), 1000):
        watching.text(frames.STDOUT, data[start : start + 1000])
    heard = sum(len(progress.text) for progress in told)
    assert len(data) - heard < LINE_BYTES


def test_a_flood_of_lines_is_told_in_few_and_whole_parts() -> None:
    """One byte a frame: the most frames that an allowance lets a guest send."""
    told: list[Progress] = []
    limits = Limits()
    watching = Watching(told.append, limits)
    for _ in range(limits.output_bytes - 1):
        watching.text(frames.STDOUT, b"\n")
    watching.text(frames.STDERR, b"still at once\n")
    assert told[-1].text == "still at once\n"
    watching.close()
    parts = [progress.text for progress in told if progress.stream == "stdout"]
    assert "".join(parts) == "\n" * (limits.output_bytes - 1)
    assert parts[:TEXTS_MAX] == ["\n"] * TEXTS_MAX
    assert len(parts) <= TEXTS_MAX + limits.output_bytes // LINE_BYTES + 1


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=50))
def test_fractions_are_bounded_and_grow(claims: list[float]) -> None:
    told: list[Progress] = []
    answer = Answer(Limits(), Watching(told.append, Limits()))
    for claim in claims:
        frame = frames.pack_json(frames.PROGRESS, {"fraction": claim})[frames.HEADER.size :]
        answer.expect(frames.PROGRESS, len(frame))
        answer.take(frames.PROGRESS, bytearray(frame))
    fractions = [progress.fraction for progress in told if progress.fraction is not None]
    assert fractions == sorted(set(fractions))
    assert all(0.0 <= fraction <= 1.0 for fraction in fractions)
    if claims:
        assert max(fractions) == pytest.approx(min(max(0.0, *claims, 0.0), 1.0), abs=reports.STEP)


def test_an_honest_guest_never_needs_as_many_frames_as_are_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time stands at each call beyond the pause, so that only the step bounds what is sent."""
    hours = iter(range(1_000_000))
    monkeypatch.setattr(reports, "monotonic", lambda: float(next(hours)))
    host, guest = socket.socketpair()
    with host, guest:
        host.setblocking(False)
        report, sent = Report(guest, threading.RLock()), 0
        for number in range(20_000):
            report(number / 20_000)
            try:
                sent += host.recv(4096).count(b"fraction")
            except BlockingIOError:
                continue
    assert 900 < sent <= 1001 < FRAMES_MAX


def test_a_guest_reports_nothing_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    host, guest = socket.socketpair()
    with host, guest:
        host.setblocking(False)
        report = Report(guest, threading.RLock())
        for fraction in (0.0, math.nan, -1.0, -math.inf, 0.0001):
            report(fraction)
        with pytest.raises(BlockingIOError):
            host.recv(1)
        report(7.0)
        assert host.recv(100).endswith(b'{"fraction":1.0}')


def test_only_an_entry_that_asks_for_it_is_given_a_report() -> None:
    def entry(arguments: object, tables: object) -> None: ...
    def asks(arguments: object, tables: object, report: object = None) -> None: ...

    host, guest = socket.socketpair()
    with host, guest:
        report = Report(guest, threading.RLock())
        assert (reporting(entry, report), reporting(asks, report)) == ({}, {"report": report})


def test_progress_without_a_watch_is_a_frame_of_unknown_kind() -> None:
    with pytest.raises(FrameError, match="unknown kind 11"):
        Answer(Limits()).expect(frames.PROGRESS, 10)
