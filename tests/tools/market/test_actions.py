"""Corporate actions from files, and series that a symbol change joins, as of any moment."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neural_trader_governance.errors import DataError, InputError
from neural_trader_governance.terms.clocks import SimulatedClock
from neural_trader_tools.market.actions import ActionsReport, import_actions
from neural_trader_tools.market.archive import Archive
from neural_trader_tools.market.batches import Batch
from neural_trader_tools.market.get_calendar import corporate_actions

MakeBatch = Callable[..., Batch]
Import = Callable[..., ActionsReport]
HEADER = "symbol,date,kind,value\n"
DAY = timedelta(days=1)
FIRST = datetime(2019, 1, 1, 14, 30, tzinfo=UTC)  # `batch`'s first bar
CHANGE = datetime(2019, 1, 11, 5, tzinfo=UTC)  # ten bars later


@pytest.fixture
def take(archive: Archive, clock: SimulatedClock, tmp_path: Path) -> Import:
    """Imports lines of actions."""

    def run(lines: str, header: str = HEADER) -> ActionsReport:
        path = tmp_path / "actions.csv"
        path.write_text(header + lines)
        return import_actions(archive, path, clock=clock)

    return run


@pytest.fixture
def renamed(archive: Archive, batch: MakeBatch, take: Import) -> Archive:
    """FB until 2019-01-10, META from the 11th on; META's rows before that are another company's."""
    archive.write([batch("FB", [float(100 + i) for i in range(10)])])
    archive.write([batch("META", [float(200 + i) for i in range(10)], first_day=10)])
    archive.write([batch("META", [9.0, 9.5], first_day=2)])
    take("FB,2019-01-11,rename,META\n")
    return archive


def closes(archive: Archive, symbol: str, as_of: datetime | None = None) -> list[float]:
    return archive.bars(symbol, as_of=as_of, adjust="none")["close"].to_list()


def test_old_and_new_symbol_read_one_series_with_raw_prices_unchanged(renamed: Archive) -> None:
    joined = [float(100 + i) for i in range(10)] + [float(200 + i) for i in range(10)]
    assert closes(renamed, "META") == closes(renamed, "FB") == joined
    assert renamed.bars("FB", "1w").equals(renamed.bars("META", "1w"))
    window = renamed.bars("FB", start=FIRST + 9 * DAY, end=FIRST + 11 * DAY)
    assert window["close"].to_list() == [109.0, 200.0]
    assert renamed.dataset_of("FB") == "test"


def test_before_the_change_each_symbol_means_who_held_it_then(renamed: Archive) -> None:
    before = CHANGE - timedelta(microseconds=1)
    assert closes(renamed, "FB", before) == [float(100 + i) for i in range(10)]
    assert closes(renamed, "META", before) == [9.0, 9.5]
    assert closes(renamed, "META", CHANGE) == [float(100 + i) for i in range(10)]
    after_one = FIRST + 10 * DAY + timedelta(hours=7)
    assert closes(renamed, "FB", after_one)[-1] == closes(renamed, "META", after_one)[-1] == 200.0


def test_a_symbol_that_is_given_to_another_company_stands_for_that_one(
    renamed: Archive, batch: MakeBatch
) -> None:
    renamed.write([batch("FB", [5.0, 5.5], first_day=15)])
    taken = FIRST + 15 * DAY + timedelta(hours=7)
    assert closes(renamed, "FB", taken) == [5.0]
    assert closes(renamed, "FB") == [5.0, 5.5]
    assert closes(renamed, "FB", taken - DAY) == closes(renamed, "META", taken - DAY)
    assert len(closes(renamed, "META")) == 20


def test_a_history_that_came_whole_under_the_new_symbol_is_read_by_the_old_one_too(
    archive: Archive, batch: MakeBatch, take: Import
) -> None:
    archive.write([batch("META", [float(i) for i in range(1, 20)])])
    take("FB,2019-01-11,rename,META\n")
    assert closes(archive, "FB") == closes(archive, "META") == [float(i) for i in range(1, 20)]
    assert closes(archive, "FB", FIRST + 3 * DAY) == [1.0, 2.0, 3.0]
    with pytest.raises(DataError, match="unknown_symbol"):
        archive.bars("FBB")


def test_splits_of_either_name_apply_to_the_joined_series(
    archive: Archive, batch: MakeBatch, take: Import
) -> None:
    archive.write([batch("OLD", [100.0] * 10, splits={5: 2.0})])
    archive.write([batch("NEW", [50.0] * 10, first_day=10, splits={5: 5.0})])
    take("OLD,2019-01-11,rename,NEW\n")
    adjusted = archive.bars("NEW")["close"].to_list()
    assert adjusted == [10.0] * 5 + [20.0] * 5 + [10.0] * 5 + [50.0] * 5
    assert archive.bars("OLD")["close"].to_list() == adjusted
    assert archive.actions("OLD").height == 2


def test_changes_follow_one_another(archive: Archive, batch: MakeBatch, take: Import) -> None:
    for name, at in (("AAA", 0), ("BBB", 5), ("CCC", 10)):
        archive.write([batch(name, [float(at + i + 1) for i in range(5)], first_day=at)])
    take("BBB,2019-01-11,rename,CCC\nAAA,2019-01-06,rename,BBB\n")
    whole = [float(i + 1) for i in range(15)]
    assert all(closes(archive, name) == whole for name in ("AAA", "BBB", "CCC"))
    between = FIRST + 7 * DAY
    assert closes(archive, "AAA", between) == closes(archive, "BBB", between) == whole[:7]


def test_two_companies_that_swap_symbols_keep_their_histories(
    archive: Archive, batch: MakeBatch, take: Import
) -> None:
    archive.write([batch("AAA", [1.0] * 10), batch("BBB", [2.0] * 10)])
    archive.write([batch("AAA", [20.0] * 5, first_day=10), batch("BBB", [10.0] * 5, first_day=10)])
    take("AAA,2019-01-11,rename,BBB\nBBB,2019-01-11,rename,AAA\n")
    assert closes(archive, "AAA") == [2.0] * 10 + [20.0] * 5
    assert closes(archive, "BBB") == [1.0] * 10 + [10.0] * 5


def test_a_change_makes_new_versions_and_a_withdrawal_undoes_it(
    archive: Archive, batch: MakeBatch, take: Import, clock: SimulatedClock
) -> None:
    archive.write([batch("FB", [1.0] * 10), batch("META", [2.0] * 5, first_day=10), batch("XYZ", [3.0])])
    before = {name: archive.data_version(name) for name in ("FB", "META", "XYZ")}
    take("FB,2019-01-11,rename,META\n")
    assert archive.data_version("FB") != before["FB"]
    assert archive.data_version("META") != before["META"]
    assert archive.data_version("XYZ") == before["XYZ"]
    again = take("FB,2019-01-11,rename,META\n")
    assert (again.rows_new, again.rows_unchanged) == (0, 1)
    told = clock.now()
    withdrawn = take("FB,2019-01-11,rename,FB\n")
    assert withdrawn.rows_revised == 1
    assert closes(archive, "META", told + DAY) == [2.0] * 5
    assert len(closes(archive, "META", told - DAY)) == 15
    assert [one.new for one in archive.renames("FB", told - DAY)] == ["META"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(asked=st.integers(0, 30), announced=st.integers(0, 20), symbol=st.sampled_from(["FB", "META"]))
def test_a_joined_read_as_of_a_moment_is_that_of_an_archive_that_ends_there(
    tmp_path_factory: pytest.TempPathFactory, batch: MakeBatch, asked: int, announced: int, symbol: str
) -> None:
    as_of = FIRST + asked * DAY
    known = FIRST + announced * DAY
    now = SimulatedClock(datetime(2020, 1, 1, tzinfo=UTC))
    folder = tmp_path_factory.mktemp("joined")
    (folder / "a.csv").write_text(
        f"symbol,date,kind,value,known_time\nFB,2019-01-11,rename,META,{known.isoformat()}\n"
    )
    whole, cut = Archive(folder / "whole", now), Archive(folder / "cut", now)
    for archive, end in ((whole, 40), (cut, asked)):
        for name, first, count in (("FB", 0, 10), ("META", 2, 3), ("META", 10, 12)):
            height = max(0, min(count, end - first))
            if height or archive is whole:
                archive.write(
                    [batch(name, [float(first * 10 + i + 1) for i in range(height)], first_day=first)]
                )
        if archive is whole or (max(known, CHANGE) <= as_of and cut.instruments()):
            import_actions(archive, folder / "a.csv", clock=now)
    seen = whole.bars(symbol, as_of=as_of)
    assert seen.filter(pl.col("known_time") > as_of).is_empty()
    if symbol in {one.symbol for one in cut.instruments()} or cut.renames("FB"):
        assert seen.equals(cut.bars(symbol))
    else:
        assert seen.is_empty()


BAD = {
    "fb,2019-01-11,rename,META": "the symbol is none",
    "FB,2019-13-11,rename,META": "the date cannot be read",
    "FB,2019-01-11,merger,META": "the kind is none of",
    "FB,2019-01-11,rename,m\u00e9ta": "the new symbol is none",
    "NOPE,2019-01-11,rename,NADA": "neither symbol is in the archive",
    "NOPE,2019-01-11,split,2": "the symbol is not in the archive",
    "FB,2019-01-11,split,0": "no finite number above 0",
    "FB,2019-01-11,split,-2": "no finite number above 0",
    "FB,2019-01-11,split,two": "no finite number above 0",
    "FB,2019-01-11,dividend,nan": "no finite number of 0 or more",
    "FB,2019-01-11,dividend,-1": "no finite number of 0 or more",
    "FB,2031-01-11,dividend,1": "was not known yet",
    "FB,2019-01-02,split,3": "contradicts an earlier row",
    "FB,2019-01-02,split": "has 3 cells",
}


@pytest.mark.parametrize(("row", "reason"), BAD.items())
def test_a_bad_action_is_quarantined_with_its_line_and_reason(
    archive: Archive, batch: MakeBatch, take: Import, row: str, reason: str
) -> None:
    archive.write([batch("FB", [1.0, 2.0, 3.0])])
    report = take(f"FB,2019-01-02,split,2\n{row}\n")
    (refused,) = report.quarantined
    assert refused.line == 3
    assert reason in refused.reason
    assert report.quarantine_file is not None
    assert row.split(",")[0] in (archive.root / report.quarantine_file).read_text()
    assert archive.actions("FB").height == 1
    assert archive.datasets()[0].rows_quarantined == 1


def test_a_file_without_a_good_row_changes_nothing(archive: Archive, batch: MakeBatch, take: Import) -> None:
    archive.write([batch("FB", [1.0])])
    before = (archive.root / "manifest.json").read_bytes()
    with pytest.raises(InputError, match="no_good_rows"):
        take("FB,soon,split,2\n")
    with pytest.raises(InputError, match="columns_missing"):
        take("FB,2019-01-02\n", "symbol,date\n")
    assert (archive.root / "manifest.json").read_bytes() == before


def test_an_announced_split_is_listed_early_and_changes_prices_on_its_date(
    archive: Archive, batch: MakeBatch, take: Import
) -> None:
    archive.write([batch("ABC", [100.0] * 6)])
    take("ABC,2019-01-05,split,4,2019-01-02T12:00:00Z\n", "symbol,date,kind,value,known_time\n")
    announced, ex_date = datetime(2019, 1, 3, tzinfo=UTC), datetime(2019, 1, 5, 5, tzinfo=UTC)
    assert archive.bars("ABC", as_of=announced)["close"].to_list() == [100.0, 100.0]
    assert [one.value for one in corporate_actions(archive, "ABC", announced)] == [4.0]
    assert corporate_actions(archive, "ABC", announced - DAY) == []
    assert archive.bars("ABC", as_of=ex_date)["close"].to_list() == [25.0] * 4
    assert archive.bars("ABC")["close"].to_list() == [25.0] * 4 + [100.0] * 2


def test_a_split_still_to_come_changes_no_price_of_a_read_of_everything(
    archive: Archive, batch: MakeBatch, take: Import
) -> None:
    archive.write([batch("ABC", [100.0] * 2)])
    take("ABC,2021-01-05,split,4,2019-12-02T12:00:00Z\n", "symbol,date,kind,value,known_time\n")
    assert archive.bars("ABC")["close"].to_list() == [100.0, 100.0]
    assert archive.actions("ABC").is_empty()
    assert archive.actions("ABC", upcoming=True).height == 1
