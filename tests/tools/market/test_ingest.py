"""Importing files: every row accounted for, bad input of every kind, the archive whole throughout."""

import csv
from collections.abc import Callable
from datetime import UTC, date, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow  # pyright: ignore[reportMissingTypeStubs]
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pyarrow import ipc as arrow_ipc  # pyright: ignore[reportMissingTypeStubs]

from neural_trader_governance.errors import InputError, StorageError
from neural_trader_governance.terms.clocks import SimulatedClock
from neural_trader_tools.market.archive import Archive
from neural_trader_tools.market.files import read_price_table
from neural_trader_tools.market.ingest import import_file

pa: Any = pyarrow
ipc: Any = arrow_ipc

HEADER = "Date,Open,High,Low,Close,Volume\n"
GOOD = "2019-01-02,10,11,9,10.5,1000\n2019-01-03,10.5,12,10,11,2000\n2019-01-04,11,11.5,10.5,11,1500\n"

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a file and returns its path."""

    def to_file(content: str | bytes, name: str = "prices.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return to_file


def test_a_plain_csv_becomes_bars_at_their_sessions(
    archive: Archive, write: Write, clock: SimulatedClock
) -> None:
    report = import_file(archive, write(HEADER + GOOD), "ABC", clock=clock)
    assert (report.rows_read, report.rows_accepted, report.rows_new, report.rows_quarantined) == (3, 3, 3, 0)
    assert report.calendar == "XNYS"
    assert report.known_time_assumed
    bars = archive.bars("ABC")
    assert bars["event_time"][0] == datetime(2019, 1, 2, 14, 30, tzinfo=UTC)
    assert bars["known_time"][0] == datetime(2019, 1, 2, 21, tzinfo=UTC)
    assert bars["close"].to_list() == [10.5, 11, 11]


def test_importing_again_adds_nothing_and_a_change_is_a_revision(
    archive: Archive, write: Write, clock: SimulatedClock
) -> None:
    import_file(archive, write(HEADER + GOOD), "ABC", clock=clock)
    again = import_file(archive, write(HEADER + GOOD), "ABC", clock=clock)
    assert (again.rows_new, again.rows_revised, again.rows_unchanged) == (0, 0, 3)
    corrected = write((HEADER + GOOD).replace("10,11,2000", "10,11.25,2000"))
    changed = import_file(archive, corrected, "ABC", clock=clock)
    assert (changed.rows_new, changed.rows_revised, changed.rows_unchanged) == (0, 1, 2)
    assert archive.bars("ABC")["close"].to_list() == [10.5, 11.25, 11]
    assert archive.bars("ABC", as_of=datetime(2019, 6, 1, tzinfo=UTC))["close"].to_list() == [10.5, 11, 11]


BAD_ROWS = {
    "2019-01-07,nan,12,10,11,5": "open is no finite number",
    "2019-01-07,10,12,10,inf,5": "close is no finite number",
    "2019-01-07,10,12,10,abc,5": "close is no finite number",
    "2019-01-07,10,12,10,,5": "close is no finite number",
    "2019-01-07,0,12,0,11,5": "open is not above 0",
    "2019-01-07,10,12,-1,11,5": "low is not above 0",
    "2019-01-07,10,9,11,10,5": "high is below low",
    "2019-01-07,10,10.5,9,11,5": "high is below open or close",
    "2019-01-07,10,12,10.5,11,5": "low is above open or close",
    "2019-01-07,10,12,10,11,-5": "volume is negative",
    "2019-13-07,10,12,10,11,5": "the time cannot be read",
    "0019-01-07,10,12,10,11,5": "before 1800",
    "9019-01-07,10,12,10,11,5": "was not complete yet",
    "soon,10,12,10,11,5": "the time cannot be read",
    ",10,12,10,11,5": "the time cannot be read",
    "2030-01-07,10,12,10,11,5": "was not complete yet",
    "2019-01-07,10,12,10,11": "has 5 cells where the header has 6",
    "2019-01-07,10,12,10,11,5,6,7": "has 8 cells where the header has 6",
    "2019-01-04,11,11.5,10.5,10.75,1500": "contradicts an earlier row",
}


@pytest.mark.parametrize(("row", "reason"), BAD_ROWS.items())
def test_a_bad_row_is_quarantined_with_its_line_and_reason(
    archive: Archive, write: Write, clock: SimulatedClock, row: str, reason: str
) -> None:
    report = import_file(archive, write(HEADER + GOOD + row + "\n"), "ABC", clock=clock)
    assert report.rows_read == report.rows_accepted + report.duplicates + report.rows_quarantined == 4
    (refused,) = report.quarantined
    assert refused.line == 5
    assert reason in refused.reason
    assert archive.bars("ABC").height == 3
    assert report.quarantine_file is not None
    with (archive.root / report.quarantine_file).open(newline="") as file:
        (kept,) = csv.DictReader(file)
    assert (kept["line"], kept["reason"]) == ("5", refused.reason)
    assert kept["content"] == row


def test_repeats_are_counted_and_disorder_is_sorted(
    archive: Archive, write: Write, clock: SimulatedClock
) -> None:
    first, second, third = GOOD.splitlines()
    content = "\n".join([third, first, second, first, ""])
    report = import_file(archive, write(HEADER + content), "ABC", clock=clock)
    assert (report.rows_read, report.rows_accepted, report.duplicates, report.out_of_order) == (4, 3, 1, 3)
    assert archive.bars("ABC")["event_time"].is_sorted()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(
    rows=st.lists(
        st.tuples(
            st.sampled_from(["2019-01-02", "2019-01-03", "2019-01-05", "x", "", "2019-02-30"]),
            *[st.sampled_from(["1", "2", "0", "-1", "nan", "1e400", "x", "", "3.5"])] * 5,
        ),
        min_size=1,
        max_size=12,
    )
)
def test_every_row_read_is_accepted_repeated_or_quarantined(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, ...]]
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    path = folder / "rows.csv"
    path.write_text(HEADER + "".join(",".join(row) + "\n" for row in rows))
    archive = Archive(folder / "archive")
    try:
        report = import_file(archive, path, "ABC", calendar="24/7")
    except InputError as error:
        assert error.code == "no_good_rows"  # noqa: PT017 (one of two right outcomes)
        assert not archive.root.exists()
        return
    assert report.rows_read == len(rows)
    assert report.rows_read == report.rows_accepted + report.duplicates + report.rows_quarantined
    assert archive.bars("ABC").height == report.rows_accepted
    assert sum(report.reasons.values()) == report.rows_quarantined


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("TIMESTAMP;o;H;L;c;Vol", "2019-01-02;10;11;9;10.5;1000"),
        ("datetime\tOpen\tHigh\tLow\tClose\tVolume", "2019-01-02 00:00:00\t10\t11\t9\t10.5\t1000"),
        ("\ufeffDate, Open, High, Low, Close, Adj Close, Volume", "01/02/2019, 10, 11, 9, 10.5, 5.25, 1000"),
        ("t,open,high,low,close,volume", "20190102,10,11,9,10.5,1000"),
        ("time,open,high,low,close,volume", "2019-01-02T14:30:00Z,10,11,9,10.5,1000"),
        ("time,open,high,low,close,volume", "2019-01-02T00:00:00-05:00,10,11,9,10.5,1000"),
        ("time,open,high,low,close,volume", "1546439400,10,11,9,10.5,1000"),
        ('"Date","Open","High","Low","Close","Volume"', '"2019-01-02","10","11","9","10.5","1000"'),
    ],
)
def test_usual_spellings_of_one_day_give_one_bar(
    archive: Archive, write: Write, clock: SimulatedClock, header: str, row: str
) -> None:
    report = import_file(archive, write(f"{header}\n{row}\n"), "ABC", clock=clock)
    assert archive.bars("ABC").row(0) == (
        datetime(2019, 1, 2, 14, 30, tzinfo=UTC),
        datetime(2019, 1, 2, 21, tzinfo=UTC),
        *(10.0, 11.0, 9.0, 10.5, 1000.0),
    )
    assert any("adjusted closes were ignored" in note for note in report.notes) == ("Adj" in header)


def test_minutes_are_known_when_they_are_over_and_zones_are_honoured(
    archive: Archive, write: Write, clock: SimulatedClock
) -> None:
    rows = (
        "time,open,high,low,close,volume\n"
        "2019-03-08 09:30,10,11,9,10,1\n"  # EST
        "2019-03-11 09:30,10,11,9,10,1\n"  # EDT
        "2019-03-10 02:30,10,11,9,10,1\n"  # skipped by the change of the clocks
        "2019-03-12,10,11,9,10,1\n"  # no time of day
    )
    report = import_file(archive, write(rows), "ABC", "5m", time_zone="America/New_York", clock=clock)
    assert archive.bars("ABC", "5m").select("event_time", "known_time").rows() == [
        (datetime(2019, 3, 8, 14, 30, tzinfo=UTC), datetime(2019, 3, 8, 14, 35, tzinfo=UTC)),
        (datetime(2019, 3, 11, 13, 30, tzinfo=UTC), datetime(2019, 3, 11, 13, 35, tzinfo=UTC)),
    ]
    assert [one.line for one in report.quarantined] == [4, 5]


def test_days_around_the_clock_are_recognised_and_a_stray_holiday_is_kept(
    archive: Archive, write: Write, clock: SimulatedClock
) -> None:
    week = "".join(f"2019-01-{day:02},10,11,9,10,1\n" for day in range(1, 15))
    report = import_file(archive, write(HEADER + week), "BTC/USD", asset_class="crypto", clock=clock)
    assert report.calendar == "24/7"
    assert archive.bars("BTC/USD")["known_time"][0] == datetime(2019, 1, 2, tzinfo=UTC)
    holiday = import_file(archive, write(HEADER + GOOD + "2019-01-01,10,11,9,10,1\n"), "ABC", clock=clock)
    assert any("1 dates are no session of XNYS" in note for note in holiday.notes)
    assert archive.bars("ABC").height == 4


def test_a_file_that_knows_its_known_times_is_kept_in_all_its_versions(
    archive: Archive, write: Write, clock: SimulatedClock
) -> None:
    rows = (
        "time,known_time,open,high,low,close,volume\n"
        "2019-01-02T14:30Z,2019-01-05T00:00Z,10,11,9,10.75,1\n"
        "2019-01-02T14:30Z,2019-01-02T21:00Z,10,11,9,10.5,1\n"
        "2019-01-03T14:30Z,2019-01-03T01:00Z,10,11,9,10.5,1\n"
    )
    report = import_file(archive, write(rows), "ABC", "1h", clock=clock)
    assert not report.known_time_assumed
    assert (report.rows_new, report.rows_revised) == (1, 1)
    assert archive.bars("ABC", "1h")["close"].to_list() == [10.75]
    assert archive.bars("ABC", "1h", as_of=datetime(2019, 1, 3, tzinfo=UTC))["close"].to_list() == [10.5]
    assert report.reasons == {"known_time is before the bar's open": 1}


def test_a_jump_is_a_warning(archive: Archive, write: Write, clock: SimulatedClock) -> None:
    report = import_file(archive, write(HEADER + GOOD + "2019-01-07,22,22,22,22,1\n"), "ABC", clock=clock)
    assert report.rows_accepted == 4
    (warning,) = report.warnings
    assert "+100.0%" in warning
    assert "line 5" in warning


def test_parquet_with_typed_columns_is_read(archive: Archive, clock: SimulatedClock, tmp_path: Path) -> None:
    path = tmp_path / "prices.parquet"
    pl.DataFrame(
        {
            "Date": [date(2019, 1, 2), date(2019, 1, 3)],
            **{name: [10.1, 10.3] for name in ("open", "high", "low", "close")},
            "volume": [5, None],
        }
    ).write_parquet(path)
    report = import_file(archive, path, "ABC", clock=clock)
    assert (report.rows_accepted, report.rows_quarantined) == (1, 1)
    assert report.quarantined[0].line == 2
    assert archive.bars("ABC")["close"].to_list() == [10.1]


ARROW_ROWS = pl.DataFrame(
    {
        "time": ["2019-01-02T14:30:00Z", "2019-01-03T14:30:00Z"],
        **{name: [10.1, 10.3] for name in ("open", "high", "low", "close")},
        "volume": [5, 7],
    }
)


def arrow_bytes(frame: pl.DataFrame, how: str = "file") -> bytes:
    target = BytesIO()
    (frame.write_ipc if how == "file" else frame.write_ipc_stream)(target)
    return target.getvalue()


@pytest.mark.parametrize("how", ["file", "stream"])
def test_arrow_is_read_as_a_file_and_as_a_stream(
    archive: Archive, write: Write, clock: SimulatedClock, how: str
) -> None:
    report = import_file(archive, write(arrow_bytes(ARROW_ROWS, how), "a.arrow"), "ABC", clock=clock)
    assert (report.rows_accepted, report.rows_quarantined) == (2, 0)
    assert archive.bars("ABC")["close"].to_list() == [10.1, 10.3]


@pytest.mark.parametrize("zone", ["Asia/Kolkata", "+05:30", "UTC"])
def test_arrow_times_keep_their_instant_in_any_zone(
    archive: Archive, write: Write, clock: SimulatedClock, zone: str
) -> None:
    """The night in which New York's clocks go back: 05:30Z and 06:30Z are both 01:30 there."""
    moments = [datetime(2019, 11, 3, hour, 30, tzinfo=UTC) for hour in (5, 6)]
    prices = {name: pa.array([10.0, 11.0]) for name in ("open", "high", "low", "close", "volume")}
    table = pa.table({"Timestamp": pa.array(moments, pa.timestamp("ns", zone)), **prices})
    target = BytesIO()
    with ipc.new_file(target, table.schema) as out:
        out.write_table(table)
    path = write(target.getvalue(), "prices.feather")
    import_file(archive, path, "ABC", "1m", time_zone="America/New_York", clock=clock)
    assert archive.bars("ABC", "1m")["event_time"].to_list() == moments


