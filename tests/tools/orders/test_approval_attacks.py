"""Attacks on approvals and previews: at least 10,000 replays, mutations and forgeries, none accepted.

The first test holds each attack against the count that the desk acts on; the others hold rows that
were edited by hand against a whole desk. Every test begins or ends with the honest case, which passes.
"""

import random
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from neural_trader_governance import approvals, overrides
from neural_trader_governance.approvals import Approval, sign_approval
from neural_trader_governance.errors import NeuralTraderError, RiskError
from neural_trader_governance.identity import Caller
from neural_trader_governance.overrides import Override
from neural_trader_governance.principals import Role
from neural_trader_governance.signing.keys import SigningKey
from neural_trader_governance.terms.orders import OrderIntent, OrderState
from neural_trader_tools.orders.desk import Desk
from neural_trader_tools.orders.previews import Preview

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
CASES_MIN = 10_000
ED25519_ORDER = 2**252 + 27742317777372353535851937790883648493

Build = Callable[..., OrderIntent]


class Office:
    """Two approvers, their keys, and what they signed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)  # noqa: S311 - a test's choices, no secret
        self.keys = {name: SigningKey.generate(f"desk.example/{name}") for name in ("alice", "bob")}
        self.pins = {name: key.verifying_key for name, key in self.keys.items()}

    def hex(self, digits: int) -> str:
        return f"{self.random.getrandbits(digits * 4):0{digits}x}"

    def terms(self) -> dict[str, Any]:
        """What an order is when it is submitted."""
        return {
            "preview_id": f"pv_{self.hex(12)}",
            "intent_hash": self.hex(64),
            "principal": f"person-{self.hex(6)}",
            "policy_digest": self.hex(64),
            "price": Decimal(self.random.randint(100, 10_000_000)) / 100,
            "now": NOW + timedelta(seconds=self.random.randint(0, 10**6)),
        }

    def sign(self, terms: dict[str, Any], approver: str = "alice", key: SigningKey | None = None) -> Approval:
        price, now = terms["price"], terms["now"]
        return sign_approval(
            key or self.keys[approver],
            preview_id=terms["preview_id"],
            intent_hash=terms["intent_hash"],
            principal=terms["principal"],
            policy_digest=terms["policy_digest"],
            price_low=price * Decimal("0.95"),
            price_high=price * Decimal("1.05"),
            expires_at=now + timedelta(seconds=self.random.randint(1, 900)),
            nonce=self.hex(32),
        )

    def count(self, signed: dict[str, Approval], terms: dict[str, Any], pins: Any = None) -> int:
        keys = self.pins if pins is None else pins
        return approvals.count(signed, keys=keys, **terms).count


def attacks(office: Office) -> Generator[tuple[dict[str, Approval], dict[str, Any], Any]]:
    """Yields (approvals by name, the order, approvers' keys), none of which may count."""
    terms, other = office.terms(), office.terms()
    signed, elsewhere = office.sign(terms), office.sign(other)
    fields: dict[str, Any] = {
        "preview_id": other["preview_id"],
        "intent_hash": other["intent_hash"],
        "principal": other["principal"],
        "policy_digest": other["policy_digest"],
        "price_low": Decimal(0),
        "price_high": Decimal(10) ** 9,
        "expires_at": signed.expires_at + timedelta(microseconds=office.random.randint(1, 10**12)),
        "nonce": office.hex(32),
        "approver": office.keys["bob"].name,
        "signature": office.hex(128),
    }
    for name, value in fields.items():  # edited after signing, and offered for what it now says
        forged = signed.model_copy(update={name: value})
        yield {"alice": forged}, terms, None
        if name in terms:
            yield {"alice": forged}, {**terms, name: value}, None
    signature = bytearray.fromhex(signed.signature)
    for bit in office.random.sample(range(512), 20):
        flipped = bytearray(signature)
        flipped[bit // 8] ^= 1 << bit % 8
        yield {"alice": signed.model_copy(update={"signature": flipped.hex()})}, terms, None
    second = int.from_bytes(signature[32:], "little") + ED25519_ORDER  # the malleable twin
    if second < 2**256:
        twin = bytes(signature[:32]) + second.to_bytes(32, "little")
        yield {"alice": signed.model_copy(update={"signature": twin.hex()})}, terms, None
    yield {"alice": elsewhere}, terms, None  # another order's
    for name in ("preview_id", "intent_hash", "principal", "policy_digest"):  # moved, field by field
        yield {"alice": signed}, {**terms, name: other[name]}, None
        yield {"alice": elsewhere.model_copy(update={name: terms[name]})}, terms, None
    for price in (signed.price_low - Decimal("0.0001"), signed.price_high + Decimal("0.0001"), Decimal(0)):
        yield {"alice": signed}, {**terms, "price": price}, None
    for late in (0, 1, office.random.randint(1, 10**15)):
        yield {"alice": signed}, {**terms, "now": signed.expires_at + timedelta(microseconds=late)}, None
    yield {"bob": signed}, terms, None  # under another approver's name
    yield {"carol": signed}, terms, None  # under a stranger's
    yield {"alice": signed}, terms, {"bob": office.pins["bob"]}  # she was retired
    stranger = SigningKey.generate(office.keys["alice"].name)
    yield {"alice": office.sign(terms, key=stranger)}, terms, None  # her key's name, another key
    yield {"alice": office.sign(terms, "bob")}, terms, None  # bob's key in her name
    yield {"alice": signed}, terms, {"alice": stranger.verifying_key}  # she has a new key


def test_of_ten_thousand_attacks_on_an_approval_none_counts(capsys: pytest.CaptureFixture[str]) -> None:
    office, cases, accepted = Office(20261122), 0, 0
    while cases < CASES_MIN:
        terms = office.terms()
        honest = {"alice": office.sign(terms), "bob": office.sign(terms, "bob")}
        assert office.count(honest, terms) == 2, "the honest case counts, or the attacks prove nothing"
        for signed, order, pins in attacks(office):
            cases += 1
            accepted += office.count(signed, order, pins)
    with capsys.disabled():
        sys.stdout.write(f"\nattacks on approvals: {cases:,} cases, {accepted} accepted\n")
    assert accepted == 0


def test_one_person_counts_once_and_the_principal_is_not_independent() -> None:
    office = Office(1)
    terms: dict[str, Any] = {**office.terms(), "principal": "alice"}
    both = {"alice": office.sign(terms), "bob": office.sign(terms, "bob")}
    counted = approvals.count(both, keys=office.pins, **terms)
    assert (counted.count, counted.independent) == (2, 1)
    twice = {"alice": both["alice"], "bob": both["alice"]}
    pins = {"alice": office.pins["alice"], "bob": office.pins["alice"]}  # one key under two names
    assert approvals.count(twice, keys=pins, **terms).count == 1


class Attacker:
    """Has the database file, and tries to get one order through."""

    def __init__(self, floor: Any, desk: Desk) -> None:
        self.floor, self.desk = floor, desk
        self.cases = 0

    @contextmanager
    def edited(self, sql: str, *values: object) -> Generator[None]:
        """Edits rows, and puts the tables back afterwards."""
        tables = ("previews", "preview_approvals", "principals", "orders")
        with self.floor.store.unit() as unit:
            before = {name: unit.connection.execute(f"SELECT * FROM {name}").fetchall() for name in tables}  # noqa: S608 - our own names
            unit.connection.execute(sql, values)
        try:
            yield
        finally:
            with self.floor.store.unit() as unit:
                unit.connection.execute("PRAGMA defer_foreign_keys = ON")
                for name in reversed(tables):
                    unit.connection.execute(f"DELETE FROM {name}")  # noqa: S608 - see above
                for name, rows in before.items():
                    for row in rows:
                        marks = ", ".join("?" * len(row))
                        unit.connection.execute(f"INSERT INTO {name} VALUES ({marks})", row)  # noqa: S608 - see above

    async def refused(self, preview: Preview, caller: Caller | None = None) -> str:
        """Submits, and returns the code of the refusal that there must be."""
        self.cases += 1
        try:
            submission = await self.desk.submit(preview.preview_id, caller or self.floor.agent)
        except NeuralTraderError as error:
            return error.code
        pytest.fail(f"accepted: {submission.order}")

    async def orders(self) -> int:
        return len(await self.desk.orders(limit=1000))


@pytest.mark.anyio
async def test_rows_that_were_edited_by_hand_do_not_stand_for_a_signature(
    floor: Any, intent: Build, capsys: pytest.CaptureFixture[str]
) -> None:
    attacker = Attacker(floor, desk := floor.desk())
    waiting = await desk.preview(intent(quantity="30"), floor.agent)
    small = await desk.preview(intent(quantity="2"), floor.agent)
    signed = await desk.preview(intent(quantity="31"), floor.agent)
    approval = floor.inbox.approve(signed.preview_id, key=floor.key, person=floor.person).approval
    assert small.verdict.decision == "allow"
    far = "2099-01-01T00:00:00Z"
    wanted = ("UPDATE previews SET {} WHERE preview_id = ?", waiting.preview_id)
    for change in (
        "state = 'approved'", "state = 'previewed'", "price = '0.01', notional = '0.30'",
        f"expires_time = '{far}'", f"state = 'approved', expires_time = '{far}'",
        "verdict = (SELECT verdict FROM previews WHERE state = 'previewed')",
    ):  # fmt: skip
        with attacker.edited(wanted[0].format(change), wanted[1]):
            assert await attacker.refused(waiting) == "approval_required", change
    for change in ("state = 'rejected'", "expires_time = '2020-01-01T00:00:00Z'"):
        with attacker.edited(wanted[0].format(change), wanted[1]):
            assert await attacker.refused(waiting) in {"preview_rejected", "preview_expired"}
    # The signed preview's own approval, carried to the one that waits, or the order changed beneath it.
    forger = SigningKey.generate(floor.key.name)
    stolen = sign_approval(
        forger,
        preview_id=waiting.preview_id,
        intent_hash=waiting.intent_hash,
        principal=waiting.caller.principal,
        policy_digest=approval.policy_digest,
        price_low=Decimal(0),
        price_high=Decimal(10**6),
        expires_at=approval.expires_at,
        nonce="ab" * 16,
    )
    for text in (
        approval.model_dump_json(),
        approval.model_copy(
            update={"preview_id": waiting.preview_id, "intent_hash": waiting.intent_hash}
        ).model_dump_json(),
        stolen.model_dump_json(),
        "{}",
        "null",
        "",
    ):
        for name in ("approver", "test", "owner", "agent-1", ""):
            insert = "INSERT INTO preview_approvals VALUES (?, ?, ?, ?)"
            with attacker.edited(insert, waiting.preview_id, name, "n" * 32, text):
                code = await attacker.refused(waiting)
            assert code.startswith(("approv", "preview")), code
    large = intent(quantity="90").model_dump_json()
    for change, value in (
        ("intent = ?", large), ("agent = ?", "agent-2"), ("principal = ?", "approver"),
        ("intent_hash = ?", waiting.intent_hash),
        ("intent = (SELECT intent FROM previews WHERE preview_id = ?)", waiting.preview_id),
    ):  # fmt: skip
        with attacker.edited(f"UPDATE previews SET {change} WHERE preview_id = ?", value, signed.preview_id):  # noqa: S608 - ours
            await attacker.refused(signed)
    # The approver's enrolment, edited to name the forger's key.
    swap = "UPDATE principals SET document = replace(document, ?, ?) WHERE name = 'approver'"
    with attacker.edited(swap, floor.key.vkey, forger.vkey):
        await attacker.refused(waiting)
        assert await attacker.refused(signed) == "approver_not_enrolled"
    # Every third byte of the stored approval, another one.
    text = approval.model_dump_json()
    for place in range(0, len(text), 3):
        other = text[:place] + chr(ord(text[place]) ^ 1) + text[place + 1 :]
        with attacker.edited("UPDATE preview_approvals SET approval = ?", other):
            assert (await attacker.refused(signed)).startswith("approv")
    for caller in (Caller("test", "agent-2"), Caller("approver", "agent-1"), Caller("approver", "")):
        assert await attacker.refused(signed, caller) == "preview_not_yours"
    assert await attacker.orders() == 0
    with capsys.disabled():
        sys.stdout.write(f"\nattacks on a desk's rows: {attacker.cases} cases, 0 accepted\n")
    assert (await desk.submit(signed.preview_id, floor.agent)).order.state == OrderState.FILLED


@pytest.mark.anyio
async def test_an_approval_is_spent_once_whatever_is_put_back_in_the_database(
    floor: Any, intent: Build
) -> None:
    attacker = Attacker(floor, desk := floor.desk())
    preview = await desk.preview(intent(quantity="30"), floor.agent)
    floor.inbox.approve(preview.preview_id, key=floor.key, person=floor.person)
    await desk.submit(preview.preview_id, floor.agent)
    assert await attacker.refused(preview) == "preview_used"
    floor.clock.advance(timedelta(minutes=1))  # or it would be refused as a duplicate already
    with attacker.edited("UPDATE previews SET client_order_id = NULL, state = 'approved'"):
        assert await attacker.refused(preview) == "preview_used"
        with attacker.edited("DELETE FROM orders"):
            assert await attacker.refused(preview) == "preview_used", "the log remembers"
    assert await attacker.orders() == 1


@pytest.mark.anyio
async def test_an_approval_ends_with_its_approvers_role_and_with_its_time(floor: Any, intent: Build) -> None:
    attacker = Attacker(floor, desk := floor.desk())
    preview = await desk.preview(intent(quantity="30"), floor.agent)
    floor.inbox.approve(preview.preview_id, key=floor.key, person=floor.person)
    floor.enroll(floor.person.principal, Role.READER)
    assert await attacker.refused(preview) == "approver_not_enrolled"
    floor.enroll(floor.person.principal, Role.APPROVER, key=SigningKey.generate("approver"))
    assert await attacker.refused(preview) == "approval_signature_invalid"
    floor.enroll(floor.person.principal, Role.APPROVER, key=floor.key)
    floor.clock.advance(timedelta(minutes=15))
    with attacker.edited("UPDATE previews SET expires_time = '2099-01-01T00:00:00Z'"):
        assert await attacker.refused(preview) == "approval_expired"


@pytest.mark.anyio
async def test_an_agent_approves_nothing_even_with_the_approvers_key(floor: Any, intent: Build) -> None:
    preview = await floor.desk().preview(intent(quantity="30"), floor.agent)
    for caller in (floor.agent, Caller(floor.person.principal, "agent-1")):
        with pytest.raises(RiskError, match="person_required"):
            floor.inbox.approve(preview.preview_id, key=floor.key, person=caller)
    with pytest.raises(RiskError, match="not_an_approver"):
        floor.inbox.approve(preview.preview_id, key=floor.key, person=Caller("test", ""))


@pytest.mark.anyio
async def test_a_large_order_waits_until_two_persons_signed_one_of_them_independent(
    make_floor: Callable[..., Any], intent: Build
) -> None:
    floor = make_floor(None)
    desk = floor.desk()
    owner_key, second = SigningKey.generate("owner-key"), SigningKey.generate("second-key")
    floor.enroll(floor.agent.principal, Role.TRADER, Role.APPROVER, key=owner_key)
    floor.enroll("second", Role.APPROVER, key=second)
    lifted = Override(
        rules=("max_notional",),
        agent=floor.agent.agent,
        account="paper",
        symbol="AAPL",
        not_before=NOW,
        expires=NOW + timedelta(hours=1),
        reason="a large order, with two signatures",
    ).signed_by(floor.issuer)
    with floor.store.unit() as unit:
        pin, named = floor.issuer.verifying_key, ["max_notional"]
        overrides.grant(unit, lifted, issuer=pin, overridable=named, caller=floor.person, now=NOW)
    preview = await desk.preview(intent(quantity="130"), floor.agent)
    assert preview.verdict.decision == "needs_approval", preview.verdict
    assert floor.inbox.missing(preview) == 2
    owner = Caller(floor.agent.principal, "")
    assert floor.inbox.approve(preview.preview_id, key=owner_key, person=owner).missing == 1
    assert floor.inbox.approve(preview.preview_id, key=owner_key, person=owner).missing == 1, "counts once"
    assert [waiting.state for waiting in floor.inbox.pending()] == [OrderState.AWAITING_APPROVAL]
    with pytest.raises(RiskError, match="approval_required"):
        await desk.submit(preview.preview_id, floor.agent)
    assert floor.inbox.approve(preview.preview_id, key=second, person=Caller("second", "")).missing == 0
    assert floor.inbox.pending() == []
    assert (await desk.submit(preview.preview_id, floor.agent)).order.state == OrderState.FILLED


@pytest.mark.anyio
async def test_an_approval_that_was_signed_elsewhere_is_taken_and_checked_like_one_signed_here(
    floor: Any, intent: Build
) -> None:
    desk = floor.desk()
    preview = await desk.preview(intent(quantity="30"), floor.agent)
    draft = floor.inbox.draft(preview.preview_id, person=floor.person)
    draft.require_whole()
    for change in (
        {"intent": intent(quantity="1")},
        {"notional": Decimal("12.90")},
        {"notional": Decimal(10**6)},
    ):
        with pytest.raises(RiskError, match="draft_altered"):
            draft.model_copy(update=change).require_whole()
    stranger = SigningKey.generate(floor.key.name)
    later = {"expires_at": draft.approval.expires_at + timedelta(days=1)}
    for approval, code in (
        (draft.approval, "approver_key_mismatch"),  # nobody signed it
        (draft.approval.signed_by(stranger), "approver_key_mismatch"),
        (draft.approval.model_copy(update=later).signed_by(floor.key), "approval_too_long"),
    ):
        with pytest.raises(RiskError, match=code):
            floor.inbox.accept(approval, person=floor.person)
    with pytest.raises(RiskError, match="person_required"):
        floor.inbox.accept(draft.approval.signed_by(floor.key), person=floor.agent)
    floor.inbox.accept(draft.approval.signed_by(floor.key), person=floor.person)
    assert (await desk.submit(preview.preview_id, floor.agent)).order.state == OrderState.FILLED
