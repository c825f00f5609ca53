"""Plain text: what a reader would make of a text whose letters were dressed up or wrapped.

Attackers hide words from matching with look-alike letters, invisible characters, digits for letters
and encodings. Each undoing yields one more view of the same text; a rule may match any of them.
"""

import base64
import binascii
import codecs
import html
import re
import unicodedata
import urllib.parse
from collections.abc import Callable, Iterator

TEXT_MAX_CHARS = 20_000
"""Longer texts are judged by their beginning and their end: instructions sit at one of them."""
_DECODED_MAX = 8

# Letters of other scripts that look like Latin ones (a small part of Unicode's confusables.txt).
_LOOKALIKES = str.maketrans(
    "аеорсухіјѕԁɡһӏвкмнтԛԝАЕОРСУХІЈЅВКМНТαερονικτυΑΒΕΖΗΙΚΜΝΟΡΤΥΧ",
    "aeopcyxijsdghlbkmhtqwAEOPCYXIJSBKMHTaepovikt" + "uABEZHIKMNOPTYX",
)
_LEET = str.maketrans("013457@$!|", "oieastasil")
_WORDY_LEET = re.compile(r"\b(?=\w*[a-zA-Z])(?=\w*[013457@$!|])[\w@$!|]{3,}")
_SPACED = re.compile(r"\b(?:\w[ ._\-*]){4,}\w\b")
_BASE64 = re.compile(r"[A-Za-z0-9+/_\-]{16,}={0,2}")
_BASE32 = re.compile(r"\b[A-Z2-7]{16,}={0,6}")
_HEX = re.compile(r"(?:\b(?:[0-9a-fA-F]{2}[ :]?){12,}|(?:\\x[0-9a-fA-F]{2}){6,})")
_PERCENT = re.compile(r"(?:%[0-9a-fA-F]{2}[^%\s]{0,3}){6,}")
_ESCAPES = re.compile(r"(?:\\u[0-9a-fA-F]{4}){4,}")


def is_hidden(character: str) -> bool:
    """Tells whether a character is invisible and can carry or break up words."""
    return (unicodedata.category(character) == "Cf" and character != "\u00ad") or character in "\u2800\u3164"


def clip(text: str) -> str:
    """Returns the text, or its beginning and its end where it is long."""
    half = TEXT_MAX_CHARS // 2
    return text if len(text) <= TEXT_MAX_CHARS else f"{text[:half]}\n{text[-half:]}"


def unhide(text: str) -> str:
    """Returns compatibility forms folded, look-alikes as Latin letters, accents and invisibles gone."""
    tags = "".join(chr(ord(c) - 0xE0000) if 0xE0020 <= ord(c) <= 0xE007E else c for c in text)
    folded = unicodedata.normalize("NFKD", tags).translate(_LOOKALIKES)
    return "".join(c for c in folded if not unicodedata.combining(c) and not is_hidden(c))


def views(text: str) -> Iterator[tuple[str, str]]:
    """Yields the text's plain form and, each with the name of its wrapping, what was wrapped in it."""
    text = clip(text)
    plain = unhide(text)
    yield "", plain
    if _WORDY_LEET.search(plain):
        yield "leetspeak", _WORDY_LEET.sub(lambda match: match[0].translate(_LEET), plain)
    if _SPACED.search(plain):
        joined = re.sub(r"(?<=\b\w)[ ._\-*](?=\w\b)", "", plain)
        yield "spaced", joined
    if "&#" in plain or "&lt;" in plain:
        yield "entities", html.unescape(plain)
    if "<!--" in plain:
        yield "comment", " ".join(re.findall(r"<!--(.*?)-->", plain, re.DOTALL))
    yield "rot13", codecs.decode(plain, "rot13")
    yield "reversed", plain[::-1]
    for number, (name, decoded) in enumerate(_decoded(plain)):
        if number == _DECODED_MAX:
            return
        yield name, unhide(decoded)


def _decoded(text: str) -> Iterator[tuple[str, str]]:
    for match in _BASE64.finditer(text):
        word = match[0].rstrip("=").replace("-", "+").replace("_", "/")
        yield from _readable("base64", lambda word=word: base64.b64decode(word + "=" * (-len(word) % 4)))
    for match in _BASE32.finditer(text):
        word = match[0].rstrip("=")
        yield from _readable("base32", lambda word=word: base64.b32decode(word + "=" * (-len(word) % 8)))
    for match in _HEX.finditer(text):
        digits = re.sub(r"\\x|[ :]", "", match[0])
        yield from _readable("hex", lambda digits=digits: bytes.fromhex(digits))
    for match in _PERCENT.finditer(text):
        yield "percent", urllib.parse.unquote(match[0])
    for match in _ESCAPES.finditer(text):
        yield "escapes", re.sub(r"\\u([0-9a-fA-F]{4})", lambda found: chr(int(found[1], 16)), match[0])


def _readable(name: str, decode: Callable[[], bytes]) -> Iterator[tuple[str, str]]:
    try:
        text = decode().decode()
    except (ValueError, binascii.Error):
        return
    if text and sum(c.isprintable() or c.isspace() for c in text) >= 0.95 * len(text):
        yield name, text
