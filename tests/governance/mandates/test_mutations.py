"""Mandates under attack: every field changed, every signature replaced, every replay; none may pass.

A case is one attempt to have an order covered that the issuer's document does not cover. The number
of cases and of those accepted is printed (`pytest -s`); accepted must be none.
"""

import base64
import itertools
import json
import random
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from neural_trader_governance import mandates
from neural_trader_governance.errors import NeuralTraderError
from neural_trader_governance.mandate_register import Mandate, MandateRelease, issue, release_agent, revoke
from neural_trader_governance.signing.canonical import canonical_bytes
from neural_trader_governance.signing.keys import SigningKey

# What each field may be changed to: other values that are well-formed, wider, older, foreign, malformed.
CHANGES: dict[str, list[Any]] = {
    "v": [0, 2, "1", None, True],
    "issuer": ["other.example/issuer", "", "desk.example/issuer ", "DESK.example/issuer"],
    "mandate_id": ["mn_ffffffffffff", "mn_0123456789AB", "mn_0123456789abc", ""],
    "agent": ["other-bot", "Research-Bot", "research-bot ", "r\u0435search-bot", ""],
    "account": ["other", "Paper", "paper ", "p\u0430per"],
    "symbols": ["*", ["*"], [], ["AAPL", "BRK.B", "TSLA"], ["BRK.B", "AAPL"], ["AAPL"], ["AAPL", "AAPL"]],
    "sides": [["buy", "sell"], ["sell"], [], ["BUY"], ["buy", "buy"], "buy"],
    "per_order_cap_cents": [100_001, 250_000, 0, -1, 10**15, 10**15 + 1, 2**53, 2**63, 2**64, 1e5, "100000"],
    "cumulative_cap_cents": [250_001, 10**15, -1, 0, 2**53, 2**63 - 1, 2**63, 2**64, True, 250_000.0],
    "period": ["week", "month", "total", "year", "Day", ""],
    "not_before": ["2013-02-01T00:00:00Z", "1970-01-01T00:00:00Z", "2013-03-01T00:00:00", 0],
    "expires": ["2013-04-01T00:00:00Z", "9999-12-31T23:59:59Z", "2013-03-31T00:00:01Z", "2013-03-31", None],
    "nonce": ["f" * 32, "0" * 32, "0123456789ABCDEF0123456789ABCDEF", ""],
    "vkey": ["desk.example/issuer+00000000+AQ=="],
    "public_key": ["00" * 32],
    "alg": ["none"],
}
LOOKALIKES = [
    "aapl", "AAPl", "Aapl", "AAPL ", " AAPL", "AAPL\n", "AAPL\x00", "AAPL\u200b", "\u0410\u0410PL",
    "\uff21\uff21\uff30\uff2c",
    "AAPL.", "AAPL/", "AAP", "AAPLL", "BRK.A", "BRK-B", "BRK/B", "BRKB", "brk.b", "*", "%", "_APL",
    "AAPL,BRK.B",
    "", "^AAPL", "AAPL'--", "AAPL\u0301", "AAPL\u2024", "BRK\u2024B", "BRK\uff0eB",
]  # fmt: skip


class Tally:
    """Counts attempts, and those that got through."""

    def __init__(self) -> None:
        self.cases = 0
        self.accepted: list[str] = []

    def add(self, covered: bool, name: object) -> None:
        self.cases += 1
        if covered:
            self.accepted.append(repr(name)[:200])


@pytest.fixture(scope="session")
def total() -> Iterator[Tally]:
    tally = Tally()
    yield tally
    sys.stdout.write(f"\nmandates: {tally.cases:,} mutations and replays, {len(tally.accepted)} accepted\n")


def _covers(office: Any, connection: Any, **order: Any) -> bool:
    plain: dict[str, Any] = {
        "agent": office.agent,
        "account": "paper",
        "symbol": "AAPL",
        "side": "buy",
        "notional_cents": 100_000,
        "now": office.now,
    }
    try:
        return mandates.assess(connection, issuer=office.pinned, **{**plain, **order}).covers
    except NeuralTraderError:
        return False


