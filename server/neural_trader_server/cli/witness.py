"""`neural-trader witness`: the memory outside the desk, and what the desk owes it."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neural_trader_server.cli import testimony
from neural_trader_server.cli.terminal import FAILED, Json, emit, group, out, show_table, with_desk

if TYPE_CHECKING:
    from neural_trader_server.app import Services

app = group(
    "witness",
    "A memory outside the desk, with its own folder and key, that vouches only for a log that grows.\n\n"
    "On the witness's machine or account: neural-trader witness trust log.vkey; neural-trader witness serve."
    " On the desk: neural-trader witness pin witness.vkey --url http://127.0.0.1:8770. See docs/witness.md.",
)

Folder = Annotated[
    Path | None,
    typer.Option(
        "--folder", help="The witness's folder; default: NEURAL_TRADER_WITNESS_HOME, else the platform's."
    ),
]


@app.command()
def serve(
    folder: Folder = None,
    host: Annotated[str, typer.Option(help="A loopback address; reach it by an SSH tunnel.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.", min=0, max=65535)] = 8770,
    log_vkey: Annotated[
        list[Path] | None,
        typer.Option("--log-vkey", help="File with a log's verifier key to pin first; may be repeated."),
    ] = None,
) -> None:
    """Run the witness; it cosigns what continues the newest tree that it saw, and nothing else.

    Its key and memory are made on the first run. Example: neural-trader witness serve --log-vkey log.vkey
    """
    import anyio

    from neural_trader_server.logs import configure_logs
    from neural_trader_server.witness_service import locate_witness, serve_witness

    configure_logs("info")
    anyio.run(serve_witness, locate_witness(folder), log_vkey or [], host, port)


@app.command()
def trust(
    vkey: Annotated[Path, typer.Argument(help="The desk's keys/log.vkey, got from its operator.")],
    folder: Folder = None,
    json_output: Json = False,
) -> None:
    """Pin a log's key in the witness. Run it again after the log's key was rotated; both keys then count."""
    from neural_trader_server.witness_service import locate_witness, open_witness, read_vkey

    key = read_vkey(vkey)
    place = locate_witness(folder)
    witness = open_witness(place)
    try:
        new = witness.trust(key)
        own = witness.key.vkey
    finally:
        witness.close()
    if json_output:
        emit({"log": key.vkey, "new": new, "witness": own, "vkey_file": str(place / "witness.vkey")})
        return
    out().print(f"{'Pinned' if new else 'Was pinned:'} {key.vkey}", soft_wrap=True)
    out().print(f"On the desk: neural-trader witness pin {place / 'witness.vkey'} --url URL", soft_wrap=True)


@app.command()
def pin(
    vkey: Annotated[Path, typer.Argument(help="The witness's witness.vkey.", exists=True, dir_okay=False)],
    url: Annotated[str | None, typer.Option(help="Where it listens, such as http://127.0.0.1:8770.")] = None,
    json_output: Json = False,
) -> None:
    """Make a witness this desk's own, on the record: from now on no order passes without its word."""
    from neural_trader_governance.audit.cosignatures import WitnessKey
    from neural_trader_server.cosigning import pin_witness

    key = WitnessKey.parse(vkey.read_text(encoding="utf-8", errors="replace"))

    async def run(services: "Services") -> bool:
        return pin_witness(services.home, services.store, caller=services.person, key=key, url=url)

    new = with_desk(run)
    if json_output:
        emit({"witness": key.vkey, "new": new, "url": url})
    else:
        out().print(f"{'Pinned' if new else 'Was pinned:'} {key.vkey}", soft_wrap=True)
        out().print("Next: neural-trader witness cosign; servers that run do it by themselves.")


@app.command()
def unpin(
    reason: Annotated[str, typer.Option(help="Why; it goes into the audit log.")], json_output: Json = False
) -> None:
    """Give the witness up, on the record; orders then pass without one."""
    from neural_trader_server.cosigning import unpin_witness

    async def run(services: "Services") -> None:
        unpin_witness(services.home, services.store, caller=services.person, reason=reason)

    with_desk(run)
    if json_output:
        emit({"witness": None})
    else:
        out().print("This desk has no witness any more.")


@app.command()
def cosign(
    url: Annotated[str | None, typer.Option(help="Ask here instead of the pinned address.")] = None,
    folder: Annotated[
        Path | None, typer.Option("--folder", help="Ask the witness in this folder, without a server.")
    ] = None,
    json_output: Json = False,
) -> None:
    """Take this home's newest checkpoint to its witness once, and keep the cosignature.

    Exits 1 if the witness refuses (this log is not the one that it knows) or is not reached.
    """
    from neural_trader_governance.errors import ConfigurationError

    async def run(services: "Services") -> dict[str, Any] | None:
        import anyio.to_thread

        with testimony.opened_source(folder, url) as source:
            done = await anyio.to_thread.run_sync(services.cosigner.round, source)
        return None if done is None else asdict(done)

    result = with_desk(run)
    if result is None:
        raise ConfigurationError(
            "no_witness", "this desk has no witness", "run `neural-trader witness pin FILE --url URL`"
        )
    if json_output:
        emit({"ok": True, **result})
    else:
        out().print(f"Cosigned at size {result['size']}: {result['line'].strip()}", soft_wrap=True)


@app.command()
def status(
    folder: Annotated[
        Path | None, typer.Option("--folder", help="Look into this witness's folder, without a server.")
    ] = None,
    url: Annotated[str | None, typer.Option(help="Ask here instead of the pinned address.")] = None,
    json_output: Json = False,
) -> None:
    """Show what the witness saw last, what the desk holds, and whether they agree; exits 1 if not.

    On a machine without a desk, --folder lists every log that this witness knows.
    """
    from neural_trader_server.founding import is_founded
    from neural_trader_server.home import Home

    if folder is not None and not is_founded(Home.locate()):
        testimony.show_logs(folder, json_output)
        return

    async def run(services: "Services") -> dict[str, Any]:
        import anyio.to_thread

        with testimony.opened_source(folder, url) as source:
            return await anyio.to_thread.run_sync(testimony.compare, services, source)

    result = with_desk(run)
    if json_output:
        emit(result)
    else:
        show_table(
            "Witness", ("", ""), ((name.replace("_", " "), str(value)) for name, value in result.items())
        )
    if not result["ok"]:
        raise typer.Exit(FAILED)
