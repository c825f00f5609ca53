"""Archiving, the deed: export, verify the export, and only then let old bytes leave the database."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from neural_trader_governance.audit.archive import KEPT_TYPES, keep_until, read_segments
from neural_trader_governance.audit.bundles import WIDTH
from neural_trader_governance.audit.entries import AuditEntry, EntryType
from neural_trader_governance.audit.folders import verify_export
from neural_trader_governance.audit.tiles import export
from neural_trader_governance.errors import InputError, IntegrityError
from neural_trader_governance.identity import Caller
from neural_trader_governance.store import Store
from neural_trader_governance.terms.clocks import format_time, from_epoch_us, to_epoch_us


@dataclass(frozen=True, slots=True)
class Archived:
    """What an archiving moved: entries [start, end), none where start equals end."""

    folder: Path
    start: int
    end: int
    bytes_freed: int
    keep_until: datetime | None


def archive_entries(
    store: Store, folder: Path, *, before: datetime, now: datetime, caller: Caller
) -> Archived:
    """Moves the bytes of entries older than a moment into an export, in whole bundles of 256.

    The folder gets a whole export of the log, which is verified as an outsider would, before one
    transaction empties the entries' bytes and records that with an `audit.archive` entry. Leaf hashes,
    tree, checkpoints and search columns stay, so every proof can still be made.

    Args:
        store: The log.
        folder: A new folder, or the one of the last archiving, which is extended.
        before: Entries of this moment and later stay.
        now: The present; `before` may not lie beyond it.
        caller: The person who asked for it.

    Raises:
        InputError: `before` lies in the future.
        IntegrityError: the export does not verify; nothing left the database.
        StorageError: the folder cannot be written, or an earlier archive is not at hand.
    """
    if before > now:
        raise InputError("invalid_before", f"{format_time(before)} is yet to come", "give a time in the past")
    place = folder.absolute()
    done = export(store, place)
    report = verify_export(place, store.signer.pins())
    if not report.ok or report.size != done.size:
        what = report.problems[0].what if report.problems else "it is of another size"
        raise IntegrityError(
            "archive_not_whole",
            f"the export in {place} does not verify ({what}); nothing was archived",
            "run `neural-trader audit verify`, then archive into an empty folder",
        )
    with store.unit() as unit:
        connection = unit.connection
        (young,) = connection.execute(
            "SELECT min(seq) FROM audit_entries WHERE time_us >= ?", (to_epoch_us(before),)
        ).fetchone()
        end = min(done.size, done.size if young is None else int(young)) // WIDTH * WIDTH
        start = max((segment.end for segment in read_segments(connection)), default=0)
        if end <= start:
            return Archived(place, start, start, 0, None)
        span = (start, end, *(kept.value for kept in KEPT_TYPES))
        moved = f"WHERE seq >= ? AND seq < ? AND type NOT IN ({', '.join('?' for _ in KEPT_TYPES)})"
        (freed,) = connection.execute(
            f"SELECT total(length(entry)) FROM audit_entries {moved}",  # noqa: S608 - only marks
            span,
        ).fetchone()
        (newest_us,) = connection.execute(
            "SELECT max(time_us) FROM audit_entries WHERE seq >= ? AND seq < ?", (start, end)
        ).fetchone()
        connection.execute(f"UPDATE audit_entries SET entry = x'' {moved}", span)  # noqa: S608 - only marks
        connection.execute(
            "INSERT INTO audit_archives VALUES (?, ?, ?, ?)", (start, end, str(place), newest_us)
        )
        newest = from_epoch_us(newest_us)
        unit.append(
            AuditEntry.by(
                caller,
                EntryType.AUDIT_ARCHIVE,
                payload={
                    "start": start,
                    "end": end,
                    "export_size": done.size,
                    "export_root": done.root_hex,
                    "keep_until": format_time(keep_until(newest)),
                },
            )
        )
    return Archived(place, start, end, int(freed), keep_until(newest))
