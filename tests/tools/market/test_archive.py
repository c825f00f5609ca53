"""The archive: point-in-time reads, revisions, adjustment, and what a crash leaves."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neural_trader_governance.errors import DataError, InputError, IntegrityError
from neural_trader_governance.terms.clocks import SimulatedClock
from neural_trader_tools.market import frames
from neural_trader_tools.market.adjustment import adjusted, split_factors
from neural_trader_tools.market.archive import Archive
from neural_trader_tools.market.batches import Batch

MakeBatch = Callable[..., Batch]

DAYS_1999_TO_2020 = 21 * 365
moments = st.integers(0, DAYS_1999_TO_2020 * 1440).map(
    lambda minutes: datetime(1999, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes)
)
shared_archive = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None
)


@shared_archive
@given(as_of=moments, symbol=st.sampled_from(["AAPL", "IBM", "GOOG", "WTI", "^GSPC"]))
def test_a_read_as_of_a_moment_never_returns_a_row_known_later(
    sample: Archive, as_of: datetime, symbol: str
) -> None:
    bars = sample.bars(symbol, as_of=as_of)
    assert bars.filter(pl.col("known_time") > as_of).is_empty()
    everything = sample.bars(symbol, adjust="none")
    assert bars.height == everything.filter(pl.col("known_time") <= as_of).height
    assert sample.actions(symbol, as_of).filter(pl.col("known_time") > as_of).is_empty()


revisions = st.lists(
    st.tuples(st.integers(0, 5), st.floats(1, 100), st.integers(0, 50)), min_size=1, max_size=25
)


@settings(max_examples=60, deadline=None)
@given(facts=revisions, asked=st.integers(-1, 120))
def test_revisions_read_as_of_equal_a_replay_of_what_arrived(
    facts: list[tuple[int, float, int]], asked: int
) -> None:
    """The model: a dictionary that is told each fact at the time at which the archive knew it."""
    start = datetime(2020, 1, 1, tzinfo=UTC)
    stored = frames.empty(frames.BAR_SCHEMA)
    for bar, close, delay in facts:
        event = start + timedelta(hours=bar)
        row = {"event_time": [event], "known_time": [event + timedelta(hours=delay)]}
        row |= {name: [close] for name in frames.VALUE_COLUMNS}  # type: ignore[dict-item]
        incoming = pl.DataFrame(row, schema=frames.BAR_SCHEMA)
        stored = frames.merge(stored, incoming, frames.BAR_KEY, None).frame
    as_of = start + timedelta(hours=asked)
    model: dict[datetime, float] = {}
    for event, known, close in (
        stored.sort("known_time").select("event_time", "known_time", "close").iter_rows()
    ):
        if known <= as_of:
            model[event] = close
    seen = frames.known_at(stored, as_of, frames.BAR_KEY)
    assert dict(seen.select("event_time", "close").iter_rows()) == model
    assert stored.select("event_time", "known_time").is_unique().all()
    newest = frames.known_at(stored, None, frames.BAR_KEY)
    assert dict(newest.select("event_time", "close").iter_rows()) == {
        start + timedelta(hours=bar): close for bar, close, _ in facts
    }


def test_writing_the_same_rows_again_adds_nothing_and_keeps_the_version(
    archive: Archive, batch: MakeBatch
) -> None:
    archive.write([batch("ABC", [10.0, 11.0, 12.0])])
    version = archive.data_version("ABC")
    (again,) = archive.write([batch("ABC", [10.0, 11.0, 12.0])])
    assert (again.rows_new, again.rows_revised, again.rows_unchanged) == (0, 0, 3)
    assert archive.data_version("ABC") == version
    assert archive.datasets()[0].rows_added == 3


def test_a_changed_row_becomes_a_revision_known_at_the_import(
    archive: Archive, batch: MakeBatch, clock: SimulatedClock
) -> None:
    archive.write([batch("ABC", [10.0, 11.0, 12.0])])
    version = archive.data_version("ABC")
    (changed,) = archive.write([batch("ABC", [10.0, 11.5, 12.0])])
    assert changed.rows_revised == 1
    assert archive.bars("ABC")["close"].to_list() == [10.0, 11.5, 12.0]
    before = clock.now() - timedelta(seconds=1)
    assert archive.bars("ABC", as_of=before)["close"].to_list() == [10.0, 11.0, 12.0]
    assert archive.bars("ABC")["known_time"][1] == clock.now()
    assert archive.data_version("ABC") != version
    assert archive.newest_known_time() == archive.bars("ABC")["known_time"][2]


def test_start_is_inclusive_and_end_exclusive(sample: Archive) -> None:
    first, second, third = sample.bars("AAPL")["event_time"][:3]
    window = sample.bars("AAPL", start=first, end=third)
    assert window["event_time"].to_list() == [first, second]


def test_columns_and_types_are_as_promised(sample: Archive) -> None:
    bars = sample.bars("MSFT")
    assert bars.schema == frames.BAR_SCHEMA
    assert bars["event_time"].is_sorted()
    assert bars.null_count().sum_horizontal().item() == 0


def test_the_apple_split_of_2005_is_seen_only_once_it_is_known(sample: Archive) -> None:
    close_before = datetime(2005, 2, 25, 21, tzinfo=UTC)
    ex_date = datetime(2005, 2, 28, 5, tzinfo=UTC)
    friday = partial(
        sample.bars, "AAPL", start=datetime(2005, 2, 25, tzinfo=UTC), end=datetime(2005, 2, 26, tzinfo=UTC)
    )
    assert friday(as_of=close_before)["close"].to_list() == [88.99]
    assert friday(as_of=ex_date - timedelta(microseconds=1))["close"].item() == 88.99
    assert friday(as_of=ex_date)["close"].item() == 88.99 / 2
    assert friday(as_of=ex_date, adjust="none")["close"].item() == 88.99
    last = sample.last_bar("AAPL", ex_date)
    assert last is not None
    assert last.close == 88.99


def test_split_adjustment_keeps_the_value_traded(sample: Archive) -> None:
    raw, split = sample.bars("AAPL", adjust="none"), sample.bars("AAPL", adjust="splits")
    traded = (raw["close"] * raw["volume"]).to_numpy()
    np.testing.assert_allclose((split["close"] * split["volume"]).to_numpy(), traded, rtol=1e-12)
    assert split["volume"][0] == raw["volume"][0] * 4
    steps = split["close"].pct_change().abs().max()
    assert isinstance(steps, float)
    assert steps < 0.55  # the crash of 2000-09-29 is real; an unadjusted split would add -50 % moves in 2005


@settings(max_examples=50, deadline=None)
@given(
    closes=st.lists(st.floats(0.5, 500), min_size=1, max_size=30),
    splits=st.lists(st.tuples(st.integers(0, 720), st.sampled_from([0.1, 1.5, 2.0, 7.0])), max_size=4),
)
def test_adjusting_and_undoing_it_returns_the_raw_prices(
    closes: list[float], splits: list[tuple[int, float]]
) -> None:
    start = datetime(2020, 1, 1, 14, 30, tzinfo=UTC)
    opens = [start + timedelta(days=i) for i in range(len(closes))]
    columns = {"event_time": opens, "known_time": opens} | dict.fromkeys(frames.VALUE_COLUMNS, closes)
    bars = pl.DataFrame(columns, schema=frames.BAR_SCHEMA)
    when = [start + timedelta(hours=hours) for hours, _ in splits]
    values = [ratio for _, ratio in splits]
    columns = {"event_time": when, "known_time": when, "kind": ["split"] * len(when), "value": values}
    actions = pl.DataFrame(columns, schema=frames.ACTION_SCHEMA)
    changed = adjusted(bars, actions, "splits")
    factors = split_factors(bars["event_time"], actions)
    np.testing.assert_allclose(changed["close"].to_numpy() * factors, closes, rtol=1e-12)
    np.testing.assert_allclose(changed["volume"].to_numpy() / factors, closes, rtol=1e-12)
    by_hand = [
        np.prod([ratio for moment, ratio in zip(when, values, strict=True) if moment > at]) for at in opens
    ]
    np.testing.assert_allclose(factors, by_hand, rtol=1e-12)


def test_total_adjustment_is_the_same_in_any_window(sample: Archive) -> None:
    whole = sample.bars("IBM", adjust="total")
    start, end = datetime(2005, 1, 1, tzinfo=UTC), datetime(2006, 1, 1, tzinfo=UTC)
    window = sample.bars("IBM", adjust="total", start=start, end=end)
    assert window.equals(whole.filter(pl.col("event_time").is_between(start, end, closed="left")))


@pytest.mark.parametrize("symbol", ["APPL", "aapl", "ÀÀPL", "", "A" * 500, "../../etc", "AAPL\0"])
def test_unknown_symbols_are_refused_with_the_nearest_ones(sample: Archive, symbol: str) -> None:
    with pytest.raises(DataError, match="unknown_symbol") as raised:
        sample.bars(symbol)
    assert len(str(raised.value)) < 300


def test_a_misspelled_symbol_is_told_the_right_one(sample: Archive) -> None:
    with pytest.raises(DataError, match="did you mean AAPL"):
        sample.instrument("APPL")


def test_an_interval_that_is_not_there_is_refused_with_those_that_are(sample: Archive) -> None:
    with pytest.raises(DataError, match="use one of: 1d"):
        sample.bars("AAPL", "1h")
    with pytest.raises(InputError, match="invalid_interval"):
        sample.bars("AAPL", "daily")


def test_an_empty_archive_says_how_to_fill_it(archive: Archive) -> None:
    assert archive.instruments() == []
    assert archive.newest_known_time() is None
    with pytest.raises(DataError, match="data fetch sample"):
        archive.bars("AAPL")


def test_a_naive_time_is_refused(sample: Archive) -> None:
    with pytest.raises(InputError, match="naive_time"):
        sample.bars("AAPL", start=datetime(2010, 1, 1))  # noqa: DTZ001 (the point of the test)


def test_a_damaged_file_is_reported_not_read_as_empty(sample_copy: Archive) -> None:
    (file,) = (sample_copy.root / "bars" / "1d").glob("AAPL.*")
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(IntegrityError, match="archive_file_damaged"):
        Archive(sample_copy.root).bars("AAPL")
    file.unlink()
    with pytest.raises(IntegrityError, match="archive_file_missing"):
        Archive(sample_copy.root).bars("AAPL")


def test_a_damaged_manifest_is_reported(sample_copy: Archive) -> None:
    manifest = sample_copy.root / "manifest.json"
    manifest.write_bytes(manifest.read_bytes()[:500])
    with pytest.raises(IntegrityError, match="manifest_invalid"):
        Archive(sample_copy.root).instruments()


def test_a_large_series_is_scanned_not_cached_with_the_same_answer(
    sample: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, as_of = datetime(2005, 1, 1, tzinfo=UTC), datetime(2006, 1, 1, tzinfo=UTC)
    cached = sample.bars("AAPL", start=start, as_of=as_of)
    monkeypatch.setattr("neural_trader_tools.market.parquet.CACHED_ROWS_MAX", 10)
    scanned = Archive(sample.root).bars("AAPL", start=start, as_of=as_of)
    assert scanned.equals(cached)


IMPORTER = """
import sys
from pathlib import Path
from neural_trader_tools.market.archive import Archive
from neural_trader_tools.market.batches import Batch
symbol, archive, other = sys.argv[1], Archive(Path(sys.argv[2])), Archive(Path(sys.argv[3]))
bars, dataset = other.bars("IBM", adjust="none"), other.datasets()[0]
instrument = other.instrument("IBM").model_copy(update={"symbol": symbol})
for i in range(12):
    archive.write([Batch(instrument, "1d", bars.slice(i * 5, 5), dataset)])
