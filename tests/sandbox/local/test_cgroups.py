"""Control groups: found from what is really mounted, in force where they are listed, gone afterwards."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
from tests.sandbox.local.processes import until

from neural_trader_sandbox.local import cgroups, zygotes
from neural_trader_sandbox.local.sandbox import LocalSandbox
from neural_trader_sandbox.port import Job, Limits

SCRIPT = "neural_trader_sandbox.script:run_script"


@pytest.fixture
def delegation(lacking: Callable[[str], NoReturn]) -> cgroups.Delegation:
    try:
        return cgroups.find()
    except (cgroups.UndelegatedError, OSError) as reason:
        lacking(f"no control groups are delegated here: {reason}")


def left(delegation: cgroups.Delegation, pid: int) -> list[str]:
    return [
        name
        for folder in set(delegation.folders.values())
        for name in os.listdir(folder)
        if name.startswith("neural-trader-") and f"-{pid}-" in name
    ]


@pytest.mark.anyio
async def test_memory_past_the_groups_limit_ends_the_run_and_says_memory(
    sandbox: LocalSandbox, delegation: cgroups.Delegation
) -> None:
    del delegation
    hoard = Job(SCRIPT, {"source": "held = b'x' * (256 << 20)"})
    result = await sandbox.run(hoard, Limits(resident_bytes=64 << 20))
    assert (result.status, "cgroup" in result.layers) == ("killed", True)
    assert result.error is not None
    assert "memory past resident_bytes" in result.error.message
    assert (await sandbox.run(Job(SCRIPT, {"source": "result = 1"}))).value == 1


@pytest.mark.anyio
async def test_groups_go_with_their_runs_and_with_the_sandbox(
    sandbox: LocalSandbox, delegation: cgroups.Delegation, tmp_path: Path
) -> None:
    del sandbox
    before = set(left(delegation, os.getpid()))
    own = LocalSandbox([], cache_dir=tmp_path)
    for _ in range(20):
        assert (await own.run(Job(SCRIPT, {"source": "result = 1"}))).value == 1
    groups = await own.groups()
    assert not isinstance(groups, str)
    [base, *_] = [
        f"{folder}/{name}"
        for folder in set(delegation.folders.values())
        for name in set(left(delegation, os.getpid())) - before
    ]
    assert groups.flush()  # by itself: no other run has to come by
    # two warm children, and one prepared
    assert len([entry for entry in os.scandir(base) if entry.is_dir()]) == 3
    await own.aclose()
    assert set(left(delegation, os.getpid())) == before


def test_groups_of_a_server_that_was_killed_are_swept_by_the_next(
    delegation: cgroups.Delegation,
) -> None:
    source = (
        "import os, signal; from neural_trader_sandbox.local import cgroups; "
        "cgroups.Groups(cgroups.find()).take(1 << 26, 4); os.kill(os.getpid(), signal.SIGKILL)"
    )
    dead = subprocess.Popen([sys.executable, "-c", source])
    dead.wait()
    assert left(delegation, dead.pid)
    cgroups.Groups(delegation).close()
    assert not left(delegation, dead.pid)


@pytest.mark.anyio
async def test_without_delegation_the_run_goes_on_and_no_layer_is_claimed(
    sandbox: LocalSandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    del sandbox

    def nothing() -> cgroups.Delegation:
        raise cgroups.UndelegatedError("nobody delegated anything")

    monkeypatch.setattr(zygotes.cgroups, "find", nothing)
    own = LocalSandbox([], cache_dir=tmp_path)
    try:
        result = await own.run(Job(SCRIPT, {"source": "result = 1"}))
        report = await own.probe()
    finally:
        await own.aclose()
    assert (result.value, "cgroup" in result.layers) == (1, False)
    assert report.ok
    assert "cgroup" not in [layer.name for layer in report.layers]
    assert any("nobody delegated" in note and "Delegate=yes" in note for note in report.notes)


@pytest.mark.anyio
async def test_a_group_that_cannot_be_joined_is_a_refusal(
    sandbox: LocalSandbox, delegation: cgroups.Delegation, tmp_path: Path
) -> None:
    del sandbox, delegation
    own = LocalSandbox([], cache_dir=tmp_path, deny=["guest:cgroup"])
    try:
        result = await own.run(Job(SCRIPT, {"source": "print('ran')"}))
    finally:
        await own.aclose()
    assert (result.status, result.stdout) == ("refused", "")


@pytest.mark.anyio
async def test_groups_that_are_gone_when_the_zygote_is_replaced_are_a_refusal(
    sandbox: LocalSandbox, delegation: cgroups.Delegation, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    del sandbox, delegation
    own = LocalSandbox([], warm=0, cache_dir=tmp_path)
    try:
        assert "cgroup" in (await own.run(Job(SCRIPT, {"source": "result = 1"}))).layers
        (await own._running_zygote()).close()  # pyright: ignore[reportPrivateUsage]: only it knows
        with monkeypatch.context() as without:

            def nothing() -> cgroups.Delegation:
                raise OSError(errno.EMFILE, "Too many open files")

            without.setattr(zygotes.cgroups, "find", nothing)
            result = await own.run(Job(SCRIPT, {"source": "print('ran')"}))
            assert (result.status, result.stdout) == ("refused", "")
            assert result.error is not None
            assert "there were control groups before" in result.error.message
        assert "cgroup" in (await own.run(Job(SCRIPT, {"source": "result = 1"}))).layers
    finally:
        await own.aclose()


def test_a_group_whose_process_is_still_ending_goes_by_itself(delegation: cgroups.Delegation) -> None:
    before = set(left(delegation, os.getpid()))
    groups = cgroups.Groups(delegation)
    try:
        group = groups.take(1 << 26, 8)
        assert until(
            lambda: len(folders(delegation, before)) == 2 * hierarchies(delegation)
        )  # and a next one
        join = (
            "import os, sys\nfor door in sys.argv[1:]: os.write(int(door), b'0')\nprint(flush=True)\ninput()"
        )
        words = [sys.executable, "-S", "-c", join, *map(str, group.doors)]
        with subprocess.Popen(
            words, pass_fds=group.doors, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as held:
            assert held.stdout is not None
            assert held.stdout.readline() == b"\n"
            groups.give_back(group)  # nothing else is asked of the groups from here on
            assert until(lambda: len(folders(delegation, before)) == hierarchies(delegation))
            assert held.wait() < 0
        assert groups.flush()
    finally:
        groups.close()


def hierarchies(delegation: cgroups.Delegation) -> int:
    return len(set(delegation.folders.values()))


def folders(delegation: cgroups.Delegation, before: set[str]) -> list[str]:
    """Groups of guests below those that this process did not have before."""
    bases = [
        f"{folder}/{name}"
        for folder in set(delegation.folders.values())
        for name in set(left(delegation, os.getpid())) - before
    ]
    return [
        entry.path for base in bases if os.path.isdir(base) for entry in os.scandir(base) if entry.is_dir()
    ]
