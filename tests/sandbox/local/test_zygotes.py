"""A zygote that dies or hangs is replaced, and no child of it is handed out."""

import contextlib
import os
import resource
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from neural_trader_sandbox.local import zygote
from neural_trader_sandbox.local.sandbox import LocalSandbox
from neural_trader_sandbox.port import Job, SandboxResult

ONE = Job("neural_trader_sandbox.script:run_script", {"source": "result = 1"})


async def zygote_of(sandbox: LocalSandbox) -> int:
    launcher = (await sandbox._running_zygote()).pid  # pyright: ignore[reportPrivateUsage]: only it knows
    return int(Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()[0])  # noqa: ASYNC240 - /proc does not block


@pytest.mark.anyio
async def test_one_that_is_killed_ten_times_in_a_row_is_replaced_each_time(
    sandbox: LocalSandbox, tmp_path: Path
) -> None:
    del sandbox
    own = LocalSandbox([], cache_dir=tmp_path)
    try:
        for _ in range(10):
            assert (await own.run(ONE)).value == 1
            zygote = await zygote_of(own)
            ended = os.pidfd_open(zygote)
            os.kill(zygote, signal.SIGKILL)
            await anyio.wait_readable(ended)  # else its warm children may still be there for a moment
            os.close(ended)
        assert (await own.run(ONE)).value == 1
    finally:
        await own.aclose()


@pytest.mark.anyio
async def test_one_that_hangs_is_noticed_and_replaced(sandbox: LocalSandbox, tmp_path: Path) -> None:
    del sandbox
    own = LocalSandbox([], warm=0, cache_dir=tmp_path, ready_timeout_s=2)
    try:
        assert (await own.run(ONE)).value == 1
        hung = await zygote_of(own)
        os.kill(hung, signal.SIGSTOP)
        assert (await own.run(ONE)).value == 1
        assert await zygote_of(own) != hung
        assert not os.path.lexists(f"/proc/{hung}")  # noqa: ASYNC240 - /proc does not block
    finally:
        await own.aclose()


@pytest.mark.anyio
async def test_one_that_hangs_does_not_hold_up_the_desk_however_many_runs_wait(
    sandbox: LocalSandbox, tmp_path: Path
) -> None:
    del sandbox
    own = LocalSandbox([], warm=0, cache_dir=tmp_path)
    try:
        assert (await own.run(ONE)).value == 1
        os.kill(await zygote_of(own), signal.SIGSTOP)
        started = time.monotonic()
        with anyio.move_on_after(1):
            async with anyio.create_task_group() as tasks:
                for _ in range(400):
                    tasks.start_soon(own.run, ONE)
        assert time.monotonic() - started < 4
    finally:
        await own.aclose()


@pytest.mark.anyio
async def test_one_that_dies_while_it_forks_is_replaced(sandbox: LocalSandbox, tmp_path: Path) -> None:
    del sandbox
    own = LocalSandbox([], warm=0, cache_dir=tmp_path)
    try:
        assert (await own.run(ONE)).value == 1
        zygote = await zygote_of(own)
        os.kill(zygote, signal.SIGSTOP)
        results: list[SandboxResult] = []
        async with anyio.create_task_group() as tasks:

            async def run() -> None:
                results.append(await own.run(ONE))

            tasks.start_soon(run)
            await anyio.wait_all_tasks_blocked()
            os.kill(zygote, signal.SIGKILL)
        assert [result.value for result in results] == [1]
    finally:
        await own.aclose()


@pytest.mark.anyio
async def test_one_that_dies_at_each_start_is_a_refusal_that_says_so(
    sandbox: LocalSandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del sandbox
    monkeypatch.setattr("neural_trader_sandbox.local.zygotes.BOOTSTRAP", "import os; os.kill(os.getpid(), 9)")
    own = LocalSandbox([], cache_dir=tmp_path)
    for _ in range(2):
        result = await own.run(ONE)
        assert result.status == "refused"
        assert result.error is not None
        assert "the interpreter ended" in result.error.message
    await own.aclose()


@pytest.mark.anyio
async def test_without_descriptors_for_it_a_run_is_refused_and_does_not_raise(
    sandbox: LocalSandbox, tmp_path: Path
) -> None:
    del sandbox
    own = LocalSandbox([], warm=0, cache_dir=tmp_path)
    bounds = resource.getrlimit(resource.RLIMIT_NOFILE)
    held: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 200, bounds[1]))
    try:
        with contextlib.suppress(OSError):
            while True:
                held.append(os.open("/dev/null", os.O_RDONLY))
        for free in range(4):
            result = await own.run(ONE)
            assert result.status == "refused", free
            os.close(held.pop())
    finally:
        for fd in held:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, bounds)
    assert (await own.run(ONE)).value == 1
    await own.aclose()


def test_what_can_wait_is_warmed_up_step_by_step_while_no_message_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    checked: list[int] = []
    monkeypatch.setattr(zygote, "_IDLE_MS", 0)
    monkeypatch.setattr(zygote, "_demand_one_thread", checked.append)
    server, own = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    taken: list[int] = []

    def steps() -> Iterator[None]:
        for number in range(4):
            taken.append(number)
            if number == 1:
                server.send(b"fork")
            yield
        raise RuntimeError("a step that fails is the last one")

    later = steps()
    with server, own:
        assert not zygote._warm_in_idle_time(own, 7, later)  # pyright: ignore[reportPrivateUsage]
        assert taken == [0, 1]
        assert not zygote._warm_in_idle_time(own, 7, later)  # pyright: ignore[reportPrivateUsage]
        assert taken == [0, 1], "the message comes first"
        own.recv(9)
        assert zygote._warm_in_idle_time(own, 7, later)  # pyright: ignore[reportPrivateUsage]
    assert taken == [0, 1, 2, 3]
    assert checked == [7], "threads are counted once more before anything is forked"
