"""Audit entries: closed, versioned records of what was asked, decided, done and observed."""

from datetime import datetime
from enum import StrEnum
from typing import Literal, Self

import orjson
from pydantic import Field, JsonValue, ValidationError

from neural_trader_governance.errors import InputError, IntegrityError
from neural_trader_governance.identity import Caller
from neural_trader_governance.signing.canonical import canonical_bytes, plain_bytes
from neural_trader_governance.terms.clocks import UtcTime, format_time
from neural_trader_governance.terms.term import Term

ENTRY_BYTES_MAX = 65_535
"""An entry's length is a uint16 in a tile bundle (https://c2sp.org/tlog-tiles)."""


class EntryType(StrEnum):
    """What an entry records."""

    ORDER_INTENT = "order.intent"
    ORDER_PARENT = "order.parent"
    POLICY_DECISION = "policy.decision"
    APPROVAL_REQUEST = "approval.request"
    APPROVAL_GRANT = "approval.grant"
    APPROVAL_REJECT = "approval.reject"
    BROKER_SUBMIT = "broker.submit"
    BROKER_ACK = "broker.ack"
    BROKER_REJECT = "broker.reject"
    BROKER_FILL = "broker.fill"
    BROKER_CANCEL = "broker.cancel"
    RECON = "recon"
    KILL = "kill"
    RESUME = "resume"
    POLICY_ACTIVATE = "policy.activate"
    KEY_ROTATE = "key.rotate"
    KEY_ADD = "key.add"
    TOOLS_MANIFEST = "tools.manifest"
    ACCOUNT_OPEN = "account.open"
    ACCOUNT_POST = "account.post"
    ACCOUNT_TRANSFER = "account.transfer"
    DATA_IMPORT = "data.import"
    STRATEGY_SAVE = "strategy.save"
    BACKTEST_RESULT = "backtest.result"
    MEMORY_WRITE = "memory.write"
    MEMORY_RECALL = "memory.recall"
    MEMORY_REINDEX = "memory.reindex"
    SKILL_PROMOTE = "skill.promote"
    PRINCIPAL_ENROLL = "principal.enroll"
    PRINCIPAL_RETIRE = "principal.retire"
    APIKEY_ISSUE = "apikey.issue"
    APIKEY_REVOKE = "apikey.revoke"
    MANDATE_ISSUE = "mandate.issue"
    MANDATE_REVOKE = "mandate.revoke"
    BUDGET_SET = "budget.set"
    OVERRIDE_GRANT = "override.grant"
    OVERRIDE_REVOKE = "override.revoke"
    LIVE_PERMIT = "live.permit"
    LIVE_END = "live.end"
    THROTTLE_TRIP = "throttle.trip"
    THROTTLE_ENABLE = "throttle.enable"
    LEASE_LOST = "lease.lost"
    TAINT_MARK = "taint.mark"
    TAINT_CLEAR = "taint.clear"
    ALERT = "alert"
    WITNESS_PIN = "witness.pin"
    WITNESS_REFUSE = "witness.refuse"
    AUDIT_ARCHIVE = "audit.archive"
    SANDBOX_CONSENT = "sandbox.consent"


class AuditEntry(Term):
    """What a caller asks to be recorded; the store adds `seq`, `ts` and `origin`."""

    v: Literal[1] = 1
    type: EntryType
    principal: str = Field(min_length=1, max_length=80)
    agent: str = Field(default="", max_length=80, description="Empty where a person or the desk itself acted")
    account: str | None = Field(default=None, max_length=40)
    symbol: str | None = Field(default=None, max_length=16)
    mandate_id: str | None = Field(default=None, max_length=80)
    intent_hash: str | None = Field(default=None, max_length=64)
    client_order_id: str | None = Field(default=None, max_length=80)
    trace_id: str | None = Field(default=None, max_length=64)
    payload: dict[str, JsonValue] = Field(default_factory=dict[str, JsonValue])

    @classmethod
    def by(cls, caller: Caller, entry_type: EntryType, **fields: object) -> Self:
        """Returns an entry of this caller.

        Raises:
            InputError: a field is unknown or out of bounds.
        """
        values = {"type": entry_type, "principal": caller.principal, "agent": caller.agent, **fields}
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise InputError(
                "invalid_entry",
                f"an audit entry's {'.'.join(map(str, first['loc']))} is wrong: {first['msg']}",
                "give the fields that AuditEntry describes",
            ) from None


class LoggedEntry(AuditEntry):
    """An entry at its place in one log; its canonical bytes are the Merkle leaf."""

    seq: int = Field(ge=0)
    ts: UtcTime
    origin: str

    @classmethod
    def place(cls, entry: AuditEntry, *, seq: int, ts: datetime, origin: str) -> tuple[Self, bytes]:
        """Gives an entry its place in a log; returns it with its canonical bytes.

        Everything is validated here, also what a `model_copy` changed. A payload that has plain
        canonical bytes is JSON by that alone, so it is not walked through a second time.

        Raises:
            InputError: as `encode`.
        """
        place = {"seq": seq, "ts": ts, "origin": origin}
        payload = entry.payload
        if type(payload) is dict:
            logged = cls.model_validate({**entry.__dict__, **place, "payload": {}})
            object.__setattr__(logged, "payload", payload)  # frozen, but new and still ours alone
            if (data := logged._plain_bytes()) is not None:
                return logged, _bounded(data)
        logged = cls.model_validate({**entry.__dict__, **place})
        return logged, logged.encode()

    def encode(self) -> bytes:
        """Returns the leaf's bytes: canonical JSON, fields that are absent left out.

        Raises:
            InputError: floats, large integers or non-ASCII keys in the payload, or more than
                65,535 bytes.
        """
        data = self._plain_bytes()
        if data is None:
            plain = self.model_dump(mode="json")
            data = canonical_bytes({name: value for name, value in plain.items() if value is not None})
        return _bounded(data)

    def _plain_bytes(self) -> bytes | None:
        fields = {name: value for name, value in self.__dict__.items() if value is not None}
        fields["type"], fields["ts"] = self.type.value, format_time(self.ts)
        return plain_bytes(fields)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Reads a leaf's bytes and insists that they are canonical.

        Raises:
            IntegrityError: not JSON, not this model, or not the canonical spelling.
        """
        try:
            entry = cls.model_validate(orjson.loads(data))
            same = entry.encode() == data
        except (orjson.JSONDecodeError, ValidationError, InputError) as error:
            raise IntegrityError(
                "malformed_entry",
                f"the bytes are not an audit entry ({type(error).__name__})",
                "treat the entry as damaged",
            ) from None
        if not same:
            raise IntegrityError(
                "not_canonical", "the entry is not in canonical form", "treat the entry as altered"
            )
        return entry


def _bounded(data: bytes) -> bytes:
    if len(data) > ENTRY_BYTES_MAX:
        raise InputError(
            "entry_too_large",
            f"an audit entry of {len(data):,} bytes exceeds {ENTRY_BYTES_MAX:,}",
            "record a digest and keep the bulk elsewhere",
        )
    return data
