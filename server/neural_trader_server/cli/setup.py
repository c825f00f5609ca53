"""`neural-trader setup` and `init`: what must be there before anything else works."""

import contextlib
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from neural_trader_governance.errors import ConfigurationError, HostError
from neural_trader_server.cli.terminal import Json, emit, err, out, run_async

if TYPE_CHECKING:
    from neural_trader_sandbox.port import SandboxReport


_WARM_FEATURES = "from neural_trader_tools.features import catalogue; catalogue.warm_up()"


def setup(json_output: Json = False) -> None:
    """Fetch what a plain pip install cannot bring, and prepare the sandbox.

    Sample data and the embedder's weights are pinned by hash; the sandbox's kernels are compiled once. A
    second time nothing is fetched. A sandbox layer that this host lacks is named, and fails nothing.
    """
    from neural_trader_server.assets import install_assets

    def progress(line: str, done: float) -> None:
        err().print(f"{done:4.0%} {line}", soft_wrap=True)

    outcomes = install_assets(progress)
    progress("compiling the kernels, once", 1.0)
    _warm_kernels()
    report = _warm_sandbox()
    missing = [layer.name for layer in report.layers if not layer.holds]
    if json_output:
        emit({"ok": True, "assets": [asdict(outcome) for outcome in outcomes], "sandbox_missing": missing})
        return
    for outcome in outcomes:
        state = "installed" if outcome.installed else "was there"
        out().print(f"{outcome.name} {outcome.version}: {state}", soft_wrap=True)
    if missing:
        out().print(
            f"[yellow]This host lacks sandbox layers: {', '.join(missing)}; see neural-trader doctor[/]"
        )
    out().print("Ready. Next: neural-trader demo")


def _warm_kernels() -> None:
    """Compiles, into numba's cache, what the trusted engine, guests and the usual features run.

    What a zygote finds in its own cache it need not compile again.
    """
    beside = subprocess.Popen([sys.executable, "-c", _WARM_FEATURES])  # noqa: S603  # ours; on another core

    import neural_trader_tools
    from neural_trader_sandbox.local.handover import give_machine_code
    from neural_trader_tools.backtest import portfolio_orders, replay
    from neural_trader_tools.backtest.sweeps import ground
    from neural_trader_tools.engine import floor, guest, sweep

    for module in (replay, ground, guest, floor, sweep, portfolio_orders):
        module.warm_up()
    if beside.wait() != 0:
        raise HostError(
            "kernels_not_compiled",
            "the features' kernels could not be compiled; what Python said stands above",
            "run it again with more memory or disk; if it stays so, report it",
        )
    with contextlib.suppress(OSError, ConfigurationError):  # the sandbox says by itself what is wrong there
        give_machine_code(Path(folder) for folder in neural_trader_tools.__path__)


def _warm_sandbox() -> "SandboxReport":
    """Starts the sandbox that servers will start, so that its kernels are compiled before anybody waits."""
    from neural_trader_sandbox.backends import open_sandbox
    from neural_trader_server.app import PRELOAD
    from neural_trader_server.logs import configure_logs

    configure_logs("error")

    async def probe() -> "SandboxReport":
        sandbox = open_sandbox("local", PRELOAD)
        try:
            return await sandbox.probe()
        finally:
            await sandbox.aclose()

    return run_async(probe)


def init(json_output: Json = False) -> None:
    """Make the home: keys, default policy, a paper account of 100,000 USD and a first agent.

    What exists is left as it is; keys are never overwritten. On a terminal, a passphrase for the keys that
    sign in a person's name is offered.
    """
    from neural_trader_governance.terms.clocks import WallClock
    from neural_trader_server.app import Services, found
    from neural_trader_server.home import Home
    from neural_trader_server.keyholder import offer_locking
    from neural_trader_server.settings import load_settings

    home = Home.locate()
    services = Services(home, load_settings(home), WallClock())
    try:
        founded = found(services)
        vkey = services.store.vkey
        locked = not json_output and offer_locking(home)
    finally:
        services.close()
    if json_output:
        emit({"home": str(home.path), "made": founded.made, "log_vkey": vkey})
        return
    for made in founded.made:
        out().print(f"made {made}", soft_wrap=True)
    if locked:
        out().print("The approver's and the issuer's key are locked by your passphrase.")
    out().print(f"The home is {home.path}; its log is signed by {vkey}", soft_wrap=True)
