"""Compaction: from the journal to Parquet without losing or repeating a row, wherever it is interrupted."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neural_trader_governance.errors import InputError, StorageError
from neural_trader_tools.market import durable
from neural_trader_tools.market.feed import compaction
from neural_trader_tools.market.feed.compaction import compact, open_journal
from neural_trader_tools.market.feed.manifest import read_manifest
from neural_trader_tools.market.feed.recorded import recorded
from neural_trader_tools.market.feed.segment_files import sealed
from neural_trader_tools.market.feed.ticks import SECOND_NS, Gap, Trade, parse_ns

MIDNIGHT_NS = parse_ns("2026-11-21T00:00:00Z")


def trade(serial: int, symbol: str = "A", event_ns: int = MIDNIGHT_NS, recv_ns: int = 0) -> Trade:
    return Trade(symbol, 1.0 + serial, 1.0, event_ns, recv_ns or event_ns, str(serial), "V")


def record(root: Path, trades: list[Trade]) -> None:
    """Records trades in a sealed segment of their own."""
    journal = open_journal(root)
    for one in trades:
        journal.append(one)
    journal.close()


def ids(root: Path, **bounds: int) -> list[str]:
    return recorded(root, "trade", **bounds).get_column("trade_id").to_list()  # pyright: ignore[reportArgumentType]


steps = st.lists(
    st.one_of(
        st.lists(
            st.tuples(st.sampled_from("AB"), st.integers(-2, 2), st.integers(0, 3)), min_size=1, max_size=4
        ),
        st.sampled_from(["seal", "compact", "reopen"]),
    ),
    max_size=8,
)


@settings(max_examples=12, deadline=None)
@given(played=steps, as_of=st.integers(-2, 6))
def test_what_is_read_back_is_what_was_recorded_at_every_step(
    played: list[list[tuple[str, int, int]] | str], as_of: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The model: a list, sorted by symbol and event_time, equal times in the order of arrival."""
    root = tmp_path_factory.mktemp("ticks")
    journal, model = open_journal(root), list[Trade]()
    limit_ns = MIDNIGHT_NS + as_of * SECOND_NS
    for step in played:
        if isinstance(step, list):
            for symbol, event_s, delay_s in step:
                event_ns = MIDNIGHT_NS + event_s * SECOND_NS + event_s
                model.append(trade(len(model), symbol, event_ns, event_ns + delay_s * SECOND_NS))
                journal.append(model[-1])
            journal.commit()
        elif step == "seal":
            journal.seal()
        elif step == "compact":
            compact(root)
        else:
            journal.close()
            journal = open_journal(root)
        ordered = sorted(model, key=lambda one: (one.symbol, one.ts_event_ns))
        rows = recorded(root, "trade")
        assert rows.get_column("trade_id").to_list() == [one.trade_id for one in ordered]
        assert rows.get_column("event_time").to_physical().to_list() == [one.ts_event_ns for one in ordered]
        seen = [one.trade_id for one in ordered if one.ts_recv_ns <= limit_ns]
        assert ids(root, as_of_ns=limit_ns) == seen
        window = [one.trade_id for one in ordered if MIDNIGHT_NS <= one.ts_event_ns < limit_ns]
        assert ids(root, start_ns=MIDNIGHT_NS, end_ns=limit_ns) == window
    journal.close()


def test_files_are_partitioned_by_utc_date_and_sorted_by_symbol_and_time(tmp_path: Path) -> None:
    record(tmp_path, [trade(0, "B"), trade(1, "A"), trade(2, "A", MIDNIGHT_NS - 1)])
    done = compact(tmp_path)
    assert (done.rows, done.segments, done.parts) == (3, 1, 2)
    files = sorted(path.relative_to(tmp_path).as_posix() for path in (tmp_path / "ticks").rglob("*.parquet"))
    assert files == [
        "ticks/trade/date=2026-11-20/000001-000001.parquet",
        "ticks/trade/date=2026-11-21/000001-000001.parquet",
    ]
    assert pl.read_parquet(tmp_path / files[1]).get_column("symbol").to_list() == ["A", "B"]
    assert sealed(tmp_path / "journal", "trade") == []
    again = compact(tmp_path)
    assert (again.rows, again.segments) == (0, 0)


def test_a_date_with_many_files_is_merged_into_one(tmp_path: Path) -> None:
    for serial in range(compaction.PARTS_MAX + 1):
        record(tmp_path, [trade(serial)])
        compact(tmp_path)
    (parts,) = read_manifest(tmp_path).parts["trade"].values()
    assert [part.file.rsplit("/")[-1] for part in parts] == ["000001-000009.parquet"]
    assert [path.name for path in (tmp_path / "ticks").rglob("*.parquet")] == ["000001-000009.parquet"]
    assert ids(tmp_path) == [str(serial) for serial in range(9)]


