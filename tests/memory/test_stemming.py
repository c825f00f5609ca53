import pytest
from hypothesis import given
from hypothesis import strategies as st

from neural_trader_memory.stemming import stem

# The examples of the paper (Porter 1980), each carried through all steps by the author's program.
PUBLISHED = """
caresses caress, ponies poni, ties ti, caress caress, cats cat, feed feed, agreed agre, plastered plaster,
bled bled, motoring motor, sing sing, conflated conflat, troubled troubl, sized size, hopping hop, tanned tan,
falling fall, hissing hiss, fizzed fizz, failing fail, filing file, happy happi, sky sky, relational relat,
conditional condit, rational ration, valenci valenc, digitizer digit, conformabli conform, radicalli radic,
vileli vile, analogousli analog, vietnamization vietnam, predication predic, operator oper, feudalism feudal,
decisiveness decis, hopefulness hope, callousness callous, formaliti formal, sensitiviti sensit,
sensibiliti sensibl, triplicate triplic, formative form, formalize formal, electriciti electr,
electrical electr, hopeful hope, goodness good, revival reviv, allowance allow, inference infer,
airliner airlin, adjustable adjust, defensible defens, irritant irrit, replacement replac,
adjustment adjust, dependent depend, adoption adopt, communism commun, activate activ, effective effect,
bowdlerize bowdler, probate probat, rate rate, cease ceas, controll control, roll roll
"""


@pytest.mark.parametrize("pair", [pair.split() for pair in PUBLISHED.strip().split(",")], ids="-".join)
def test_the_papers_words_have_the_papers_stems(pair: list[str]) -> None:
    assert stem(pair[0]) == pair[1]


@pytest.mark.parametrize("word", ["is", "42", "s&p", "1.5", "naïve", ""])
def test_short_and_foreign_words_stay(word: str) -> None:
    assert stem(word) == word


@given(st.from_regex(r"[a-z]{3,15}", fullmatch=True))
def test_a_stem_begins_as_its_word_does_and_is_never_much_longer(word: str) -> None:
    assert stem(word)[:2] == word[:2]
    assert 0 < len(stem(word)) <= len(word)
