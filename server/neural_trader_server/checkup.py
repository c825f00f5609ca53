"""The checkup: everything that `neural-trader doctor` and the console's health page find out about a desk.

Each finding says what to do. What asks the disk, the network or other processes runs in threads, so that a
server can be examined while it serves.
"""

import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING

import anyio.to_thread

from neural_trader_governance.errors import HostError, NeuralTraderError

if TYPE_CHECKING:
    from neural_trader_sandbox.port import SandboxReport
    from neural_trader_server.app import Services
    from neural_trader_server.home import Home

PACKAGES = ("neural-trader", "mcp", "polars", "numpy", "numba", "lancedb", "cedarpy", "cryptography")


@dataclass(frozen=True, slots=True)
class Check:
    """One finding. `host` marks a lack of this machine, not of the installation.

    A finding that is well and has a next step all the same is advice.
    """

    name: str
    ok: bool
    detail: str
    next_step: str = ""
    host: bool = False


async def examine(services: "Services") -> list[Check]:
    """Returns every finding about this installation, home and machine."""
    checks = [
        Check("python", True, f"{platform.python_version()} on {platform.system()} {platform.release()}"),
        Check("packages", True, ", ".join(f"{name} {version(name)}" for name in PACKAGES)),
        Check("home", True, str(services.home.path)),
    ]
    checks += await _sandbox(services)
    checks += [await _guarded("data", _data, services)]
    checks += await anyio.to_thread.run_sync(feeds, services)
    checks += [await _guarded("broker", _broker, services), *await anyio.to_thread.run_sync(_assets)]
    checks += [await _guarded("policy", policy, services), await _guarded("audit", _audit, services)]
    checks += [alerts(services), await _bus(services)]
    checks += [await _guarded("people", _people, services), *separation(services.home)]
    checks.append(await _guarded("witness", _witness, services))
    return checks


async def _sandbox(services: "Services") -> list[Check]:
    try:
        report = await services.sandbox.probe()
    except NeuralTraderError as error:  # a setting of a service that is not valid; the rest is looked at
        return [Check("sandbox", False, error.what, error.next_step, host=isinstance(error, HostError))]
    return layers(report)


def layers(report: "SandboxReport") -> list[Check]:
    """Returns what a probe found, layer by layer."""
    return [
        Check(f"sandbox {layer.name}", layer.holds, layer.detail, layer.next_step, host=not layer.holds)
        for layer in report.layers
    ] or [
        Check(
            "sandbox", report.ok, f"{report.backend} reports no layer", "use Linux with user namespaces", True
        )
    ]


def _data(services: "Services") -> Check:
    instruments = services.archive.instruments()
    if not instruments:
        return Check("data", False, "the archive is empty", "run: neural-trader data fetch sample")
    newest = services.archive.newest_known_time(tradable_only=False)
    return Check("data", True, f"{len(instruments)} instruments, newest known at {newest:%Y-%m-%d %H:%M} UTC")


def feeds(services: "Services") -> list[Check]:
    """Returns how each feed stands; one that failed, or was killed, is advice: nothing is lost by it."""
    from neural_trader_tools.market.feed.board import feed_standings

    now = services.clock.now()
    checks: list[Check] = []
    for one in feed_standings(services.archive.root):
        well = one.state == "ended" or (one.is_running(now) and not one.problem)
        advice = (
            ""
            if well
            else f"see docs/data.md, Live data; start it: neural-trader feed run {one.feed.partition('-')[0]}"
        )
        checks.append(Check(f"feed {one.feed}", True, one.said(now), advice))
    return checks


def _broker(services: "Services") -> Check:
    broker = services.broker
    return Check(
        "broker", True, f"{broker.name} ({broker.mode}); replay clock at {services.replay.now():%Y-%m-%d}"
    )


def policy(services: "Services") -> Check:
    """Returns which policy judges, or why every order is denied."""
    from neural_trader_governance.policy.activation import ClosedPolicy
    from neural_trader_server.enactment import is_draft

    with services.store.read() as connection:
        judge = services.policy.current(connection)
    if isinstance(judge, ClosedPolicy):
        return Check("policy", False, judge.problem, judge.next_step)
    detail = f"{len(judge.rules)} rules, signed, digest {judge.digest[:16]}…"
    if not is_draft(services.home, judge.digest):
        return Check("policy", True, detail)
    draft = services.home.policy_file
    return Check(
        "policy",
        True,
        f"{detail}; {draft.name} in the home differs and has no effect",
        f"to put the edited policy in force: neural-trader policy activate {draft}",
    )


