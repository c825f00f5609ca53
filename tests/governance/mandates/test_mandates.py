"""Mandates: who is bound, what covers an order, what is charged, and what two processes cannot do."""

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neural_trader_governance import mandates
from neural_trader_governance.errors import InputError, RiskError
from neural_trader_governance.identity import Caller
from neural_trader_governance.mandate_register import Mandate, MandateRelease, issue, release_agent, revoke
from neural_trader_governance.signing.keys import SigningKey

SPENDER = Path(__file__).parent / "spending_process.py"


def test_an_agent_without_any_mandate_is_left_to_policy_unless_the_desk_binds_all(office: Any) -> None:
    assert office.ask() == mandates.MandateStanding(False, None, True, "")
    bound = office.ask(required_for_all=True)
    assert (bound.required, bound.covers) == (True, False)
    assert bound.note == "this desk requires mandates, and research-bot has none"


def test_a_mandate_covers_up_to_its_caps_and_not_a_cent_more(office: Any) -> None:
    mandate = office.issue()
    assert office.ask() == mandates.MandateStanding(True, mandate.mandate_id, True, "")
    over = office.ask(notional_cents=100_001)
    assert (over.covers, over.mandate_id) == (False, None)
    assert over.note == "mn_0123456789ab allows 1,000 USD an order; this one needs 1,000.01 USD"
    assert office.submit("nt_1").covers
    assert office.submit("nt_2").covers
    assert office.ask(notional_cents=50_000).covers
    beyond = office.submit("nt_3", notional_cents=50_001)
    assert beyond.note == "mn_0123456789ab has 500 USD of 2,500 USD a day left; this order needs 500.01 USD"
    assert office.submit("nt_4", notional_cents=50_000).covers
    assert not office.ask(notional_cents=1).covers


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"account": "other"}, "is for the account paper"),
        ({"symbol": "MSFT"}, "does not name MSFT"),
        ({"side": "sell"}, "allows to buy only"),
        ({"now": datetime(2013, 3, 31, tzinfo=UTC)}, "ended at 2013-03-31T00:00:00Z"),
        ({"now": datetime(2013, 2, 28, 23, 59, 59, tzinfo=UTC)}, "begins at 2013-03-01T00:00:00Z"),
        ({"notional_cents": 0}, "is no amount"),
        ({"notional_cents": -5}, "is no amount"),
        ({"notional_cents": True}, "is no amount"),
        ({"notional_cents": 10**15}, "allows 1,000 USD an order"),
        ({"notional_cents": 10**30}, "is no amount"),
    ],
)
def test_what_a_mandate_does_not_name_it_does_not_cover(
    office: Any, change: dict[str, object], why: str
) -> None:
    office.issue()
    standing = office.ask(**change)
    assert (standing.required, standing.mandate_id, standing.covers) == (True, None, False)
    assert why in standing.note


def test_another_agent_is_neither_bound_nor_covered_by_it(office: Any) -> None:
    office.issue()
    assert office.ask(agent="other-bot") == mandates.MandateStanding(False, None, True, "")
    assert not office.ask(agent="other-bot", required_for_all=True).covers


def test_a_star_covers_every_symbol(office: Any) -> None:
    office.issue(symbols="*", sides=("buy", "sell"))
    assert office.ask(symbol="TSLA", side="sell").covers


def test_a_revoked_mandate_binds_and_grants_nothing_also_to_what_was_assessed_before(office: Any) -> None:
    mandate = office.issue()
    assert office.ask().covers
    with office.store.unit() as unit:
        revoke(unit, mandate.mandate_id, caller=office.person, reason="it misbehaved")
    standing = office.ask()
    assert (standing.required, standing.covers, standing.note) == (True, False, "mn_0123456789ab is revoked")
    with (
        pytest.raises(RiskError, match="mandate_unusable: mn_0123456789ab is revoked"),
        office.store.unit() as unit,
    ):
        mandates.spend(
            unit.connection,
            mandate.mandate_id,
            issuer=office.pinned,
            client_order_id="nt_late",
            cents=1,
            now=office.now,
        )


def test_a_revocation_outlives_its_row_and_a_restart(open_office: Callable[[], Any]) -> None:
    office = open_office()
    mandate = office.issue()
    with office.store.unit() as unit:
        revoke(unit, mandate.mandate_id, caller=office.person, reason="it misbehaved")
        unit.connection.execute("DELETE FROM mandate_revocations")
    office.store.close()
    assert open_office().ask().note == "mn_0123456789ab is revoked"


def test_an_expired_mandate_still_binds(office: Any) -> None:
    office.issue()
    standing = office.ask(now=datetime(2014, 1, 1, tzinfo=UTC))
    assert (standing.required, standing.covers) == (True, False)


