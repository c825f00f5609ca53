"""Amounts inside the books: whole micros and nano-units, divided so that the parts are the whole."""

from collections.abc import Sequence


def share(amount: int, part: int, whole: int) -> int:
    """Returns `amount` x `part` / `whole`, exactly computed and rounded half to even.

    Raises:
        ZeroDivisionError: `whole` is zero.
    """
    if whole < 0:
        part, whole = -part, -whole
    quotient, rest = divmod(amount * part, whole)
    return quotient + (2 * rest > whole or (2 * rest == whole and quotient % 2 == 1))


def allocate(amount: int, parts: Sequence[int]) -> list[int]:
    """Divides an amount in proportion to parts, so that the pieces add up to it exactly.

    Raises:
        ZeroDivisionError: the parts add up to zero, so there is no proportion.
    """
    whole, reached, given = sum(parts), 0, 0
    pieces: list[int] = []
    for part in parts:
        reached += part
        until = share(amount, reached, whole)
        pieces.append(until - given)
        given = until
    return pieces
