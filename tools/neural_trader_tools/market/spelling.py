"""Spelling: how far a query is from a word, in typing errors.

A typing error is a letter too much, too few or wrong, or two neighbours swapped (the optimal string alignment
distance of Damerau and Levenshtein). Ten thousand names are ranked in tens of milliseconds, because most are
ruled out by their length and by which letters they hold before any distance is computed.
"""

from functools import lru_cache

ERRORS_MAX = ((3, 1), (6, 2), (10, 3))
"""From so many letters on, so many errors are forgiven; below three letters, none."""


def forgiven(word: str) -> int:
    """Returns how many typing errors a query of this length may hold."""
    return max((errors for length, errors in ERRORS_MAX if len(word) >= length), default=0)


@lru_cache(maxsize=100_000)
def letters(word: str) -> int:
    """Returns which letters a word holds, a bit each (by code point modulo 64)."""
    held = 0
    for letter in word:
        held |= 1 << (ord(letter) & 63)
    return held


def may_be_near(wanted: int, other: int, errors: int) -> bool:
    """Says whether words of these letters can be within so many errors: an error brings one and takes one."""
    return (wanted & ~other).bit_count() <= errors and (other & ~wanted).bit_count() <= errors


def distance(left: str, right: str, errors_max: int) -> int:
    """Returns the number of typing errors between two words, or `errors_max + 1` where it is more.

    Args:
        left: One word.
        right: The other.
        errors_max: Beyond it the count does not matter.
    """
    if abs(len(left) - len(right)) > errors_max:
        return errors_max + 1
    before: list[int] = []
    row = list(range(len(right) + 1))
    for i, one in enumerate(left, start=1):
        current = [i]
        for j, other in enumerate(right, start=1):
            cost = min(row[j] + 1, current[j - 1] + 1, row[j - 1] + (one != other))
            if i > 1 and j > 1 and one == right[j - 2] and left[i - 2] == other:
                cost = min(cost, before[j - 2] + 1)
            current.append(cost)
        if min(current) > errors_max:
            return errors_max + 1
        before, row = row, current
    return min(row[-1], errors_max + 1)
