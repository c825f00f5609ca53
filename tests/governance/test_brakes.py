"""Brakes: what stops trading outlives an editor of the database who holds no key."""

from collections.abc import Callable
from datetime import timedelta

from neural_trader_governance import halts, taints, throttles
from neural_trader_governance.halts import EVERYTHING, Scope
from neural_trader_governance.identity import Caller
from neural_trader_governance.store import Store
from neural_trader_governance.terms.clocks import SimulatedClock, to_epoch_us
from neural_trader_governance.untrusted.readings import Source

AGENT, PERSON = Caller("owner", "bot"), Caller("owner", "")
OpenStore = Callable[..., Store]


def edit(store: Store, *statements: str) -> None:
    """Does what somebody does who has the file and no key."""
    with store.unit() as unit:
        for statement in statements:
            unit.connection.execute(statement)
    store.close()


def standing(store: Store) -> tuple[list[str], bool, str]:
    with store.read() as connection:
        return (
            [str(each.scope) for each in halts.read_halts(connection)],
            throttles.read(connection, "bot").tripped,
            taints.standing(connection, principal="owner", agent="bot"),
        )


def brake(store: Store) -> None:
    with store.unit() as unit:
        halts.halt(unit, reason="all", caller=AGENT)
        halts.halt(unit, reason="one", caller=PERSON, scope=Scope("symbol", "AAPL"))
        throttles.trip(unit, caller=AGENT, reason="21 orders")
        taints.mark(unit, caller=AGENT, source=Source.AGENT, text="psst", tool="memory_search")


def test_brakes_deleted_from_a_desk_that_stands_still_are_there_when_it_opens(open_store: OpenStore) -> None:
    brake(store := open_store())
    edit(store, "DELETE FROM halts", "DELETE FROM throttles", "DELETE FROM taints")
    scopes, tripped, taint = standing(open_store())
    assert scopes == ["all", "symbol AAPL"]
    assert tripped
    assert taint.endswith(" via memory_search")


def test_brakes_edited_to_stop_something_else_stop_what_they_stopped(open_store: OpenStore) -> None:
    brake(store := open_store())
    edit(
        store,
        "UPDATE halts SET scope = 'symbol ZZZ' WHERE scope = 'all'",
        "UPDATE throttles SET tripped = 0",
        "UPDATE taints SET agent = 'other'",
    )
    scopes, tripped, taint = standing(open_store())
    assert "all" in scopes
    assert tripped
    assert taint


def test_what_a_person_released_stays_released(open_store: OpenStore, clock: SimulatedClock) -> None:
    brake(store := open_store())
    with store.unit() as unit:
        halts.resume(unit, caller=PERSON, scope=EVERYTHING)
        throttles.enable(unit, "bot", person=PERSON, reason="looked", now=clock.now())
        taints.clear(unit, person=PERSON, principal="owner", agent="bot", reason="looked")
    store.close()
    assert standing(open_store()) == (["symbol AAPL"], False, "")
    with (again := open_store()).unit() as unit:
        halts.halt(unit, reason="again", caller=AGENT)
    edit(again, "DELETE FROM halts")
    assert standing(open_store())[0] == ["symbol AAPL", "all"]


def test_repeats_are_forgiven_up_to_the_moment_that_the_log_tells_of(
    open_store: OpenStore, clock: SimulatedClock
) -> None:
    brake(store := open_store())
    with store.unit() as unit:
        throttles.enable(unit, "bot", person=PERSON, reason="looked", now=clock.now())
    later = to_epoch_us(clock.now() + timedelta(days=365))
    edit(store, f"UPDATE throttles SET enabled_us = {later}")  # noqa: S608 - ours
    with open_store().read() as connection:
        assert throttles.read(connection, "bot").enabled_us == to_epoch_us(clock.now())
