"""What a locked guest is to the host's kernel: a layer that seccomp hides from every attack is seen here."""

import os
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.sandbox.local.processes import descendants, leaves, until

from neural_trader_sandbox.local.sandbox import LocalSandbox
from neural_trader_sandbox.port import Job, Limits

LIMITS = Limits(cpu_time_s=60, memory_bytes=3 << 30, file_bytes=1 << 20, open_files=33, threads=7)
SPIN = """
import threading
def handle(message):
    return message
def spin():
    while True: pass
threading.Thread(target=spin, daemon=True).start()
"""
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root may look into what is not dumpable")
NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")


@asynccontextmanager
async def guest(folder: Path) -> AsyncGenerator[tuple[int, int]]:
    """The host's numbers of a guest that runs a stranger's code, and of its launcher."""
    own = LocalSandbox(["numpy"], warm=0, cache_dir=folder)
    try:
        stream = await own.open_stream(
            Job("neural_trader_sandbox.script:stream_script", {"source": SPIN}), LIMITS
        )
        assert (await stream.send(1)).value == 1
        launcher = (await own._running_zygote()).pid  # pyright: ignore[reportPrivateUsage]: only it knows
        (number,) = leaves(launcher)
        yield number, launcher
    finally:
        await own.aclose()


def facts(pid: int, file: str) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/{file}").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


@AS_ROOT
@pytest.mark.anyio
async def test_it_shares_no_namespace_with_the_desk(sandbox: LocalSandbox, tmp_path: Path) -> None:
    del sandbox
    async with guest(tmp_path) as (pid, _):
        shared = [
            name for name in NAMESPACES if os.stat(f"/proc/{pid}/ns/{name}").st_ino
            == os.stat(f"/proc/self/ns/{name}").st_ino
        ]  # fmt: skip
        devices = Path(f"/proc/{pid}/net/dev").read_text().splitlines()[2:]  # noqa: ASYNC240 - as above
    assert shared == []
    assert [line.split(":")[0].strip() for line in devices] == ["lo"]


@AS_ROOT
@pytest.mark.anyio
async def test_it_has_no_capability_and_cannot_gain_one(sandbox: LocalSandbox, tmp_path: Path) -> None:
    del sandbox
    async with guest(tmp_path) as (pid, _):
        status = facts(pid, "status")
        owner = os.stat(f"/proc/{pid}/environ").st_uid
    names = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
    assert {name: int(status[name], 16) for name in names} == dict.fromkeys(names, 0)
    assert (status["NoNewPrivs"], status["Seccomp"], status["Seccomp_filters"]) == ("1", "2", "1")
    assert "0" not in status["Uid"].split() + status["Gid"].split()
    assert status["Groups"] in ("", status["Gid"].split()[0])
    assert owner == 0  # as of every process that is not dumpable


@pytest.mark.anyio
async def test_its_limits_are_those_that_were_asked_for_and_hard(
    sandbox: LocalSandbox, tmp_path: Path
) -> None:
    del sandbox
    async with guest(tmp_path) as (pid, _):
        lines = Path(f"/proc/{pid}/limits").read_text().splitlines()[1:]  # noqa: ASYNC240 - /proc does not block
    found = {line[:26].strip(): tuple(line[26:].split()[:2]) for line in lines}
    expected = {
        "Max cpu time": 60,
        "Max address space": 3 << 30,
        "Max file size": 1 << 20,
        "Max open files": 33,
        "Max processes": 7,
        "Max core file size": 0,
        "Max locked memory": 0,
        "Max msgqueue size": 0,
        "Max nice priority": 0,
        "Max realtime priority": 0,
    }
    assert {name: found[name] for name in expected} == {n: (str(v), str(v)) for n, v in expected.items()}


@AS_ROOT
@pytest.mark.anyio
async def test_its_descriptors_are_four_and_none_leads_to_the_host(
    sandbox: LocalSandbox, tmp_path: Path
) -> None:
    del sandbox
    async with guest(tmp_path) as (pid, _):
        folder = Path(f"/proc/{pid}/fd")
        found = {entry.name: os.readlink(entry).partition(":")[0] for entry in folder.iterdir()}  # noqa: ASYNC240 - as above
    assert found == {"0": "/dev/null", "1": "/dev/null", "2": "/dev/null", "3": "socket"}


@pytest.mark.anyio
async def test_it_ends_with_its_nanny(sandbox: LocalSandbox, tmp_path: Path) -> None:
    del sandbox
    async with guest(tmp_path) as (pid, launcher):
        (nanny,) = (other for other in descendants(launcher) if descendants(other) == {pid})
        os.kill(nanny, signal.SIGKILL)
        assert until(lambda: not os.path.lexists(f"/proc/{pid}"))
