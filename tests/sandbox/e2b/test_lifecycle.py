"""Nothing of ours stays behind at the service: not after errors, cancellation, closing, or a crash."""

import os

import anyio
import pytest
from tests.sandbox.e2b.backend import sandbox_at, script, settings_of
from tests.sandbox.e2b.service.faults import Fault
from tests.sandbox.e2b.service.server import Service

from neural_trader_governance.errors import NetworkError
from neural_trader_sandbox.e2b.sandbox import E2BSandbox
from neural_trader_sandbox.port import Limits, SandboxResult

pytestmark = pytest.mark.anyio

SPIN = script("print('spinning', flush=True)\nwhile True: pass")


async def until_runner_starts(service: Service) -> None:
    """Returns once a guest's process was started."""
    while not any(asked.path.endswith("/SendInput") for asked in service.log):  # noqa: ASYNC110 - it has no event
        await anyio.sleep(0.01)


async def test_a_cancelled_run_kills_its_sandbox(e2b_service: Service) -> None:
    sandbox = sandbox_at(e2b_service)
    async with anyio.create_task_group() as group:
        group.start_soon(sandbox.run, SPIN)
        await until_runner_starts(e2b_service)
        group.cancel_scope.cancel()
    assert e2b_service.running() == []


async def test_cancelled_while_it_is_made_no_sandbox_stays(e2b_service: Service) -> None:
    e2b_service.faults = [Fault(r"code POST /execute", delay_s=5)]
    with anyio.move_on_after(1):
        await sandbox_at(e2b_service).run(SPIN)
    assert e2b_service.running() == []


async def test_kill_ends_a_run_as_killed(e2b_service: Service) -> None:
    sandbox = sandbox_at(e2b_service)
    results: list[SandboxResult] = []

    async def run() -> None:
        results.append(await sandbox.run(SPIN, Limits(wall_time_s=20)))

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await until_runner_starts(e2b_service)
        await sandbox.kill()
    assert (results[0].status, results[0].error and results[0].error.message) == (
        "killed",
        "killed by the caller",
    )
    assert e2b_service.running() == []


async def test_a_sandbox_whose_answer_was_lost_is_found_and_killed(e2b_service: Service) -> None:
    e2b_service.faults = [Fault(r"api POST /v2/sandboxes$", drop_after_bytes=5)]
    with pytest.raises(NetworkError):
        await sandbox_at(e2b_service).run(script("1"))
    assert len(e2b_service.machines) == 1
    assert e2b_service.running() == []


async def test_strays_of_a_dead_process_are_killed_at_the_first_run_and_nobody_elses(
    e2b_service: Service,
) -> None:
    mine = sandbox_at(e2b_service)
    stray = await mine.create()
    living = await mine.create()
    other = await sandbox_at(e2b_service, home_id="ffff").create()
    machines = {machine.metadata["neural-trader-box"]: machine for machine in e2b_service.running()}
    for instance in (stray, other):
        machines[instance.instance_id].metadata["neural-trader-process"] = str(dead_process())
    await sandbox_at(e2b_service).run(script("1"))
    left = {machine.metadata["neural-trader-box"] for machine in e2b_service.running()}
    assert left == {living.instance_id, other.instance_id}
    await mine.aclose()


def dead_process() -> int:
    """The id of a process that has ended."""
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return child


async def test_a_warm_sandbox_serves_the_next_run_and_closing_kills_it(e2b_service: Service) -> None:
    sandbox = sandbox_at(e2b_service, warm=1)
    await sandbox.run(script("1"))
    await sandbox.fill()
    waiting = e2b_service.running()[0].sandbox_id
    assert (await sandbox.run(script("result = 7"))).value == 7
    assert e2b_service.machines[waiting].ended_by == "deleted"
    await sandbox.aclose()
    assert e2b_service.running() == []


async def test_a_warm_sandbox_that_the_service_ended_is_not_used(e2b_service: Service) -> None:
    sandbox = sandbox_at(e2b_service, warm=1)
    await sandbox.run(script("1"))
    await sandbox.fill()
    e2b_service.kill(e2b_service.running()[0].sandbox_id)
    assert (await sandbox.run(script("result = 7"))).value == 7
    await sandbox.aclose()


async def test_a_sandbox_that_the_service_ends_in_the_middle_is_a_result(e2b_service: Service) -> None:
    sandbox = sandbox_at(e2b_service)
    results: list[SandboxResult] = []

    async def run() -> None:
        results.append(await sandbox.run(SPIN, Limits(wall_time_s=20)))

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await until_runner_starts(e2b_service)
        e2b_service.kill(e2b_service.running()[0].sandbox_id)
    assert results[0].status == "killed", results[0]
    assert results[0].error is not None
    assert results[0].wall_ms < 15_000
    assert (await sandbox.run(script("result = 1"))).value == 1


async def test_a_sandbox_that_cannot_be_killed_does_not_stop_the_answer(e2b_service: Service) -> None:
    sandbox = E2BSandbox(settings_of(e2b_service, request_timeout_s=1), (), lambda destination: None)
    e2b_service.faults = [Fault(r"api DELETE", times=-1, status=500)]
    assert (await sandbox.run(script("result = 1"))).value == 1