def _documents(office: Any, genuine: Mandate) -> Iterator[tuple[str, str]]:
    """Yields changed rows: the document's text as an attacker with the database could write it."""
    plain = genuine.model_dump(mode="json")
    other = SigningKey.generate(office.key.name)  # of the same name, as a substituted key would be
    signed_by_other = genuine.signed_by(other).signature
    for name, values in CHANGES.items():
        for value in values:
            changed = {**plain, name: value}
            yield f"{name} changed", json.dumps(changed, sort_keys=True, separators=(",", ":"))
            yield f"{name} changed, other key", json.dumps({**changed, "signature": signed_by_other})
            with suppress(ValidationError):  # well-formed, and signed anew by a key that is not pinned
                yield f"{name} resigned", Mandate.model_validate(changed).signed_by(other).text()
    for one, two in itertools.combinations(CHANGES, 2):
        for first, second in itertools.product(CHANGES[one], CHANGES[two]):
            changed = {**plain, one: first, two: second}
            yield f"{one} and {two}", json.dumps(changed, sort_keys=True, separators=(",", ":"))
    chance = random.Random(4)  # noqa: S311 - a seeded choice of cases
    for _ in range(6_000):
        names = chance.sample(sorted(CHANGES), 3)
        changed = {**plain, **{name: chance.choice(CHANGES[name]) for name in names}}
        yield " and ".join(names), json.dumps(changed, sort_keys=True, separators=(",", ":"))
    signature = bytes.fromhex(genuine.signature)
    for bit in range(512):
        flipped = bytearray(signature)
        flipped[bit // 8] ^= 1 << bit % 8
        yield f"bit {bit}", json.dumps({**plain, "signature": flipped.hex()}, separators=(",", ":"))
        yield f"bit {bit}", canonical_bytes({**plain, "signature": flipped.hex()}).decode()
    # S + L is the same signature to a verifier that does not insist on its range (RFC 8032, 5.1.7).
    order = 2**252 + 27742317777372353535851937790883648493
    malleable = signature[:32] + (int.from_bytes(signature[32:], "little") + order).to_bytes(32, "little")
    for forged in (malleable.hex(), "0" * 128, signature.hex().upper(), base64.b64encode(signature).decode()):
        yield "forged signature", canonical_bytes({**plain, "signature": forged}).decode()
    text = genuine.text()
    yield "another spelling", " " + text
    yield "another order", json.dumps(plain)
    yield "a key twice", text.replace('{"account"', '{"account":"other","account"', 1)
    yield "a key twice, later", text[:-1] + ',"per_order_cap_cents":999999}'
    for position in range(len(text)):
        yield f"byte {position}", text[:position] + chr(ord(text[position]) ^ 1) + text[position + 1 :]
        yield f"cut at {position}", text[:position]


def test_no_changed_row_covers_an_order(office: Any, total: Tally) -> None:
    """The row under its own id is replaced; orders that the change would allow are asked for."""
    genuine = office.issue()
    with office.store.unit() as unit:
        connection = unit.connection
        assert _covers(office, connection), "the genuine row does cover: the attack is what fails"
        for name, text in _documents(office, genuine):
            connection.execute("UPDATE mandates SET document = ?", (text,))
            total.add(_covers(office, connection, notional_cents=1), name)
        connection.execute("UPDATE mandates SET document = ?", (genuine.text(),))
        assert _covers(office, connection), "and it covers again"
    assert total.cases >= 10_000
    assert total.accepted == []


def test_no_changed_document_can_be_issued(office: Any, issuer: SigningKey, total: Tally) -> None:
    genuine = office.signed()
    with office.store.unit() as unit:
        for name, text in _documents(office, genuine):
            try:
                document = Mandate.model_validate_json(text)
            except ValidationError:
                total.add(False, name)
                continue
            if document == genuine:
                continue  # another spelling of the same document is that document
            try:
                issue(unit, document, issuer=issuer.verifying_key, caller=office.person, now=office.now)
                total.add(True, name)
            except NeuralTraderError:
                total.add(False, name)
        assert unit.connection.execute("SELECT count(*) FROM mandates").fetchone()[0] == 0
    assert total.accepted == []


def test_a_copied_revoked_or_replayed_mandate_covers_nothing(office: Any, total: Tally) -> None:
    genuine = office.issue()
    others = [f"mn_{number:012x}" for number in range(100)]
    with office.store.unit() as unit:
        connection = unit.connection
        for other in others:  # its document under other ids, agents and columns
            connection.execute(
                "INSERT INTO mandates VALUES (?, ?, ?, ?, 1)", (other, "other-bot", other, genuine.text())
            )
            total.add(_covers(office, connection, agent="other-bot"), other)
        connection.execute("UPDATE mandates SET agent = 'other-bot'")
        total.add(_covers(office, connection, agent="other-bot"), "its agent column changed")
        connection.execute("DELETE FROM mandates WHERE mandate_id != ?", (genuine.mandate_id,))
        connection.execute("UPDATE mandates SET agent = 'research-bot'")
        assert _covers(office, connection)
        revoke(unit, genuine.mandate_id, caller=office.person, reason="it misbehaved")
    with office.store.unit() as unit:
        connection = unit.connection
        total.add(_covers(office, connection), "revoked")
        connection.execute("DELETE FROM mandate_revocations")
        total.add(_covers(office, connection), "its revocation deleted")
        for attempt in range(100):
            try:
                issue(unit, genuine, issuer=office.pinned, caller=office.person, now=office.now)
                total.add(True, attempt)
            except NeuralTraderError:
                total.add(False, attempt)
        connection.execute("DELETE FROM mandates")
        total.add(_covers(office, connection), "deleted, still bound by the log")
        try:
            issue(unit, genuine, issuer=office.pinned, caller=office.person, now=office.now)
            total.add(True, "issued again after its row was deleted")
        except NeuralTraderError:
            total.add(False, "issued again after its row was deleted")
        again = office.signed(mandate_id="mn_aaaaaaaaaaaa")  # the nonce of the revoked one
        try:
            issue(unit, again, issuer=office.pinned, caller=office.person, now=office.now)
            total.add(True, "its nonce again")
        except NeuralTraderError:
            total.add(False, "its nonce again")
    assert total.accepted == []


def test_no_release_but_the_issuers_own_sets_an_agent_free(office: Any, total: Tally) -> None:
    genuine = office.issue()
    other = SigningKey.generate(office.key.name)
    release = MandateRelease(agent="other-bot", mandate_ids=(genuine.mandate_id,)).signed_by(office.key)
    forged = MandateRelease(agent=office.agent, mandate_ids=(genuine.mandate_id,)).signed_by(other)
    beside = MandateRelease(agent=office.agent, mandate_ids=("mn_ffffffffffff",)).signed_by(office.key)
    moved = release.model_copy(update={"agent": office.agent})
    disguised = genuine.text()  # signed by the issuer, and no release
    with office.store.unit() as unit:
        for document in (forged, moved):
            try:
                release_agent(unit, document, issuer=office.pinned, caller=office.person)
                total.add(True, document)
            except NeuralTraderError:
                total.add(False, document)
        for text in (release.text(), forged.text(), beside.text(), moved.text(), disguised):
            unit.connection.execute(
                "INSERT OR REPLACE INTO mandate_releases VALUES (?, ?, 1)", (text, office.agent)
            )
            total.add(_covers(office, unit.connection, notional_cents=100_001), text)
    assert total.accepted == []


def test_no_order_beside_the_mandate_is_covered(office: Any, total: Tally) -> None:
    """Every symbol, account, side, agent, amount and moment around what was granted."""
    office.issue()
    chance = random.Random(5)  # noqa: S311 - a seeded choice of cases
    with office.store.read() as connection:
        for symbol in LOOKALIKES:
            total.add(_covers(office, connection, symbol=symbol), symbol)
        for value in CHANGES["account"]:
            total.add(_covers(office, connection, account=value), value)
        for value in ("sell", "BUY", "buy ", "", "short", "b"):
            total.add(_covers(office, connection, side=value), value)
        for value in ("Research-Bot", "research-bot ", "r\u0435search-bot", "research_bot", "research-bo"):
            total.add(_covers(office, connection, agent=value, required_for_all=True), value)
        amounts: list[Any] = [
            100_001,
            0,
            -1,
            -100_000,
            2**31,
            2**53,
            2**63,
            2**64,
            10**30,
            True,
            1.0,
            "1",
            None,
        ]
        amounts += [100_000 + chance.randrange(1, 10**14) for _ in range(2_000)]
        amounts += [-chance.randrange(1, 10**14) for _ in range(500)]
        for value in amounts:
            total.add(_covers(office, connection, notional_cents=value), value)
        begin, end = datetime(2013, 3, 1, tzinfo=UTC), datetime(2013, 3, 31, tzinfo=UTC)
        moments = [begin - timedelta(microseconds=1), end, end + timedelta(microseconds=1)]
        moments += [begin - timedelta(seconds=chance.randrange(1, 10**9)) for _ in range(1_000)]
        moments += [end + timedelta(seconds=chance.randrange(0, 10**10)) for _ in range(1_000)]
        for moment in moments:
            total.add(_covers(office, connection, now=moment), moment)
    assert total.accepted == []


def test_no_sequence_of_orders_spends_more_than_the_cap(office: Any, total: Tally) -> None:
    """Random orders up to the cap, through a period's end; what does not fit is refused by both ways."""
    mandate = office.issue(per_order_cap_cents=250_000)
    chance = random.Random(6)  # noqa: S311 - a seeded choice of cases
    key: dict[str, Any] = {"issuer": office.pinned}
    spent: dict[str, int] = {}
    with office.store.unit() as unit:
        connection = unit.connection
        for number in range(4_000):
            now = office.now + timedelta(hours=number // 170)
            day = mandates.period_of("day", now)
            cents = chance.choice([1, 5_000, 60_000, 250_000, chance.randrange(1, 250_001)])
            fits = spent.get(day, 0) + cents <= mandate.cumulative_cap_cents
            covered = _covers(office, connection, notional_cents=cents, now=now)
            try:
                order: dict[str, Any] = {"client_order_id": f"nt_{number}", "cents": cents, "now": now}
                mandates.spend(connection, mandate.mandate_id, **key, **order)
                spent[day] = spent.get(day, 0) + cents
                through = True
            except NeuralTraderError:
                through = False
            assert covered == fits == through, "what fits is covered: the refusals are not blind"
            if not fits:
                total.add(covered or through, number)
    assert max(spent.values()) <= mandate.cumulative_cap_cents
    assert len(spent) >= 2
    assert total.accepted == []