def test_arrow_times_without_a_zone_that_happen_twice_or_never_are_quarantined(
    archive: Archive, write: Write, clock: SimulatedClock
) -> None:
    local = [datetime(2019, 11, 3, 1, 30), datetime(2019, 3, 10, 2, 30), datetime(2019, 3, 10, 3, 30)]  # noqa: DTZ001
    rows = {"time": local, **dict.fromkeys(("open", "high", "low", "close", "volume"), [1.0] * 3)}
    path = write(arrow_bytes(pl.DataFrame(rows)), "prices.ipc")
    report = import_file(archive, path, "ABC", "1m", time_zone="America/New_York", clock=clock)
    assert [one.line for one in report.quarantined] == [1, 2]
    assert archive.bars("ABC", "1m")["event_time"].to_list() == [datetime(2019, 3, 10, 7, 30, tzinfo=UTC)]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
@given(how=st.sampled_from(["file", "stream"]), at=st.integers(0, 3000), byte=st.integers(-1, 255))
@example(how="stream", at=1645, byte=1)  # a length that lies, of more than there is memory
def test_an_arrow_file_that_is_cut_or_changed_anywhere_is_refused_or_read_whole(
    tmp_path_factory: pytest.TempPathFactory, how: str, at: int, byte: int
) -> None:
    content = bytearray(arrow_bytes(ARROW_ROWS, how))
    at %= len(content)
    if byte < 0:
        del content[at:]
    else:
        content[at] = byte
    folder = tmp_path_factory.mktemp("arrow")
    (folder / "a.arrow").write_bytes(content)
    try:
        table = read_price_table(folder / "a.arrow")
    except InputError as error:
        assert error.code in {"file_malformed", "file_empty", "columns_missing", "columns_ambiguous"}  # noqa: PT017
        return
    assert table.cells.height <= 2


