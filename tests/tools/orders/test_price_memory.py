"""Remembered prices are what would be read: the clock and the data decide, not who asked before."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import polars as pl
import pytest

from neural_trader_governance.terms.instruments import Instrument
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
    assert len(reads) == needed
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
