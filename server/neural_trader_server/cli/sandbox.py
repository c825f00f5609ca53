"""`neural-trader sandbox`: where strangers' code runs, and whether its walls hold here."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from neural_trader_server.cli.terminal import (
    FAILED,
    HOST_LACKS,
    Json,
    emit,
    err,
    group,
    out,
    run_async,
    show_table,
    with_desk,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from neural_trader_sandbox.port import Sandbox, SandboxReport, SandboxResult
    from neural_trader_server.app import Services

_Answer = TypeVar("_Answer")

app = group("sandbox", "Where strategies and other untrusted code run.")

SCRIPT = "neural_trader_sandbox.script:run_script"


class Backend(StrEnum):
    """Where the walls stand."""

    LOCAL = "local"
    E2B = "e2b"


class ProfileName(StrEnum):
    """What the local backend locks a run in by; landlock is weaker, for hosts without user namespaces."""

    FULL = "full"
    LANDLOCK = "landlock"


Profiled = Annotated[
    ProfileName, typer.Option(help="Of the local backend. landlock is weaker: see docs/sandbox.md.")
]


class Remote(StrEnum):
    """Backends that need a person's consent."""

    E2B = "e2b"


@app.command()
def doctor(
    backend: Annotated[Backend, typer.Option(help="local or e2b (which costs a few seconds' price).")] = (
        Backend.LOCAL
    ),
    profile: Profiled = ProfileName.FULL,
    json_output: Json = False,
) -> None:
    """Attack a real sandbox with canaries and show every layer; exits 3 if one is missing."""

    async def probe(sandbox: "Sandbox") -> "SandboxReport":
        return await sandbox.probe()

    report = _within(backend, profile, probe, engine=backend is Backend.E2B)
    if json_output:
        layers = [
            {"name": layer.name, "holds": layer.holds, "detail": layer.detail, "next_step": layer.next_step}
            for layer in report.layers
        ]
        emit({"ok": report.ok, "backend": report.backend, "layers": layers, "notes": list(report.notes)})
    else:
        show_table(
            f"Sandbox {report.backend}",
            ("layer", "", "what was tried", "what to do"),
            (
                (layer.name, "holds" if layer.holds else "MISSING", layer.detail, layer.next_step)
                for layer in report.layers
            ),
        )
        for note in report.notes:
            err().print(f"Note: {note}", markup=False, soft_wrap=True)
    if not report.ok:
        raise typer.Exit(HOST_LACKS)


@app.command()
def run(
    file: Annotated[Path, typer.Argument(help="A Python file.", exists=True, dir_okay=False)],
    backend: Annotated[
        Backend, typer.Option(help="local, or e2b: sends the file to a service.")
    ] = Backend.LOCAL,
    profile: Profiled = ProfileName.FULL,
    timeout_s: Annotated[float, typer.Option("--timeout-s", help="Wall clock.", min=0.1, max=3600)] = 30.0,
    json_output: Json = False,
) -> None:
    """Run a file as untrusted code: no network, no files but its own /tmp, limited time and memory.

    numpy and polars can be imported. With --backend e2b the file leaves this machine, which needs a person's
    consent (sandbox consent e2b) and an API key, and costs money.
    Example: neural-trader sandbox run script.py --timeout-s 5 --json

    What it prints is shown as it comes, whole lines at a time; with --json at the end. Ctrl-C ends it.
    Prints {status, stdout, stderr, error, wall_ms}; status is ok, error, timeout, killed or refused.
    Exits 0 if it is ok, 3 if it was refused because this host lacks a layer, else 1.
    """
    from neural_trader_sandbox.port import Job, Limits, Progress

    try:
        source = file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise typer.BadParameter(f"{file} is not a text file in UTF-8.", param_hint="FILE") from None

    def show(progress: Progress) -> None:
        if progress.stream is not None:
            (out if progress.stream == "stdout" else err)().out(progress.text, end="", highlight=False)

    async def run_file(sandbox: "Sandbox") -> "SandboxResult":
        job, limits = Job(SCRIPT, {"source": source}), Limits(wall_time_s=timeout_s)
        return await sandbox.run(job, limits, watch=None if json_output else show)

    try:
        result = _within(backend, profile, run_file)
    except KeyboardInterrupt:
        err().print("Interrupted: the guest was ended.")
        raise
    fault = result.error
    document: dict[str, Any] = {
        "status": result.status,
        "stdout": result.stdout,
        "stderr": result.stderr,
        "error": {"type": fault.type, "message": fault.message, "line": fault.line} if fault else None,
        "wall_ms": round(result.wall_ms, 3),
        "backend": result.backend,
        "layers": list(result.layers),
        "notes": list(result.notes),
    }
    if json_output:
        emit(document)
    else:
        for note in result.notes:
            err().print(f"Note: {note}", markup=False, soft_wrap=True)
        where = f" in line {fault.line}" if fault and fault.line is not None else ""
        reason = f": {fault.type}: {fault.message}{where}" if fault else ""
        out().print(
            f"status {result.status} after {result.wall_ms:.0f} ms{reason}", soft_wrap=True, markup=False
        )
    if result.status != "ok":
        raise typer.Exit(HOST_LACKS if result.status == "refused" else FAILED)


