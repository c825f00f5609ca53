"""Tables: written once, sealed, and read through descriptors that can do nothing else."""

import errno
import fcntl
import io
import mmap
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from neural_trader_sandbox.tables import Table

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="sealed memory files are Linux's")
FRAME = pl.DataFrame({"close": [1.0, 2.0, 4.0]})


MOMENTS = np.array(["2026-01-02T09:30", "2026-01-02T09:31", "2026-01-02T09:32"], "datetime64[us]")
COLUMNS = {"time": MOMENTS, "count": np.array([1, 2, 4]), "close": np.array([1.0, 2.0, 4.0])}


@pytest.fixture(params=["stream", "columns"])
def table(request: pytest.FixtureRequest) -> Table:
    return Table(FRAME.write_ipc_stream) if request.param == "stream" else Table.of_columns(COLUMNS)


def test_a_table_holds_what_was_written() -> None:
    table = Table(FRAME.write_ipc_stream)
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


def test_columns_are_an_arrow_stream_to_whoever_copies_them() -> None:
    frame = pl.read_ipc_stream(io.BytesIO(bytes(Table.of_columns(COLUMNS))))
    expected = pl.DataFrame(COLUMNS).with_columns(pl.col("time").dt.replace_time_zone("UTC"))
    assert frame.equals(expected)
    assert frame.schema == expected.schema


@given(st.lists(st.floats(width=64), max_size=50), st.integers(1, 5))
def test_columns_come_back_bit_for_bit(values: list[float], step: int) -> None:
    cells = np.array(values, np.float64)
    columns = {"plain": cells[::step], "reversed": cells[::step][::-1]}  # not contiguous: copied in order
    table = Table.of_columns(columns)
    arrays = table.arrays()
    assert arrays is not None
    assert len(table) == 16 * len(columns["plain"])
    for name, column in columns.items():
        assert arrays[name].tobytes() == column.tobytes()


@pytest.mark.parametrize(
    "columns",
    [
        {},
        {"x": np.zeros(2, np.float32)},
        {"x": np.zeros(2, ">f8")},
        {"x": np.zeros(2, "datetime64[ns]")},
        {"x": np.zeros((2, 2))},
        {"x": np.zeros(2), "y": np.zeros(3)},
        {"x": np.array(["a", "b"], object)},
    ],
    ids=["none", "float32", "big end first", "nanoseconds", "two dimensions", "two lengths", "objects"],
)
def test_other_columns_are_refused(columns: dict[str, NDArray[Any]]) -> None:
    with pytest.raises(ValueError, match="column"):
        Table.of_columns(columns)


def test_arrays_over_a_table_can_be_written_to_and_the_table_does_not_change() -> None:
    table = Table.of_columns(COLUMNS)
    before = bytes(table)
    arrays, others = table.arrays(), table.arrays()
    assert arrays is not None
    assert others is not None
    arrays["close"][:] = -1.0
    assert bytes(table) == before
    np.testing.assert_array_equal(others["close"], COLUMNS["close"])


def test_arrays_outlive_their_table_and_their_memory_is_given_back_after_them() -> None:
    def mapped() -> int:
        return sum("memfd:table" in line for line in Path("/proc/self/maps").read_text().splitlines())

    before, descriptors = mapped(), len(os.listdir("/proc/self/fd"))
    arrays = Table.of_columns(COLUMNS).arrays()
    assert arrays is not None
    assert len(os.listdir("/proc/self/fd")) == descriptors
    close = arrays.pop("close")
    arrays.clear()
    assert mapped() == before + 1
    np.testing.assert_array_equal(close, COLUMNS["close"])
    del close
    assert mapped() == before