MALFORMED = {
    "cut.arrow": (arrow_bytes(ARROW_ROWS)[:-50], "file_malformed"),
    "cut.arrows": (arrow_bytes(ARROW_ROWS, "stream")[:200], "file_malformed"),
    "magic.arrow": (b"ARROW1", "file_malformed"),
    "text.feather": (b"not arrow at all", "file_malformed"),
    "norows.arrow": (arrow_bytes(ARROW_ROWS.clear()), "file_empty"),
    "columns.arrow": (arrow_bytes(ARROW_ROWS.rename({"close": "\u6536\u76d8"})), "columns_missing"),
    "nested.arrow": (arrow_bytes(ARROW_ROWS.with_columns(close=pl.concat_list("close"))), "no_good_rows"),
    "empty.csv": (b"", "file_empty"),
    "header.csv": (HEADER.encode(), "file_empty"),
    "columns.csv": (b"a,b\n1,2\n", "columns_missing"),
    "twice.csv": (b"date,time,open,high,low,close,volume\n1,2,3,4,5,6,7\n", "columns_ambiguous"),
    "binary.csv": (bytes(range(256)) * 10, "file_malformed"),
    "quote.csv": (HEADER.encode() + b'"2019-01-02,1,1,1,1,1\n', "file_malformed"),
    "latin.csv": (HEADER.encode() + b"2019-01-02,1,1,1,1,\xff\n", "file_malformed"),
    "dates.csv": (HEADER.encode() + b"13/01/2019,1,1,1,1,1\n", "dates_ambiguous"),
    "bad.csv": (HEADER.encode() + b"x,1,1,1,1,1\n", "no_good_rows"),
    "cut.parquet": (b"PAR1" + bytes(100), "file_malformed"),
    "text.parquet": (b"not parquet at all", "file_malformed"),
    "prices.xlsx": (b"PK\x03\x04", "file_kind_unknown"),
}


