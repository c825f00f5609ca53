"""Parts: what many symbols share on disk reads as files of their own do, before and after a compaction."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from neural_trader_governance.errors import DataError, IntegrityError, StorageError
from neural_trader_governance.terms.clocks import SimulatedClock
from neural_trader_tools.market import compaction
from neural_trader_tools.market.archive import Archive
from neural_trader_tools.market.batches import Batch

MakeBatch = Callable[..., Batch]
FIRST = datetime(2019, 1, 1, 14, 30, tzinfo=UTC)  # `batch`'s first bar
DAY = timedelta(days=1)


@pytest.fixture
def gathered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes every commit of two series or more a part."""
    monkeypatch.setattr("neural_trader_tools.market.archive.GATHERED_SERIES_MIN", 2)


def state(archive: Archive) -> dict[str, object]:
    """Everything that reads return, at several moments."""
    seen: dict[str, object] = {}
    for one in archive.instruments():
        seen[one.symbol] = (one.first, one.last, archive.data_version(one.symbol))
        for as_of in (None, FIRST + 3 * DAY, datetime(2020, 1, 1, 12, tzinfo=UTC)):
            for adjust in ("none", "splits"):
                frame = archive.bars(one.symbol, as_of=as_of, adjust=adjust)
                seen[f"{one.symbol} {as_of} {adjust}"] = frame.rows()
    seen["newest"] = archive.newest_known_time()
    return seen


commits = st.lists(
    st.lists(
        st.tuples(
            st.sampled_from(["AAA", "BBB", "CCC"]), st.integers(0, 800), st.integers(1, 5), st.integers(1, 3)
        ),
        min_size=1,
        max_size=4,
    ),
    min_size=1,
    max_size=5,
)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    max_examples=10,
    deadline=None,
    phases=(Phase.explicit, Phase.generate),
)
@given(history=commits, compacted=st.sets(st.integers(0, 4)))
@pytest.mark.usefixtures("gathered")
def test_any_history_of_imports_and_compactions_reads_as_files_of_their_own_do(
    tmp_path_factory: pytest.TempPathFactory,
    batch: MakeBatch,
    history: list[list[tuple[str, int, int, int]]],
    compacted: set[int],
) -> None:
    clock = SimulatedClock(datetime(2020, 1, 1, tzinfo=UTC))
    parted, plain = (Archive(tmp_path_factory.mktemp(name), clock) for name in ("parted", "plain"))
    for step, commit in enumerate(history):
        batches = [
            batch(symbol, [float(price)] * count, first_day=first) for symbol, first, count, price in commit
        ]
        counts = parted.write(batches)
        assert counts == [plain.write([one])[0] for one in batches]  # one at a time: never a part
        if step in compacted:
            parted.compact()
        clock.advance(timedelta(hours=1))
    for one in plain.instruments():
        assert parted.instrument(one.symbol) == one
        for as_of in (None, FIRST + 400 * DAY, datetime(2020, 1, 1, 1, 30, tzinfo=UTC)):
            expected = plain.bars(one.symbol, as_of=as_of)
            assert parted.bars(one.symbol, as_of=as_of).equals(expected)
            start, end = FIRST + 100 * DAY, FIRST + 500 * DAY
            window = plain.bars(one.symbol, as_of=as_of, start=start, end=end)
            assert parted.bars(one.symbol, as_of=as_of, start=start, end=end).equals(window)
    assert parted.newest_known_time() == plain.newest_known_time()
    rows = pl.concat([parted.scan(), plain.scan()]).collect()
    assert rows.is_duplicated().all()  # each row is in both, once


