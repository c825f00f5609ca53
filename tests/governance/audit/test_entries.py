from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

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


_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**54), 2**54) | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=15,
)


def _check_and_spell(value: dict[str, Any]) -> bytes:
    def check(item: object) -> None:
        if isinstance(item, float) or (isinstance(item, int) and abs(item) > 2**53 - 1):
            raise InputError("not_canonical", "a number without an exact form", "write it as a string")
        for inner in item if isinstance(item, list) else ():  # pyright: ignore[reportUnknownVariableType]
            check(inner)  # pyright: ignore[reportUnknownArgumentType]
        for name, inner in item.items() if isinstance(item, dict) else ():  # pyright: ignore[reportUnknownVariableType]
            if not str(name).isascii():  # pyright: ignore[reportUnknownArgumentType]
                raise InputError("not_canonical", "a key that is not ASCII", "keep keys ASCII")
            check(inner)  # pyright: ignore[reportUnknownArgumentType]

    check(value)
    return rfc8785.dumps(value)


@given(
    payload=st.dictionaries(st.text(max_size=6), _json, max_size=5),
    symbol=st.none() | st.text(max_size=20),
    ts=st.datetimes(timezones=st.timezones()),
)
def test_the_fast_way_to_an_entrys_bytes_is_the_slow_way(
    payload: dict[str, Any], symbol: str | None, ts: datetime
) -> None:
    """The slow way is spelled out here: every value validated twice, dumped, checked, then encoded."""
    entry = AuditEntry(type=EntryType.ORDER_INTENT, principal="alice").model_copy(
        update={"payload": payload, "symbol": symbol}
    )

    def slowly() -> bytes:
        placed = LoggedEntry.model_validate({**entry.model_dump(), "seq": 7, "ts": ts, "origin": "a.example"})
        plain = placed.model_dump(mode="json")
        return _check_and_spell({name: value for name, value in plain.items() if value is not None})

    def outcome(way: Callable[[], bytes]) -> object:
        try:
            return way()
        except (InputError, ValidationError, PydanticSerializationError) as error:
            return type(error)

    fast = outcome(lambda: LoggedEntry.place(entry, seq=7, ts=ts, origin="a.example")[1])
    assert fast == outcome(slowly)
    if isinstance(fast, bytes):
        assert LoggedEntry.decode(fast).encode() == fast


def test_what_a_model_copy_smuggled_past_the_model_is_refused_at_its_place() -> None:
    entry = AuditEntry(type=EntryType.ORDER_INTENT, principal="alice")
    for smuggled in ({"principal": ""}, {"symbol": "x" * 17}, {"payload": ["no", "object"]}, {"extra": 1}):
        with pytest.raises(ValidationError):
            LoggedEntry.place(entry.model_copy(update=smuggled), seq=0, ts=datetime.now(UTC), origin="a")
