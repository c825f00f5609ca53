"""Pipes: every byte of every line, whatever stands at the other end, and nobody waits for a slow reader."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from neural_trader_server.pipes import LinesIn, LinesOut, standard_streams

pytestmark = pytest.mark.anyio

Ends = tuple[int, int]


def _pipe() -> Ends:
    return os.pipe()


def _sockets() -> Ends:
    one, other = socket.socketpair()
    return one.detach(), other.detach()


async def _all(lines: LinesIn) -> list[str]:
    return [line async for line in lines]


@pytest.mark.parametrize("ends", [_pipe, _sockets])
async def test_lines_come_whole_however_they_were_cut(ends: Callable[[], Ends]) -> None:
    reads, writes = ends()
    found: list[str] = []

    async def read() -> None:
        found.extend(await _all(LinesIn(reads)))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        for part in (b"a", b"b\nc\r\n\n", "é".encode()[:1], "é".encode()[1:], b"\n\xff\nunfinished"):
            os.write(writes, part)
            await anyio.lowlevel.checkpoint()
        os.close(writes)
    assert found == ["ab\n", "c\r\n", "\n", "é\n", "�\n", "unfinished\n"]
    os.close(reads)


async def test_a_file_is_read_and_written_too(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    written = os.open(path, os.O_WRONLY | os.O_CREAT)
    out = LinesOut(written)
    await out.write("one\n" * 50_000)
    await out.flush()
    os.close(written)
    read = os.open(path, os.O_RDONLY)
    assert await _all(LinesIn(read)) == ["one\n"] * 50_000
    os.close(read)


@pytest.mark.parametrize("ends", [_pipe, _sockets])
async def test_others_are_served_while_a_reader_is_slow(ends: Callable[[], Ends]) -> None:
    reads, writes = ends()
    out, text = LinesOut(writes), "0123456789" * 100_000 + "\n"
    served = anyio.Event()
    read: list[bytes] = []

    def slowly() -> None:
        while (part := os.read(reads, 100_000)) != b"":
            read.append(part)

    async def write() -> None:
        await out.write(text)
        await out.flush()
        out.close()
        os.close(writes)

    async def serve() -> None:
        served.set()

    thread = threading.Thread(target=slowly)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(write)
        tasks.start_soon(serve)
        await served.wait()
        thread.start()
    thread.join()
    assert b"".join(read).decode() == text
    os.close(reads)


async def test_a_reader_that_went_away_is_an_error() -> None:
    reads, writes = os.pipe()
    os.close(reads)
    out = LinesOut(writes)
    await out.write("x\n")
    with pytest.raises(BrokenPipeError):
        await out.flush()
    os.close(writes)


def test_what_is_printed_meanwhile_is_not_the_protocols_and_both_ends_come_back() -> None:
    program = (
        "import sys, os, anyio\n"
        "from neural_trader_server.pipes import standard_streams\n"
        "async def main():\n"
        "    with standard_streams() as streams:\n"
        "        os.write(1, b'stray '); assert os.read(0, 1) == b''\n"
        "        async for line in streams.stdin:\n"
        "            await streams.stdout.write('<' + line); await streams.stdout.flush()\n"
        "            break\n"
        "anyio.run(main)\n"
        "os.write(1, b'after ' + os.read(0, 5))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write(b"hello\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"<hello\n"
        process.stdin.write(b"again")
        process.stdin.close()
        assert process.stdout.read() == b"after again"
        assert process.stderr.read() == b"stray "


def test_other_streams_in_their_place_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with standard_streams() as streams:
        assert streams is None
