"""Witness sources: the ways to a witness, by its address or by its folder."""

import hashlib
import time
from typing import Protocol

from neural_trader_governance.audit.submissions import BODY_BYTES_MAX
from neural_trader_governance.audit.witness import Answer, Witness
from neural_trader_governance.errors import ConfigurationError, NetworkError

_TIMEOUT_S = 3.0
_WHOLE_ANSWER_S = 10.0
"""A witness that sends byte after byte must not hold up a server that starts."""


class WitnessSource(Protocol):
    """A witness that can be asked to cosign, and what it cosigned last."""

    def add_checkpoint(self, body: bytes) -> Answer:
        """Sends one request; see `rounds.WitnessPort`."""
        ...

    def latest_note(self, origin: str) -> str | None:
        """Returns the newest checkpoint that it cosigned of a log, or None."""
        ...


class HttpWitness:
    """A witness behind an address. What it says is believed only as far as its signature goes."""

    def __init__(self, url: str, timeout_s: float = _TIMEOUT_S) -> None:
        if not url.startswith(("http://", "https://")):
            raise ConfigurationError(
                "invalid_witness_url",
                f"{url!r:.100} is no http address",
                "give it like http://127.0.0.1:8770",
            )
        self._url = url.rstrip("/")
        self._timeout_s = timeout_s

    def add_checkpoint(self, body: bytes) -> Answer:
        """Sends one request.

        Raises:
            NetworkError: nobody answered in time, or with more than 128 kB.
        """
        return self._ask("POST", "add-checkpoint", body)

    def latest_note(self, origin: str) -> str | None:
        """Returns the newest checkpoint that it cosigned of a log, or None.

        Raises:
            NetworkError: nobody answered in time, or with a failure.
        """
        answer = self._ask("GET", f"{hashlib.sha256(origin.encode()).hexdigest()}/checkpoint", b"")
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise _unreachable(self._url, f"it answered {answer.status}")
        return answer.body

    def _ask(self, method: str, path: str, body: bytes) -> Answer:
        import httpx  # a fifth of a second, which a desk without a witness need not wait

        until = time.monotonic() + _WHOLE_ANSWER_S
        try:
            with (
                httpx.Client(timeout=self._timeout_s, trust_env=False) as client,
                client.stream(method, f"{self._url}/{path}", content=body) as response,
            ):
                data = b""
                for chunk in response.iter_bytes():
                    data += chunk
                    if len(data) > BODY_BYTES_MAX:
                        raise _unreachable(self._url, "its answer is too long")
                    if time.monotonic() > until:
                        raise _unreachable(self._url, "its answer takes too long")
                return Answer(response.status_code, data.decode(errors="replace"))
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise _unreachable(self._url, type(error).__name__) from None


class FolderWitness:
    """A witness in a folder that this process may open; for one machine with two accounts, and for tests."""

    def __init__(self, witness: Witness) -> None:
        self._witness = witness

    def add_checkpoint(self, body: bytes) -> Answer:
        """Asks without a network."""
        return self._witness.add_checkpoint(body)

    def latest_note(self, origin: str) -> str | None:
        """Returns the newest checkpoint that it cosigned of a log, or None."""
        known = self._witness.latest(origin)
        return None if known is None else known.note


def _unreachable(url: str, why: str) -> NetworkError:
    return NetworkError(
        "witness_unreachable",
        f"the witness at {url} did not answer ({why})",
        "start it with `neural-trader witness serve`, or correct its address",
    )