def _audit(services: "Services") -> Check:
    from neural_trader_governance.audit.verify import verify_store

    report = verify_store(services.home.desk_db, services.home.log_vkey.read_text(encoding="ascii"))
    if report.ok:
        return Check("audit", True, f"{report.size} entries verify, root {report.root[:16]}…")
    first = report.problems[0]
    return Check(
        "audit", False, f"entry {first.seq}: {first.what}", "stop trading and keep the files as they are"
    )


def _people(services: "Services") -> Check:
    from neural_trader_governance import principals

    with services.store.read() as connection:
        broken = principals.unverified(connection, issuer=services.issuer)
        people = principals.list_enrolments(connection, issuer=services.issuer)
    if broken:
        return Check(
            "people",
            False,
            f"{', '.join(broken)}: not as the issuer signed",
            "find out who edits desk.db, then enrol them again: neural-trader identity enroll",
        )
    active = [each for each in people if each.active]
    return Check("people", True, f"{len(active)} enrolled, all verified against the issuer's key")


def separation(home: "Home") -> list[Check]:
    """Returns what this operating-system account, which runs the server, could sign in a person's name.

    These are warnings, and fail nothing: on one's own machine with play money one account is what one has.
    """
    from neural_trader_server.keyholder import is_locked

    checks: list[Check] = []
    # Enrolled approvers' keys may lie beside the owner's; a file that belongs elsewhere is not here at all.
    for path in (*sorted(home.keys.glob("approver*.key")), home.issuer_key):
        role = "issuer" if path == home.issuer_key else "approver"
        if not os.access(path, os.R_OK):
            checks.append(Check(f"key {path.stem}", True, "not readable by this account: separated"))
        elif is_locked(path):
            checks.append(
                Check(
                    f"key {path.stem}",
                    True,
                    "locked by a passphrase; a program on this same account could wait for it to be typed",
                    "better: an account of its own for the person, see docs/security.md",
                )
            )
        else:
            checks.append(
                Check(
                    f"key {path.stem}",
                    True,
                    "WARNING: this account, which runs the server, can sign with it, and so can an agent that"
                    " has a shell here",
                    f"neural-trader keys lock {role}, or an account of its own: see docs/security.md",
                )
            )
    return checks


def _witness(services: "Services") -> Check:
    """Asks the pinned witness now; without one, says what nobody would notice."""
    if services.cosigner.adopt() is None:
        detail = "none is pinned: nobody would notice a log that was put back to an older copy"
        return Check("witness", True, detail, "neural-trader witness --help")
    done = services.cosigner.round()
    return Check("witness", True, f"cosigned {0 if done is None else done.size} entries just now")


async def _bus(services: "Services") -> Check:
    from neural_trader_server.bus_services import open_bus

    kind = services.settings.bus
    if kind == "off":
        return Check("bus", True, "off: nobody hears events as they happen")
    try:
        bus = await open_bus(services.home, services.settings)
        try:
            span = await bus.span("audit")
        finally:
            await bus.aclose()
    except NeuralTraderError as error:
        return Check("bus", False, f"{kind}: {error.what}", error.next_step)
    where = services.settings.bus_url if kind == "nats" else services.home.bus_db.name
    return Check("bus", True, f"{kind} ({where}), {span.last - span.first + 1} audit events to replay")


def alerts(services: "Services") -> Check:
    """Returns where people are told of alerts."""
    settings = services.settings
    places = [f"{len(settings.alert_webhooks)} webhooks", *(["desktop"] if settings.alert_desktop else [])]
    if settings.alert_webhooks or settings.alert_desktop:
        return Check("alerts", True, ", ".join(places))
    return Check("alerts", True, "the servers' logs only; docs/alerts.md says how to be told elsewhere")


def _assets() -> list[Check]:
    from neural_trader_server.assets import check_assets

    return [Check(item.name, item.ok, item.detail, item.next_step) for item in check_assets()]


async def _guarded(name: str, examine_one: "Callable[[Services], Check]", services: "Services") -> Check:
    """Returns the finding, or the failure that kept us from it as one."""
    try:
        return await anyio.to_thread.run_sync(examine_one, services)
    except HostError as error:
        return Check(name, False, error.what, error.next_step, host=True)
    except NeuralTraderError as error:
        return Check(name, False, error.what, error.next_step)
