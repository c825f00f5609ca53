"""The journal: acknowledged is on disk, whatever happens next."""

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neural_trader_governance.errors import StorageError
from neural_trader_tools.market.feed import journal as journal_module
from neural_trader_tools.market.feed.journal import BATCH_ROWS_MAX, Journal
from neural_trader_tools.market.feed.segment_files import sealed, unsealed
from neural_trader_tools.market.feed.segments import SCHEMAS, Entry, Quarantined, read_segment
from neural_trader_tools.market.feed.ticks import Amendment, BarTick, Gap, Quote, Trade

MakeTrade = Callable[..., Trade]

ONE_OF_EACH: list[Entry] = [
    Trade(
        "AAPL", 190.1234, 100.0, 1_795_188_600_123_456_789, 1_795_188_600_123_456_790, "7", "V", ("@", "I")
    ),
    Quote("AAPL", 190.0, 1.0, 190.5, 2.0, 1_795_188_600_123_456_789, 1_795_188_600_123_456_790, "Q"),
    BarTick("BTC/USD", "1m", 1.0, 2.0, 0.5, 1.5, 10.25, 60_000_000_000, 120_000_000_001),
    Amendment("AAPL", "7", "V", 190.12, 50.0, 1_795_188_600_123_456_789, 1_795_188_600_123_456_790, "8"),
    Gap("", 5, 9, "reconnect"),
    Quarantined("", "undecodable", b"\xff\x00{", 3, 4),
]


def stored(root: Path, kind: str = "trade") -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for _, path in [*sealed(root, kind), *unsealed(root, kind)]:
        table, _, damage = read_segment(path, kind)
        assert damage is None
        rows += pl.DataFrame(table).with_columns(pl.col("event_time", "known_time").to_physical()).to_dicts()
    return rows


@contextmanager
def disk_of(file_bytes_max: int) -> Generator[None]:
    """No file may grow beyond so many bytes: what was begun is written in part, then refused."""
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes_max, former[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)


def test_every_kind_of_event_comes_back_to_the_nanosecond_and_polars_reads_the_file(tmp_path: Path) -> None:
    with_flags = "gap,stale"
    journal = Journal(tmp_path)
    for entry in ONE_OF_EACH:
        journal.append(entry, with_flags)
    assert journal.waiting == 6
    assert sum(journal.commit().values()) == 6
    assert journal.waiting == 0
    journal.close()
    for kind, entry in zip(SCHEMAS, ONE_OF_EACH, strict=True):
        row = stored(tmp_path, kind)
        assert len(row) == 1
        fields = msgspec.structs.astuple(entry)
        assert list(row[0].values()) == [
            *(["@", "I"] if isinstance(field, tuple) else field for field in fields),
            with_flags,
        ]
        assert pl.read_ipc_stream(sealed(tmp_path, kind)[0][1]).height == 1


def test_entries_and_their_own_flags_come_back_in_order_over_many_batches_large_and_small(
    tmp_path: Path, trade: MakeTrade
) -> None:
    journal = Journal(tmp_path)
    trades = [trade(symbol=f"S{number % 7}") for number in range(2 * BATCH_ROWS_MAX + 100)]
    for number, entry in enumerate(trades):
        journal.append(entry, "gap" if number % 500 == 0 else "")
        if number == BATCH_ROWS_MAX + 10:
            journal.commit()
    contents = [bytes([number]) * length for number, length in enumerate([5, 65_536, 300_000, 0, 7, 250_000])]
    for content in contents:  # each larger than what is left of the encoder's memory, or than all of it
        journal.append(Quarantined("", "undecodable", content, 3, 4))
        journal.commit()
    journal.close()
    rows = stored(tmp_path)
    assert [(row["trade_id"], row["symbol"]) for row in rows] == [
        (entry.trade_id, entry.symbol) for entry in trades
    ]
    assert [number for number, row in enumerate(rows) if row["flags"]] == [0, 500, 1_000]
    assert [row["content"] for row in stored(tmp_path, "quarantine")] == contents


def test_the_thread_that_writes_gets_bytes_and_makes_no_columns(tmp_path: Path, trade: MakeTrade) -> None:
    journal = Journal(tmp_path)
    for _ in range(BATCH_ROWS_MAX + 1):
        journal.append(trade())
    taken = journal.take()
    assert [(kind, type(message), count) for kind, message, count in taken] == [
        ("trade", bytes, BATCH_ROWS_MAX),
        ("trade", bytes, 1),
    ]
    assert journal.waiting == BATCH_ROWS_MAX + 1
    assert journal.write(taken)["trade"] == BATCH_ROWS_MAX + 1
    journal.close()