"""


def test_importers_at_once_lose_nothing(archive: Archive, sample: Archive, tmp_path: Path) -> None:
    """Four processes add sixty bars each, to three symbols, while this one reads."""
    script = tmp_path / "importer.py"
    script.write_text(IMPORTER)
    workers = [
        subprocess.Popen([sys.executable, str(script), symbol, str(archive.root), str(sample.root)])
        for symbol in ("AAA", "BBB", "CCC", "AAA")
    ]
    while any(worker.poll() is None for worker in workers):
        for instrument in archive.instruments():
            assert archive.bars(instrument.symbol).height >= 5
    assert [worker.returncode for worker in workers] == [0, 0, 0, 0]
    heights = {one.symbol: archive.bars(one.symbol).height for one in archive.instruments()}
    assert heights == {"AAA": 60, "BBB": 60, "CCC": 60}


CHILD = """
import sys
from pathlib import Path
import polars as pl
from neural_trader_tools.market import frames
from neural_trader_tools.market.archive import Archive
from neural_trader_tools.market.batches import Batch
root = Path(sys.argv[1])
archive, other = Archive(root), Archive(Path(sys.argv[2]))
print("ready", flush=True)
i = 0
while True:
    i += 1
    bars = other.bars("IBM", adjust="none").with_columns(pl.col("close") + i)
    listed = other.instrument("IBM")
    dataset = other.datasets()[0]
    archive.write([Batch(listed, "1d", bars, dataset), Batch(listed, "1h", bars, dataset)])
    print(i, flush=True)
