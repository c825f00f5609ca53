"""Principals: enrolled by the issuer's signature, and by nothing else."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from neural_trader_governance import principals
from neural_trader_governance.audit.entries import EntryType
from neural_trader_governance.errors import InputError, RiskError
from neural_trader_governance.identity import Caller
from neural_trader_governance.principals import Enrolment, Role
from neural_trader_governance.signing.keys import SigningKey
from neural_trader_governance.store import Store

NOW = datetime(2013, 3, 1, 15, tzinfo=UTC)
OWNER = Caller("owner", "")
ISSUER = SigningKey.generate("desk.example/issuer")
PIN = ISSUER.verifying_key

Enroll = Callable[..., Enrolment]


@pytest.fixture
def enroll(store: Store) -> Enroll:
    def one(
        name: str,
        *roles: Role,
        kind: principals.Kind = "person",
        key: SigningKey = ISSUER,
        vkey: str | None = None,
    ) -> Enrolment:
        with store.unit() as unit:
            document = principals.sign_enrolment(
                unit.connection, key, kind=kind, name=name, roles=frozenset(roles), time=NOW, vkey=vkey
            )
            principals.enroll(unit, document, issuer=PIN, caller=OWNER)
        return document

    return one


def roles(store: Store, name: str, kind: principals.Kind = "person") -> frozenset[Role]:
    with store.read() as connection:
        return principals.roles_of(connection, name, issuer=PIN, kind=kind)


def tamper(store: Store, sql: str, *values: object) -> None:
    with store.unit() as unit:
        assert unit.connection.execute(sql, values).rowcount == 1


def test_roles_are_what_the_newest_document_says_and_each_change_is_on_the_record(
    store: Store, enroll: Enroll
) -> None:
    enroll("alice", Role.TRADER, Role.READER)
    assert roles(store, "alice") == {Role.TRADER, Role.READER}
    enroll("alice", Role.READER)
    assert roles(store, "alice") == {Role.READER}
    assert enroll("alice").version == 3
    assert roles(store, "alice") == frozenset()
    enroll("alice", Role.TRADER)
    with store.read() as connection:
        assert principals.may_trade(connection, "alice", issuer=PIN)
        assert not principals.may_trade(connection, "bob", issuer=PIN)
        types = [row[0] for row in connection.execute("SELECT type FROM audit_entries ORDER BY seq")]
    enrolled, retired = EntryType.PRINCIPAL_ENROLL, EntryType.PRINCIPAL_RETIRE
    assert types == [enrolled, enrolled, retired, enrolled]


def test_a_person_and_an_agent_of_one_name_are_two(store: Store, enroll: Enroll) -> None:
    enroll("sam", Role.READER)
    enroll("sam", Role.TRADER, kind="agent")
    assert roles(store, "sam") == {Role.READER}
    assert roles(store, "sam", "agent") == {Role.TRADER}


@pytest.mark.parametrize("role", [Role.APPROVER, Role.ADMIN])
def test_an_agent_can_neither_approve_nor_administer(enroll: Enroll, role: Role) -> None:
    with pytest.raises(InputError, match="an agent can be reader, researcher or trader"):
        enroll("bot", role, kind="agent", vkey=ISSUER.vkey)


def test_an_agent_enrols_nobody(store: Store) -> None:
    with store.unit() as unit:
        document = principals.sign_enrolment(
            unit.connection, ISSUER, kind="agent", name="bot", roles=frozenset({Role.TRADER}), time=NOW
        )
        with pytest.raises(RiskError, match="person_required"):
            principals.enroll(unit, document, issuer=PIN, caller=Caller("owner", "bot"))


def test_what_another_key_signed_is_not_enrolled_even_if_it_has_the_issuers_name(
    store: Store, enroll: Enroll
) -> None:
    with pytest.raises(RiskError, match="signature_invalid"):
        enroll("mallory", Role.TRADER, key=SigningKey.generate(ISSUER.name))
    assert roles(store, "mallory") == frozenset()


def test_an_older_document_is_not_enrolled_again(store: Store, enroll: Enroll) -> None:
    first = enroll("alice", Role.TRADER)
    enroll("alice")
    with store.unit() as unit, pytest.raises(RiskError, match="enrolment_replayed"):
        principals.enroll(unit, first, issuer=PIN, caller=OWNER)


def test_one_key_is_one_approver(store: Store, enroll: Enroll) -> None:
    key = SigningKey.generate("desk.example/approver")
    enroll("alice", Role.APPROVER, vkey=key.vkey)
    renamed = SigningKey("desk.example/other", key._private)  # pyright: ignore[reportPrivateUsage]
    with pytest.raises(RiskError, match="approver_key_taken"):
        enroll("bob", Role.APPROVER, vkey=renamed.vkey)
    enroll("alice")
    enroll("bob", Role.APPROVER, vkey=renamed.vkey)
    with store.read() as connection:
        assert list(principals.approver_keys(connection, issuer=PIN)) == ["bob"]


def test_an_approver_without_a_key_and_a_key_without_an_approver_are_refused(enroll: Enroll) -> None:
    for granted, vkey in ((Role.APPROVER, None), (Role.READER, ISSUER.vkey)):
        with pytest.raises(InputError, match="needs the verifier key"):
            enroll("alice", granted, vkey=vkey)


@pytest.mark.parametrize("name", ["", 'a"b', "a\nb", "ünal", "x" * 81, "-a"])
def test_a_name_that_could_pass_for_another_is_refused(enroll: Enroll, name: str) -> None:
    with pytest.raises(InputError, match="invalid_enrolment"):
        enroll(name, Role.READER)


def test_a_row_that_was_edited_grants_nothing(store: Store, enroll: Enroll) -> None:
    reader = enroll("alice", Role.READER)
    trader = reader.model_copy(update={"roles": (Role.TRADER,)})
    for text in (
        trader.text(),
        trader.signed_by(SigningKey.generate(ISSUER.name)).text(),
        reader.text() + " ",
        reader.text().replace('"alice"', '"alicf"'),
        "{}",
        "",
    ):
        tamper(store, "UPDATE principals SET document = ? WHERE name = 'alice'", text)
        assert roles(store, "alice") == frozenset()
        with store.read() as connection:
            assert principals.unverified(connection, issuer=PIN) == ["person alice"]
    tamper(store, "UPDATE principals SET document = ? WHERE name = 'alice'", reader.text())
    assert roles(store, "alice") == {Role.READER}


def test_a_signed_row_under_another_name_or_kind_grants_nothing(store: Store, enroll: Enroll) -> None:
    enroll("alice", Role.TRADER)
    tamper(store, "UPDATE principals SET name = 'mallory' WHERE name = 'alice'")
    assert roles(store, "mallory") == frozenset()
    tamper(store, "UPDATE principals SET name = 'alice', kind = 'agent' WHERE name = 'mallory'")
    assert roles(store, "alice", "agent") == frozenset()


def test_an_older_row_that_was_put_back_grants_nothing(store: Store, enroll: Enroll) -> None:
    enroll("alice", Role.TRADER)
    with store.read() as connection:
        (old,) = connection.execute("SELECT * FROM principals").fetchall()
    enroll("alice")
    with store.read() as connection:
        newest = connection.execute("SELECT seq FROM principals").fetchone()[0]
    for seq in (old[4], newest, newest + 1, 10**6):
        tamper(store, "UPDATE principals SET version = ?, document = ?, seq = ?", *old[2:4], seq)
        assert roles(store, "alice") == frozenset(), seq


def test_a_signed_document_that_was_never_enrolled_grants_nothing(store: Store, enroll: Enroll) -> None:
    enroll("alice", Role.READER)
    with store.unit() as unit:
        unlogged = principals.sign_enrolment(
            unit.connection, ISSUER, kind="person", name="alice", roles=frozenset({Role.TRADER}), time=NOW
        )
    tamper(store, "UPDATE principals SET version = 2, document = ?", unlogged.text())
    assert roles(store, "alice") == frozenset()


def test_another_pinned_issuer_grants_nobody_anything(store: Store, enroll: Enroll) -> None:
    enroll("alice", Role.TRADER)
    other: Any = SigningKey.generate(ISSUER.name).verifying_key
    with store.read() as connection:
        assert principals.list_enrolments(connection, issuer=other) == []
        assert not principals.may_trade(connection, "alice", issuer=other)
