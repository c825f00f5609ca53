"""Nothing outlives us at the service: signals to our process, ends in the middle of making, late answers."""

import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import anyio
import anyio.abc
import pytest
from tests.sandbox.e2b.backend import command, environment, sandbox_at, script
from tests.sandbox.e2b.service.faults import Fault
from tests.sandbox.e2b.service.server import Service
from tests.sandbox.e2b.test_lifecycle import SPIN, until_runner_starts

from neural_trader_governance.errors import ConfigurationError, NetworkError
from neural_trader_sandbox.e2b.sandbox import E2BSandbox
from neural_trader_sandbox.port import Job, Limits

pytestmark = pytest.mark.anyio

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
CREATE = r"api POST /v2/sandboxes$"
STREAM = Job("tests.sandbox.e2b.entries:doubling", {})


async def asked(service: Service, path: str) -> None:
    """Returns once something was posted to the path."""
    while not any(each.path.endswith(path) and each.method == "POST" for each in service.log):  # noqa: ASYNC110 - it has no event
        await anyio.sleep(0.01)


def has_asked(service: Service, path: str, pid: int) -> bool:
    """Whether this very process asked for a sandbox, or something of the one that was made for it."""
    if path == "/v2/sandboxes":
        bodies = [each.body for each in service.log if each.method == "POST" and each.path == path]
        return any(body["metadata"]["neural-trader-process"] == str(pid) for body in bodies)
    own = {
        number
        for number, machine in service.machines.items()
        if machine.metadata["neural-trader-process"] == str(pid)
    }
    return any(each.sandbox_id in own and each.path.endswith(path) for each in service.log)


async def made(service: Service, count: int = 1) -> None:
    """Returns once so many sandboxes were made."""
    while len(service.machines) < count:  # noqa: ASYNC110 - as above
        await anyio.sleep(0.01)


async def test_a_cancelled_creation_that_the_service_completes_later_is_killed(e2b_service: Service) -> None:
    e2b_service.faults = [Fault(CREATE, delay_s=1.0)]
    async with anyio.create_task_group() as group:
        group.start_soon(sandbox_at(e2b_service).run, SPIN)
        await asked(e2b_service, "/v2/sandboxes")
        await anyio.sleep(0.2)
        group.cancel_scope.cancel()
    with anyio.fail_after(5):
        await made(e2b_service)
    assert e2b_service.running() == []


EVERY = pytest.mark.slow  # each command is a start of the program; CI sends each signal once, in every phase


@pytest.mark.parametrize("path", ["/v2/sandboxes", "/execute", "/files", "/Start"])
async def test_closing_while_a_sandbox_is_made_or_loaded_leaves_none(e2b_service: Service, path: str) -> None:
    e2b_service.faults = [Fault(rf" POST .*{path}$", delay_s=0.5)]
    sandbox = sandbox_at(e2b_service)
    failures: list[str] = []

    async def run() -> None:
        try:
            await sandbox.run(SPIN)
        except NetworkError as error:
            failures.append(error.code)

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await asked(e2b_service, path)
        await sandbox.aclose()
        assert e2b_service.running() == []
    assert len(e2b_service.machines) == 1
    assert e2b_service.running() == []
    assert failures == ["e2b_sandbox_gone"]


async def test_closing_waits_for_a_sandbox_that_is_just_being_killed(e2b_service: Service) -> None:
    sandbox = sandbox_at(e2b_service)
    e2b_service.faults = [Fault("api DELETE", delay_s=0.5)]
    async with anyio.create_task_group() as group:
        group.start_soon(sandbox.run, script("1"))
        while not any(each.method == "DELETE" for each in e2b_service.log):  # noqa: ASYNC110 - no event
            await anyio.sleep(0.01)
        await sandbox.aclose()
        assert e2b_service.running() == []


async def test_closing_in_the_middle_of_a_run_makes_no_warm_sandbox_after_it(e2b_service: Service) -> None:
    sandbox = sandbox_at(e2b_service, warm=1)
    async with anyio.create_task_group() as group:
        group.start_soon(sandbox.run, SPIN)
        await until_runner_starts(e2b_service)
        await sandbox.aclose()
    await anyio.sleep(0.3)
    assert (len(e2b_service.machines), e2b_service.running()) == (1, [])