def test_only_a_signed_release_that_names_every_mandate_sets_an_agent_free(office: Any) -> None:
    first = office.issue()
    second = office.issue(mandate_id="mn_ffffffffffff", nonce="f" * 32)

    def release(key: SigningKey, *ids: str) -> None:
        document = MandateRelease(agent=office.agent, mandate_ids=ids).signed_by(key)
        with office.store.unit() as unit:
            release_agent(unit, document, issuer=office.pinned, caller=office.person)

    with pytest.raises(RiskError, match="signature_invalid"):
        release(SigningKey.generate("desk.example/issuer"), first.mandate_id, second.mandate_id)
    release(office.key, first.mandate_id)
    assert office.ask().mandate_id == second.mandate_id
    release(office.key, second.mandate_id)
    assert office.ask() == mandates.MandateStanding(False, None, True, "")
    office.issue(mandate_id="mn_eeeeeeeeeeee", nonce="e" * 32)
    assert office.ask(notional_cents=100_001).required, "a later mandate binds again"


def test_only_a_person_issues_revokes_and_releases(office: Any) -> None:
    agent = Caller("alice", office.agent)
    key = office.pinned
    with pytest.raises(RiskError, match="person_required"), office.store.unit() as unit:
        issue(unit, office.signed(), issuer=key, caller=agent, now=office.now)
    mandate = office.issue()
    with pytest.raises(RiskError, match="person_required"), office.store.unit() as unit:
        revoke(unit, mandate.mandate_id, caller=agent, reason="no")
    document = MandateRelease(agent=office.agent, mandate_ids=(mandate.mandate_id,)).signed_by(office.key)
    with pytest.raises(RiskError, match="person_required"), office.store.unit() as unit:
        release_agent(unit, document, issuer=key, caller=agent)


def test_revoking_needs_a_known_mandate_and_a_reason(office: Any) -> None:
    mandate = office.issue()
    with pytest.raises(InputError, match="unknown_mandate"), office.store.unit() as unit:
        revoke(unit, "mn_nope", caller=office.person, reason="because")
    with pytest.raises(InputError, match="invalid_reason"), office.store.unit() as unit:
        revoke(unit, mandate.mandate_id, caller=office.person, reason="  ")


def test_fills_replace_the_reservation_and_what_never_filled_is_free_again(office: Any) -> None:
    mandate = office.issue()
    office.submit("nt_1", notional_cents=100_000)

    def spent() -> int:
        with office.store.read() as connection:
            return mandates.spent_cents(connection, mandate, office.now)

    assert spent() == 100_000
    with office.store.unit() as unit:  # 4 of 10 units fill at 95.00001 instead of 100 USD
        mandates.book_fill(
            unit.connection, "nt_1", value_micros=380_000_040, quantity_nanos=4 * 10**9, left_nanos=10**10
        )
    assert spent() == 60_000 + 38_001, "the reservation of what is open, and the fill rounded up"
    with office.store.unit() as unit:
        mandates.release(unit.connection, "nt_1")
    assert spent() == 38_001
    with office.store.unit() as unit:  # a fill that arrives after the end counts too, and in full
        mandates.book_fill(
            unit.connection, "nt_1", value_micros=9_000_000_000, quantity_nanos=10**9, left_nanos=6 * 10**9
        )
    assert spent() == 938_001
    assert not office.ask(notional_cents=1).covers
    with office.store.unit() as unit:  # an order under no mandate is left alone
        mandates.book_fill(unit.connection, "nt_x", value_micros=1, quantity_nanos=1, left_nanos=1)
        mandates.release(unit.connection, "nt_x")


