from hypothesis import given
from hypothesis import strategies as st

from neural_trader_memory.glossary import explain, glosses, split_term

texts = st.text(alphabet="AKOTko -.&'7", max_size=40)


def test_a_term_is_explained_behind_the_text_that_stays_as_it_is() -> None:
    text = "KO drifted."
    assert explain(text).startswith(f"{text} (")
    assert "soft drink" in explain(text)


def test_a_text_without_terms_stays_alone() -> None:
    assert explain("Nothing of the kind.") == "Nothing of the kind."


def test_a_symbol_is_no_small_word() -> None:
    assert explain("so we lose it all") == explain("so we lose it all").lower()
    assert explain("SO") != explain("so")


def test_the_longest_term_counts_and_each_gloss_once() -> None:
    assert "credit" in explain("a credit spread, and credit spreads again")
    assert explain("credit spread").count("insuring") == explain("credit spread, credit spreads").count(
        "insuring"
    )
    assert "gap between buying" not in explain("credit spread")


def test_a_term_is_known_in_all_its_endings() -> None:
    assert explain("takeovers").partition(" (")[2] == explain("takeover").partition(" (")[2] != ""


def test_every_term_has_one_gloss_and_none_explains_itself_away() -> None:
    assert len(glosses()) > 1_000
    assert all(key and gloss.strip() for key, gloss in glosses().items())


@given(texts)
def test_explaining_never_changes_the_text_itself(text: str) -> None:
    assert explain(text).startswith(text)
    assert split_term(text) == split_term(explain(text))[: len(split_term(text))]
