"""API keys: 256 bits, kept as a hash that the issuer signed, and gone the moment they are revoked."""

import base64
from datetime import UTC, datetime, timedelta

import pytest

from neural_trader_governance import apikeys, principals
from neural_trader_governance.audit.entries import EntryType
from neural_trader_governance.errors import InputError, RiskError
from neural_trader_governance.identity import Caller
from neural_trader_governance.principals import Kind, Role
from neural_trader_governance.signing.keys import SigningKey
from neural_trader_governance.store import Store

NOW = datetime(2013, 3, 1, 15, tzinfo=UTC)
LATER = NOW + timedelta(days=90)
OWNER = Caller("owner", "")
ISSUER = SigningKey.generate("desk.example/issuer")
PIN = ISSUER.verifying_key


def enroll(store: Store, name: str, kind: Kind) -> None:
    with store.unit() as unit:
        document = principals.sign_enrolment(
            unit.connection, ISSUER, kind=kind, name=name, roles=frozenset({Role.TRADER}), time=NOW
        )
        principals.enroll(unit, document, issuer=PIN, caller=OWNER)


def issue(store: Store, agent: str = "bot", principal: str = "owner") -> tuple[apikeys.KeyGrant, str]:
    with store.unit() as unit:
        return apikeys.issue(
            unit, ISSUER, caller=OWNER, principal=principal, agent=agent, now=NOW, expires=LATER
        )


@pytest.fixture
def people(store: Store) -> Store:
    enroll(store, "owner", "person")
    enroll(store, "bot", "agent")
    return store


def opens(store: Store, token: str, now: datetime = NOW) -> Caller | None:
    with store.read() as connection:
        return apikeys.authenticate(connection, token, issuer=PIN, now=now)


def test_a_key_speaks_for_its_principal_and_agent_until_it_ends(people: Store) -> None:
    _, token = issue(people)
    assert opens(people, token) == Caller("owner", "bot")
    assert opens(people, token, LATER - timedelta(microseconds=1)) == Caller("owner", "bot")
    assert opens(people, token, LATER) is None


def test_a_token_has_256_random_bits_and_the_desk_keeps_only_its_hash(people: Store) -> None:
    tokens = [issue(people)[1] for _ in range(3)]
    secrets = {base64.urlsafe_b64decode(token.split("_", 2)[2] + "=") for token in tokens}
    assert {len(secret) for secret in secrets} == {32}
    assert len(secrets) == 3
    with people.read() as connection:
        dump = "\n".join(connection.iterdump())
    for token in tokens:
        assert token.split("_", 2)[1] in dump
        assert token.split("_", 2)[2] not in dump


@pytest.mark.parametrize("token", ["", "ntk_", "Bearer", "ntk_000000000000_" + "A" * 43, "ü" * 60, "\ud800"])
def test_what_was_never_issued_opens_nothing(people: Store, token: str) -> None:
    _, real = issue(people)
    assert opens(people, token) is None
    assert opens(people, real + "A") is None
    assert opens(people, real[:-1] + ("A" if real[-1] != "A" else "B")) is None
    assert opens(people, real.upper()) is None


def test_a_revoked_key_is_shut_at_once_and_stays_so_when_the_row_is_deleted(people: Store) -> None:
    grant, token = issue(people)
    _, other = issue(people)
    with people.unit() as unit:
        apikeys.revoke(unit, grant.key_id, caller=OWNER, reason="it leaked")
    assert opens(people, token) is None
    assert opens(people, other) is not None
    with people.unit() as unit:
        unit.connection.execute("DELETE FROM api_key_revocations")
    assert opens(people, token) is None


def test_a_row_that_was_edited_opens_nothing(people: Store) -> None:
    grant, token = issue(people)
    forger = SigningKey.generate(ISSUER.name)
    _, mine = apikeys.new_token()
    stolen = grant.model_copy(update={"agent": "other", "expires": LATER + timedelta(days=900)})
    for text in (stolen.text(), stolen.signed_by(forger).text(), grant.text() + "\n", "null"):
        with people.unit() as unit:
            unit.connection.execute("UPDATE api_keys SET document = ?", (text,))
        assert opens(people, token) is None
        assert opens(people, mine) is None
    with people.unit() as unit:
        unit.connection.execute("UPDATE api_keys SET document = ?", (grant.text(),))
        unit.connection.execute("UPDATE api_keys SET key_id = ?", (mine.split("_")[1],))
    assert opens(people, mine) is None, "a grant is for the key id that was signed"
    assert opens(people, token) is None


def test_only_a_person_issues_and_revokes_and_only_for_who_is_enrolled(people: Store) -> None:
    grant, _ = issue(people)
    agent = Caller("owner", "bot")
    with people.unit() as unit:
        with pytest.raises(RiskError, match="person_required"):
            apikeys.issue(unit, ISSUER, caller=agent, principal="owner", agent="bot", now=NOW, expires=LATER)
        with pytest.raises(RiskError, match="person_required"):
            apikeys.revoke(unit, grant.key_id, caller=agent, reason="x")
        with pytest.raises(InputError, match="unknown_key"):
            apikeys.revoke(unit, "0" * 12, caller=OWNER, reason="x")
    for strangers in ({"agent": "stranger"}, {"principal": "stranger"}):
        with pytest.raises(RiskError, match="not_enrolled"):
            issue(people, **strangers)


def test_the_door_stays_shut_once_a_key_was_issued(people: Store) -> None:
    with people.read() as connection:
        assert not apikeys.was_any_issued(connection)
    grant, _ = issue(people)
    with people.unit() as unit:
        apikeys.revoke(unit, grant.key_id, caller=OWNER, reason="the last one")
        unit.connection.execute("DELETE FROM api_keys")
    with people.read() as connection:
        assert apikeys.was_any_issued(connection)
        types = [row[0] for row in connection.execute("SELECT type FROM audit_entries ORDER BY seq")]
    assert types[-2:] == [EntryType.APIKEY_ISSUE, EntryType.APIKEY_REVOKE]
