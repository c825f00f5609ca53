"""The audit entries of one order: what joins a decision to its fills."""

from anyio import to_thread

from neural_trader_governance.audit.log import read_entry
from neural_trader_governance.errors import InputError
from neural_trader_governance.store import Store

ENTRIES_MAX = 1_000


async def entries_of_order(store: Store, seq: int | None) -> list[int]:
    """Returns the numbers of all entries of the order that an entry belongs to; none where it has none."""
    return [] if seq is None else await to_thread.run_sync(_find, store, seq)


def _find(store: Store, seq: int) -> list[int]:
    with store.read() as connection:
        try:
            entry = read_entry(connection, seq)
        except InputError:
            return []
        if entry.client_order_id is None:
            return []
        query = "SELECT seq FROM audit_entries WHERE client_order_id = ? ORDER BY seq LIMIT ?"
        rows = connection.execute(query, (entry.client_order_id, ENTRIES_MAX)).fetchall()
    return [int(number) for (number,) in rows]
