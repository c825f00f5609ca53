"""Usage: exact sums, reservations that outlive their process, and a bound that a crowd cannot pass."""

import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from neural_trader_governance.errors import RiskError, StorageError
from neural_trader_governance.usage import Attribution, Bound, Costs, Prices, UsageLedger

DAY = "2013-03-01"
WHO = Attribution("alice", "agent-1")
SPENDER = Path(__file__).parent / "reserving_process.py"


def bound(limit: int, strategy: str | None = None) -> Bound:
    return Bound("the budget of agent-1 for the day 2013-03-01", strategy, DAY, DAY, limit)


@pytest.fixture
def ledger(tmp_path: Path) -> UsageLedger:
    return UsageLedger(tmp_path / "usage.db")


def test_prices_come_to_whole_micros_rounded_up() -> None:
    prices = Prices(
        call=Decimal("0.001"), sandbox_s=Decimal("0.0001"), data_call=Decimal("0.01"), wall_s=Decimal(0)
    )
    assert prices.micros(Costs()) == 0
    assert prices.micros(Costs(calls=2, sandbox_ms=1, data_calls=1)) == 2_000 + 1 + 10_000
    assert prices.micros(Costs(sandbox_ms=60_000)) == 6_000
    assert prices.micros(Costs(data_rows=10**9, result_bytes=10**9)) == 0, "counted, not priced"


@pytest.mark.parametrize("price", ["-0.1", "NaN", "Infinity", "1001", "a lot"])
def test_a_price_that_is_none_is_refused(price: str) -> None:
    with pytest.raises(ValidationError):
        Prices.model_validate({"call": price})


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.integers(0, 10**6))
def test_the_whole_costs_at_most_a_micro_less_for_each_part(one: int, two: int, calls: int) -> None:
    prices = Prices(call=Decimal("0.0000015"), sandbox_s=Decimal("0.0007"))
    apart = prices.micros(Costs(calls=calls, sandbox_ms=one)) + prices.micros(Costs(sandbox_ms=two))
    together = prices.micros(Costs(calls=calls, sandbox_ms=one + two))
    assert apart - 1 <= together <= apart


def test_a_call_is_charged_what_it_cost_in_place_of_what_it_reserved(ledger: UsageLedger) -> None:
    reservation = ledger.reserve(WHO, DAY, 500)
    assert ledger.used_micros("agent-1", bound(0)) == 500
    ledger.settle(reservation, WHO, DAY, Costs(calls=1, sandbox_ms=7, result_bytes=3), 120)
    ledger.settle(ledger.reserve(WHO, DAY, 500), WHO, DAY, Costs(calls=1, data_calls=1), 1)
    assert ledger.used_micros("agent-1", bound(0)) == 121
    (row,) = ledger.rows(agent="agent-1")
    assert (row.calls, row.sandbox_ms, row.data_calls, row.result_bytes, row.cost_micros) == (2, 7, 1, 3, 121)
    assert ledger.reserved_micros() == 0


def test_counts_are_kept_by_day_strategy_agent_and_principal(ledger: UsageLedger) -> None:
    for who, day in [
        (WHO, DAY),
        (replace(WHO, strategy="a" * 12), DAY),
        (WHO, "2013-03-02"),
        (replace(WHO, principal="bob"), DAY),
        (Attribution("alice", "agent-2"), DAY),
    ]:
        ledger.settle(ledger.reserve(who, day, 0), who, day, Costs(calls=1), 10)
    assert len(ledger.rows()) == 5
    assert sum(row.calls for row in ledger.rows(agent="agent-1")) == 4
    assert [row.strategy for row in ledger.rows(strategy="a" * 12)] == ["a" * 12]
    assert [row.day for row in ledger.rows(since="2013-03-02")] == ["2013-03-02"]
    assert ledger.used_micros("agent-1", bound(0)) == 30
    assert ledger.used_micros("agent-1", bound(0, "a" * 12)) == 10
    assert ledger.used_micros("agent-1", Bound("", None, "2013-03-01", "2013-03-31", 0)) == 40


def test_what_is_used_up_is_refused_with_the_bound_and_the_next_step(ledger: UsageLedger) -> None:
    ledger.settle(ledger.reserve(WHO, DAY, 0, [bound(100)]), WHO, DAY, Costs(calls=1), 99)
    ledger.settle(ledger.reserve(WHO, DAY, 50, [bound(100)]), WHO, DAY, Costs(calls=1), 50)
    with pytest.raises(RiskError) as caught:
        ledger.reserve(WHO, DAY, 1, [bound(100)])
    assert str(caught.value) == (
        "budget_exhausted: the budget of agent-1 for the day 2013-03-01 is 0.0001 USD, and 0.000149 USD is"
        " used or in flight; wait for the next period, or ask a person to run `neural-trader usage budget`"
    )
    assert ledger.reserved_micros() == 0, "a refusal reserves nothing"
    ledger.reserve(WHO, DAY, 1, [bound(0, "b" * 12)][:0])
    with pytest.raises(RiskError):
        ledger.reserve(WHO, DAY, 1, [bound(10**9), bound(0, "b" * 12)])
    ledger.reserve(replace(WHO, agent="agent-2"), DAY, 1, [bound(100)])