"""


def test_a_killed_import_leaves_the_archive_before_or_after_it(
    archive: Archive, sample: Archive, tmp_path: Path
) -> None:
    """Both series of a commit are there or neither; what was acknowledged is there; leftovers are swept."""
    script = tmp_path / "child.py"
    script.write_text(CHILD)
    for acknowledged_wanted in (1, 2, 3):
        child = subprocess.Popen(
            [sys.executable, str(script), str(archive.root), str(sample.root)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdout is not None
        acknowledged = 0
        for line in child.stdout:
            if line.strip().isdigit():
                acknowledged = int(line)
            if acknowledged >= acknowledged_wanted:
                os.kill(child.pid, signal.SIGKILL)
                break
        rest = [int(line) for line in child.stdout.read().split()]
        acknowledged = max([acknowledged, *rest])
        child.stdout.close()
        assert child.wait() == -signal.SIGKILL
        reader = Archive(archive.root)
        daily, hourly = (reader.bars("IBM", interval, adjust="none") for interval in ("1d", "1h"))
        assert daily["close"].equals(hourly["close"])
        assert daily.height == 3270
        added = daily["close"][0] - sample.bars("IBM", adjust="none")["close"][0]
        assert round(added) in {acknowledged, acknowledged + 1}
    reader.write([])
    files = [path for path in (archive.root / "bars").rglob("*") if path.is_file()]
    assert len(files) == 2


def test_readers_see_whole_commits_while_a_writer_replaces_files(archive: Archive, batch: MakeBatch) -> None:
    """A reader that holds an old name of a file finds the new one instead of failing."""
    archive.write([batch("ABC", [1.0])])
    stop = threading.Event()
    heights: list[int] = []

    def read() -> None:
        reader = Archive(archive.root)
        while not stop.is_set():
            heights.append(reader.bars("ABC").height)

    reader = threading.Thread(target=read)
    reader.start()
    for i in range(1, 30):
        archive.write([batch("ABC", [1.0], first_day=i)])
    stop.set()
    reader.join()
    assert all(before <= after for before, after in pairwise(heights))
    assert archive.bars("ABC").height == 30
