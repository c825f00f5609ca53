"""Halts: each stops its scope and nothing else, and only a person releases it."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neural_trader_governance import halts
from neural_trader_governance.errors import InputError, RiskError
from neural_trader_governance.halts import EVERYTHING, Halt, Scope
from neural_trader_governance.identity import Caller
from neural_trader_governance.store import Store

AGENT, PERSON = Caller("owner", "bot"), Caller("owner", "")
ORDER: Mapping[str, str] = {"account": "paper", "symbol": "AAPL", "strategy_id": "5f3a", "agent": "bot"}
OTHER: Mapping[str, str] = {"account": "second", "symbol": "MSFT", "strategy_id": "77aa", "agent": "bat"}
ARGUMENTS = ("account", "symbol", "strategy_id", "agent")


def covering(store: Store, order: Mapping[str, str | None]) -> Halt | None:
    with store.read() as connection:
        return halts.covering_halt(connection, **order)  # pyright: ignore[reportArgumentType]  # by name


def halt(store: Store, scope: Scope, reason: str = "drill") -> Halt:
    with store.unit() as unit:
        return halts.halt(unit, reason=reason, caller=AGENT, scope=scope)


@pytest.mark.parametrize("argument", ARGUMENTS)
def test_a_scoped_halt_stops_every_order_that_it_names_and_no_other(store: Store, argument: str) -> None:
    scope = Scope.choose(**{argument: ORDER[argument]})
    halt(store, scope)
    found = covering(store, ORDER)
    assert found is not None
    assert (found.scope, found.reason) == (scope, "drill")
    assert covering(store, {**OTHER, argument: ORDER[argument]}) is not None
    assert covering(store, {**ORDER, argument: OTHER[argument]}) is None
    with store.read() as connection:
        assert halts.read_halt(connection) is None, "not everything stands still"
    with store.unit() as unit:
        halts.resume(unit, caller=PERSON, scope=scope)
    assert covering(store, ORDER) is None


def test_a_halt_on_everything_covers_orders_without_a_strategy_too(store: Store) -> None:
    halt(store, Scope(kind="strategy", name="5f3a"))
    without: dict[str, str | None] = {**ORDER, "strategy_id": None}
    assert covering(store, without) is None
    halt(store, EVERYTHING)
    assert covering(store, without) is not None


def test_halts_stand_side_by_side_and_each_is_released_by_itself(store: Store) -> None:
    first = halt(store, Scope("symbol", "AAPL"))
    halt(store, Scope("agent", "bot"), "loops")
    again = halt(store, Scope("symbol", "AAPL"), "another reason")
    assert again == first
    with store.unit() as unit:
        assert [str(each.scope) for each in halts.read_halts(unit.connection)] == ["symbol AAPL", "agent bot"]
        halts.resume(unit, caller=PERSON, scope=Scope("symbol", "AAPL"))
    still = covering(store, ORDER)
    assert still is not None
    assert str(still.scope) == "agent bot"


def test_resume_names_what_is_halted_where_nothing_of_that_scope_is(store: Store) -> None:
    halt(store, Scope("symbol", "AAPL"))
    with store.unit() as unit, pytest.raises(RiskError) as caught:
        halts.resume(unit, caller=PERSON)
    assert caught.value.code == "not_halted"
    assert "symbol AAPL" in caught.value.next_step


def test_an_agent_releases_no_scope(store: Store) -> None:
    halt(store, Scope("symbol", "AAPL"))
    with store.unit() as unit, pytest.raises(RiskError, match="person_required"):
        halts.resume(unit, caller=AGENT, scope=Scope("symbol", "AAPL"))


def test_a_row_whose_scope_nobody_can_read_stops_everything(store: Store) -> None:
    halt(store, Scope("symbol", "AAPL"))
    with store.unit() as unit:
        unit.connection.execute("UPDATE halts SET scope = 'desk of evil'")
    assert covering(store, OTHER) is not None


@pytest.mark.parametrize(
    "named", [{"symbol": "aapl; DROP"}, {"account": ""}, {"agent": "a b"}, {"strategy_id": "x" * 81}]
)
def test_a_scope_that_no_order_can_have_is_refused(named: dict[str, str]) -> None:
    with pytest.raises(InputError, match="invalid_scope"):
        Scope.choose(**named)


def test_two_scopes_at_once_are_refused_because_either_or_both_could_be_meant() -> None:
    with pytest.raises(InputError, match="account and symbol are named at once"):
        Scope.choose(account="paper", symbol="AAPL")


def test_a_symbol_is_halted_however_it_is_typed() -> None:
    assert Scope.choose(symbol=" aapl ") == Scope("symbol", "AAPL")


@given(
    st.sampled_from(["account", "strategy", "agent"]),
    st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=80),
)
def test_a_scope_is_read_back_as_it_was_written(kind: halts.ScopeKind, name: str) -> None:
    assert Scope.parse(str(Scope(kind, name))) == Scope(kind, name)


def test_a_halt_holds_however_its_name_is_spelled_or_cut(store: Store) -> None:
    digest = "5f3a" * 16
    for names, order in (
        ({"agent": " BOT "}, ORDER),
        ({"account": "Paper"}, ORDER),
        ({"strategy_id": digest[:12]}, {**ORDER, "strategy_id": digest}),
        ({"strategy_id": digest}, {**ORDER, "strategy_id": digest[:12]}),
        ({"strategy_id": digest.upper()}, {**ORDER, "strategy_id": digest}),
        ({"strategy_id": digest}, {**ORDER, "strategy_id": digest.upper()}),
    ):
        scope = Scope.choose(**names)
        halt(store, scope)
        assert covering(store, order) is not None, names
        with store.unit() as unit:
            halts.resume(unit, caller=PERSON, scope=Scope.choose(**names))
        assert covering(store, order) is None
    halt(store, Scope.choose(strategy_id="5f3a"))
    assert covering(store, {**ORDER, "strategy_id": digest}) is None, "four digits are a name of their own"


def test_a_halt_is_never_refused_for_its_words_and_shows_what_they_hold(store: Store) -> None:
    standing = halt(store, EVERYTHING, "loops\n\x1b[2Jall is \u202ewell")
    assert standing.reason == "loops \\x1b[2Jall is \\u202ewell"


def alerts_of_halts(store: Store) -> int:
    with store.read() as connection:
        return int(connection.execute("SELECT COUNT(*) FROM alerts WHERE kind = 'halt'").fetchone()[0])


def test_an_agent_that_halts_for_ever_buries_neither_alerts_nor_whoever_must_resume(store: Store) -> None:
    for _ in range(200):
        halt(store, EVERYTHING)
    assert alerts_of_halts(store) == 1
    with store.unit() as unit:
        halts.halt(unit, reason="a person says so too", caller=PERSON)
    assert alerts_of_halts(store) == 2, "a person is always heard"
    with store.unit() as unit:
        halts.resume(unit, caller=PERSON)
    halt(store, EVERYTHING)
    assert alerts_of_halts(store) == 3, "after a release it is news again"
    with store.unit() as unit:
        halts.resume(unit, caller=PERSON)
    for number in range(2 * halts.AGENTS_HALTS_MAX):
        halt(store, Scope("strategy", f"s{number}"))
    with store.read() as connection:
        standing = halts.read_halts(connection)
        assert len(standing) == halts.AGENTS_HALTS_MAX + 1
        assert halts.read_halt(connection) is not None
    with store.unit() as unit:
        person = halts.halt(unit, reason="one more", caller=PERSON, scope=Scope("symbol", "AAPL"))
    assert str(person.scope) == "symbol AAPL"