def test_gaps_are_recorded_beside_trades_and_an_unknown_kind_is_named(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    journal.append(Gap("", MIDNIGHT_NS, MIDNIGHT_NS + 5, "reconnect"))
    journal.close()
    compact(tmp_path)
    assert recorded(tmp_path, "gap").get_column("reason").to_list() == ["reconnect"]
    assert recorded(tmp_path, "quote").is_empty()
    with pytest.raises(InputError):
        recorded(tmp_path, "candle")


def test_a_damaged_sealed_segment_gives_its_good_rows_and_a_copy_is_kept(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    for serial in range(3):
        journal.append(trade(serial))
        journal.commit()
    journal.close()
    ((_, path),) = sealed(tmp_path / "journal", "trade")
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)
    assert compact(tmp_path).damaged == (path.name,)
    assert ids(tmp_path) == ["0", "1"]
    assert (tmp_path / "journal" / "damaged" / path.name).read_bytes() == bytes(content)


class Killed(BaseException):
    """Where the process would have died."""


def interrupted(monkeypatch: pytest.MonkeyPatch, at: int) -> list[str]:
    """Makes the at-th call that changes the disk the last one; returns the calls made so far."""
    calls: list[str] = []

    def counting(name: str, call: Callable[..., object]) -> Callable[..., object]:
        def counted(*arguments: object, **options: object) -> object:
            if len(calls) >= at:
                raise Killed
            calls.append(name)
            return call(*arguments, **options)

        return counted

    monkeypatch.setattr(Path, "replace", counting("replace", Path.replace))
    monkeypatch.setattr(Path, "unlink", counting("unlink", Path.unlink))
    monkeypatch.setattr(durable.os, "fsync", counting("fsync", os.fsync))
    return calls


def test_an_interruption_at_any_step_loses_and_repeats_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected: list[str] = []
    for at in range(100):
        root = tmp_path / str(at)
        for serial in range(3):
            record(root, [trade(serial), trade(serial + 10, event_ns=MIDNIGHT_NS - 1)])
            if serial == 1:
                compact(root)
        expected = ids(root)
        with monkeypatch.context() as patched:
            calls = interrupted(patched, at)
            try:
                compact(root)
                finished = True
            except Killed:
                finished = False
        assert ids(root) == expected
        compact(root)
        assert ids(root) == expected
        assert len(list((root / "ticks").rglob("*"))) == len(read_manifest(root).files()) + 3
        if finished:
            assert "replace" in calls
            break
    else:
        pytest.fail("it never finished")
    assert len(expected) == 6


def test_a_full_disk_stops_the_compaction_and_leaves_every_row_in_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(tmp_path, [trade(serial) for serial in range(5)])

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(durable.os, "fsync", full)
        with pytest.raises(StorageError):
            compact(tmp_path)
    assert len(ids(tmp_path)) == 5
    assert compact(tmp_path).rows == 5


COMPACTOR = """
import sys, time
from pathlib import Path
from neural_trader_tools.market.feed.compaction import compact, open_journal
from neural_trader_tools.market.feed.ticks import Trade
root, first = Path(sys.argv[1]), int(sys.argv[2])
journal = open_journal(root)
print("open", flush=True)
for turn in range(10_000):
    for serial in range(first + turn * 50, first + turn * 50 + 50):
        journal.append(Trade("A", 1.0, 1.0, 1_795_219_200_000_000_000 + serial * 10**12, 1, str(serial), "V"))
    print(journal.commit()["trade"] + first, flush=True)
    journal.seal()
    compact(root)
"""


@pytest.mark.parametrize("rounds", [1, pytest.param(40, marks=pytest.mark.slow)])
def test_a_process_killed_while_it_records_and_compacts_loses_nothing_acknowledged(
    tmp_path: Path, rounds: int
) -> None:
    first = 0
    for turn in range(rounds):
        with subprocess.Popen(
            [sys.executable, "-c", COMPACTOR, str(tmp_path), str(first)], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "open\n"
            answers = [process.stdout.readline() for _ in range(3 + turn % 5)]
            os.kill(process.pid, signal.SIGKILL)
            answers += process.stdout.read().split()
        acknowledged = int(answers[-1])
        open_journal(tmp_path).close()
        read = ids(tmp_path)
        assert read == [str(serial) for serial in range(len(read))]
        compact(tmp_path)
        assert ids(tmp_path) == read
        assert len(read) >= acknowledged
        first = len(read)
