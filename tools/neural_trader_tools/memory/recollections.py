"""Did orders list what was recalled, and was all of that really recalled? Asked of the log and of the store.

from an order    each recall that it lists is an entry of its agent before it, and says what the order says
from a recall    each memory that it names is in the store, of that agent, with that revision and hash;
                 and every order since then, as far as orders list recalls, has it
"""

from collections import defaultdict, deque
from collections.abc import Collection, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from neural_trader_governance import recalls
from neural_trader_governance.audit.entries import EntryType, LoggedEntry
from neural_trader_governance.audit.log import read_entry
from neural_trader_governance.store import Store
from neural_trader_governance.terms.clocks import parse_time
from neural_trader_tools.memory.problems import WHAT, Problem

ENTRIES_AT_ONCE: Final = 500
_CLOCKS_DIFFER: Final = timedelta(minutes=1)
"""An order's own time is taken a moment before its entry's."""


def verify_recalls(
    store: Store, size: int, names: Mapping[str, Collection[str]], archive: Path | None = None
) -> Iterator[Problem]:
    """Yields what does not fit between recalls, orders and the store.

    Args:
        store: The log.
        size: Entries from this one on are not looked at.
        names: Of every revision in the store (`recalls.name_memory`), by agent.
        archive: Where archived entries lie now, if not where they were archived to.

    Raises:
        StorageError: an entry's archive is not there.
    """
    standing: defaultdict[tuple[str, str], deque[tuple[int, dict[str, Any]]]] = defaultdict(
        lambda: deque(maxlen=recalls.LISTED_MAX)
    )
    for entry in _entries(store, size, archive):
        payload: dict[str, Any] = dict(entry.payload)
        before = standing[entry.principal, entry.agent]
        if entry.type is EntryType.MEMORY_RECALL:
            before.append((entry.seq, payload))
            known = names.get(entry.agent, ())
            for name in payload["memories"]:
                if name not in known:
                    yield _problem("recall_unknown", entry, str(name))
            continue
        listed: dict[str, Any] = payload.get("recalled") or {}
        latest = entry.ts - recalls.WINDOW + _CLOCKS_DIFFER
        since = min(parse_time(str(listed["since"])), latest) if listed else entry.ts - recalls.WINDOW
        made: Any = recalls.summarize(list(before), since).get("recalled") or {}
        if not listed and made:
            # Recalled at the very edge of the window: the order's own time may have been a moment later.
            made = recalls.summarize(list(before), latest).get("recalled") or {}
        told, due = set(listed.get("seqs", ())), set(made.get("seqs", ()))
        for _ in told - due:
            yield _problem("recall_unmade", entry)
        for _ in due - told:
            yield _problem("recall_unlisted", entry)
        if told == due and {**listed, "since": ""} != {**made, "since": ""} and (listed or made):
            yield _problem("recall_unmade", entry)


def _problem(code: str, entry: LoggedEntry, name: str = "") -> Problem:
    memory_id, _, rest = name.partition("@")
    rev = rest.partition(":")[0]
    return Problem(
        code=code,
        memory_id=memory_id,
        rev=int(rev) if rev.isdecimal() else 0,
        agent=entry.agent,
        audit_seq=entry.seq,
        what=WHAT[code],
    )


def _entries(store: Store, size: int, archive: Path | None) -> Iterator[LoggedEntry]:
    query = "SELECT seq FROM audit_entries WHERE type IN (?, ?) AND seq > ? AND seq < ? ORDER BY seq LIMIT ?"
    kinds = (EntryType.MEMORY_RECALL, EntryType.ORDER_INTENT)
    last = -1
    while True:
        # A transaction a part: a reader that stays open keeps the write-ahead log from being folded in.
        with store.read() as connection:
            rows = connection.execute(query, (*kinds, last, size, ENTRIES_AT_ONCE)).fetchall()
            found = [read_entry(connection, int(seq), folder=archive) for (seq,) in rows]
        yield from found
        if not found:
            return
        last = found[-1].seq
