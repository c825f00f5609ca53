"""`neural-trader audit`: read the log, and check that nobody has changed it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neural_trader_server.cli import evidence
from neural_trader_server.cli.terminal import (
    FAILED,
    Json,
    call_tool,
    emit,
    err,
    group,
    out,
    show_table,
    with_desk,
)

if TYPE_CHECKING:
    from neural_trader_server.app import Services
    from neural_trader_server.home import Home

app = group("audit", "The signed log of everything that was asked, decided and done.")


@app.command()
def verify(
    folder: Annotated[
        Path | None,
        typer.Argument(help="An export's folder, or a copy of desk.db; default: this home's log."),
    ] = None,
    vkey: Annotated[
        Path | None,
        typer.Option(help="File with the log's verifier key; default: the key that this home pinned."),
    ] = None,
    archive: evidence.ArchiveFolder = None,
    mldsa_vkey: Annotated[
        Path | None, typer.Option(help="File with the log's ML-DSA-44 verifier key, where it has one.")
    ] = None,
    proof: Annotated[
        Path | None, typer.Option(help="Check this proof of `audit prove` instead; needs only the key.")
    ] = None,
    entry: Annotated[
        Path | None, typer.Option(help="With --proof: the entry's JSON, where it came another way.")
    ] = None,
    witness: Annotated[
        Path | None, typer.Option(help="Witness's verifier key: fail where what it cosigned last is missing.")
    ] = None,
    witness_state: Annotated[
        str | None,
        typer.Option(
            help="What the witness remembers: its folder, its address, or a checkpoint that it served."
            " Without it, the newest cosignature that the log itself brings."
        ),
    ] = None,
    replay: Annotated[
        bool, typer.Option("--replay", help="Also decide every logged decision again.")
    ] = False,
    bundles: Annotated[
        Path | None, typer.Option(help="Folder of the policy bundles to replay with; default: the home's.")
    ] = None,
    json_output: Json = False,
) -> None:
    """Check that the log is whole; exits 1 and names the first bad entry if it is not.

    Everything is recomputed from the entries' own bytes. A key that only the folder itself brings is never
    trusted: an attacker who changed the log would have signed it anew.
    """
    from neural_trader_governance.audit.verify import verify_export, verify_store
    from neural_trader_server.cli.testimony import witness_problems
    from neural_trader_server.home import Home

    home = Home.locate()
    key = _pinned(home, vkey, mldsa_vkey)
    if proof is not None:
        evidence.verify_proof(proof, key, entry, witness, json_output)
        return
    place = folder or home.desk_db
    report = verify_export(place, key) if place.is_dir() else verify_store(place, key, archive=archive)
    problems = [{"seq": problem.seq, "what": problem.what} for problem in report.problems]
    replayed = _replay(place, report.size, bundles or home.bundles, archive) if replay and report.ok else None
    if replayed is not None:
        problems += replayed["problems"]
    if (witness is not None or witness_state is not None) and report.ok:
        problems += witness_problems(place, report.size, witness or home.witness_vkey, witness_state)
    whole = not problems and report.ok
    if json_output:
        emit(
            {
                "ok": whole,
                "size": report.size,
                "root": report.root,
                "problems": problems,
                "log": str(place),
                "checkpoints": report.checkpoints,
                "archived_unread": report.unread,
                "replay": replayed,
            }
        )
    elif whole:
        out().print(f"[green]whole[/]: {report.size} entries under the root {report.root}", soft_wrap=True)
        if report.unread:
            out().print(
                f"[yellow]not read[/]: {report.unread} archived entries, whose archive is not here; their"
                " hashes were checked (give --archive DIR to check their bytes)",
                soft_wrap=True,
            )
        if replayed is not None:
            out().print(f"[green]identical[/]: {replayed['identical']} decisions, decided again")
            if replayed["before_bundles"]:
                out().print(
                    f"[yellow]not decided again[/]: {replayed['before_bundles']} decisions of an earlier"
                    " version, which neither signed nor kept its policies",
                    soft_wrap=True,
                )
    else:
        out().print(f"[bold red]NOT WHOLE[/]: {place}", soft_wrap=True)
        show_table("Problems", ("entry", "what"), ((problem["seq"], problem["what"]) for problem in problems))
    if not whole:
        raise typer.Exit(FAILED)


def _pinned(home: "Home", vkey: Path | None, mldsa_vkey: Path | None) -> str:
    """Returns the keys to trust, one a line; never one that a folder under examination brings."""
    pinned = vkey or home.log_vkey
    if not pinned.is_file():
        raise typer.BadParameter(
            f"there is no key to trust: {pinned} does not exist; give --vkey FILE with the log's verifier key"
        )
    own = home.keys / "log-mldsa.vkey"
    second = mldsa_vkey or (own if vkey is None and own.is_file() else None)
    if second is not None and not second.is_file():
        raise typer.BadParameter(f"there is no {second}")
    files = (pinned,) if second is None else (pinned, second)
    return "\n".join(path.read_text(encoding="utf-8").strip() for path in files)


def _replay(place: Path, size: int, bundles: Path, archive: Path | None) -> dict[str, Any]:
    """Decides every decision of a log again; a progress bar shows where it is."""
    from contextlib import ExitStack

    from rich.progress import Progress

    from neural_trader_governance.audit.verify import opened
    from neural_trader_governance.policy.activation import read_activations
    from neural_trader_governance.policy.bundles import BundleFolder
    from neural_trader_governance.policy.replay import (
        decisions,
        exported_activations,
        exported_decisions,
        replay_all,
    )

    count = earlier = 0
    problems: list[dict[str, Any]] = []
    with ExitStack() as stack:
        if place.is_dir():
            entries, activations = exported_decisions(place, size), exported_activations(place, size)
        else:
            connection = stack.enter_context(opened(place))
            entries, activations = decisions(connection, archive), read_activations(connection)
        bar = stack.enter_context(Progress(console=err(), transient=True))
        task = bar.add_task("Deciding again", total=None)
        for again in replay_all(
            entries,
            BundleFolder(bundles),
            activations=activations,
            progress=lambda done: bar.update(task, completed=done),
        ):
            count += 1
            earlier += again.outcome == "before_bundles"
            if not again.ok:
                what = again.outcome.replace("_", " ")
                problems.append({"seq": again.seq, "what": f"decision {what}: {again.detail}"})
    return {
        "decisions": count,
        "identical": count - earlier - len(problems),
        "before_bundles": earlier,
        "problems": problems,
    }


@app.command()
def tail(
    limit: Annotated[int, typer.Option("--limit", "-n", help="How many.", min=1, max=200)] = 20,
    json_output: Json = False,
) -> None:
    """Show the newest entries."""
    _show(call_tool("audit_search", limit=limit), json_output)


@app.command()
def search(
    entry_type: Annotated[
        str | None, typer.Option("--type", help="Such as order.intent or broker.fill.")
    ] = None,
    symbol: Annotated[str | None, typer.Option(help="Only entries about this symbol.")] = None,
    agent: Annotated[str | None, typer.Option(help="Only entries of this agent.")] = None,
    since: Annotated[str | None, typer.Option(help="Only entries from this time on.")] = None,
    until: Annotated[str | None, typer.Option(help="Only entries before this time.")] = None,
    limit: Annotated[int, typer.Option(help="How many.", min=1, max=200)] = 20,
    json_output: Json = False,
) -> None:
    """Find entries. Example: neural-trader audit search --type broker.fill --symbol AAPL"""  # noqa: D415  # a command
    result = call_tool(
        "audit_search", type=entry_type, symbol=symbol, agent=agent, since=since, until=until, limit=limit
    )
    _show(result, json_output)


@app.command()
def show(
    seq: Annotated[int, typer.Argument(help="Number of the entry, from 0.", min=0)],
    archive: evidence.ArchiveFolder = None,
    json_output: Json = False,
) -> None:
    """Print one entry in full, as the JSON that was signed; with --json on one line."""
    from neural_trader_governance.audit.log import read_entry

    async def run(services: "Services") -> dict[str, Any]:
        with services.store.read() as connection:
            entry = read_entry(connection, seq, folder=archive)
            return entry.model_dump(mode="json", exclude_none=True)

    entry = with_desk(run)
    if json_output:
        emit(entry)
    else:
        out().print_json(data=entry)


for command in (evidence.prove, evidence.export, evidence.archive, evidence.archives):
    app.command()(command)


def _show(result: dict[str, Any], json_output: bool) -> None:
    if json_output:
        emit(result)
        return
    show_table(
        "Audit log",
        ("seq", "time", "type", "summary"),
        ((entry["seq"], entry["time"], entry["type"], entry["summary"]) for entry in result["entries"]),
    )
