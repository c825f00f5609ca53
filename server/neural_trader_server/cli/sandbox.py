"""`neural-trader sandbox`: where strangers' code runs, and whether its walls hold here."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neural_trader_server.cli.terminal import FAILED, HOST_LACKS, Json, emit, err, group, out, show_table

if TYPE_CHECKING:
    from neural_trader_sandbox.port import SandboxReport, SandboxResult

app = group("sandbox", "Where strategies and other untrusted code run.")

SCRIPT = "neural_trader_sandbox.script:run_script"


class Backend(StrEnum):
    """Where the walls stand."""

    LOCAL = "local"
    E2B = "e2b"


@app.command()
def doctor(json_output: Json = False) -> None:
    """Attack a real sandbox with canaries and show every layer; exits 3 if this host lacks one."""
    import anyio

    async def run() -> "SandboxReport":
        sandbox = _open(Backend.LOCAL)
        try:
            return await sandbox.probe()
        finally:
            await sandbox.aclose()

    report = anyio.run(run)
    if json_output:
        layers = [
            {"name": layer.name, "holds": layer.holds, "detail": layer.detail, "next_step": layer.next_step}
            for layer in report.layers
        ]
        emit({"ok": report.ok, "backend": report.backend, "layers": layers})
    else:
        show_table(
            f"Sandbox {report.backend}",
            ("layer", "", "what was tried", "what to do"),
            (
                (layer.name, "holds" if layer.holds else "MISSING", layer.detail, layer.next_step)
                for layer in report.layers
            ),
        )
    if not report.ok:
        raise typer.Exit(HOST_LACKS)


@app.command()
def run(
    file: Annotated[Path, typer.Argument(help="A Python file.", exists=True, dir_okay=False)],
    backend: Annotated[Backend, typer.Option(help="local (e2b is not available yet).")] = Backend.LOCAL,
    timeout_s: Annotated[float, typer.Option("--timeout-s", help="Wall clock.", min=0.1, max=3600)] = 30.0,
    json_output: Json = False,
) -> None:
    """Run a file as untrusted code: no network, no files but its own /tmp, limited time and memory.

    Prints {status, stdout, stderr, error, wall_ms}; status is ok, error, timeout, killed or refused.
    Exits 0 if it is ok, 3 if it was refused because this host lacks a layer, else 1.
    """
    import anyio

    from neural_trader_sandbox.port import Job, Limits

    source = file.read_text(encoding="utf-8")

    async def run_file() -> "SandboxResult":
        sandbox = _open(backend)
        try:
            return await sandbox.run(Job(SCRIPT, {"source": source}), Limits(wall_time_s=timeout_s))
        finally:
            await sandbox.aclose()

    result = anyio.run(run_file)
    fault = result.error
    document: dict[str, Any] = {
        "status": result.status,
        "stdout": result.stdout,
        "stderr": result.stderr,
        "error": {"type": fault.type, "message": fault.message, "line": fault.line} if fault else None,
        "wall_ms": round(result.wall_ms, 3),
        "backend": result.backend,
        "layers": list(result.layers),
    }
    if json_output:
        emit(document)
    else:
        out().out(result.stdout, end="", highlight=False)
        err().out(result.stderr, end="", highlight=False)
        reason = f": {fault.type}: {fault.message}" if fault else ""
        out().print(
            f"status {result.status} after {result.wall_ms:.0f} ms{reason}", soft_wrap=True, markup=False
        )
    if result.status != "ok":
        raise typer.Exit(HOST_LACKS if result.status == "refused" else FAILED)


def _open(backend: Backend) -> Any:
    """Returns the backend, with the modules that a script may use (typed Any: imported lazily)."""
    from neural_trader_sandbox.backends import open_sandbox
    from neural_trader_server.logs import configure_logs

    configure_logs("warning")
    return open_sandbox(backend.value, ("numpy", "polars"))
