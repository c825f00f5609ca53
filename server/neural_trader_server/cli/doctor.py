"""`neural-trader doctor`: what works here, what does not, and what to do about it."""

from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from neural_trader_server.cli.terminal import FAILED, HOST_LACKS, Json, emit, out, show_table, with_desk

if TYPE_CHECKING:
    from neural_trader_server.checkup import Check


def doctor(json_output: Json = False) -> None:
    """Look at versions, sandbox layers, data, broker, memory and the audit log; say what to do.

    Exits 0 if everything works, 1 if something must be repaired, 3 if only this machine lacks a layer.
    """
    from neural_trader_server.checkup import examine

    checks = with_desk(examine)
    failed = [check for check in checks if not check.ok]
    if json_output:
        emit({"ok": not failed, "checks": [asdict(check) for check in checks]})
    else:
        show_table(
            "Doctor",
            ("check", "", "found", "what to do"),
            ((check.name, _mark(check), check.detail, check.next_step) for check in checks),
        )
        advice = sum(_mark(check) == "note" for check in checks)
        verdict = "Everything works" if not failed else f"{len(failed)} findings marked NO need you"
        out().print(f"{verdict}; {advice} notes are advice." if advice else f"{verdict}.")
    if failed:
        raise typer.Exit(HOST_LACKS if all(check.host for check in failed) else FAILED)


def _mark(check: "Check") -> str:
    """Returns the word that a person's eye looks for."""
    if not check.ok:
        return "NO"
    return "note" if check.next_step else "ok"
