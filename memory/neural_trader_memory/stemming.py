"""Porter's stemmer: "connected", "connecting" and "connections" are one word to a search.

M. F. Porter, "An algorithm for suffix stripping", Program 14(3), 1980, as the paper has it and with the two
departures of the author's own later code ("bli" for "abli", "logi" added). English only.
"""

import re
from collections.abc import Iterable
from typing import Final

# A measure counts the vowel-consonant runs of what is left when the ending goes: [C](VC)^m[V].
_STEP_2: Final = {
    "ational": "ate", "tional": "tion", "enci": "ence", "anci": "ance", "izer": "ize", "bli": "ble",
    "alli": "al", "entli": "ent", "eli": "e", "ousli": "ous", "ization": "ize", "ation": "ate",
    "ator": "ate", "alism": "al", "iveness": "ive", "fulness": "ful", "ousness": "ous", "aliti": "al",
    "iviti": "ive", "biliti": "ble", "logi": "log",
}  # fmt: skip
_STEP_3: Final = {
    "icate": "ic", "ative": "", "alize": "al", "iciti": "ic", "ical": "ic", "ful": "", "ness": "",
}  # fmt: skip
_STEP_4: Final = (
    "al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent", "ion", "ou", "ism",
    "ate", "iti", "ous", "ive", "ize",
)  # fmt: skip
_LATIN: Final = re.compile(r"[a-z]{3,}", re.ASCII)


def stem(word: str) -> str:
    """Returns the stem of a lower-case word; one that is short, or not of the letters a to z, as it is."""
    if not _LATIN.fullmatch(word):
        return word
    word = _plurals(word)
    word = _past(word)
    if word.endswith("y") and _has_vowel(word[:-1]):
        word = word[:-1] + "i"
    word = _replace(word, _STEP_2)
    word = _replace(word, _STEP_3)
    word = _residue(word)
    if word.endswith("e"):
        left = word[:-1]
        if _measure(left) > 1 or (_measure(left) == 1 and not _short(left)):
            word = left
    if word.endswith("ll") and _measure(word) > 1:
        word = word[:-1]
    return word


def _shape(word: str) -> str:
    """Returns a letter for each of the word's: v for a vowel, c for a consonant; "y" is both."""
    shape = ""
    for letter in word:
        vowel = letter in "aeiou" or (letter == "y" and shape.endswith("c"))
        shape += "v" if vowel else "c"
    return shape


def _measure(word: str) -> int:
    return len(re.findall("v+c", _shape(word)))


def _has_vowel(word: str) -> bool:
    return "v" in _shape(word)


def _double(word: str) -> bool:
    return len(word) > 1 and word[-1] == word[-2] and _shape(word).endswith("c")


def _short(word: str) -> bool:
    """Tells whether a word ends in consonant, vowel, consonant, the last none of w, x and y: "hop"."""
    return _shape(word).endswith("cvc") and word[-1] not in "wxy"


def _plurals(word: str) -> str:
    if word.endswith("sses") or word.endswith("ies"):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word


def _past(word: str) -> str:
    if word.endswith("eed"):
        return word[:-1] if _measure(word[:-3]) > 0 else word
    for ending in ("ed", "ing"):
        left = word.removesuffix(ending)
        if left != word:
            return _mend(left) if _has_vowel(left) else word
    return word


def _mend(word: str) -> str:
    """Returns what "-ed" or "-ing" left, whole again: "hop(p)", "fil(e)"."""
    if word.endswith(("at", "bl", "iz")):
        return word + "e"
    if _double(word) and word[-1] not in "lsz":
        return word[:-1]
    return word + "e" if _measure(word) == 1 and _short(word) else word


def _longest(word: str, endings: Iterable[str]) -> str:
    return max((each for each in endings if word.endswith(each)), key=len, default="")


def _replace(word: str, endings: dict[str, str]) -> str:
    ending = _longest(word, endings)
    if not ending or _measure(word[: -len(ending)]) == 0:
        return word
    return word[: -len(ending)] + endings[ending]


def _residue(word: str) -> str:
    ending = _longest(word, _STEP_4)
    left = word[: -len(ending)] if ending else word
    if not ending or _measure(left) < 2 or (ending == "ion" and left[-1] not in "st"):
        return word
    return left
