from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from neural_trader_governance.audit.entries import AuditEntry, EntryType, LoggedEntry
from neural_trader_governance.errors import InputError, IntegrityError
from neural_trader_governance.identity import Caller

CALLER = Caller("alice", "bot")


def _logged(**payload: Any) -> LoggedEntry:
    entry = AuditEntry.by(CALLER, EntryType.BROKER_FILL, symbol="AAPL", payload=payload)
    return LoggedEntry.model_validate(
        {**entry.model_dump(), "seq": 7, "ts": datetime(2013, 3, 1, tzinfo=UTC), "origin": "log"}
    )


def test_the_leafs_bytes_are_pinned() -> None:
    assert _logged(price="40.5").encode() == (
        b'{"agent":"bot","origin":"log","payload":{"price":"40.5"},"principal":"alice","seq":7,'
        b'"symbol":"AAPL","ts":"2013-03-01T00:00:00Z","type":"broker.fill","v":1}'
    )


def test_an_entry_reads_back_as_it_was_written() -> None:
    entry = _logged(price="40.5", nested={"a": [1, None, True]})
    assert LoggedEntry.decode(entry.encode()) == entry


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"seq":7', b'"seq": 7'),
        (b'"seq":7', b'"seq":"7"'),
        (b"00:00Z", b"00:00+00:00"),
        (b'"v":1', b'"v":2'),
        (b"broker.fill", b"broker.magic"),
        (b'"v":1', b'"v":1,"x":1'),
        (b'"symbol":"AAPL"', b'"symbol":null'),
    ],
)
def test_another_spelling_or_an_unknown_field_is_no_entry(old: bytes, new: bytes) -> None:
    data = _logged().encode()
    assert old in data
    with pytest.raises(IntegrityError):
        LoggedEntry.decode(data.replace(old, new))


def test_an_entry_of_a_caller_says_what_is_wrong_with_it() -> None:
    with pytest.raises(InputError, match="invalid_entry: an audit entry's symbol is wrong"):
        AuditEntry.by(CALLER, EntryType.RECON, symbol="X" * 17)


def test_entries_cannot_be_changed_after_they_were_made() -> None:
    with pytest.raises(ValidationError):
        _logged().seq = 8  # pyright: ignore[reportAttributeAccessIssue] - the model is frozen


@pytest.mark.parametrize(("principal", "agent"), [("", "bot"), ("a" * 81, ""), ("alice", "b\not"), ("é", "")])
def test_a_caller_has_a_short_ascii_name(principal: str, agent: str) -> None:
    with pytest.raises(InputError, match="invalid_caller"):
        Caller(principal, agent)