def test_a_compaction_changes_no_read_and_no_version(sample_copy: Archive, batch: MakeBatch) -> None:
    sample_copy.write([batch("AAPL", [50.0] * 3), batch("AAPL", [51.0] * 3)])
    before = state(sample_copy)
    told: list[float] = []
    result = sample_copy.compact(told.append)
    assert state(Archive(sample_copy.root)) == before
    assert told[-1] == 1.0
    assert told == sorted(told)
    files = sorted(
        path.relative_to(sample_copy.root).as_posix() for path in (sample_copy.root / "bars").rglob("*.*")
    )
    assert all(file.startswith("bars/1d/date=") for file in files)
    assert len({file.split("/")[2] for file in files}) == len(files) == result.files_after
    assert result.files_before == 9
    for path in (sample_copy.root / "bars").rglob("*.parquet"):
        part = pl.read_parquet(path)
        assert part.equals(part.sort("symbol", "event_time", "known_time"))
        assert set(part["event_time"].dt.year()) == {int(path.parent.name.removeprefix("date="))}
    again = sample_copy.compact()
    assert (again.files_before, again.files_after) == (result.files_after, result.files_after)
    assert state(sample_copy) == before


def test_small_imports_after_a_compaction_write_small_files(archive: Archive, batch: MakeBatch) -> None:
    archive.write([batch("AAA", [float(i + 1) for i in range(400)])])
    archive.compact()
    archive.write([batch("AAA", [7.0], first_day=400)])
    archive.write([batch("AAA", [8.0], first_day=100)])
    archive.write([])  # sweeps the file that the second import replaced
    (file,) = (archive.root / "bars/1d").glob("*.parquet")
    assert pl.read_parquet(file).height == 2
    assert archive.bars("AAA")["close"][100] == 8.0
    assert archive.bars("AAA")["close"][400] == 7.0
    assert archive.bars("AAA", as_of=FIRST + 200 * DAY)["close"][100] == 101.0
    (unchanged,) = archive.write([batch("AAA", [7.0], first_day=400)])
    assert unchanged.rows_unchanged == 1


def test_large_years_of_minutes_become_months(
    archive: Archive, batch: MakeBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "YEAR_ROWS_MAX", 50)
    one = batch("AAA", [1.0] * 100)
    archive.write([Batch(one.instrument, "1h", one.bars, one.dataset)])
    archive.compact()
    names = sorted(path.name for path in (archive.root / "bars/1h").iterdir())
    assert names == ["date=2019-01", "date=2019-02", "date=2019-03", "date=2019-04"]
    assert archive.bars("AAA", "1h").height == 100


@pytest.mark.usefixtures("gathered")
def test_a_read_opens_only_the_parts_that_can_hold_its_rows(archive: Archive, batch: MakeBatch) -> None:
    archive.write([batch("AAA", [1.0] * 800), batch("BBB", [2.0] * 800)])
    archive.write([batch("XXX", [1.0] * 3), batch("YYY", [2.0] * 3)])
    archive.compact()
    (lost,) = (archive.root / "bars/1d/date=2020").glob("*.parquet")
    lost.unlink()
    reader = Archive(archive.root)
    assert reader.bars("AAA", end=datetime(2020, 1, 1, tzinfo=UTC)).height == 365
    assert reader.bars("AAA", as_of=datetime(2019, 12, 31, tzinfo=UTC)).height == 364
    assert reader.bars("XXX").height == 3
    with pytest.raises(IntegrityError, match="archive_file_missing"):
        reader.bars("AAA")


