"""The trial ledger: what counts as having been tried on the same data."""

import json
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import pytest

from neural_trader_governance.errors import StorageError
from neural_trader_tools.backtest.trials import Trial, Trials, data_key

NOW = datetime(2020, 1, 1, tzinfo=UTC)
APPLE = data_key(["AAPL"], "1d")


@pytest.fixture
def ledger(tmp_path: Path) -> Trials:
    return Trials(tmp_path / "research.db")


def add(ledger: Trials, key: str, *trials: tuple[str, float | None]) -> None:
    ledger.add(key, [Trial(*trial) for trial in trials], "bt-1", "agent", NOW)


def year(number: int) -> datetime:
    return datetime(number, 1, 1, tzinfo=UTC)


def test_every_combination_of_a_sweep_is_a_trial_and_the_same_one_counts_once(ledger: Trials) -> None:
    add(ledger, APPLE, ("a", 0.1), ("b", None), ("c", -0.2))
    add(ledger, APPLE, ("b", 0.9), ("d", 0.3))
    assert ledger.sharpes(APPLE) == [0.1, None, -0.2, 0.3]
    assert ledger.sharpes(APPLE, excluding="c") == [0.1, None, 0.3]


def test_adding_or_leaving_out_a_symbol_begins_no_new_count(ledger: Trials) -> None:
    add(ledger, APPLE, ("a", 0.1))
    add(ledger, data_key(["MSFT", "AAPL"], "1d"), ("b", 0.2))
    assert ledger.sharpes(data_key(["AAPL", "IBM"], "1d")) == [0.1, 0.2]
    assert ledger.sharpes(data_key(["IBM"], "1d")) == []
    assert data_key(["MSFT", "AAPL"], "1d") == data_key(["AAPL", "MSFT"], "1d")


def test_periods_that_overlap_share_their_trials_and_others_do_not(ledger: Trials) -> None:
    add(ledger, data_key(["AAPL"], "1d", year(2000), year(2010)), ("early", 0.1))
    add(ledger, data_key(["AAPL"], "1d", year(2009), None), ("late", 0.2))
    assert ledger.sharpes(data_key(["AAPL"], "1d", year(2010), year(2012))) == [0.2]
    assert ledger.sharpes(data_key(["AAPL"], "1d", None, year(2009))) == [0.1]
    assert ledger.sharpes(data_key(["AAPL"], "1d", year(2001), year(2002))) == [0.1]
    assert ledger.sharpes(APPLE) == [0.1, 0.2]


def test_a_trial_at_another_interval_counts_without_its_sharpe_ratio(ledger: Trials) -> None:
    add(ledger, APPLE, ("daily", 0.1))
    add(ledger, data_key(["AAPL"], "1h"), ("hourly", 0.02))
    assert ledger.sharpes(APPLE) == [0.1, None]


def test_a_configuration_written_under_a_key_of_an_older_version_counts_once(ledger: Trials) -> None:
    assert json.loads(APPLE) == [["AAPL"], "1d"]  # the form of every row before periods were kept
    add(ledger, APPLE, ("a", 0.1))
    add(ledger, data_key(["AAPL"], "1d", year(2000)), ("a", 0.1))
    assert ledger.sharpes(APPLE) == [0.1]


def test_trials_are_counted_all_or_none(ledger: Trials, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "research.db") as connection:
        connection.execute(
            "CREATE TRIGGER full BEFORE INSERT ON backtest_trials WHEN new.config_digest = 'c' "
            "BEGIN SELECT RAISE(ABORT, 'disk full'); END"
        )
    with pytest.raises(StorageError, match="disk full"):
        add(ledger, APPLE, ("a", 0.1), ("b", 0.2), ("c", 0.3))
    assert ledger.sharpes(APPLE) == []