@pytest.mark.parametrize(("name", "case"), MALFORMED.items())
def test_a_malformed_file_is_refused_and_changes_nothing(
    archive: Archive, write: Write, clock: SimulatedClock, name: str, case: tuple[bytes, str]
) -> None:
    content, code = case
    import_file(archive, write(HEADER + GOOD), "ABC", clock=clock)
    before = (archive.root / "manifest.json").read_bytes()
    with pytest.raises(InputError, match=f"^{code}: .+; .+"):
        import_file(archive, write(content, name), "ABC", clock=clock)
    assert (archive.root / "manifest.json").read_bytes() == before


def test_a_truncated_parquet_is_refused(archive: Archive, sample: Archive, tmp_path: Path) -> None:
    path = tmp_path / "cut.parquet"
    sample.bars("AAPL").write_parquet(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="file_malformed"):
        import_file(archive, path, "ABC")
    assert not archive.root.exists()


def test_a_missing_file_and_a_folder_are_refused(archive: Archive, tmp_path: Path) -> None:
    for path in (tmp_path / "nothing.csv", tmp_path, Path("a\0b.csv")):
        with pytest.raises(InputError, match="file_missing"):
            import_file(archive, path, "ABC")


@pytest.mark.parametrize(
    "symbol",
    [
        "",
        "abc",
        "ÄBC",
        "\u0410BC",
        "\uff21\uff22\uff23",
        "A\u200bB",
        "A B",
        "../../X",
        "A" * 17,
        "ABC\n",
        "..",
    ],
)
def test_a_symbol_that_is_none_is_refused(archive: Archive, write: Write, symbol: str) -> None:
    with pytest.raises(InputError, match="invalid_symbol"):
        import_file(archive, write(HEADER + GOOD), symbol)


