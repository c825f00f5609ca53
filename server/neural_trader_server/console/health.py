"""Health: how the desk stands at this moment, and on request all that `neural-trader doctor` finds out.

The page asks every few seconds, so what stands here is read from files and memory. Probing the sandbox,
verifying the whole log and asking the witness are for the examination, which one person at a time asks for.
"""

import os
import shutil
from datetime import timedelta
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from neural_trader_governance import leases
from neural_trader_governance.audit.log import read_entry
from neural_trader_governance.errors import NeuralTraderError
from neural_trader_governance.terms.clocks import format_time
from neural_trader_server import checkup
from neural_trader_server.console.guard import answer

if TYPE_CHECKING:
    from neural_trader_server.app import Services
    from neural_trader_server.checkup import Check

WITNESS_LATE_S = 60
"""A server renews the cosignature of a log that stands still every 20 seconds."""
DISK_LEAST_BYTES, DISK_LOW_BYTES = 500_000_000, 5_000_000_000
REMEMBER_LATE = 100
"""Happenings that wait to be remembered; a server that captures takes them within seconds."""

_Row = dict[str, str]


def routes(services: "Services") -> list[Route]:
    """Returns the routes of the desk's health."""
    examining = anyio.Lock()

    def read() -> dict[str, Any]:
        rows: list[_Row] = []
        for name, ask in _READINGS:
            try:
                rows += ask(services)
            except NeuralTraderError as error:  # one reading that fails must not hide the others
                rows.append(_row(name, "failed", error.what, error.next_step))
        return {"now": format_time(services.clock.now()), "rows": rows}

    async def standing(_: Request) -> Response:
        return answer(await anyio.to_thread.run_sync(read))

    async def examination(_: Request) -> Response:
        async with examining:
            await services.sandbox_health.report()  # kept, so that the rows above know of it, too
            found = await checkup.examine(services)
        return answer({"now": format_time(services.clock.now()), "rows": [_found(each) for each in found]})

    return [
        Route("/health", standing, methods=["GET"]),
        Route("/health/examination", examination, methods=["GET"]),
    ]


def _row(name: str, state: str, detail: str, next_step: str = "") -> _Row:
    return {"name": name, "state": state, "detail": detail, "next_step": next_step}


def _found(check: "Check") -> _Row:
    state = "failed" if not check.ok else "warning" if check.next_step else "ok"
    return _row(check.name, state, check.detail, check.next_step)


def _server(_: "Services") -> list[_Row]:
    return [_row("server", "ok", f"neural-trader {version('neural-trader')}, process {os.getpid()} answered")]


def _sandbox(services: "Services") -> list[_Row]:
    kind = services.settings.sandbox_backend
    newest = services.sandbox_health.newest if "sandbox_health" in vars(services) else None
    if newest is None:
        return [_row("sandbox", "unknown", f"{kind}; not probed since this server started", "press Examine")]
    report, age_s = newest
    found = checkup.layers(report)
    broken = [each for each in found if not each.ok]
    if broken:
        return [_found(each) for each in broken]
    names = ", ".join(each.name.removeprefix("sandbox ") for each in found)
    return [_row("sandbox", "ok", f"{report.backend}: {names} hold, probed {_ago(age_s)}")]


def _venue(services: "Services") -> list[_Row]:
    broker, deaf = services.broker, services.desk.deaf()
    if deaf:
        detail = f"{broker.name} ({broker.mode}): {deaf}; orders are refused"
        return [_row("broker", "failed", detail, "keep one `neural-trader serve` running; see its log")]
    stream = "its fills are heard" if services.settings.broker == "alpaca" else "it keeps no stream"
    return [_row("broker", "ok", f"{broker.name} ({broker.mode}), {stream}")]


def _feeds(services: "Services") -> list[_Row]:
    from neural_trader_tools.market.providers.standing import standings

    rows = [_found(each) for each in checkup.feeds(services)]
    rows = rows or [_row("feed", "ok", "none: prices come from the archive")]
    for one in standings(services.archive.root):
        if one.circuit != "closed":
            detail = f"{one.failures} failures in a row; its circuit is {one.circuit}"
            rows.append(_row(f"provider {one.provider}", "warning", detail, "neural-trader data providers"))
    return rows


