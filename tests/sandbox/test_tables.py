"""Tables: written once, sealed, and read through descriptors that can do nothing else."""

import errno
import fcntl
import io
import mmap
import os
import sys

import polars as pl
import pytest

from neural_trader_sandbox.tables import Table

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="sealed memory files are Linux's")
FRAME = pl.DataFrame({"close": [1.0, 2.0, 4.0]})


@pytest.fixture
def table() -> Table:
    return Table(FRAME.write_ipc_stream)


def test_a_table_holds_what_was_written(table: Table) -> None:
    data = bytes(table)
    assert len(table) == len(data)
    assert pl.read_ipc_stream(io.BytesIO(data)).equals(FRAME)
    assert bytes(Table.of(data)) == data
    assert Table.of(table) is table


def test_each_reader_has_a_position_of_its_own(table: Table) -> None:
    first, second = table.open(), table.open()
    try:
        os.lseek(first, 10, os.SEEK_SET)
        assert os.lseek(second, 0, os.SEEK_CUR) == 0
    finally:
        os.close(first)
        os.close(second)


def test_nobody_can_change_a_table_not_even_its_writer(table: Table) -> None:
    before = bytes(table)
    reader = table.open()
    writer = os.open(f"/proc/self/fd/{reader}", os.O_RDWR)
    try:
        for attempt in (
            lambda: os.write(reader, b"x"),
            lambda: os.ftruncate(reader, 0),
            lambda: os.write(writer, b"x"),
            lambda: os.ftruncate(writer, 0),
            lambda: os.ftruncate(writer, len(table) + 1),
            lambda: mmap.mmap(writer, len(table), mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE),
            lambda: fcntl.fcntl(writer, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE),
        ):
            with pytest.raises(OSError, match="Errno") as caught:
                attempt()
            assert caught.value.errno in {errno.EPERM, errno.EBADF, errno.EINVAL, errno.EACCES}
    finally:
        os.close(reader)
        os.close(writer)
    assert bytes(table) == before


def test_a_table_gives_its_memory_back_when_it_is_forgotten() -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(100):
        Table(FRAME.write_ipc_stream)
    assert len(os.listdir("/proc/self/fd")) == before