@pytest.mark.parametrize(
    ("phase", "signals"),
    [
        pytest.param("/v2/sandboxes", SIGNALS[:1], id="made: Ctrl-C"),
        pytest.param("/SendInput", SIGNALS[1:], id="running: the host's end, a closed terminal"),
        pytest.param("/v2/sandboxes", SIGNALS, id="made: all", marks=EVERY),
        pytest.param("/SendInput", SIGNALS, id="running: all", marks=EVERY),
    ],
)
async def test_a_signal_to_a_command_leaves_no_sandbox_behind(
    e2b_service: Service,
    tmp_path: Path,
    session_consent: Path,
    phase: str,
    signals: tuple[signal.Signals, ...],
) -> None:
    """One command for each signal, at the same time."""
    file = tmp_path / "script.py"
    file.write_text("while True: pass", encoding="utf-8")
    e2b_service.faults = [Fault(CREATE, delay_s=0.7, times=len(signals))]
    words = ("-m", "neural_trader_server", "sandbox", "run", str(file), "--backend", "e2b")
    commands: list[anyio.abc.Process] = []
    for number in signals:
        home = shutil.copytree(session_consent, tmp_path / number.name)
        environ = dict(os.environ) | environment(e2b_service, home)
        commands.append(await anyio.open_process([sys.executable, *words], env=environ))
    ended: set[str | None] = set()
    while len(ended) < len(signals):
        for number, process in zip(signals, commands, strict=True):
            if number.name in ended or not has_asked(e2b_service, phase, process.pid):
                continue
            ended.add(number.name)
            arguments = await anyio.Path(f"/proc/{process.pid}/cmdline").read_bytes()
            assert e2b_service.api_key.encode() not in arguments
            process.send_signal(number)
        await anyio.sleep(0.01)
    with anyio.fail_after(60):
        for process in commands:
            async with process:
                await process.wait()
            assert process.returncode not in (0, None)
    with anyio.fail_after(5):
        await made(e2b_service, len(signals))
    assert e2b_service.running() == []


async def test_what_a_killed_process_left_ends_with_the_next_run_or_at_the_service(
    e2b_service: Service, tmp_path: Path, agreed_home: Path
) -> None:
    file, honest = tmp_path / "script.py", tmp_path / "honest.py"
    file.write_text("while True: pass", encoding="utf-8")
    honest.write_text("print(1)", encoding="utf-8")
    words = ("-m", "neural_trader_server", "sandbox", "run", str(file), "--backend", "e2b")
    async with await anyio.open_process(
        [sys.executable, *words], env=dict(os.environ) | environment(e2b_service, agreed_home)
    ) as process:
        await until_runner_starts(e2b_service)
        process.kill()
        with anyio.fail_after(60):
            await process.wait()
    (left,) = e2b_service.running()
    assert left.order["timeout"] == 300
    assert (
        await command(e2b_service, agreed_home, "sandbox", "run", str(honest), "--backend", "e2b")
    ).returncode == 0
    assert e2b_service.running() == []


def revocable() -> tuple[Callable[[str], None], list[bool]]:
    """A consent, and the list that takes it back when something is put into it."""
    revoked: list[bool] = []

    def require(destination: str) -> None:
        if revoked:
            raise ConfigurationError("sandbox_consent_missing", f"not to {destination}", "agree")

    return require, revoked


async def test_revoked_consent_stops_streams_instances_and_warm_sandboxes_at_once(
    e2b_service: Service,
) -> None:
    consent, revoked = revocable()
    sandbox = sandbox_at(e2b_service, ("tests.sandbox.e2b.entries",), consent=consent, warm=1)
    await sandbox.fill()
    instance = await sandbox.create()
    stream = await sandbox.open_stream(STREAM)
    await sandbox.fill()
    assert (await stream.send(1)).value == 2
    assert len(e2b_service.running()) == 3
    revoked.append(True)
    before = sum(each.path.endswith("/SendInput") for each in e2b_service.log)
    for forbidden in (stream.send(2), instance.run(script("1")), sandbox.run(script("1"))):
        with pytest.raises(ConfigurationError, match="sandbox_consent_missing"):
            await forbidden
    assert sum(each.path.endswith("/SendInput") for each in e2b_service.log) == before
    assert e2b_service.running() == []


async def test_a_warm_pool_is_not_filled_without_consent(e2b_service: Service) -> None:
    consent, revoked = revocable()
    revoked.append(True)
    await sandbox_at(e2b_service, warm=1, consent=consent).fill()
    assert e2b_service.log == []


async def test_ended_streams_are_forgotten(e2b_service: Service) -> None:
    sandbox: E2BSandbox = sandbox_at(e2b_service, ("tests.sandbox.e2b.entries",))
    stream = await sandbox.open_stream(STREAM, Limits(wall_time_s=5))
    await stream.aclose()
    assert sandbox._live == {}  # pyright: ignore[reportPrivateUsage]  # nothing else shows it
    assert stream.take_charge_ms() >= 0


async def test_closing_before_a_sandbox_is_asked_for_means_that_none_is(e2b_service: Service) -> None:
    e2b_service.faults = [Fault("api GET /v2/sandboxes", delay_s=0.3)]
    sandbox = sandbox_at(e2b_service)
    async with anyio.create_task_group() as group:

        async def run() -> None:
            with pytest.raises(NetworkError, match="e2b_sandbox_gone"):
                await sandbox.run(SPIN)

        group.start_soon(run)
        while not e2b_service.log:  # noqa: ASYNC110 - it has no event
            await anyio.sleep(0.01)
        await sandbox.aclose()
    assert len(e2b_service.machines) == 0
