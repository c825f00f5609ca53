"""Words: free text of agents and strangers, in a form that says to a reader's eye what it holds.

A terminal obeys control characters, and a bidirectional mark turns digits around: whoever decides by
what he reads must see every character that is there.
"""

import unicodedata

_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
_JOINER = "\u200d"  # between the parts of one emoji or letter; it moves nothing


def is_unseen(character: str) -> bool:
    """Says whether a character cannot be seen, and may act on a terminal or on its neighbours."""
    return unicodedata.category(character) in _UNSEEN and character != _JOINER


def is_plain(text: str) -> bool:
    """Says whether a text is one line in which everything can be seen."""
    return (text.isascii() and text.isprintable()) or not any(map(is_unseen, text))


def one_line(text: str) -> str:
    """Returns the text in one line: each run of white space as one blank, none at the ends."""
    return " ".join(text.split())


def visible(text: str, *, keep: str = "") -> str:
    """Returns the text with what cannot be seen written out by its number; `keep` stays as it is."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_written(each) if is_unseen(each) and each not in keep else each for each in text)


def _written(character: str) -> str:
    code = ord(character)
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