def test_killing_the_process_of_a_call_does_not_give_its_money_back(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, str(SPENDER), str(tmp_path / "usage.db"), "hold", "100", "60"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "reserved\n"
    process.kill()
    process.communicate(timeout=60)
    ledger = UsageLedger(tmp_path / "usage.db")
    assert ledger.used_micros("agent-1", bound(0)) == 60
    ledger.reserve(WHO, DAY, 60, [bound(100)])
    with pytest.raises(RiskError, match="budget_exhausted"):
        ledger.reserve(WHO, DAY, 60, [bound(100)])


def test_processes_at_once_exceed_a_budget_by_less_than_one_call(tmp_path: Path) -> None:
    ledger = UsageLedger(tmp_path / "usage.db")
    words = [sys.executable, str(SPENDER), str(tmp_path / "usage.db"), "spend", "10000", "70"]
    processes = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    counts = [len(process.communicate(timeout=120)[0].split()) for process in processes]
    assert [process.returncode for process in processes] == [0] * 4
    used = ledger.used_micros("agent-1", bound(0))
    assert 10_000 <= used < 10_000 + 70
    assert used == 70 * sum(counts)


def test_threads_in_flight_at_once_exceed_a_budget_by_less_than_one_call(ledger: UsageLedger) -> None:
    """None of them ends before the last one was asked: what is in flight counts in full."""
    gate = threading.Barrier(16)
    admitted: list[int] = []

    def call() -> None:
        gate.wait()
        for _ in range(20):
            with suppress(RiskError):
                admitted.append(ledger.reserve(WHO, DAY, 70, [bound(1_000)]))

    with ThreadPoolExecutor(16) as pool:
        for future in [pool.submit(call) for _ in range(16)]:
            future.result()
    assert len(admitted) == 15  # 14 x 70 = 980 is less than the bound, 15 x 70 exceeds it by less than 70


def test_a_file_that_is_no_ledger_is_refused(tmp_path: Path) -> None:
    (tmp_path / "usage.db").write_bytes(b"no database" * 200)
    with pytest.raises(StorageError, match="usage_unavailable"):
        UsageLedger(tmp_path / "usage.db")


def test_who_may_not_wait_is_told_so_and_nothing_is_set_aside(ledger: UsageLedger, tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "usage.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(BlockingIOError):
        ledger.reserve(WHO, DAY, 500, wait=False)
    other.execute("ROLLBACK")
    other.close()
    assert ledger.used_micros("agent-1", bound(0)) == 0
    reservation = ledger.reserve(WHO, DAY, 500, wait=False)
    ledger.settle(reservation, WHO, DAY, Costs(calls=1), 3, wait=False)
    assert ledger.used_micros("agent-1", bound(0)) == 3


def test_calls_of_no_cost_are_counted_together_and_lost_by_no_clean_end(tmp_path: Path) -> None:
    first = UsageLedger(tmp_path / "usage.db")
    for _ in range(3):
        first.count(WHO, DAY, Costs(calls=1, wall_ms=2, result_bytes=5))
    (row,) = first.rows()
    assert (row.calls, row.wall_ms, row.result_bytes, row.cost_micros) == (3, 6, 15, 0), "a look writes first"
    first.count(WHO, DAY, Costs(calls=1))
    first.count(replace(WHO, agent="agent-2"), DAY, Costs(calls=1))
    first.close()
    with pytest.raises(StorageError, match="usage_unavailable"):
        first.count(WHO, DAY, Costs(calls=1))
    assert {row.agent: row.calls for row in UsageLedger(tmp_path / "usage.db").rows()} == {
        "agent-1": 4,
        "agent-2": 1,
    }


def test_another_process_sees_what_was_counted_soon(tmp_path: Path) -> None:
    mine, theirs = UsageLedger(tmp_path / "usage.db"), UsageLedger(tmp_path / "usage.db")
    mine.count(WHO, DAY, Costs(calls=1))
    begun = time.monotonic()
    while not theirs.rows():
        assert time.monotonic() - begun < 20
    assert theirs.rows()[0].calls == 1


def test_counts_that_cannot_be_written_are_kept_and_said(ledger: UsageLedger, tmp_path: Path) -> None:
    ledger.count(WHO, DAY, Costs(calls=1))
    with closing(sqlite3.connect(tmp_path / "usage.db")) as other:
        other.execute("ALTER TABLE usage RENAME TO elsewhere")
        with pytest.raises(StorageError, match="usage_unavailable"):
            ledger.flush()
        with pytest.raises(StorageError, match="usage_unavailable"):
            ledger.require_counting()
        other.execute("ALTER TABLE elsewhere RENAME TO usage")
    ledger.require_counting()
    assert [row.calls for row in ledger.rows()] == [1]
