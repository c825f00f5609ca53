"""The replay clock: where it stands, how it moves, who shares it, and the quotes it gives."""

import threading
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from neural_trader_governance.errors import DataError, InputError, StorageError
from neural_trader_tools.market.archive import Archive
from neural_trader_tools.market.replay import ReplayClock

FRIDAY_CLOSE = datetime(2005, 2, 25, 21, tzinfo=UTC)
MONDAY_CLOSE = datetime(2005, 2, 28, 21, tzinfo=UTC)


def test_in_auto_it_stands_at_the_newest_tradable_bar(sample: Archive) -> None:
    clock = ReplayClock(sample)
    assert clock.now() == datetime(2013, 3, 1, 21, tzinfo=UTC)
    assert clock.horizon() is None
    assert not (sample.root / "replay.db").exists()


def test_it_steps_session_by_session_and_says_what_became_known(sample_copy: Archive) -> None:
    clock = ReplayClock(sample_copy)
    clock.set(FRIDAY_CLOSE)
    news = dict(clock.step())
    assert clock.now() == MONDAY_CLOSE
    assert sorted(news) == ["AAPL", "GOOG", "IBM", "MSFT"]
    assert news["AAPL"]["close"].to_list() == [44.86]
    three = dict(clock.step(3))
    assert three["IBM"].height == 3
    assert clock.now() == datetime(2005, 3, 3, 21, tzinfo=UTC)


def test_it_never_goes_back_once_set(sample_copy: Archive) -> None:
    clock = ReplayClock(sample_copy)
    clock.set(FRIDAY_CLOSE)
    with pytest.raises(InputError, match="clock_backwards"):
        clock.set(datetime(2005, 2, 24, tzinfo=UTC))
    assert clock.now() == FRIDAY_CLOSE
    assert clock.set(FRIDAY_CLOSE) == FRIDAY_CLOSE


def test_at_the_end_of_the_data_it_says_so(sample_copy: Archive) -> None:
    clock = ReplayClock(sample_copy)
    with pytest.raises(DataError, match="replay_at_end"):
        clock.step()
    assert clock.horizon() is None
    clock.set(datetime(2013, 2, 27, 21, tzinfo=UTC))
    assert dict(clock.step(100))["AAPL"].height == 2
    with pytest.raises(InputError, match="invalid_sessions"):
        clock.step(0)


def test_everybody_who_shares_the_archive_shares_the_time(sample_copy: Archive) -> None:
    ReplayClock(sample_copy).set(FRIDAY_CLOSE)
    other = ReplayClock(Archive(sample_copy.root))
    assert other.now() == FRIDAY_CLOSE
    seen: list[datetime] = []
    threads = [threading.Thread(target=lambda: seen.append(other.now())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [FRIDAY_CLOSE] * 8


def test_who_has_read_the_time_sees_others_move_it(sample_copy: Archive) -> None:
    mine, other = ReplayClock(sample_copy), ReplayClock(Archive(sample_copy.root))
    other.set(FRIDAY_CLOSE)
    for session in range(3):
        before = mine.now()
        other.step()
        assert mine.now() == other.now() > before, session
    mine.set(datetime(2005, 6, 1, tzinfo=UTC))
    assert other.now() == datetime(2005, 6, 1, tzinfo=UTC)


def test_a_file_made_anew_is_another_place(sample_copy: Archive) -> None:
    clock = ReplayClock(sample_copy)
    clock.set(MONDAY_CLOSE)
    assert clock.now() == MONDAY_CLOSE
    (sample_copy.root / "replay.db").unlink()
    assert clock.horizon() is None
    ReplayClock(sample_copy, sample_copy.root / "anew.db").set(FRIDAY_CLOSE)
    (sample_copy.root / "anew.db").rename(sample_copy.root / "replay.db")
    assert clock.now() == FRIDAY_CLOSE


def test_a_quote_is_the_last_close_known_on_the_days_share_basis(sample_copy: Archive) -> None:
    clock = ReplayClock(sample_copy)
    clock.set(FRIDAY_CLOSE)
    quote = clock.quote("AAPL")
    assert (quote.last, quote.bid, quote.ask) == (Decimal("88.99"), None, None)
    assert quote.event_time == quote.known_time == FRIDAY_CLOSE
    assert quote.source == "archive bokeh-stocks 1d close"
    clock.set(datetime(2005, 2, 28, 15, tzinfo=UTC))
    split = clock.quote("AAPL")
    assert split.last == Decimal("44.50")  # 44.495 on the tick grid, ties to even
    assert split.event_time == FRIDAY_CLOSE
    clock.step()
    assert clock.quote("AAPL").last == Decimal("44.86")


def test_a_price_published_later_was_made_when_its_session_ended(sample: Archive, tmp_path: Path) -> None:
    quote = ReplayClock(sample, tmp_path / "replay.db").quote("WTI")
    assert (quote.known_time - quote.event_time).days == 6


def test_no_price_known_yet_is_an_error(sample_copy: Archive) -> None:
    clock = ReplayClock(sample_copy)
    clock.set(FRIDAY_CLOSE)
    with pytest.raises(DataError, match="no_price"):
        clock.quote("FB")
    with pytest.raises(DataError, match="unknown_symbol"):
        clock.quote("ABCD")


def test_an_empty_archive_has_no_time(archive: Archive) -> None:
    with pytest.raises(DataError, match="archive_empty"):
        ReplayClock(archive).now()


def test_a_damaged_file_is_reported(sample_copy: Archive) -> None:
    (sample_copy.root / "replay.db").write_bytes(b"not a database at all, sorry" * 40)
    with pytest.raises(StorageError, match="replay_clock_unreadable"):
        ReplayClock(sample_copy).now()
