"""The audit entries of one order: what joins a decision to its fills."""

import sqlite3

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
        name = entry.client_order_id
        if name is None:  # an entry of the preview, before there was an order
            name = _became(connection, entry.payload.get("preview_id"))
        if name is None:
            return []
        query = "SELECT seq FROM audit_entries WHERE client_order_id = ? ORDER BY seq LIMIT ?"
        rows = connection.execute(query, (name, ENTRIES_MAX)).fetchall()
    return [int(number) for (number,) in rows]


def _became(connection: sqlite3.Connection, preview_id: object) -> str | None:
    """Returns the order that a preview became."""
    if not isinstance(preview_id, str):
        return None
    query = "SELECT client_order_id FROM orders WHERE preview_id = ?"
    row = connection.execute(query, (preview_id,)).fetchone()
    return None if row is None else str(row[0])
