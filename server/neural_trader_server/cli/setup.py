"""`neural-trader setup` and `init`: what must be there before anything else works."""

from typing import Annotated

import typer

from neural_trader_server.cli.terminal import Json, emit, err, out


def setup(
    quiet: Annotated[bool, typer.Option("--quiet", help="Say only what went wrong.")] = False,
) -> None:
    """Fetch what a plain pip install cannot bring: sample data packages and the embedder's weights.

    Everything is pinned by hash. A second time nothing is fetched.
    """
    from neural_trader_server.assets import install_assets

    def progress(line: str, done: float) -> None:
        if not quiet:
            err().print(f"{done:4.0%} {line}", soft_wrap=True)

    install_assets(progress)
    if not quiet:
        out().print("Everything that neural-trader needs is installed. Next: neural-trader demo")


def init(json_output: Json = False) -> None:
    """Make the home: keys, default policy, a paper account of 100,000 USD and a first agent.

    What exists is left as it is; keys are never overwritten.
    """
    from neural_trader_governance.terms.clocks import WallClock
    from neural_trader_server.app import Services, found
    from neural_trader_server.home import Home
    from neural_trader_server.settings import load_settings

    home = Home.locate()
    services = Services(home, load_settings(home), WallClock())
    try:
        founded = found(services)
        vkey = services.store.vkey
    finally:
        services.close()
    if json_output:
        emit({"home": str(home.path), "made": founded.made, "log_vkey": vkey})
        return
    for made in founded.made:
        out().print(f"made {made}", soft_wrap=True)
    out().print(f"The home is {home.path}; its log is signed by {vkey}", soft_wrap=True)