def _bus(services: "Services") -> list[_Row]:
    kind = services.settings.bus
    return [_row("bus", "ok", "off: nobody hears events as they happen" if kind == "off" else kind)]


def _memory(services: "Services") -> list[_Row]:
    from neural_trader_tools.memory.outbox import waiting

    profile = services.memory.profile
    with services.store.read() as connection:
        late = len(waiting(connection))
    detail = (
        f"{profile.backend}, {profile.embedder} ({profile.dimension} numbers), {late} wait to be remembered"
    )
    if late > REMEMBER_LATE:
        return [_row("memory", "warning", detail, "neural-trader memory capture")]
    return [_row("memory", "ok", detail)]


def _audit(services: "Services") -> list[_Row]:
    head = services.store.head()
    with services.store.read() as connection:
        newest = read_entry(connection, head.size - 1) if head.size else None
    since = (
        "" if newest is None else f", the newest {_ago((services.clock.now() - newest.ts).total_seconds())}"
    )
    return [_row("audit log", "ok", f"{head.size} entries{since}; the page Audit log verifies them")]


def _witness(services: "Services") -> list[_Row]:
    standing = services.cosigner.standing()
    if not standing.required:
        detail = "none is pinned: nobody would notice a log that was put back to an older copy"
        return [_row("witness", "warning", detail, "neural-trader witness --help")]
    if not standing.consistent:
        next_step = "stop trading, keep the files, and run: neural-trader audit verify"
        return [_row("witness", "failed", "it refused this log: every order is denied", next_step)]
    if not standing.confirmed:
        detail = "it has not cosigned for this process yet: orders may be denied"
        return [_row("witness", "warning", detail, "is it running? neural-trader witness --help")]
    detail = f"cosigned {standing.size} entries {_ago(standing.age_s)}"
    if standing.age_s > WITNESS_LATE_S:
        return [_row("witness", "warning", detail, "is it running? see the server's log")]
    return [_row("witness", "ok", detail)]


def _disk(services: "Services") -> list[_Row]:
    usage = shutil.disk_usage(services.home.path)
    detail = f"{usage.free / 1e9:,.1f} of {usage.total / 1e9:,.1f} GB are free where the home lies"
    if usage.free < DISK_LOW_BYTES:
        state = "failed" if usage.free < DISK_LEAST_BYTES else "warning"
        return [_row("disk", state, detail, "make room: a log that cannot be written stops every order")]
    return [_row("disk", "ok", detail)]


def _leases(services: "Services") -> list[_Row]:
    now = services.clock.now()
    with services.store.read() as connection:
        found = leases.read_all(connection)
    rows: list[_Row] = []
    for lease in found:
        left = lease.expires_time - now
        if left > timedelta(0):
            detail = f"the agent is there; {left.total_seconds():.0f} s are left"
            rows.append(_row(f"lease {lease.agent}", "ok", detail))
        else:
            detail = f"ran out {_ago(-left.total_seconds())}: it sends no orders until it calls again"
            rows.append(_row(f"lease {lease.agent}", "ok", detail))
    return rows


def _ago(seconds: float) -> str:
    for size, unit in ((86_400, "days"), (3_600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds // size:.0f} {unit} ago"
    return f"{max(0.0, seconds):.0f} s ago"


def _policy(services: "Services") -> list[_Row]:
    return [_found(checkup.policy(services))]


def _alerts(services: "Services") -> list[_Row]:
    return [_found(checkup.alerts(services))]


_READINGS = (
    ("server", _server),
    ("broker", _venue),
    ("policy", _policy),
    ("sandbox", _sandbox),
    ("feed", _feeds),
    ("bus", _bus),
    ("audit log", _audit),
    ("witness", _witness),
    ("memory", _memory),
    ("lease", _leases),
    ("alerts", _alerts),
    ("disk", _disk),
)