def test_wrong_interval_zone_or_calendar_is_refused(archive: Archive, write: Write) -> None:
    path = write(HEADER + GOOD)
    with pytest.raises(InputError, match="invalid_interval"):
        import_file(archive, path, "ABC", "1 day")
    with pytest.raises(InputError, match="unknown_time_zone"):
        import_file(archive, path, "ABC", time_zone="Mars/Olympus")
    with pytest.raises(InputError, match="unknown_calendar"):
        import_file(archive, path, "ABC", calendar="XMARS")


def test_a_disk_that_refuses_is_reported_and_the_archive_is_whole(
    archive: Archive, write: Write, clock: SimulatedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_file(archive, write(HEADER + GOOD), "ABC", clock=clock)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        with pytest.raises(StorageError, match="No space left"):
            import_file(archive, write(HEADER + GOOD.replace("11,2000", "11.5,2000")), "ABC", clock=clock)
    assert Archive(archive.root).bars("ABC")["close"].to_list() == [10.5, 11, 11]
    assert not list(archive.root.rglob("*.partial"))


def test_an_import_keeps_what_is_known_of_the_instrument(
    sample_copy: Archive, write: Write, clock: SimulatedClock
) -> None:
    import_file(sample_copy, write(HEADER + GOOD), "AAPL", clock=clock)
    assert sample_copy.instrument("AAPL").name == "Apple Inc."
    assert sample_copy.actions("AAPL").height == 5
