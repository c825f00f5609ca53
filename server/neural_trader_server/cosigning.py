"""Cosigning: takes this home's log to its witness, at the start of a server and whenever it grew.

The pin is `keys/witness.vkey` (and `keys/witness.url`), outside the database: a desk that was put back
to before it had a witness finds the file, and owes the witness an answer again.
"""

import time
from pathlib import Path
from typing import NoReturn

import anyio
import anyio.to_thread
import structlog

from neural_trader_governance.audit import rounds, witnessing
from neural_trader_governance.audit.cosignatures import WitnessKey
from neural_trader_governance.audit.log import read_checkpoint
from neural_trader_governance.audit.rounds import Cosigned
from neural_trader_governance.audit.witnessing import Pin, WitnessStanding
from neural_trader_governance.errors import (
    ConfigurationError,
    IntegrityError,
    NeuralTraderError,
    RiskError,
)
from neural_trader_governance.identity import Caller
from neural_trader_governance.store import Store
from neural_trader_governance.terms.clocks import Clock
from neural_trader_server.founding import write_text
from neural_trader_server.home import Home
from neural_trader_server.witness_sources import HttpWitness, WitnessSource

LOOK_EVERY_S = 2.0
"""How often a server looks whether its log grew."""
RENEW_AFTER_S = 20.0
"""When an unchanged log is cosigned again, so that the witness is known to be there."""

log = structlog.get_logger(__name__)


class Cosigner:
    """Keeps one home's log cosigned.

    Args:
        home: Holds the pin.
        store: The log.
        clock: The machine's time.
        person: On whose behalf refusals and adopted pins are recorded.
        url: The witness's address; None takes the pinned one.
    """

    def __init__(self, home: Home, store: Store, clock: Clock, person: Caller, url: str | None) -> None:
        self._home = home
        self._store = store
        self._clock = clock
        self._person = person
        self._url = url
        self._said: str | None = None

    def adopt(self) -> Pin | None:
        """Puts a pin that only the key folder knows on the record; returns what holds now.

        A log that does not know of the pin is new to it, or was put back to before it.
        """
        key = read_pinned_key(self._home)
        try:
            with self._store.read() as connection:
                pinned, recorded = witnessing.read_pin(connection), witnessing.read_recorded_key(connection)
        except IntegrityError as error:
            rounds.distrust(
                self._store, self._person, f"the entry that pins the witness is damaged: {error.what}"
            )
        if (None if pinned is None else pinned.key) != recorded:
            self._distrust_table(recorded)
        if key is None or (pinned is not None and pinned.key == key):
            return pinned
        if pinned is not None:
            rounds.distrust(
                self._store,
                self._person,
                f"{self._home.witness_vkey} and the log's own record name two different witnesses",
            )
        with self._store.unit() as unit:
            witnessing.pin(unit, caller=self._person, key=key)
            return witnessing.read_pin(unit.connection)

    def _distrust_table(self, recorded: WitnessKey | None) -> NoReturn:
        """The table names another witness than the log's signed entries do: somebody wrote into the file."""
        with self._store.unit() as unit:
            if recorded is not None:
                witnessing.reinstate(unit.connection, recorded)
        rounds.distrust(
            self._store, self._person, "the database names another witness than the log's own entries pin"
        )

    def round(self, source: WitnessSource | None = None) -> Cosigned | None:
        """Asks the witness once; None where no witness is pinned.

        Raises:
            IntegrityError: it refused; from now on policy denies every order.
            NetworkError: it was not reached, or does not know this log.
            ConfigurationError: its address is unknown.
        """
        if self.adopt() is None:
            return None
        way = source or self.source()
        return rounds.cosign(self._store, way, caller=self._person, now=self._clock.now())

    def source(self) -> WitnessSource:
        """Returns the way to the pinned witness.

        Raises:
            ConfigurationError: its address is unknown.
        """
        url = self._url or read_pinned_url(self._home)
        if url is None:
            raise ConfigurationError(
                "witness_url_missing",
                "a witness is pinned, and nobody said where it listens",
                "set NEURAL_TRADER_WITNESS_URL, or run `neural-trader witness pin FILE --url URL`",
            )
        return HttpWitness(url)

    def standing(self) -> WitnessStanding:
        """Returns what policy sees."""
        with self._store.read() as connection:
            return witnessing.standing(connection, now=self._clock.now())

    async def confirm(self) -> None:
        """Asks before anything is served; after a refusal or a silence, policy denies every order."""
        await anyio.to_thread.run_sync(self._try)

    async def keep_cosigned(self) -> None:
        """Looks for growth every two seconds, and renews the cosignature of a log that stands still."""
        asked_size, asked_at = -1, 0.0
        while True:
            await anyio.sleep(LOOK_EVERY_S)
            size = await anyio.to_thread.run_sync(self._grown)
            now = time.monotonic()
            if size is not None and (size != asked_size or now - asked_at > RENEW_AFTER_S):
                answered = await anyio.to_thread.run_sync(self._try)
                asked_at = now
                asked_size = size if answered else -1

    def _grown(self) -> int | None:
        """Returns the log's size where a witness is pinned."""
        try:
            with self._store.read() as connection:
                found = read_checkpoint(connection)
                pinned = witnessing.read_pin(connection) or witnessing.read_recorded_key(connection)
        except NeuralTraderError as error:
            self._say(error)
            return None
        return None if pinned is None or found is None else found[0]

    def _try(self) -> bool:
        try:
            self.round()
        except NeuralTraderError as error:
            self._say(error)
            return False
        if self._said is not None:
            log.warning("witnessed_again")
        self._said = None
        return True

    def _say(self, error: NeuralTraderError) -> None:
        """Logs a failure once, not every two seconds."""
        if self._said != error.what:
            self._said = error.what
            say = log.error if isinstance(error, IntegrityError) else log.warning
            say(error.code, what=error.what, next_step=error.next_step)


def read_pinned_key(home: Home) -> WitnessKey | None:
    """Returns the witness that the key folder pins, or None.

    Raises:
        ConfigurationError: the file is malformed.
    """
    text = _read(home.witness_vkey)
    return None if text is None else WitnessKey.parse(text)


def read_pinned_url(home: Home) -> str | None:
    """Returns where the pinned witness listens, or None."""
    text = _read(home.witness_url)
    return None if text is None else text.strip()


def pin_witness(home: Home, store: Store, *, caller: Caller, key: WitnessKey, url: str | None) -> bool:
    """Pins a witness, in the log and in the key folder; False if it was pinned already.

    Raises:
        RiskError: an agent asks.
        ConfigurationError: the address is no http address.
    """
    if url is not None:
        HttpWitness(url)
    with store.unit() as unit:
        new = witnessing.pin(unit, caller=caller, key=key)
    write_text(home.witness_vkey, f"{key.vkey}\n")
    if url is not None:
        write_text(home.witness_url, f"{url}\n")
    return new


def unpin_witness(home: Home, store: Store, *, caller: Caller, reason: str) -> None:
    """Gives the witness up, on the record.

    Raises:
        RiskError: an agent asks, or none is pinned.
    """
    if not caller.is_person:
        raise RiskError(
            "person_required", "only a person may give up the witness", "let a person run the command"
        )
    with store.unit() as unit:
        witnessing.unpin(unit, caller=caller, reason=reason)
        # Before the commit: a crash between leaves a record without a file, which still requires the witness.
        home.witness_vkey.unlink(missing_ok=True)
        home.witness_url.unlink(missing_ok=True)


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
