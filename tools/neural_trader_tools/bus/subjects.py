"""Subjects: what an event on the bus is about, as words with dots between, and filters over them.

    market.bar.SYMBOL.INTERVAL   market.trade|quote|amendment|gap.SYMBOL
    signal.STRATEGY.SYMBOL       order.SYMBOL.CLIENT_ORDER_ID
    audit.entry                  backtest.progress.RUN

The first word is the family: each has a sequence, bounds and a log of its own, so that a flood of quotes
pushes no audit entry out. In a filter `*` stands for one word and `>`, at the end, for one or more.
Names from outside become words by `escape`: `BRK.B` is `BRK%2EB`, the empty name is `%`.
"""

import functools
import re
from collections.abc import Callable

from neural_trader_governance.errors import InputError

FAMILIES = ("market", "signal", "order", "audit", "backtest")
NAME_LENGTH_MAX = 80
SUBJECT_LENGTH_MAX = 1024
AUDIT_ENTRY = "audit.entry"

_UNSAFE = re.compile(rb"[^A-Za-z0-9_-]")
_WORD = re.compile(r"%|(?:[A-Za-z0-9_-]|%[0-9A-F]{2})+")
_KEPT = 16_384


@functools.lru_cache(_KEPT)
def escape(name: str) -> str:
    """Returns a name as one word of a subject: ASCII, nothing in it that NATS gives a meaning.

    Raises:
        InputError: longer than 80 characters, or with half a surrogate pair.
    """
    if len(name) > NAME_LENGTH_MAX:
        raise InputError(
            "name_too_long",
            f"the name {name!r:.60} has {len(name)} characters",
            f"use at most {NAME_LENGTH_MAX}",
        )
    try:
        encoded = name.encode()
    except UnicodeEncodeError:
        raise InputError(
            "invalid_name", f"{name!r:.60} is no Unicode text", "leave lone surrogates out"
        ) from None
    return _UNSAFE.sub(lambda found: b"%%%02X" % found[0][0], encoded).decode("ascii") or "%"


def unescape(word: str) -> str:
    """Returns the name that `escape` made this word of.

    Raises:
        InputError: `escape` makes no such word.
    """
    if word == "%":
        return ""
    try:
        if _WORD.fullmatch(word):
            name = re.sub(rb"%(..)", lambda found: bytes([int(found[1], 16)]), word.encode("ascii")).decode()
            if escape(name) == word:
                return name
    except UnicodeDecodeError:
        pass
    raise InputError("invalid_word", f"{word!r:.60} is no escaped name", "write names with subjects.escape")


@functools.lru_cache(_KEPT)
def family_of(subject: str) -> str:
    """Returns the family of a subject, having checked all of it.

    Raises:
        InputError: a word is empty, holds something unescaped, or the first one is no family.
    """
    words = subject.split(".")
    if (
        len(words) > 1
        and words[0] in FAMILIES
        and len(subject) <= SUBJECT_LENGTH_MAX
        and all(map(_WORD.fullmatch, words))
    ):
        return words[0]
    raise InputError(
        "invalid_subject",
        f"{subject!r:.80} is no subject",
        f"begin with one of {', '.join(FAMILIES)}, put dots between words and escape names",
    )


def family_filtered(subject_filter: str) -> str:
    """Returns the family that a filter reads, having checked all of it.

    Raises:
        InputError: it is no filter, or reads over families: each has a sequence of its own.
    """
    words = subject_filter.split(".")
    if (
        len(words) > 1
        and words[0] in FAMILIES
        and len(subject_filter) <= SUBJECT_LENGTH_MAX
        and all(word == "*" or _WORD.fullmatch(word) for word in words[:-1])
        and (words[-1] in {"*", ">"} or _WORD.fullmatch(words[-1]))
    ):
        return words[0]
    raise InputError(
        "invalid_filter",
        f"{subject_filter!r:.80} is no filter of subjects",
        f"begin with one of {', '.join(FAMILIES)}; * stands for a word, > at the end for the rest",
    )


def matcher(subject_filter: str) -> Callable[[str], bool]:
    """Returns what tells whether a subject passes a filter; answers are kept, for subjects come again.

    Raises:
        InputError: it is no filter.
    """
    family_filtered(subject_filter)
    words = [{"*": r"[^.]+", ">": r".+"}.get(word, re.escape(word)) for word in subject_filter.split(".")]
    pattern = re.compile(r"\.".join(words))

    def passes(subject: str) -> bool:
        return pattern.fullmatch(subject) is not None

    return functools.lru_cache(_KEPT)(passes)


@functools.lru_cache(_KEPT)
def market_bar(symbol: str, interval: str) -> str:
    """Returns where bars of a symbol and an interval are published."""
    return f"market.bar.{escape(symbol)}.{escape(interval)}"


@functools.lru_cache(_KEPT)
def market_tick(kind: str, symbol: str) -> str:
    """Returns where trades, quotes, amendments or gaps of a symbol go; a gap of all symbols has no name."""
    return f"market.{kind}.{escape(symbol)}"


def signal(strategy_id: str, symbol: str) -> str:
    """Returns where a strategy's signals about a symbol are published."""
    return f"signal.{escape(strategy_id)}.{escape(symbol)}"


def order(symbol: str, client_order_id: str) -> str:
    """Returns where what happens to an order is published."""
    return f"order.{escape(symbol)}.{escape(client_order_id)}"


def backtest_progress(run_id: str) -> str:
    """Returns where a run's progress is published."""
    return f"backtest.progress.{escape(run_id)}"
