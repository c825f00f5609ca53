"""`neural-trader console`: lets a person into the console of a server that runs."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from neural_trader_server.cli.terminal import Json, emit, out

if TYPE_CHECKING:
    from neural_trader_server.home import Home


def console(
    name: Annotated[
        str | None,
        typer.Option("--as", help="Who comes in; by default the owner of this home.", metavar="NAME"),
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(
            help="Where the server listens; by default public_url, else http://127.0.0.1:8765.", metavar="URL"
        ),
    ] = None,
    only_print: Annotated[bool, typer.Option("--print", help="Open no browser; print the link.")] = False,
    json_output: Json = False,
) -> None:
    """Open the console in a browser, logged in. The link works once, within five minutes.

    Whoever can read this home may make one; to sign an approval, its approver's key is needed besides.
    Example: neural-trader serve --transport http &  neural-trader console
    """
    from neural_trader_governance.errors import InputError
    from neural_trader_governance.terms.clocks import WallClock
    from neural_trader_server.console.sessions import LINK_TTL, Sessions, login_address
    from neural_trader_server.founding import is_founded
    from neural_trader_server.home import Home
    from neural_trader_server.settings import load_settings

    home = Home.locate()
    if not is_founded(home):
        raise InputError(
            "no_home",
            f"there is no desk in {home.path}",
            "run `neural-trader init`, or set NEURAL_TRADER_HOME",
        )
    settings = load_settings(home)
    address = (url or settings.public_url or "http://127.0.0.1:8765").rstrip("/")
    if not address.startswith(("http://", "https://")):
        raise InputError("invalid_url", f"{address!r:.80} is no http address", "give it as http://HOST:PORT")
    person = name or settings.principal
    link = login_address(address, Sessions(home, WallClock()).link(person))
    if json_output:
        emit({"url": link, "person": person, "expires_in_s": int(LINK_TTL.total_seconds())})
        return
    if only_print or not _opened(home, link):
        out().print(link, soft_wrap=True, markup=False)
        out().print(f"It lets {person} in once, within five minutes.", markup=False)
    else:
        out().print(f"Opened the console at {address}/console for {person}.", soft_wrap=True, markup=False)


def _opened(home: "Home", link: str) -> bool:
    """Opens a browser at a page of ours that leads on: what stands in a command line, every account sees."""
    import html
    import webbrowser

    path = home.path / "console-login.html"
    onward = f'<meta http-equiv="refresh" content="0;url={html.escape(link)}">'
    page = f'<!doctype html><meta charset="utf-8">{onward}'
    Path(path).unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(page)
    return webbrowser.open(path.as_uri())
