"""Remembered prices are what would be read: the clock and the data decide, not who asked before."""

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import polars as pl
import pytest

from neural_trader_governance.terms.instruments import Instrument
from neural_trader_tools.market import frames
from neural_trader_tools.market.archive import Archive
from neural_trader_tools.market.batches import Batch
from neural_trader_tools.market.manifest import DataSet
from neural_trader_tools.orders import price_memory
from neural_trader_tools.orders.price_memory import PriceMemory, memory_of
from neural_trader_tools.orders.valuation import Pricer

from .conftest import NOW, Floor

MONDAY = datetime(2012, 6, 4, 20, 0, tzinfo=UTC)
MakeFloor = Callable[[datetime | None], Floor]


def prices(floor: Floor) -> list[object]:
    pricer = Pricer(floor.archive, floor.replay, floor.replay.now())
    since = datetime(2001, 1, 2, tzinfo=UTC)
    return [pricer.last("AAPL"), pricer.previous("AAPL"), pricer.split_factor("AAPL", since)]


def test_bars_are_read_once_until_the_clock_moves(
    make_floor: MakeFloor, monkeypatch: pytest.MonkeyPatch
) -> None:
    floor = make_floor(MONDAY)
    reads: list[str] = []
    for name in ("bars", "actions"):
        whole = getattr(Archive, name)

        def counted(
            self: Archive, *args: object, whole: Callable[..., object] = whole, **options: object
        ) -> object:
            reads.append("read")
            return whole(self, *args, **options)

        monkeypatch.setattr(Archive, name, counted)
    first = prices(floor)
    needed = len(reads)
    assert needed > 0
    assert prices(floor) == first
    assert len(reads) == needed, "nothing is read again"
    floor.replay.step(1)
    reads.clear()
    second = prices(floor)
    assert len(reads) == needed - 1, "the splits are those of before, the prices are not"
    assert second[:2] != first[:2]
    assert (second[1], second[2]) == (first[0], 2)


def test_new_data_at_the_same_moment_is_seen(make_floor: MakeFloor) -> None:
    floor = make_floor(MONDAY + timedelta(hours=1))  # a correction is known later than what it corrects
    before = prices(floor)
    bar = floor.archive.bars("AAPL", as_of=MONDAY, adjust="none").tail(1)
    raised = bar.with_columns(pl.col("close") + 1, pl.col("high") + 1)
    dataset = DataSet(
        dataset_id="correction", source="a test", licence="none", imported_at=NOW, file_digest="",
        known_time_assumed=False, rows_read=1, rows_added=0,
    )  # fmt: skip
    instrument = Instrument(symbol="AAPL", name="Apple")
    floor.archive.write([Batch(instrument, "1d", raised, dataset, known_time_given=True)])
    after = prices(floor)
    assert isinstance(before[0], Decimal)
    assert after == [before[0] + 1, *before[1:]]


def test_splits_at_any_moment_are_those_that_are_read_then(make_floor: MakeFloor) -> None:
    floor = make_floor(MONDAY)
    told, corrected = datetime(2012, 6, 1, tzinfo=UTC), datetime(2012, 6, 3, tzinfo=UTC)
    dataset = DataSet(
        dataset_id="splits", source="a test", licence="none", imported_at=NOW, file_digest="",
        known_time_assumed=False, rows_read=1, rows_added=0,
    )  # fmt: skip
    for ratio, known in ((3.0, told), (4.0, corrected)):
        day = pl.Series([datetime(2012, 5, 1, tzinfo=UTC)], dtype=frames.UTC_MICROSECONDS)
        row = {"event_time": day, "known_time": pl.Series([known], dtype=frames.UTC_MICROSECONDS)}
        actions = pl.DataFrame({**row, "kind": ["split"], "value": [ratio]}, schema=frames.ACTION_SCHEMA)
        instrument = Instrument(symbol="AAPL", name="Apple")
        nothing = frames.empty(frames.BAR_SCHEMA)
        floor.archive.write_actions(
            [Batch(instrument, "1d", nothing, dataset, actions, known_time_given=True)],
            [],
            dataset,
            known_time_given=True,
        )
    moments = floor.archive.action_moments("AAPL")
    assert moments is not None
    assert {told, corrected} < set(moments)
    near = [each + timedelta(microseconds=step) for each in moments for step in (-1, 0, 1)]
    order = random.Random(5)  # noqa: S311 - reproducible
    near += [told + timedelta(seconds=order.randrange(-400_000_000, 40_000_000)) for _ in range(30)]
    order.shuffle(near)
    since, found = datetime(1999, 1, 2, tzinfo=UTC), set[Decimal]()
    for moment in near:
        rows = floor.archive.actions("AAPL", moment).filter(pl.col("kind") == "split")["value"]
        read = Decimal(1)
        for ratio in rows:
            read *= Decimal(repr(ratio))
        found.add(read)
        assert Pricer(floor.archive, floor.replay, moment).split_factor("AAPL", since) == read
    assert len(found) >= 4, "before any, one, three times and four times as many"


def test_what_was_read_while_the_clock_moved_is_not_kept() -> None:
    memory = PriceMemory()
    assert memory.recall("last", "state", lambda: 1, lambda: False) == 1
    assert memory.recall("last", "state", lambda: 2) == 2
    assert memory.recall("last", "state", lambda: 3) == 2
    assert memory.recall("last", None, lambda: 4) == 4


def test_the_memory_is_bounded_and_one_of_each_archive(
    make_floor: MakeFloor, monkeypatch: pytest.MonkeyPatch
) -> None:
    floor = make_floor(MONDAY)
    assert memory_of(floor.archive) is memory_of(floor.archive)
    assert memory_of(floor.archive) is not memory_of(Archive(floor.home / "archive"))
    monkeypatch.setattr(price_memory, "REMEMBERED_MAX", 3)
    memory = PriceMemory()
    for number in range(7):
        memory.recall("last", number, lambda number=number: number)
    assert memory.recall("last", 6, lambda: 0) == 6
    assert memory.recall("last", 0, lambda: 9) == 9, "forgotten"
