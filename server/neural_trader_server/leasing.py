"""Leasing: this server tells the desk that its agents are still there.

Every message of a client renews its agent's lease; a client over stdio is connected as long as the
process lives, so there it is also renewed in the background. Over http nothing says that a client is
still there but its messages. A renewal that fails is logged and nothing more: the lease then runs out.
"""

from collections.abc import Callable
from datetime import timedelta

import anyio
import anyio.to_thread
import structlog

from neural_trader_governance import leases
from neural_trader_governance.errors import NeuralTraderError
from neural_trader_governance.identity import Caller
from neural_trader_governance.store import Store
from neural_trader_governance.terms.clocks import Clock

log = structlog.get_logger(__name__)

_RENEWALS_PER_LEASE = 3
_SEEN_MAX = 1024


class Leasing:
    """Renews leases; a lease is written only when half of it is gone.

    Args:
        store: Where leases are kept.
        clock: The machine's.
        lease_s: How long a lease lasts; 0 gives none.
        whose: Returns who is calling.
    """

    def __init__(self, store: Store, clock: Clock, lease_s: float, whose: Callable[[], Caller]) -> None:
        self._store = store
        self._clock = clock
        self._duration = timedelta(seconds=lease_s)
        self._whose = whose
        self._seen: dict[str, leases.Lease | None] = {}

    async def renew(self) -> None:
        """Renews the lease of whoever is calling."""
        await self._renew(self._whose())

    async def keep(self, caller: Caller) -> None:
        """Renews one agent's lease for ever: run it while its client is connected."""
        while self._duration:
            await self._renew(caller)
            await anyio.sleep(self._duration.total_seconds() / _RENEWALS_PER_LEASE)

    async def _renew(self, caller: Caller) -> None:
        if caller.is_person or not self._duration:
            return
        try:
            if self._is_due(caller):  # a reader waits for nobody; a thread takes ten times as long as it
                await anyio.to_thread.run_sync(self._commit, caller)
        except NeuralTraderError as error:
            log.error("lease_not_renewed", agent=caller.agent, error=str(error))

    def _is_due(self, caller: Caller) -> bool:
        now, agent = self._clock.now(), caller.agent
        # As it was last seen: until half of it is gone nobody takes it away, so nobody needs to be asked.
        if not leases.is_due(self._seen.get(agent), now=now, duration=self._duration):
            return False
        with self._store.read() as connection:
            lease = leases.read(connection, agent)
        if len(self._seen) >= _SEEN_MAX:
            self._seen.clear()
        self._seen[agent] = lease
        return leases.is_due(lease, now=now, duration=self._duration)

    def _commit(self, caller: Caller) -> None:
        now = self._clock.now()
        with self._store.unit() as unit:
            leases.renew(unit.connection, caller, now=now, duration=self._duration)
