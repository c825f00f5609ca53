"""Brakes: halts, throttles and taints stand because the log says so, and not only their tables.

Whoever edits the file of a desk that stands still could delete such a row, and no signature would
miss it. So whoever opens the store puts back what the log set and nobody released. A brake that no
entry tells of is left alone: it stops something, and a person can release it.
"""

import sqlite3
from collections.abc import Generator
from typing import Any

import orjson
import structlog

from neural_trader_governance.audit.entries import EntryType
from neural_trader_governance.terms.clocks import parse_time, to_epoch_us

_log = structlog.get_logger(__name__)


def restore(connection: sqlite3.Connection) -> int:
    """Puts back the brakes that are missing from their tables; returns how many were."""
    missing = _restore_halts(connection) + _restore_throttles(connection) + _restore_taints(connection)
    if missing:
        _log.error("brakes_restored", count=missing, advice="run `neural-trader audit verify`")
    return missing


def told(connection: sqlite3.Connection, *types: EntryType) -> Generator[tuple[int, dict[str, Any]]]:
    """Yields seq and content of the entries of these types, oldest first; the archived ones are left out."""
    marks = ", ".join("?" for _ in types)
    rows = connection.execute(
        f"SELECT seq, entry FROM audit_entries WHERE type IN ({marks}) AND length(entry) > 0 ORDER BY seq",  # noqa: S608 - only marks
        types,
    )
    for seq, data in rows.fetchall():
        try:
            yield int(seq), orjson.loads(data)
        except orjson.JSONDecodeError:  # the log's own check names it
            _log.error("entry_unreadable", seq=seq)


def _restore_halts(connection: sqlite3.Connection) -> int:
    standing: dict[str, tuple[str, str, str, int]] = {}
    for seq, entry in told(connection, EntryType.KILL, EntryType.RESUME):
        scope = str(entry["payload"].get("scope", "all"))
        if entry["type"] == EntryType.RESUME:
            standing.pop(scope, None)
        else:
            reason = str(entry["payload"].get("reason", ""))
            standing.setdefault(scope, (reason, entry["principal"], entry["agent"], seq))
    return sum(
        connection.execute(
            "INSERT INTO halts (scope, reason, principal, agent, seq) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (scope) DO NOTHING",
            (scope, *halt),
        ).rowcount
        for scope, halt in standing.items()
    )


def _restore_throttles(connection: sqlite3.Connection) -> int:
    standing: dict[str, tuple[int, str, int, int]] = {}
    for seq, entry in told(connection, EntryType.THROTTLE_TRIP, EntryType.THROTTLE_ENABLE):
        payload = entry["payload"]
        if entry["type"] == EntryType.THROTTLE_TRIP:
            enabled_us = standing.get(entry["agent"], (0, "", 0, 0))[3]
            standing[entry["agent"]] = (1, str(payload.get("reason", "")), seq, enabled_us)
        else:
            enabled_us = to_epoch_us(parse_time(entry["ts"]))
            standing[str(payload.get("enabled_agent", ""))] = (0, "", seq, enabled_us)
    return sum(
        connection.execute(
            "INSERT INTO throttles VALUES (?, ?, ?, ?, ?) ON CONFLICT (agent) DO UPDATE SET"
            " tripped = excluded.tripped, reason = excluded.reason, seq = excluded.seq,"
            " enabled_us = min(enabled_us, excluded.enabled_us)"
            " WHERE (tripped = 0 AND excluded.tripped = 1) OR enabled_us > excluded.enabled_us + 1000000",
            (agent, *throttle),
        ).rowcount
        for agent, throttle in standing.items()
        if throttle[0] or throttle[3]
    )


def _restore_taints(connection: sqlite3.Connection) -> int:
    standing: dict[tuple[str, str], dict[str, tuple[str, str, int]]] = {}
    for seq, entry in told(connection, EntryType.TAINT_MARK, EntryType.TAINT_CLEAR):
        payload = entry["payload"]
        if entry["type"] == EntryType.TAINT_CLEAR:
            standing.pop((str(payload.get("subject_principal")), str(payload.get("subject_agent"))), None)
        else:
            texts = standing.setdefault((entry["principal"], entry["agent"]), {})
            digest = str(payload.get("digest"))
            texts.setdefault(digest, (str(payload.get("source")), str(payload.get("tool")), seq))
    return sum(
        connection.execute(
            "INSERT INTO taints (principal, agent, digest, source, tool, seq) VALUES (?, ?, ?, ?, ?, ?)"
            " ON CONFLICT DO NOTHING",
            (*who, digest, *text),
        ).rowcount
        for who, texts in standing.items()
        for digest, text in texts.items()
    )