def test_imports_beside_a_compaction_lose_nothing(archive: Archive, batch: MakeBatch) -> None:
    """An import is committed between the compaction's reading and its commit."""
    archive.write([batch("AAA", [1.0] * 5)])
    archive.write([batch("BBB", [2.0] * 5)])
    other = Archive(archive.root, SimulatedClock(datetime(2020, 1, 2, tzinfo=UTC)))
    done: list[bool] = []

    def meanwhile(_: float) -> None:
        if not done:
            done.append(True)
            other.write([batch("AAA", [1.5], first_day=2)])
            other.write([batch("BBB", [3.0], first_day=5)])
            other.write([batch("CCC", [4.0])])

    archive.compact(meanwhile)
    for reader in (archive, Archive(archive.root)):
        assert reader.bars("AAA")["close"].to_list() == [1.0, 1.0, 1.5, 1.0, 1.0]
        assert reader.bars("AAA", as_of=datetime(2020, 1, 1, tzinfo=UTC))["close"].to_list() == [1.0] * 5
        assert reader.bars("BBB")["close"].to_list() == [2.0] * 5 + [3.0]
        assert reader.bars("CCC")["close"].to_list() == [4.0]
    before = state(archive)
    archive.compact()
    assert state(archive) == before
    assert archive.scan().collect().height == 6 + 6 + 1


def test_readers_go_on_while_compactions_replace_what_they_read(archive: Archive, batch: MakeBatch) -> None:
    archive.write([batch("AAA", [1.0] * 500)])
    stop = threading.Event()
    heights: set[int] = set()

    def read() -> None:
        while not stop.is_set():
            heights.add(Archive(archive.root).bars("AAA").height)

    reader = threading.Thread(target=read)
    reader.start()
    for i in range(6):
        archive.write([batch("AAA", [2.0 + i], first_day=3)])
        archive.compact()
    stop.set()
    reader.join()
    assert heights == {500}


CHILD = """
import sys
from pathlib import Path
from neural_trader_tools.market.archive import Archive
archive = Archive(Path(sys.argv[1]))
archive.compact(lambda part: print(part, flush=True) or (sys.stdin.read() if sys.argv[2] == "wait" else None))
"""


def test_a_killed_compaction_leaves_the_archive_as_it_was(
    archive: Archive, batch: MakeBatch, tmp_path: Path
) -> None:
    archive.write([batch("AAA", [float(i + 1) for i in range(400)])])
    before = state(archive)
    script = tmp_path / "child.py"
    script.write_text(CHILD)
    child = subprocess.Popen(
        [sys.executable, str(script), str(archive.root), "wait"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert child.stdout is not None
    assert child.stdout.readline()  # rows are written, nothing is committed
    os.kill(child.pid, signal.SIGKILL)
    child.communicate()
    assert state(Archive(archive.root)) == before
    assert (archive.root / "compacting").exists()
    archive.compact()
    assert not (archive.root / "compacting").exists()
    assert state(Archive(archive.root)) == before


def test_a_full_disk_ends_a_compaction_with_the_archive_unchanged(
    archive: Archive, batch: MakeBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive.write([batch("AAA", [1.0] * 400)])
    before, manifest = state(archive), (archive.root / "manifest.json").read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        with pytest.raises(StorageError, match="No space left"):
            archive.compact()
    assert (archive.root / "manifest.json").read_bytes() == manifest
    assert state(Archive(archive.root)) == before
    assert not (archive.root / "compacting").exists()


@pytest.mark.usefixtures("gathered")
def test_several_symbols_are_read_from_parts_at_once(archive: Archive, batch: MakeBatch) -> None:
    archive.write([batch(f"S{i}", [float(i + 1)] * 5) for i in range(10)])
    reader = Archive(archive.root)
    reader.preload(["S1", "S3", "S7", "NOPE"], "1d")
    (part,) = (archive.root / "bars/1d/imports").iterdir()
    part.write_bytes(b"no longer a part")
    assert [reader.bars(name)["close"][0] for name in ("S1", "S3", "S7")] == [2.0, 4.0, 8.0]
    with pytest.raises(IntegrityError, match="archive_file_damaged"):
        reader.bars("S2")


def test_nothing_to_scan_is_said(archive: Archive, sample: Archive) -> None:
    with pytest.raises(DataError, match="no_bars"):
        archive.scan()
    newest = sample.scan().group_by("symbol").agg(pl.col("event_time").max()).sort("symbol").collect()
    assert newest["symbol"].to_list() == [one.symbol for one in sample.instruments()]
