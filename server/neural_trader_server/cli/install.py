"""`neural-trader install`: attach the server to a client."""

from typing import Annotated

import typer

from neural_trader_server.cli.terminal import err, out
from neural_trader_server.clients import Client, Launch, config_file, configuration, one_line, write


def install(
    client: Annotated[Client, typer.Argument(help="Whose configuration.")],
    print_only: Annotated[
        bool, typer.Option("--print", help="Show the configuration; write nothing.")
    ] = False,
    toolsets: Annotated[
        str | None,
        typer.Option(help="Toolsets to serve, such as core,market or all; default: all but trading."),
    ] = None,
    read_only: Annotated[bool, typer.Option("--read-only", help="Serve no tool that writes.")] = False,
) -> None:
    """Attach the server to an agent's client: merges into its configuration and keeps a backup.

    Claude Code and VS Code get a file in the current folder, the others one in your home.
    Example: neural-trader install cursor --print
    """
    from neural_trader_server.gate import select_toolsets

    options: list[str] = []
    if toolsets is not None:
        select_toolsets(toolsets)
        options += ["--toolsets", toolsets]
    if read_only:
        options.append("--read-only")
    launch = Launch.current(tuple(options))
    if print_only:
        err().print(
            f"For {config_file(client)}, or in one line:\n{one_line(client, launch)}\n", soft_wrap=True
        )
        typer.echo(configuration(client, launch), nl=False)
        return
    path, backup = write(client, launch)
    out().print(f"{client} now starts neural-trader: {path}", soft_wrap=True)
    if backup is not None:
        out().print(f"What stood there before: {backup}", soft_wrap=True)
