"""Redaction: what looks like a secret, or is known to be one, never leaves in words.

Two nets. Patterns catch what can be recognised by its form (private keys, API keys, bearer tokens);
`remember` catches the very values that this process was given, whatever they look like. Settings hold
secrets as `SecretStr`; this is for the day on which one slips into an exception's text all the same.
"""

import functools
import json
import re
import threading

HIDDEN = "[redacted]"
_KNOWN_MIN_CHARS = 6  # a shorter value would be found all over ordinary words

_END = r"[^\s\"'\\,;<>(){}\[\]]"
_SECRET = re.compile(
    rf"PRIVATE\+KEY\+{_END}+"  # https://pkg.go.dev/golang.org/x/mod/sumdb/note, the form of our key files
    r"|-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----[^\"]*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|(?=\")|$)"
    rf"|(?<![A-Za-z0-9])ntk_[A-Za-z0-9_\-]{{20,}}"  # our API keys
    rf"|\bBearer +{_END}{{6,}}"  # RFC 6750
    r"|\beyJ[A-Za-z0-9_\-]{8,}\.eyJ[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]*"  # JSON web tokens
    r"|(?<=://)[^\s/@\"':]+:[^\s/@\"']+(?=@)"  # user:password in an address
    r"|\b(?:sk|rk|pk)[-_](?:live|test|ant|proj)?[-_]?[A-Za-z0-9_\-]{20,}"
    r"|\bAKIA[0-9A-Z]{16}\b"
)
# One of these stands in every match: most texts hold none, and looking for them costs microseconds.
_MARKERS = (
    "PRIVATE", "ntk_", "Bearer", "eyJ", "://", "AKIA", "sk-", "sk_", "rk-", "rk_", "pk-", "pk_",
)  # fmt: skip
_NAMED = re.compile(
    r"(?i)\b([a-z0-9_\-]*(?:pass(?:word|phrase|wd)|secret|api_?key|private_?key|access_?token|auth_?token)"
    rf"[a-z0-9_]*[\"']?\s*[=:]\s*[\"']?){_END}{{3,}}"
)
_SECRET_NAME = re.compile(
    r"(?i)pass(?:word|phrase|wd)|secret|api_?key|private_?key|signing_?key|authorization|credential|cookie"
    r"|(?:^|_)token$"
)

# And one of these in every name that tells.
_TELLING = ("pass", "secret", "key", "token")

_known: set[str] = set()
_lock = threading.Lock()


def remember(secret: str) -> None:
    """Makes this process hide a value wherever it would be said: passphrases, secret settings."""
    if len(secret) >= _KNOWN_MIN_CHARS:
        with _lock:
            _known.update({secret, json.dumps(secret)[1:-1]})


def redact(text: str) -> str:
    """Returns the text with every secret hidden that can be recognised; for errors, results and alerts."""
    for secret in sorted(_known, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return _SECRET.sub(HIDDEN, text) if any(marker in text for marker in _MARKERS) else text


def redact_line(text: str) -> str:
    """Returns a log line with secrets hidden, values that merely stand behind a telling name included."""
    line, lower = redact(text), text.lower()
    return _NAMED.sub(rf"\g<1>{HIDDEN}", line) if any(word in lower for word in _TELLING) else line


@functools.lru_cache(maxsize=1024)
def names_secret(name: str) -> bool:
    """Tells whether a field of this name holds what must not be said, such as `api_key`."""
    return _SECRET_NAME.search(name) is not None
