import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from neural_trader_governance.errors import InputError
from neural_trader_governance.signing.canonical import INTEGER_MAX, canonical_bytes, is_canonical

_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
_keys = st.text(st.characters(max_codepoint=127), max_size=8)
_json = st.recursive(
    st.none() | st.booleans() | st.integers(-INTEGER_MAX, INTEGER_MAX) | _text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_keys, inner, max_size=4),
    max_leaves=12,
)


@given(_json)
def test_canonical_bytes_equal_rfc_8785(value: object) -> None:
    data = canonical_bytes(value)
    assert data == rfc8785.dumps(value)  # pyright: ignore[reportArgumentType] - any JSON value
    assert is_canonical(data)


def test_the_published_rfc_8785_sorting_of_keys_holds_for_ascii() -> None:
    assert canonical_bytes({"b": 1, "a": {"d": None, "\r": True}}) == b'{"a":{"\\r":true,"d":null},"b":1}'


@pytest.mark.parametrize(
    "value",
    [
        1.5,
        {"a": [0.0]},
        INTEGER_MAX + 1,
        -INTEGER_MAX - 1,
        2**70,
        {"ключ": 1},
        {1: "a"},
        "\ud800",
        b"bytes",
        {"a": object()},
        float("nan"),
    ],
)
def test_what_has_no_single_spelling_is_refused(value: object) -> None:
    with pytest.raises(InputError, match="not_canonical"):
        canonical_bytes(value)


def test_deep_nesting_is_refused_and_not_a_crash() -> None:
    value: object = 1
    for _ in range(5_000):
        value = [value]
    with pytest.raises(InputError, match="nesting"):
        canonical_bytes(value)


@pytest.mark.parametrize("data", [b'{"b":1,"a":2}', b'{"a": 1}', b'{"a":1.0}', b'{"a":1', b'"\\u0041"'])
def test_another_spelling_of_the_same_value_is_not_canonical(data: bytes) -> None:
    assert not is_canonical(data)
