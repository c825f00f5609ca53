"""Sessions: a person is let in by a link that works once, and then known by a sealed cookie.

Both are sealed with a key of the home's secret, so that each worker reads what another one wrote and only
who can read the home makes one. What was used up (links, ended sessions) is a file in the home.
"""

import base64
import binascii
import contextlib
import hashlib
import hmac
import os
import secrets
from datetime import datetime, timedelta
from typing import TypeVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic import Field, ValidationError

from neural_trader_governance.errors import RiskError, StorageError
from neural_trader_governance.signing.at_rest import sync_folder
from neural_trader_governance.terms.clocks import Clock, UtcTime
from neural_trader_governance.terms.term import Term
from neural_trader_server.home import Home
from neural_trader_server.sealing import derive

LINK_TTL = timedelta(minutes=5)
SESSION_TTL = timedelta(hours=8)

_NONCE_BYTES = 12
_TEXT_MAX = 2_000

_Sealed = TypeVar("_Sealed", "Link", "Session")


class Link(Term):
    """What a login link says: who may come in, once."""

    link_id: str = Field(pattern=r"^[0-9a-f]{32}$")
    person: str = Field(min_length=1, max_length=80)
    expires_at: UtcTime


class Session(Term):
    """Who sits before the browser, and until when."""

    session_id: str = Field(pattern=r"^[0-9a-f]{32}$")
    person: str = Field(min_length=1, max_length=80)
    expires_at: UtcTime


class Sessions:
    """The sessions of one home, the same in each of its processes.

    Args:
        home: Whose secret seals them, and where it is written what is used up.
        clock: Ends links and sessions.
    """

    def __init__(self, home: Home, clock: Clock) -> None:
        self._cipher = AESGCM(derive(home, "console"))
        self._token_key = derive(home, "console-token")
        self._used = home.path / "console"
        self._clock = clock
        # A browser keeps cookies by host name alone: two desks on two ports must not write over each other's.
        self.cookie_name = f"neural_trader_console_{hashlib.sha256(self._token_key).hexdigest()[:8]}"

    def link(self, person: str) -> str:
        """Returns the secret of a new link for a person."""
        return self._seal(
            Link(link_id=secrets.token_hex(16), person=person, expires_at=self._clock.now() + LINK_TTL)
        )

    def begin(self, link: str) -> Session:
        """Uses a link up and returns the session that it opens.

        Raises:
            RiskError: `link_invalid`, `link_expired` or `link_used`.
            StorageError: it could not be written down that the link is used.
        """
        read = self._open(Link, link)
        if read is None:
            raise _no_link("link_invalid", "this login link was not made by this desk, or is not whole")
        if read.expires_at <= (now := self._clock.now()):
            raise _no_link("link_expired", "this login link is older than five minutes")
        if not self._use(f"link-{read.link_id}"):
            raise _no_link("link_used", "this login link was used before")
        return Session(session_id=secrets.token_hex(16), person=read.person, expires_at=now + SESSION_TTL)

    def cookie(self, session: Session) -> str:
        """Returns the value of the cookie by which a session is known again."""
        return self._seal(session)

    def read(self, cookie: str) -> Session | None:
        """Returns the session of a cookie; None where it is none of ours, over or ended."""
        session = self._open(Session, cookie)
        if session is None or session.expires_at <= self._clock.now():
            return None
        return None if (self._used / f"session-{session.session_id}").exists() else session

    def token(self, session: Session) -> str:
        """Returns what a page of this session shows with each request, beside the cookie."""
        return hmac.new(self._token_key, session.session_id.encode(), hashlib.sha256).hexdigest()

    def end(self, session: Session) -> None:
        """Ends a session in every worker, whoever keeps a copy of its cookie."""
        self._use(f"session-{session.session_id}")

    def _seal(self, value: Link | Session) -> str:
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._cipher.encrypt(nonce, value.model_dump_json().encode(), _purpose(type(value)))
        return base64.urlsafe_b64encode(nonce + sealed).decode().rstrip("=")

    def _open(self, kind: type[_Sealed], text: str) -> _Sealed | None:
        if len(text) > _TEXT_MAX or not text.isascii():
            return None
        try:
            data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
            plain = self._cipher.decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], _purpose(kind))
            return kind.model_validate_json(plain)
        except (InvalidTag, ValidationError, binascii.Error, ValueError):
            return None

    def _use(self, name: str) -> bool:
        """Writes down, durably and once for all processes, that something is used up; False if it was."""
        try:
            self._used.mkdir(mode=0o700, exist_ok=True)
            self._forget(self._clock.now())
            descriptor = os.open(
                self._used / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600
            )
            os.close(descriptor)
            sync_folder(self._used)
        except FileExistsError:
            return False
        except OSError as error:
            raise StorageError(
                "session_not_written",
                f"{self._used} cannot be written: {error.strerror}",
                "free disk space or make the folder writable, and log in again",
            ) from error
        return True

    def _forget(self, now: datetime) -> None:
        """Removes what no link and no session that still lives could be."""
        oldest = (now - 2 * SESSION_TTL).timestamp()
        for path in list(self._used.iterdir()):
            with contextlib.suppress(FileNotFoundError):  # another process does the same
                if path.stat().st_mtime < oldest:
                    path.unlink()


def login_address(address: str, link: str) -> str:
    """Returns a login link; its secret is in the fragment, which browsers send to nobody.

    Args:
        address: Of the server, without a path.
        link: The secret.
    """
    return f"{address}/console#login={link}"


def _purpose(kind: type[Link] | type[Session]) -> bytes:
    return f"neural-trader/console/{kind.__name__}/v1".encode()


def _no_link(code: str, what: str) -> RiskError:
    return RiskError(code, what, "make a new one: neural-trader console --print")
