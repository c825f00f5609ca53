"""Thousands of runs, honest and hostile, in one server: nothing may grow. `make faults` runs it (minutes)."""

import os
import time
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from neural_trader_sandbox.local.sandbox import LocalSandbox
from neural_trader_sandbox.port import Job, Limits

RUNS = 2_400
WARM_UP = 240
MIB = 1 << 20
GROWTH_MAX_BYTES = 8 * MIB
"""Each process may grow by this in all the runs after the warm-up: 4 KiB a run would already be more."""
HONEST = "import numpy\nresult = int(numpy.arange(4).sum()) + 1"
DEFAULT = Limits(wall_time_s=20)
RUNS_OF_A_ROUND: list[tuple[str, str, Limits]] = [
    ("ok", HONEST, DEFAULT),
    ("ok", "import numpy\ncolumns = {'x': numpy.ones(100_000)}\nprint('said')", DEFAULT),
    ("error", "raise ValueError('no')", DEFAULT),
    ("error", "open('/etc/passwd')", DEFAULT),
    ("error", "import socket\nsocket.socket()", DEFAULT),
    ("error", "import os\nos.fork()", DEFAULT),
    ("error", "import os\nos._exit(3)", DEFAULT),
    ("error", "import os\nos.write(3, b'x' * 4096)\nwhile True: pass", DEFAULT),
    (
        "ok",
        "import threading, time\nthreading.Thread(target=time.sleep, args=(9,), daemon=True).start()",
        DEFAULT,
    ),
    ("ok", "open('/tmp/kept', 'wb').write(bytes(1 << 20))", DEFAULT),
    ("killed", "import ctypes\nctypes.CDLL(None).syscall(101, 0, 0, 0, 0)\nctypes.string_at(1)", DEFAULT),
    ("killed", "import ctypes\nctypes.string_at(1)", DEFAULT),
    ("timeout", "while True: pass", Limits(wall_time_s=0.02)),
    ("error", "x = bytearray(1 << 30)", Limits(wall_time_s=20, memory_bytes=1 << 30)),
    ("ok", HONEST, Limits(wall_time_s=20, memory_bytes=1 << 30)),
]


def status_of(pid: int, field: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f"{field}:")).split()[1])


def children_of(pid: int) -> list[int]:
    tasks = [Path(f"/proc/{pid}/task/{task}/children") for task in os.listdir(f"/proc/{pid}/task")]
    return [int(word) for path in tasks for word in path.read_text().split()]


def below(pid: int) -> list[int]:
    found = children_of(pid)
    return found + [deeper for child in found for deeper in below(child)]


def lines_of(path: str) -> int:
    return len(Path(path).read_text().splitlines())


class Holdings:
    """What the server and its sandbox hold: each figure by name."""

    def __init__(self) -> None:
        me = os.getpid()
        launchers = [p for p in children_of(me) if b"launcher" in Path(f"/proc/{p}/cmdline").read_bytes()]
        launcher = max(launchers)  # the other one is the session's sandbox, at rest
        (zygote,) = children_of(launcher)
        processes = {"server": me, "launcher": launcher, "zygote": zygote}
        self.counts = {"processes": len(below(me)), "mounts of the host": lines_of("/proc/self/mountinfo")}
        self.counts["mounts of the launcher"] = lines_of(f"/proc/{launcher}/mountinfo")
        self.counts["cgroups"] = sum(f"-{me}-" in path for path, _, _ in os.walk("/sys/fs/cgroup"))
        self.bytes: dict[str, int] = {}
        for name, pid in processes.items():
            self.counts[f"threads of the {name}"] = status_of(pid, "Threads")
            self.counts[f"descriptors of the {name}"] = len(os.listdir(f"/proc/{pid}/fd"))
            self.bytes[name] = status_of(pid, "VmRSS") * 1024
        self.pids = processes


async def settled(sandbox: LocalSandbox) -> Holdings:
    """Holdings once the pool has filled and the dead are gone."""
    assert (await sandbox.run(script(HONEST), DEFAULT)).value == 7
    groups = await sandbox.groups()
    assert isinstance(groups, str) or await anyio.to_thread.run_sync(groups.flush)
    deadline = time.monotonic() + 20
    before, same = Holdings(), 0
    while same < 15 and time.monotonic() < deadline:
        await anyio.sleep(0.02)  # until nothing changes: the kernel offers nothing to wait on here
        now = Holdings()
        same = same + 1 if now.counts == before.counts else 0
        before = now
    return before


def script(source: str) -> Job:
    return Job("neural_trader_sandbox.script:run_script", {"source": source})


@pytest.mark.slow
@pytest.mark.anyio
async def test_thousands_of_runs_leave_nothing_behind(sandbox: LocalSandbox, tmp_path: Path) -> None:
    del sandbox  # skips where the host lacks a layer
    soaked = LocalSandbox(["numpy"], cache_dir=tmp_path)
    try:
        for number in range(WARM_UP):
            await soaked.run(*_round(number)[1:])
        first = await settled(soaked)
        started = time.monotonic()
        ended: dict[str, int] = {}
        for number in range(RUNS):
            status, job, limits = _round(number)
            result = await soaked.run(job, limits)
            assert result.status == status, (number, result)
            ended[status] = ended.get(status, 0) + 1
        seconds = time.monotonic() - started
        last = await settled(soaked)
    finally:
        await soaked.aclose()
    growth = {name: last.bytes[name] - first.bytes[name] for name in first.bytes}
    print(f"{RUNS} runs in {seconds:.0f} s: {ended}")  # noqa: T201 - the record of a soak
    print(f"held before and after: {first.counts}")  # noqa: T201 - as above
    print("grown by, KiB:", {name: grown >> 10 for name, grown in growth.items()})  # noqa: T201 - as above
    assert last.pids == first.pids
    more = {name: (first.counts[name], now) for name, now in last.counts.items() if now > first.counts[name]}
    assert not more  # less there may be: what an earlier test of this process left has ended meanwhile
    assert all(grown < GROWTH_MAX_BYTES for grown in growth.values()), growth


def _round(number: int) -> tuple[str, Job, Limits]:
    status, source, limits = RUNS_OF_A_ROUND[number % len(RUNS_OF_A_ROUND)]
    return status, script(source), limits