def test_nothing_is_acknowledged_before_it_is_synced(
    tmp_path: Path, trade: MakeTrade, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    fsync = os.fsync

    def counted(handle: int) -> None:
        synced.append(handle)
        fsync(handle)

    monkeypatch.setattr(journal_module.os, "fsync", counted)
    journal = Journal(tmp_path, fsync="seal")
    journal.append(trade())
    before = len(synced)
    assert journal.commit()["trade"] == 0
    journal.seal()
    assert len(synced) > before
    assert journal.acknowledged["trade"] == 1
    journal.close()


def test_only_one_process_writes(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    with pytest.raises(StorageError) as refused:
        Journal(tmp_path)
    assert refused.value.code == "journal_in_use"
    journal.close()
    Journal(tmp_path).close()


def test_a_full_disk_is_an_error_that_loses_and_repeats_nothing(tmp_path: Path, trade: MakeTrade) -> None:
    journal = Journal(tmp_path)
    made = [trade(100 + i / 100) for i in range(600)]
    for one in made[:200]:
        journal.append(one)
    journal.commit()
    size = unsealed(tmp_path, "trade")[0][1].stat().st_size
    for one in made[200:400]:
        journal.append(one)
    for room in (size + 1000, 1000, 100):
        with disk_of(room), pytest.raises(StorageError) as refused:
            journal.commit()
        assert refused.value.code == "journal_write_failed"
        assert journal.acknowledged["trade"] == 200
        assert [row["trade_id"] for row in stored(tmp_path)] == [one.trade_id for one in made[:200]]
    for one in made[400:]:
        journal.append(one)
    assert journal.commit()["trade"] == 600
    journal.close()
    assert [row["trade_id"] for row in stored(tmp_path)] == [one.trade_id for one in made]


def test_a_failed_sync_acknowledges_nothing_and_the_rows_are_written_again(
    tmp_path: Path, trade: MakeTrade, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path)
    journal.append(trade())
    journal.commit()
    fsync, failures = os.fsync, [OSError(5, "Input/output error")]

    def failing(handle: int) -> None:
        if failures:
            raise failures.pop()
        fsync(handle)

    journal.append(trade())
    monkeypatch.setattr(journal_module.os, "fsync", failing)
    with pytest.raises(StorageError):
        journal.commit()
    assert journal.acknowledged["trade"] == 1
    assert journal.commit()["trade"] == 2
    journal.close()
    assert len(stored(tmp_path)) == 2
    assert len(sealed(tmp_path, "trade")) == 2  # the file whose sync failed is not trusted further


def test_a_disk_that_stays_full_refuses_more_instead_of_filling_the_memory(
    tmp_path: Path, trade: MakeTrade
) -> None:
    journal = Journal(tmp_path, pending_rows_max=10)
    for _ in range(10):
        journal.append(trade())
        journal.check_room()
    journal.append(trade())
    with pytest.raises(StorageError) as refused:
        journal.check_room()
    assert refused.value.code == "journal_behind"
    journal.commit()
    journal.check_room()
    journal.close()


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), kept=st.integers(0, 3))
def test_a_torn_tail_is_moved_aside_and_every_whole_batch_stays(
    data: st.DataObject, kept: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The tail: cut anywhere, followed by zeros or noise, or with one byte of it changed."""
    root = tmp_path_factory.mktemp("journal")
    journal, ends = Journal(root), [0]
    for batch in range(4):
        journal.append(Trade("AAPL", 1.0 + batch, 1.0, 1 + batch, 2, str(batch), "V"))
        journal.commit()
        ends.append(unsealed(root, "trade")[0][1].stat().st_size)
    path = unsealed(root, "trade")[0][1]
    content = path.read_bytes()
    os.close(journal._lock)  # pyright: ignore[reportPrivateUsage]  # the process is gone
    start, end = ends[kept], ends[kept + 1]
    how = data.draw(st.sampled_from(["cut", "zeros", "noise", "flip"]))
    cut = data.draw(st.integers(start + (kept > 0), end - 1))
    if how == "flip" and kept:
        torn = bytearray(content[:end])
        torn[cut] ^= 1 << data.draw(st.integers(0, 7))
        torn = bytes(torn)
    else:
        torn = content[:cut] + {"cut": b"", "zeros": bytes(end - cut)}.get(how, b"\x9c" * 99)
    path.write_bytes(torn)
    again = Journal(root)
    rows = [(row["trade_id"], row["price"], row["event_time"], row["symbol"]) for row in stored(root)]
    assert rows == [(str(i), 1.0 + i, 1 + i, "AAPL") for i in range(len(rows))]  # what is there is true
    assert kept <= len(rows) <= kept + 1
    moved = b"".join(one.read_bytes() for one in root.glob("damaged/*"))
    whole = sum(path.stat().st_size for _, path in sealed(root, "trade"))
    header = ends[1] - (ends[2] - ends[1])
    assert len(moved) + (whole or header) >= len(torn)
    again.append(Trade("AAPL", 9.0, 1.0, 9, 9, "new", "V"))
    again.close()
    assert stored(root)[-1]["trade_id"] == "new"


def test_segments_are_sealed_by_size_and_by_age_and_numbers_are_never_used_twice(
    tmp_path: Path, trade: MakeTrade
) -> None:
    now = [0.0]
    journal = Journal(tmp_path, segment_bytes_max=2_000, segment_age_s_max=60, clock_s=lambda: now[0])
    for _ in range(4):
        journal.append(trade())
        journal.commit()
    by_size = [number for number, _ in sealed(tmp_path, "trade")]
    assert by_size == list(range(1, len(by_size) + 1))
    journal.append(trade())
    journal.commit()
    now[0] = 61
    journal.commit()
    assert unsealed(tmp_path, "trade") == []
    journal.close()
    again = Journal(tmp_path, first_segments={"trade": 100})
    again.append(trade())
    again.close()
    assert [number for number, _ in sealed(tmp_path, "trade")][-1] == 100
    assert len(stored(tmp_path)) == 6


def test_an_entry_that_arrow_cannot_hold_is_quarantined_and_its_neighbours_stay(
    tmp_path: Path, trade: MakeTrade
) -> None:
    journal = Journal(tmp_path)
    for i in range(7):
        journal.append(trade())
        if i == 3:
            journal.append(Trade("AAPL", 1.0, 1.0, 2**70, 5, "\ud800", "V"))
    assert sum(journal.commit().values()) == 8
    journal.close()
    assert len(stored(tmp_path)) == 7
    (kept,) = stored(tmp_path, "quarantine")
    assert kept["reason"] == "unstorable"
    assert b"\\ud800" in bytes(kept["content"])  # pyright: ignore[reportArgumentType]


WRITER = """
import sys
from pathlib import Path
from neural_trader_tools.market.feed.journal import BATCH_ROWS_MAX, Journal
from neural_trader_tools.market.feed.ticks import Trade, Quote
journal = Journal(Path(sys.argv[1]), segment_bytes_max=20_000)
first = int(sys.argv[2])
print("open", flush=True)
for serial in range(first, first + 1_000_000):
    journal.append(Trade("AAPL", 1.0, 1.0, serial + 1, serial + 2, str(serial), "V"))
    if serial % 7 == 6:
        journal.commit()
        print(serial, flush=True)
"""


def killed_writer(root: Path, first: int, acknowledgements: int) -> int:
    """Runs a writer until it acknowledged so often, kills it; returns the last serial acknowledged."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(root), str(first)], stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "open\n"
        last = first - 1
        for _ in range(acknowledgements):
            last = int(writer.stdout.readline())
        os.kill(writer.pid, signal.SIGKILL)
        rest = writer.stdout.read().split()
    return int(rest[-1]) if rest else last


@pytest.mark.parametrize("rounds", [2, pytest.param(60, marks=pytest.mark.slow)])
def test_nothing_acknowledged_is_lost_to_sigkill_and_nothing_is_there_twice(
    tmp_path: Path, rounds: int
) -> None:
    acknowledged = -1
    first = 0
    for turn in range(rounds):
        acknowledged = killed_writer(tmp_path, first, 3 + turn * 5 % 23)
        journal = Journal(tmp_path)
        journal.close()
        serials = [int(str(row["trade_id"])) for row in stored(tmp_path)]
        assert serials == list(range(len(serials)))
        assert len(serials) > acknowledged
        first = len(serials)
