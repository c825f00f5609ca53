"""Resampling: derived bars cut at sessions, whole ones only, and as of any moment."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from random import Random

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neural_trader_governance.errors import DataError
from neural_trader_governance.terms.clocks import SimulatedClock
from neural_trader_governance.terms.instruments import Instrument
from neural_trader_governance.terms.market import interval_duration
from neural_trader_tools.market import frames
from neural_trader_tools.market.archive import Archive
from neural_trader_tools.market.batches import Batch
from neural_trader_tools.market.manifest import DataSet
from neural_trader_tools.market.resampling import Span, resampled, source_of
from neural_trader_tools.market.sessions import SessionBook

MINUTE = timedelta(minutes=1)
LENGTHS = st.sampled_from(["5m", "7m", "45m", "1h", "5h", "1d"])
# Thanksgiving's half day (closes at 18:00Z), and the days around the change to summer time of 2013-03-10.
FIRST = {"XNYS": date(2012, 11, 20), "24/7": date(2012, 11, 23)}


@pytest.fixture(scope="session")
def book(tmp_path_factory: pytest.TempPathFactory) -> SessionBook:
    return SessionBook(tmp_path_factory.mktemp("calendars"))


def sessions_of(book: SessionBook, calendar: str, first: date, days: int) -> pl.DataFrame:
    if calendar == "XNYS":
        return book.sessions("XNYS", first, first + timedelta(days=days))
    midnights = [
        datetime(first.year, first.month, first.day, tzinfo=UTC) + timedelta(days=i) for i in range(days)
    ]
    rows = {"date": [each.date() for each in midnights], "open": midnights}
    return pl.DataFrame(rows).with_columns((pl.col("open") + timedelta(days=1)).alias("close"))


def bars_at(opens: list[datetime], closes: list[float], known: list[datetime] | None = None) -> pl.DataFrame:
    columns = {
        "event_time": opens,
        "known_time": known or [each + MINUTE for each in opens],
        "open": [close - 0.25 for close in closes],
        "high": [close + 0.5 for close in closes],
        "low": [close - 0.5 for close in closes],
        "close": closes,
        "volume": [float(i % 7) for i in range(len(closes))],
    }
    return pl.DataFrame(columns, schema=frames.BAR_SCHEMA)


def grid(sessions: pl.DataFrame) -> list[datetime]:
    """Every minute of the sessions."""
    found: list[datetime] = []
    for opens, closes in sessions.select("open", "close").iter_rows():
        found += [opens + i * MINUTE for i in range((closes - opens) // MINUTE)]
    return found


def by_hand(bars: pl.DataFrame, sessions: pl.DataFrame, whole: timedelta) -> dict[datetime, list[float]]:
    """Aggregates row by row, with no word of how it ends."""
    made: dict[datetime, list[float]] = {}
    hours = list(sessions.select("open", "close").iter_rows())
    for event, _, first, high, low, close, volume in bars.iter_rows():
        held = [one for one in hours if one[0] <= event < one[1]]
        if not held:
            continue
        start = held[0][0]
        start = start if whole >= timedelta(days=1) else start + (event - start) // whole * whole
        if start not in made:
            made[start] = [first, high, low, close, volume]
        else:
            old = made[start]
            made[start] = [old[0], max(old[1], high), min(old[2], low), close, old[4] + volume]
    return made


@settings(max_examples=40, deadline=None)
@given(
    calendar=st.sampled_from(["XNYS", "24/7"]),
    first=st.sampled_from([date(2012, 11, 21), date(2013, 3, 8)]),
    length=LENGTHS,
    seed=st.integers(0, 10_000),
    kept=st.sampled_from([1.0, 0.5, 0.02]),
)
def test_derived_bars_equal_what_adding_them_up_by_hand_gives(
    book: SessionBook, calendar: str, first: date, length: str, seed: int, kept: float
) -> None:
    random = Random(seed).random  # noqa: S311 (which minutes are missing, no secret)
    sessions = sessions_of(book, calendar, first, 4)
    opens = [each for each in grid(sessions) if random() < kept]
    bars = bars_at(opens, [100 + round(random() * 8) / 4 for _ in opens])
    whole = interval_duration(length)
    given_sessions = sessions if calendar == "XNYS" else None
    made = resampled(bars, MINUTE, whole, given_sessions, datetime(2030, 1, 1, tzinfo=UTC))
    expected = by_hand(bars, sessions, whole)
    assert {row[0]: list(row[2:]) for row in made.iter_rows()} == expected
    ends = {row[0]: row[1] for row in made.iter_rows()}
    for start, known in ends.items():
        close = next(
            end for begin, end in sessions.select("open", "close").iter_rows() if begin <= start < end
        )
        assert known >= min(start + whole, close)  # known once it is over, never before
    whole_only = resampled(bars, MINUTE, whole, given_sessions)
    assert made.height - whole_only.height in {0, 1}  # only the last can be unfinished


@settings(max_examples=20, deadline=None)
@given(
    calendar=st.sampled_from(["XNYS", "24/7"]),
    first=st.sampled_from([date(2012, 11, 21), date(2013, 3, 8)]),
    steps=st.sampled_from(
        [("5m", "1h"), ("5m", "1d"), ("1h", "1d"), ("1h", "5h"), ("7m", "35m"), ("1h", "4h")]
    ),
)
def test_resampling_what_was_resampled_changes_nothing(
    book: SessionBook, calendar: str, first: date, steps: tuple[str, str]
) -> None:
    sessions = sessions_of(book, calendar, first, 4)
    opens = grid(sessions)
    bars = bars_at(opens, [100 + (i * 7919 % 400) / 4 for i in range(len(opens))])
    given_sessions = sessions if calendar == "XNYS" else None
    middle, whole = (interval_duration(each) for each in steps)
    once = resampled(bars, MINUTE, whole, given_sessions)
    twice = resampled(resampled(bars, MINUTE, middle, given_sessions), middle, whole, given_sessions)
    assert once.height >= 2
    assert twice.equals(once)


def minutes(symbol: str, bars: pl.DataFrame, asset_class: str = "equity", interval: str = "1m") -> Batch:
    dataset = DataSet(
        dataset_id="test",
        source="a test",
        licence="none",
        imported_at=datetime(2020, 1, 1, tzinfo=UTC),
        file_digest="",
        known_time_assumed=False,
        rows_read=bars.height,
        rows_added=0,
    )
    instrument = Instrument(symbol=symbol, name=symbol, asset_class=asset_class)  # type: ignore[arg-type]
    return Batch(instrument, interval, bars, dataset, None, True)


OPEN = datetime(2012, 11, 23, 14, 30, tzinfo=UTC)
rows_seen = st.lists(
    st.tuples(st.integers(0, 209), st.integers(0, 40), st.integers(1, 300)), min_size=1, max_size=60
)


@settings(max_examples=25, deadline=None)
@given(rows=rows_seen, asked=st.integers(0, 300), length=st.sampled_from(["7m", "1h", "1d", "1w"]))
def test_a_derived_read_as_of_a_moment_is_that_of_an_archive_that_ends_there(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, int, int]], asked: int, length: str
) -> None:
    """Late bars and corrections on a half day: what comes later changes nothing of what was seen before."""
    facts = [
        (OPEN + at * MINUTE, OPEN + (at + 1 + late) * MINUTE, 100 + price / 4) for at, late, price in rows
    ]
    facts.sort(key=lambda fact: fact[1])
    as_of = OPEN + asked * MINUTE
    whole, cut = (Archive(tmp_path_factory.mktemp(name)) for name in ("whole", "cut"))
    for archive, told in ((whole, facts), (cut, [fact for fact in facts if fact[1] <= as_of])):
        archive.write([minutes("ABC", bars_at([at], [price], [known])) for at, known, price in told])
    seen = whole.bars("ABC", length, as_of=as_of)
    assert seen.filter(pl.col("known_time") > as_of).is_empty()
    if cut.instruments():
        assert seen.equals(cut.bars("ABC", length))
    else:
        assert seen.is_empty()
    everything = whole.bars("ABC", length)
    assert set(seen["event_time"]) <= set(everything["event_time"])
    if everything.height:
        start, end = everything["event_time"][0], everything["event_time"][-1]
        window = whole.bars("ABC", length, start=start, end=end)
        assert window.equals(everything.filter(pl.col("event_time") < end))


def test_an_hour_that_is_not_over_is_not_shown_and_a_half_day_ends_early(archive: Archive) -> None:
    opens = [OPEN + i * MINUTE for i in range(210)]
    archive.write([minutes("ABC", bars_at(opens, [100.0] * 210))])
    hours = archive.bars("ABC", "1h")
    assert hours["event_time"].to_list() == [OPEN + timedelta(hours=i) for i in range(4)]
    assert hours["known_time"][-1] == datetime(2012, 11, 23, 18, tzinfo=UTC)
    before = datetime(2012, 11, 23, 17, 59, 59, tzinfo=UTC)
    assert archive.bars("ABC", "1h", as_of=before).height == 3
    assert archive.bars("ABC", "1d", as_of=before).is_empty()
    assert archive.bars("ABC", "60m").equals(hours)
    assert archive.bars("ABC", "1w").height == 1  # Friday was the week's last session


def test_a_bar_whose_end_nobody_saw_waits_for_the_next_one(archive: Archive) -> None:
    opens = [OPEN + i * MINUTE for i in (0, 3, 70)]
    archive.write([minutes("ABC", bars_at(opens, [100.0, 101.0, 102.0]))])
    (hour,) = archive.bars("ABC", "1h").iter_rows(named=True)
    assert hour["known_time"] == OPEN + 71 * MINUTE
    assert (hour["open"], hour["close"], hour["event_time"]) == (99.75, 101.0, OPEN)
    assert archive.bars("ABC", "1h", as_of=OPEN + 70 * MINUTE).is_empty()
    window = archive.bars("ABC", "1h", start=OPEN, end=OPEN + MINUTE)
    assert window.height == 1


def test_a_bar_that_a_source_says_it_knew_early_is_not_shown_before_it_is_over(archive: Archive) -> None:
    opens = [OPEN + i * MINUTE for i in range(5)]
    archive.write([minutes("ABC", bars_at(opens, [100.0] * 5, opens))])
    (bar,) = archive.bars("ABC", "5m").iter_rows(named=True)
    assert bar["known_time"] == OPEN + 5 * MINUTE
    assert archive.bars("ABC", "5m", as_of=OPEN + timedelta(seconds=299)).is_empty()


@pytest.mark.parametrize("length", ["7m", "5h"])
def test_odd_intervals_start_anew_at_midnight_where_there_are_no_sessions(
    archive: Archive, length: str
) -> None:
    start = datetime(2013, 1, 5, tzinfo=UTC)
    opens = [start + i * MINUTE for i in range(2 * 1440)]
    archive.write([minutes("BTC/USD", bars_at(opens, [100.0] * len(opens)), "crypto")])
    made = archive.bars("BTC/USD", length)["event_time"]
    assert start + timedelta(days=1) in made.to_list()
    per_day = -(-1440 // (interval_duration(length) // MINUTE))
    assert len(made) == 2 * per_day
    assert archive.bars("BTC/USD", "1d")["known_time"].to_list() == [
        start + timedelta(days=1),
        start + timedelta(days=2),
    ]


def test_bars_before_and_after_hours_make_no_derived_bar(archive: Archive) -> None:
    opens = [OPEN + i * MINUTE for i in range(-60, 300)]
    archive.write([minutes("ABC", bars_at(opens, [float(100 + i) for i in range(360)]))])
    (day,) = archive.bars("ABC", "1d").iter_rows(named=True)
    assert (day["event_time"], day["open"]) == (OPEN, 159.75)
    assert day["close"] == 100 + 60 + 209
    assert archive.bars("ABC", "5m").height == 42


def test_bars_that_cannot_be_cut_at_the_open_are_refused(archive: Archive) -> None:
    opens = [datetime(2012, 11, 23, hour, tzinfo=UTC) for hour in range(12, 18)]
    bars = bars_at(opens, [100.0] * 6, [each + timedelta(hours=1) for each in opens])
    archive.write([minutes("ABC", bars, interval="1h")])
    with pytest.raises(DataError, match="bars_straddle_session"):
        archive.bars("ABC", "1d")


def test_weeks_end_with_their_last_session(sample: Archive) -> None:
    days, weeks = sample.bars("AAPL"), sample.bars("AAPL", "1w")
    easter = sample.bars(
        "AAPL", "1w", start=datetime(2012, 4, 2, tzinfo=UTC), end=datetime(2012, 4, 7, tzinfo=UTC)
    )
    assert easter["known_time"].to_list() == [datetime(2012, 4, 5, 20, tzinfo=UTC)]  # Good Friday was the 6th
    by_week = days.group_by_dynamic("event_time", every="1w").agg(
        pl.col("open").first(),
        pl.col("high").max(),
        pl.col("low").min(),
        pl.col("close").last(),
        pl.col("volume").sum(),
    )
    assert weeks.drop("event_time", "known_time").equals(by_week.drop("event_time").head(weeks.height))
    assert by_week.height - weeks.height in {0, 1}
    wednesday = datetime(2012, 4, 4, 21, tzinfo=UTC)
    assert sample.bars("AAPL", "1w", as_of=wednesday)["known_time"].max() == datetime(
        2012, 3, 30, 20, tzinfo=UTC
    )


def test_a_split_inside_a_week_is_applied_before_the_days_are_joined(sample: Archive) -> None:
    """Apple split 2:1 on Wednesday, 2000-06-21: adjusted, that week has no jump."""
    start, end = datetime(2000, 6, 19, tzinfo=UTC), datetime(2000, 6, 24, tzinfo=UTC)
    (week,) = sample.bars("AAPL", "1w", start=start, end=end).iter_rows(named=True)
    days = sample.bars("AAPL", start=start, end=end)
    assert week["high"] == days["high"].max()
    assert week["high"] < 1.3 * week["low"]
    assert week["volume"] == days["volume"].sum()


def test_derived_bars_are_adjusted_as_stored_ones_are(
    archive: Archive, book: SessionBook, tmp_path: Path, batch: Callable[..., Batch]
) -> None:
    sessions = sessions_of(book, "XNYS", date(2012, 11, 20), 6)
    opens = grid(sessions)
    bars = bars_at(opens, [100 + i % 13 for i in range(len(opens))])
    ex_date = datetime(2012, 11, 23, 5, tzinfo=UTC)
    actions = pl.DataFrame(
        {
            "event_time": [ex_date] * 2,
            "known_time": [ex_date] * 2,
            "kind": ["dividend", "split"],
            "value": [1.0, 2.0],
        },
        schema=frames.ACTION_SCHEMA,
    )
    one = minutes("ABC", bars)
    archive.write([Batch(one.instrument, "1m", bars, one.dataset, actions, True)])
    stored = Archive(tmp_path / "stored", SimulatedClock(datetime(2020, 1, 1, tzinfo=UTC)))
    days = archive.bars("ABC", "1d", adjust="none")
    stored.write([Batch(one.instrument, "1d", days, one.dataset, actions, True)])
    for adjust in ("none", "splits", "total"):
        assert archive.bars("ABC", "1d", adjust=adjust).equals(stored.bars("ABC", "1d", adjust=adjust))
    assert archive.bars("ABC", "1d")["close"][0] == days["close"][0] / 2


def test_the_source_is_the_series_that_reaches_furthest_then_the_coarsest() -> None:
    early, late = datetime(2010, 1, 1, tzinfo=UTC), datetime(2020, 1, 1, tzinfo=UTC)
    long, short = Span(early, late), Span(datetime(2019, 1, 1, tzinfo=UTC), late)
    assert source_of({"1m": long, "5m": long}, "1h") == "5m"
    assert source_of({"1m": long, "5m": short}, "1h") == "1m"
    assert source_of({"1m": long, "1h": short}, "60m") == "1h"
    assert source_of({"5m": long}, "7m") is None
    assert source_of({"1m": long, "1d": long}, "1w") == "1d"
    assert source_of({"1d": long}, "2d") is None


def test_a_derived_series_has_a_version_of_its_own_that_follows_its_source(archive: Archive) -> None:
    opens = [OPEN + i * MINUTE for i in range(60)]
    archive.write([minutes("ABC", bars_at(opens, [100.0] * 60))])
    first = {each: archive.data_version("ABC", each) for each in ("1m", "5m", "1h")}
    assert len(set(first.values())) == 3
    archive.write([minutes("ABC", bars_at([OPEN + 60 * MINUTE], [100.0]))])
    assert all(archive.data_version("ABC", each) != version for each, version in first.items())
    (listed,) = archive.instruments()
    assert (listed.intervals, listed.derived) == (("1m",), ("5m", "15m", "30m", "1h", "4h", "1d", "1w"))
    assert archive.dataset_of("ABC", "1h") == "test"


def test_precomputed_sessions_are_those_of_the_calendar(book: SessionBook, tmp_path: Path) -> None:
    half = book.sessions("XNYS", date(2012, 11, 22), date(2012, 11, 23))
    assert half.rows() == [(date(2012, 11, 23), OPEN, datetime(2012, 11, 23, 18, tzinfo=UTC))]
    one = SessionBook(tmp_path).sessions("XNYS", date(2012, 11, 22), date(2012, 11, 23))
    (kept,) = tmp_path.iterdir()
    kept.write_bytes(kept.read_bytes()[:5000])
    assert SessionBook(tmp_path).sessions("XNYS", date(2012, 11, 22), date(2012, 11, 23)).equals(one)
