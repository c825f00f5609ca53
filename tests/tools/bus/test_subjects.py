"""Names as words of subjects, and filters over them."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neural_trader_governance.errors import InputError
from neural_trader_tools.bus import subjects

names = st.text(max_size=subjects.NAME_LENGTH_MAX)


@given(names)
def test_a_name_comes_back_from_its_word_which_nats_takes(name: str) -> None:
    word = subjects.escape(name)
    assert subjects.unescape(word) == name
    assert re.fullmatch(r"[A-Za-z0-9_%-]+", word)


@given(names, names)
def test_two_names_never_share_a_word(one: str, other: str) -> None:
    assert (subjects.escape(one) == subjects.escape(other)) == (one == other)


@given(st.text(alphabet="A%2E.e*", max_size=8))
def test_only_words_that_escape_makes_are_read(word: str) -> None:
    try:
        name = subjects.unescape(word)
    except InputError:
        return
    assert subjects.escape(name) == word


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("^GSPC", "%5EGSPC"),
        ("BTC/USD", "BTC%2FUSD"),
        ("BRK.B", "BRK%2EB"),
        ("ES=F", "ES%3DF"),
        ("株", "%E6%A0%AA"),
        ("", "%"),
    ],
)
def test_symbols_have_these_words(name: str, word: str) -> None:
    assert subjects.escape(name) == word


@pytest.mark.parametrize("word", ["", "A.B", "%2e", "%41", "%FF", "%%", "A B", "*", ">"])
def test_a_word_that_escape_does_not_make_is_refused(word: str) -> None:
    with pytest.raises(InputError, match="invalid_word"):
        subjects.unescape(word)


@pytest.mark.parametrize("name", ["x" * 81, "\ud800"])
def test_a_name_that_is_no_word_is_refused(name: str) -> None:
    with pytest.raises(InputError):
        subjects.escape(name)


def reference(words: list[str], pattern: list[str]) -> bool:
    """NATS's own rule (https://docs.nats.io/nats-concepts/subjects), word by word."""
    if not pattern:
        return not words
    if pattern[0] == ">":
        return bool(words)
    return bool(words) and pattern[0] in {"*", words[0]} and reference(words[1:], pattern[1:])


@given(
    st.lists(st.sampled_from(["a", "b", "bar"]), min_size=1, max_size=4),
    st.lists(st.sampled_from(["a", "b", "bar", "*"]), max_size=3),
    st.sampled_from(["a", "*", ">"]),
)
def test_filters_pass_what_nats_passes(words: list[str], middle: list[str], last: str) -> None:
    subject, pattern = ["market", *words], ["market", *middle, last]
    assert subjects.matcher(".".join(pattern))(".".join(subject)) == reference(subject, pattern)
