"""Typing errors: what a search forgives, and that it does so fast."""

import time
from string import ascii_lowercase

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from neural_trader_tools.market.archive import ListedInstrument
from neural_trader_tools.market.search import ranked
from neural_trader_tools.market.spelling import distance, letters, may_be_near

LISTED = [
    ListedInstrument(symbol=symbol, name=name)
    for symbol, name in {
        "AAPL": "Apple Inc.",
        "BRK.B": "Berkshire Hathaway Inc. Class B",
        "GOOG": "Google Inc. Class A",
        "IBM": "International Business Machines Corporation",
        "META": "Meta Platforms, Inc.",
        "MSFT": "Microsoft Corporation",
        "^GSPC": "S&P 500 Index",
    }.items()
]


@pytest.mark.parametrize(
    ("query", "symbol"),
    [
        ("APPL", "AAPL"),
        ("aple", "AAPL"),
        ("mircosoft", "MSFT"),  # neighbours swapped
        ("microsft", "MSFT"),  # a letter too few
        ("Micrrosofft", "MSFT"),  # two too many
        ("goggle", "GOOG"),
        ("intermational", "IBM"),
        ("bussiness machines", "IBM"),
        ("hathway", "BRK.B"),
        ("berkshire hathawy", "BRK.B"),
        ("GSCP", "^GSPC"),
        ("m\u00e9ta platfroms", "META"),
        ("MSTF", "MSFT"),
    ],
)
def test_a_typing_error_still_finds_what_was_meant_first(query: str, symbol: str) -> None:
    assert ranked(query, LISTED)[0].symbol == symbol


def test_what_is_spelled_right_comes_before_what_is_near() -> None:
    listed = [ListedInstrument(symbol=each, name=each) for each in ("META", "BETA", "METAL", "MEAT")]
    assert [one.symbol for one in ranked("meta", listed)] == ["META", "METAL", "BETA", "MEAT"]
    assert ranked("xq", LISTED) == []
    assert ranked("zzzzzzzz", LISTED) == []


words = st.text("abc", max_size=6)


def by_definition(left: str, right: str) -> int:
    """The optimal string alignment distance as its recursion says."""
    if not left or not right:
        return len(left) + len(right)
    found = min(
        by_definition(left[:-1], right) + 1,
        by_definition(left, right[:-1]) + 1,
        by_definition(left[:-1], right[:-1]) + (left[-1] != right[-1]),
    )
    if len(left) > 1 and len(right) > 1 and left[-1] == right[-2] and left[-2] == right[-1]:
        found = min(found, by_definition(left[:-2], right[:-2]) + 1)
    return found


@settings(max_examples=100, deadline=None)
@given(left=st.text("abc", max_size=5), right=st.text("abc", max_size=5), errors=st.integers(0, 4))
@example(left="ca", right="abc", errors=4)  # 3, where the unrestricted distance is 2
def test_distances_are_those_of_the_definition(left: str, right: str, errors: int) -> None:
    expected = by_definition(left, right)
    assert distance(left, right, errors) == min(expected, errors + 1)
    if expected <= errors:
        assert may_be_near(letters(left), letters(right), errors)  # letters never rule out what is near


def test_ten_thousand_names_are_ranked_while_one_types() -> None:
    listed = [
        ListedInstrument(
            symbol=f"S{i:05}",
            name=" ".join(
                "".join(ascii_lowercase[(i * 7 + at * at * 3 + word * 5) % 26] for at in range(8))
                for word in range(3)
            ),
        )
        for i in range(10_000)
    ]
    meant = listed[4321].name.split()[1]
    typed = meant[:3] + meant[4] + meant[3] + meant[5:]
    ranked(typed, listed)
    start = time.process_time()
    found = ranked(typed, listed)
    assert time.process_time() - start < 1.0
    assert meant in found[0].name
