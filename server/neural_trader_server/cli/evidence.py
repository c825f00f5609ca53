"""Evidence that leaves the desk: proofs of single entries, exports, archives (`neural-trader audit …`)."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neural_trader_server.cli.terminal import Json, emit, out, show_table, with_desk

if TYPE_CHECKING:
    from neural_trader_server.app import Services

ArchiveFolder = Annotated[
    Path | None,
    typer.Option("--archive", help="Where archived entries lie now, if not where they were archived to."),
]


def prove(
    seq: Annotated[int, typer.Argument(help="Number of the entry, from 0.", min=0)],
    target: Annotated[
        Path | None, typer.Option("--out", help="Write the proof to this file (.tlog-proof).")
    ] = None,
    archive_folder: ArchiveFolder = None,
    json_output: Json = False,
) -> None:
    """Print the proof that an entry is in the log, in the form of c2sp.org/tlog-proof.

    It carries the entry, and verifies offline with only the log's key: audit verify --proof FILE --vkey FILE
    """
    from neural_trader_governance.audit.archive import Shelf
    from neural_trader_governance.audit.proofs import prove_entry

    async def run(services: "Services") -> tuple[str, dict[str, Any]]:
        with services.store.read() as connection:
            text = prove_entry(connection, seq, shelf=Shelf(connection, archive_folder))
        return text, await services.call("audit_verify", seq=seq) if json_output else {}

    text, result = with_desk(run)
    if target is not None:
        target.write_text(text, encoding="utf-8")
    if json_output:
        emit({**result, "proof": text})
    elif target is None:
        sys.stdout.write(text)
    else:
        out().print(f"the proof of entry {seq} is in {target}", soft_wrap=True)


def verify_proof(path: Path, key: str, entry: Path | None, witness: Path | None, json_output: bool) -> None:
    """Checks a proof's file with nothing but the key, for `audit verify --proof`."""
    from neural_trader_governance.audit import proofs
    from neural_trader_governance.audit.cosignatures import WitnessKey

    try:
        vouching = None if witness is None else WitnessKey.parse(witness.read_text(encoding="utf-8"))
        text = path.read_text(encoding="utf-8")
        data = None if entry is None else entry.read_bytes().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(
            f"the proof, the entry or the witness's key cannot be read ({type(error).__name__})"
        ) from None
    proven = proofs.verify_proof(text, key, entry=data, witness=vouching)
    logged = None if proven.entry is None else proven.entry.model_dump(mode="json", exclude_none=True)
    facts = {
        "ok": True,
        "seq": proven.seq,
        "leaf_hash": proven.leaf_hash,
        "origin": proven.checkpoint.origin,
        "size": proven.checkpoint.size,
        "root": proven.checkpoint.root.hex(),
        "witnessed": vouching is not None,
        "entry": logged,
    }
    if json_output:
        emit(facts)
        return
    out().print(
        f"[green]proven[/]: entry {proven.seq} is in the log {facts['origin']}, under the signed root"
        f" {facts['root']} of {facts['size']} entries",
        soft_wrap=True,
    )
    out().print_json(data=logged)


def export(
    folder: Annotated[Path, typer.Argument(help="Where to write; an earlier export there is extended.")],
    archive_folder: ArchiveFolder = None,
    json_output: Json = False,
) -> None:
    """Write the log as a C2SP tlog-tiles folder that anybody can check without us."""
    from neural_trader_governance.audit.tiles import export as write_tiles

    async def run(services: "Services") -> dict[str, Any]:
        written = write_tiles(services.store, folder, archive=archive_folder)
        return {"folder": str(written.folder), "size": written.size, "root": written.root_hex}

    result = with_desk(run)
    if json_output:
        emit(result)
    else:
        out().print(
            f"{result['size']} entries under the root {result['root']} are in {folder}", soft_wrap=True
        )


def archive(
    folder: Annotated[Path, typer.Argument(help="The archive; the one of the last archiving is extended.")],
    before: Annotated[str | None, typer.Option(help="Entries of this date or time and later stay.")] = None,
    keep_days: Annotated[
        int | None, typer.Option(help="Entries of the last so many days stay.", min=0)
    ] = None,
    json_output: Json = False,
) -> None:
    """Move old entries' bytes out of desk.db into a verified export; every proof can still be made.

    An archive must be kept for 7 years from its newest entry. Nothing here ever deletes one.
    """
    from datetime import timedelta

    from neural_trader_governance.audit.archiving import archive_entries
    from neural_trader_governance.terms.clocks import format_time, parse_time

    if (before is None) == (keep_days is None):
        raise typer.BadParameter("give either --before or --keep-days")

    async def run(services: "Services") -> dict[str, Any]:
        now = services.clock.now()
        limit = parse_time(before) if before is not None else now - timedelta(days=keep_days or 0)
        done = archive_entries(services.store, folder, before=limit, now=now, caller=services.person)
        return {
            "folder": str(done.folder),
            "start": done.start,
            "end": done.end,
            "bytes_freed": done.bytes_freed,
            "keep_until": None if done.keep_until is None else format_time(done.keep_until),
        }

    result = with_desk(run)
    if json_output:
        emit(result)
    elif result["start"] == result["end"]:
        out().print("nothing to archive: entries leave in whole bundles of 256, and none is old enough")
    else:
        out().print(
            f"entries {result['start']} to {result['end'] - 1} ({result['bytes_freed']:,} bytes) are in"
            f" {result['folder']}, and no longer in desk.db; keep that folder until {result['keep_until']}",
            soft_wrap=True,
        )


def archives(json_output: Json = False) -> None:
    """List what was archived, where to, and until when it must be kept."""
    from neural_trader_governance.audit.archive import keep_until, read_segments
    from neural_trader_governance.terms.clocks import format_time, from_epoch_us

    async def run(services: "Services") -> list[dict[str, Any]]:
        with services.store.read() as connection:
            segments = read_segments(connection)
        return [
            {
                "start": segment.start,
                "end": segment.end,
                "folder": str(segment.folder),
                "here": (segment.folder / "checkpoint").is_file(),
                "keep_until": format_time(keep_until(from_epoch_us(segment.newest_time_us))),
            }
            for segment in segments
        ]

    found = with_desk(run)
    if json_output:
        emit({"archives": found})
    else:
        show_table(
            "Archives",
            ("start", "end", "folder", "here", "keep until"),
            (list(row.values()) for row in found),
        )
