"""Plain columns in a guest: the host's own pages, which it can read and, for itself alone, overwrite."""

import contextlib
import gc
import os
import textwrap

import numpy as np
import polars as pl
import pytest

from neural_trader_sandbox.local.sandbox import LocalSandbox
from neural_trader_sandbox.port import Job, Limits
from neural_trader_sandbox.tables import Table

pytestmark = pytest.mark.anyio
SCRIPT = "neural_trader_sandbox.script:run_script"
ROWS = 300_000


@pytest.fixture(scope="module")
def table() -> Table:
    return Table.of_columns({"close": np.arange(ROWS, dtype=np.float64)})


def job(source: str, table: Table) -> Job:
    return Job(SCRIPT, {"source": textwrap.dedent(source)}, {"bars": table})


async def test_what_a_guest_writes_over_its_bars_is_seen_by_nobody_else(
    sandbox: LocalSandbox, table: Table
) -> None:
    before = bytes(table)
    source = """
        import ctypes
        close = tables["bars"]["close"]
        address = close.to_numpy().ctypes.data
        ctypes.memset(address, 0xFF, 8 * len(close))
        columns = {"close": close.to_numpy()}
    """
    vandal = await sandbox.run(job(source, table))
    assert vandal.status == "ok", vandal
    assert np.isnan(vandal.columns["close"]).all(), "it did write"
    assert bytes(table) == before
    honest = await sandbox.run(job("columns = {'close': tables['bars']['close'].to_numpy()}", table))
    np.testing.assert_array_equal(honest.columns["close"], np.arange(ROWS))


async def test_the_pages_cannot_be_mapped_for_all_or_reopened(sandbox: LocalSandbox, table: Table) -> None:
    source = """
        import ctypes, os
        libc = ctypes.CDLL(None, use_errno=True)
        address = tables["bars"]["close"].to_numpy().ctypes.data & ~4095
        descriptors = []
        for fd in range(3, 64):
            try:
                os.fstat(fd)
                descriptors.append(fd)
            except OSError:
                pass
        result = {
            "descriptors": descriptors,
            "proc": os.path.exists("/proc/self/map_files"),
            "remap": [libc.remap_file_pages(ctypes.c_void_p(address), 4096, 0, 0, 0), ctypes.get_errno()],
        }
    """
    result = await sandbox.run(job(source, table))
    assert result.status == "ok", result
    assert result.value == {"descriptors": [3], "proc": False, "remap": [-1, 1]}, "EPERM"


async def test_a_table_larger_than_the_address_space_ends_the_run_and_not_the_desk(
    sandbox: LocalSandbox,
) -> None:
    huge = Table.of_columns({name: np.zeros(8_000_000) for name in "ab"})
    result = await sandbox.run(job("result = 1", huge), Limits(memory_bytes=300 << 20))
    assert result.status in {"error", "killed"}, result
    assert result.status == "killed" or (result.error is not None and result.error.type == "DeniedError")
    assert (await sandbox.run(job("result = tables['bars'].height", huge))).value == 8_000_000


async def test_a_guest_of_an_empty_table_reads_no_rows(sandbox: LocalSandbox) -> None:
    empty = Table.of_columns({"close": np.empty(0)})
    result = await sandbox.run(job("result = [tables['bars'].height, tables['bars'].columns]", empty))
    assert result.value == [0, ["close"]]


async def test_a_table_that_the_host_forgets_stays_readable_in_a_stream(sandbox: LocalSandbox) -> None:
    stream = await sandbox.open_stream(
        Job(
            "neural_trader_sandbox.script:stream_script",
            {"source": "close = tables['bars']['close']\ndef handle(message):\n    return close.sum()"},
            {"bars": Table.of_columns({"close": np.ones(ROWS)})},
        )
    )
    assert (await stream.send(None)).value == ROWS
    await stream.aclose()


def tables_held() -> int:
    """How many tables this process holds open; the listing's own descriptor is gone when it is asked for."""
    held = 0
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            held += os.readlink(f"/proc/self/fd/{fd}").startswith("/memfd:table")
    return held


async def test_runs_leave_no_table_behind(sandbox: LocalSandbox) -> None:
    """Neither of bytes nor of columns, whether the guest answers or fails."""
    before = tables_held()
    stream = pl.DataFrame({"close": [1.0]}).write_ipc_stream(None).getvalue()
    for number in range(12):
        source = "1 / 0" if number % 3 else "result = tables['bars'].height"
        given = stream if number % 2 else Table.of_columns({"close": np.ones(1)})
        result = await sandbox.run(Job(SCRIPT, {"source": source}, {"bars": given}))
        assert result.status == ("error" if number % 3 else "ok"), result
        del given
    gc.collect()
    assert tables_held() == before