@given(
    st.integers(1, 10**12),
    st.lists(st.tuples(st.integers(1, 10**9), st.integers(0, 10**12)), min_size=1, max_size=8),
)
def test_reservation_and_fills_never_fall_below_what_was_traded(
    cents: int, fills: list[tuple[int, int]]
) -> None:
    connection = sqlite3.connect(":memory:")
    connection.executescript(mandates.SCHEMA)
    connection.execute("INSERT INTO mandate_spend VALUES ('nt', 'mn', 'total', ?, 0)", (cents,))
    connection.execute("INSERT INTO mandate_totals VALUES ('mn', 'total', ?)", (cents,))
    total = left = sum(quantity for quantity, _ in fills)
    value, reserved = 0, cents
    for quantity, micros in fills:
        mandates.book_fill(connection, "nt", value_micros=micros, quantity_nanos=quantity, left_nanos=left)
        left, value = left - quantity, value + micros
        reserved, filled = connection.execute(
            "SELECT reserved_cents, filled_micros FROM mandate_spend"
        ).fetchone()
        assert filled == value
        (charged,) = connection.execute("SELECT cents FROM mandate_totals").fetchone()
        assert charged == reserved + -(-value // 10_000), "the total is the sum over the orders"
        assert reserved * total >= cents * left, "what is open stays covered in proportion"
    assert reserved == 0
    connection.close()


@pytest.mark.parametrize(
    ("period", "last", "first"),
    [
        ("day", datetime(2013, 3, 1, 23, 59, 59, 999999, tzinfo=UTC), datetime(2013, 3, 2, tzinfo=UTC)),
        ("week", datetime(2013, 3, 3, 23, 59, 59, 999999, tzinfo=UTC), datetime(2013, 3, 4, tzinfo=UTC)),
        ("month", datetime(2013, 3, 31, 23, 59, 59, 999999, tzinfo=UTC), datetime(2013, 4, 1, tzinfo=UTC)),
    ],
)
def test_a_period_ends_at_its_calendar_boundary_in_utc(
    office: Any, period: str, last: datetime, first: datetime
) -> None:
    office.issue(period=period, cumulative_cap_cents=100_000, expires=first + timedelta(days=3))
    assert office.submit("nt_1").covers
    assert not office.ask(now=last).covers
    assert office.ask(now=first).covers
    plus_five = datetime.fromisoformat("2013-03-01T23:00:00-05:00")  # the 2nd in UTC
    assert mandates.period_of("day", plus_five) == "2013-03-02"


def test_a_total_never_starts_again(office: Any) -> None:
    office.issue(period="total", cumulative_cap_cents=100_000)
    assert office.submit("nt_1").covers
    assert not office.ask(now=datetime(2013, 3, 30, tzinfo=UTC)).covers


def test_of_two_that_cover_the_first_to_expire_is_charged(office: Any) -> None:
    office.issue()
    sooner = office.issue(
        mandate_id="mn_ffffffffffff", nonce="f" * 32, expires=office.now + timedelta(days=1)
    )
    assert office.submit("nt_1").mandate_id == sooner.mandate_id
    assert office.submit("nt_2").mandate_id == sooner.mandate_id
    assert office.submit("nt_3").mandate_id == "mn_0123456789ab", "the other has room yet"


def test_a_charge_that_is_rolled_back_with_its_order_costs_nothing(office: Any) -> None:
    mandate = office.issue()
    twice: dict[str, Any] = {
        "issuer": office.pinned,
        "client_order_id": "nt_1",
        "cents": 100_000,
        "now": office.now,
    }

    def write_an_order_that_exists() -> None:
        with office.store.unit() as unit:
            mandates.spend(unit.connection, mandate.mandate_id, **twice)
            mandates.spend(unit.connection, mandate.mandate_id, **twice)

    with pytest.raises(sqlite3.IntegrityError):
        write_an_order_that_exists()
    with office.store.read() as connection:
        assert mandates.spent_cents(connection, mandate, office.now) == 0


@pytest.mark.parametrize(
    "change",
    [
        {"per_order_cap_cents": 250_001},
        {"per_order_cap_cents": 0},
        {"per_order_cap_cents": 1.5},
        {"cumulative_cap_cents": 10**16},
        {"sides": ()},
        {"sides": ("sell", "buy")},
        {"symbols": ()},
        {"symbols": ("AAPL", "AAPL")},
        {"symbols": ("aapl",)},
        {"expires": datetime(2013, 3, 1, tzinfo=UTC)},
        {"not_before": datetime(2013, 3, 1)},  # noqa: DTZ001 - that is the point
        {"agent": "Research-Bot"},
        {"period": "year"},
    ],
)
def test_an_impossible_mandate_cannot_be_written(office: Any, change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        office.signed(**change)


def test_processes_at_once_cannot_overspend(office: Any, signer: SigningKey, tmp_path: Path) -> None:
    mandate: Mandate = office.issue(cumulative_cap_cents=100_000, per_order_cap_cents=250)
    signer.save(tmp_path / "log.key")
    vkey = office.pinned.vkey
    command = [sys.executable, str(SPENDER), str(office.store.path), str(tmp_path / "log.key"), vkey]
    processes = [
        subprocess.Popen(
            [*command, f"p{number}", "250"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for number in range(4)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    counts = [len(process.communicate(timeout=120)[0].split()) for process in processes]
    assert [process.returncode for process in processes] == [0] * 4
    assert sum(counts) == 100_000 // 250, "every one that fits, and no more"
    assert sum(1 for count in counts if count) >= 2, "they did compete"
    with office.store.read() as connection:
        assert mandates.spent_cents(connection, mandate, office.now) == sum(counts) * 250 <= 100_000