@app.command()
def template(
    folder: Annotated[
        Path | None, typer.Option("--write", help="Write Dockerfile and files there; build nothing.")
    ] = None,
    json_output: Json = False,
) -> None:
    """Have the e2b service build the template that its sandboxes are made of, or write its Dockerfile.

    It holds numpy, polars, numba, the engine's source files and its compiled kernels. Build it again after
    each update: a sandbox of an older one is sent the engine and compiles it, which takes some seconds and
    costs money.
    Needs the API key and a person's consent (sandbox consent), and sends nothing but those files.
    """
    import tempfile

    from neural_trader_sandbox.e2b.recipe import build, recipe
    from neural_trader_server.app import PRELOAD
    from neural_trader_server.remote_sandbox import consented, e2b_settings

    made = recipe(PRELOAD)
    if folder is not None:
        made.write(folder)
        told = {"template": None, "engine": made.bundle.digest, "folder": str(folder)}
    else:

        async def run(services: "Services") -> tuple[str, str]:
            settings = e2b_settings(services.home, services.settings)
            consented(services)(settings.destination)  # before the key or a file goes there
            with tempfile.TemporaryDirectory() as place:
                return settings.template, await build(
                    made, settings.template, Path(place), settings.connection()
                )

        name, number = with_desk(run)
        told = {"template": name, "id": number, "engine": made.bundle.digest}
    if json_output:
        emit(told)
    elif folder is not None:
        out().print(f"Written to {folder}: docker build -t {made.bundle.digest[:12]} {folder}", markup=False)
    else:
        out().print(f"Built {told['template']} ({told['id']}).", markup=False)


@app.command()
def consent(
    backend: Annotated[Remote, typer.Argument(help="The backend whose service it is about.")],
    revoke: Annotated[bool, typer.Option("--revoke", help="Take the consent back.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask; for a person's own script.")] = False,
    json_output: Json = False,
) -> None:
    """Allow strategies and data to leave this machine for the service that the settings name.

    Shows what would leave, and asks. Bound to that address; on record in the audit log. Agents have no tool
    for it. --revoke takes it back: nothing more is sent from then on, also by servers that are running.
    """
    from neural_trader_server import remote_sandbox
    from neural_trader_server.remote_sandbox import Consent

    async def run(services: "Services") -> Consent | None:
        if revoke:
            existed = remote_sandbox.revoke_consent(services)
            if not json_output:
                out().print("Revoked." if existed else "There was no consent.")
            return None
        destination = remote_sandbox.e2b_settings(services.home, services.settings).destination
        if not yes:
            _ask(destination)
        return remote_sandbox.give_consent(services, destination)

    given = with_desk(run)
    if json_output:
        emit({"backend": backend.value, "consent": given.model_dump(mode="json") if given else None})
    elif given is not None:
        out().print(
            f"{given.person} agreed that strategies and data go to {given.destination}.", markup=False
        )


def _ask(destination: str) -> None:
    """Shows what would leave, and asks the person at the terminal.

    Raises:
        RiskError: nobody is there, or the answer is no.
    """
    from neural_trader_governance.errors import RiskError
    from neural_trader_server.remote_sandbox import COMMAND, LEAVES

    err().print(f"To {destination} would go, whenever something runs there:", markup=False)
    for what in LEAVES:
        err().print(f"  - {what}", markup=False)
    err().print("The service's operator can read all of it. Your keys, orders and log stay here.")
    if not sys.stdin.isatty():
        raise RiskError(
            "sandbox_consent_missing",
            f"nobody is at the terminal to allow that data goes to {destination}",
            f"a person runs: {COMMAND}",
        )
    if not typer.confirm("Do you agree?", default=False, err=True):
        raise RiskError("sandbox_consent_missing", "you did not agree", f"to agree later: {COMMAND}")


def _within(
    backend: Backend,
    profile: ProfileName,
    work: "Callable[[Sandbox], Awaitable[_Answer]]",
    *,
    engine: bool = False,
) -> "_Answer":
    """Does the work in a sandbox of the backend, with the modules that a script may use.

    Args:
        backend: Which.
        profile: Of the local backend.
        work: What is done.
        engine: Loaded as for strategies; tells whether a template has the engine and its kernels.
    """
    if backend is not Backend.LOCAL and profile is not ProfileName.FULL:
        raise typer.BadParameter("it is a profile of the local backend only.", param_hint="--profile")
    modules = ("numpy", "polars")
    if backend is Backend.LOCAL:
        from neural_trader_sandbox.backends import open_sandbox
        from neural_trader_server.logs import configure_logs

        configure_logs("warning")

        async def run_here() -> "_Answer":
            sandbox = open_sandbox(backend.value, modules, profile=profile.value)
            try:
                return await work(sandbox)
            finally:
                await sandbox.aclose()

        return run_async(run_here)

    async def run_there(services: "Services") -> "_Answer":
        from neural_trader_server import remote_sandbox

        services.settings = services.settings.model_copy(update={"sandbox_backend": backend.value})
        destination = remote_sandbox.e2b_settings(services.home, services.settings).destination
        if not remote_sandbox.is_consented(services, destination) and sys.stdin.isatty():
            _ask(destination)
            remote_sandbox.give_consent(services, destination)
        from neural_trader_server.app import PRELOAD

        sandbox = services.sandbox_with(PRELOAD if engine else modules)
        try:
            return await work(sandbox)
        finally:
            await sandbox.aclose()

    return with_desk(run_there)
