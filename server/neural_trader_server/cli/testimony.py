"""Testimony: what a witness says of a log, held against the log, for `witness` and `audit verify`."""

import contextlib
from collections.abc import Generator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from neural_trader_server.cli.terminal import emit, out, show_table

if TYPE_CHECKING:
    from neural_trader_governance.audit.witness import Witnessed
    from neural_trader_server.app import Services
    from neural_trader_server.witness_sources import WitnessSource


def witness_problems(place: Path, size: int, vkey: Path, state: str | None) -> list[dict[str, Any]]:
    """Returns what a witness finds missing in a log that is whole in itself, for `audit verify`."""
    from neural_trader_governance.audit import witnessed
    from neural_trader_governance.audit.cosignatures import WitnessKey
    from neural_trader_server.witness_sources import HttpWitness

    if not vkey.is_file():
        raise typer.BadParameter(f"there is no {vkey}; give --witness FILE with the witness's verifier key")
    key = WitnessKey.parse(vkey.read_text(encoding="utf-8", errors="replace"))
    known: str | None = None
    if state is not None:
        origin = witnessed.origin_of(place)
        if state.startswith(("http://", "https://")):
            known = HttpWitness(state).latest_note(origin)
        elif Path(state).is_dir():
            known = witnessed.remembered(Path(state), origin)
        else:
            known = Path(state).read_text(encoding="utf-8")
        if known is None:
            return [{"seq": None, "what": f"the witness never cosigned the log {origin}"}]
    missing = witnessed.missing_in(place, key, size=size, cosigned=known)
    return [] if missing is None else [{"seq": None, "what": missing}]


def compare(services: "Services", source: "WitnessSource | None") -> dict[str, Any]:
    """Holds the log against what the witness itself says; the desk's own table proves nothing."""
    from neural_trader_governance.audit import witnessed, witnessing
    from neural_trader_governance.audit.log import read_checkpoint
    from neural_trader_governance.errors import IntegrityError, NeuralTraderError
    from neural_trader_governance.terms.clocks import format_time, from_epoch_us

    head, store = services.store.head(), services.store
    with store.read() as connection:
        pinned = witnessing.read_pin(connection)
        known = witnessing.standing(connection, now=services.clock.now())
    result: dict[str, Any] = {
        "ok": False,
        "witness": None if pinned is None else pinned.key.vkey,
        "desk_size": head.size,
        "desk_cosigned_size": known.size,
        "witness_size": None,
        "witness_time": None,
        "refused": None if pinned is None or pinned.consistent else pinned.detail,
        "agree": None,
        "detail": "",
    }
    if pinned is None:
        return result | {"detail": "no witness is pinned: run neural-trader witness pin FILE --url URL"}
    try:
        note = (source or services.cosigner.source()).latest_note(store.origin)
        if note is None:
            return result | {
                "detail": "the witness never cosigned this log: run neural-trader witness cosign"
            }
        seen, time_s = witnessed.open_cosigned(note, pinned.key)
    except IntegrityError as error:
        return result | {"agree": False, "detail": error.what}
    except NeuralTraderError as error:
        return result | {"detail": f"{error.what}; {error.next_step}"}
    with store.read() as connection:
        newest = read_checkpoint(connection)
        missing = witnessed.missing_from(
            note,
            pinned.key,
            origin=store.origin,
            size=0 if newest is None else newest[0],
            root_at=witnessed.store_root(connection),
        )
    return result | {
        "ok": missing is None and pinned.consistent,
        "witness_size": seen.size,
        "witness_time": format_time(from_epoch_us(time_s * 1_000_000)),
        "agree": missing is None,
        "detail": missing or "",
    }


@contextlib.contextmanager
def opened_source(folder: Path | None, url: str | None) -> "Generator[WitnessSource | None]":
    """Yields the witness of a folder or an address, or None for the pinned one."""
    from neural_trader_server.witness_service import locate_witness, open_witness
    from neural_trader_server.witness_sources import FolderWitness, HttpWitness

    if folder is None:
        yield None if url is None else HttpWitness(url)
        return
    witness = open_witness(locate_witness(folder), make=False)
    try:
        yield FolderWitness(witness)
    finally:
        witness.close()


def show_logs(folder: Path, json_output: bool) -> None:
    """Shows every log that the witness in a folder knows."""
    from neural_trader_server.witness_service import locate_witness, open_witness

    witness = open_witness(locate_witness(folder), make=False)
    try:
        logs, own = witness.logs(), witness.key.vkey
        keys = [key.vkey for _, key in witness.trusted()]
    finally:
        witness.close()
    if json_output:
        emit({"ok": True, "witness": own, "trusted": keys, "logs": [asdict(known) for known in logs]})
        return
    out().print(f"This witness is {own}", soft_wrap=True)
    show_table("Trusted keys", ("log key",), ((key,) for key in keys))
    show_table("Logs", ("log", "size", "root", "refused"), map(_row, logs))


def _row(known: "Witnessed") -> tuple[object, ...]:
    return known.origin, known.size, known.root_hex[:16], known.refused
