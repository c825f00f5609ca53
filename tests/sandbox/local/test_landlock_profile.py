"""The weaker profile `landlock` under attack, each attack with a control by the same user outside of it."""

import json
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from tests.sandbox.local import hosts

from neural_trader_sandbox.local import kernel, landlock
from neural_trader_sandbox.local.sandbox import LocalSandbox
from neural_trader_sandbox.port import Job

JOB = Job("neural_trader_sandbox.script:run_script", {"source": "print('ran')"})
ATTACKS = textwrap.dedent(
    """
    import ctypes, json, os, platform, resource, socket
    server, folder = @server@, "@folder@"
    libc = ctypes.CDLL(None, use_errno=True)
    tgkill, shmget, msgget = (131, 194, 186) if platform.machine() == "aarch64" else (234, 29, 68)

    def call(*words):
        if libc.syscall(*map(ctypes.c_long, words)) < 0:
            raise OSError(ctypes.get_errno(), "")

    attacks = {
        "environment of the server": lambda: open(f"/proc/{server}/environ", "rb").read(),
        "memory of the server": lambda: open(f"/proc/{server}/maps", "rb").read(),
        "descriptors of the server": lambda: os.listdir(f"/proc/{server}/fd"),
        "program of the server": lambda: os.readlink(f"/proc/{server}/exe"),
        "list of processes": lambda: os.listdir("/proc"),
        "signal": lambda: os.kill(server, 0),
        "signal to a thread": lambda: call(tgkill, server, server, 0),
        "handle of a process": lambda: call(434, server, 0),
        "limits of the server": lambda: resource.prlimit(server, resource.RLIMIT_NOFILE),
        "its own priority": lambda: os.nice(1),
        "unix socket": lambda: socket.socket(socket.AF_UNIX),
        "network": lambda: socket.socket(),
        "shared memory": lambda: call(shmget, 0, 4096, 0o600),
        "message queue": lambda: call(msgget, 0, 0o600),
        "anonymous file": lambda: os.memfd_create("x"),
        "new file": lambda: open(f"{folder}/new", "w"),
        "new file in /tmp": lambda: open(f"/tmp/neural-trader-{os.getpid()}", "w"),
        "shared file system": lambda: open(f"/dev/shm/neural-trader-{os.getpid()}", "w"),
        "read": lambda: open(f"{folder}/victim").read(),
        "list": lambda: os.listdir(folder),
        "truncate": lambda: os.truncate(f"{folder}/victim", 0),
        "truncate by opening": lambda: os.open(f"{folder}/victim", os.O_RDONLY | os.O_TRUNC),
        "mode": lambda: os.chmod(f"{folder}/victim", 0o600),
        "times": lambda: os.utime(f"{folder}/victim"),
        "link": lambda: os.link(f"{folder}/victim", f"{folder}/link"),
        "symbolic link": lambda: os.symlink("victim", f"{folder}/symbolic"),
        "folder": lambda: os.mkdir(f"{folder}/folder"),
        "rename": lambda: os.rename(f"{folder}/other", f"{folder}/renamed"),
        "unlink": lambda: os.unlink(f"{folder}/victim"),
        "fork": lambda: os.fork() or os._exit(0),
    }

    def outcome(attempt):
        try:
            attempt()
        except OSError as error:
            return error.strerror or os.strerror(error.errno)
        return "open"

    result = {name: outcome(attempt) for name, attempt in attacks.items()}
    """
)
PROGRAM = textwrap.dedent(
    """
    import anyio, json, os, subprocess, sys
    from pathlib import Path
    from neural_trader_sandbox.local.sandbox import LocalSandbox
    from neural_trader_sandbox.port import Job

    async def main():
        folder = Path(sys.argv[1])
        for name in ("victim", "other"):
            (folder / name).write_text("untouched")
        sandbox = LocalSandbox(["numpy"], profile="landlock", cache_dir=folder / "kernels")
        source = sys.stdin.read().replace("@server@", str(os.getpid())).replace("@folder@", str(folder))
        result = await sandbox.run(Job("neural_trader_sandbox.script:run_script", {"source": source}))
        report = await sandbox.probe()
        await sandbox.aclose()
        left = sorted(os.listdir(folder)), (folder / "victim").read_text()
        control = subprocess.run(
            [sys.executable, "-c", source + "\\nprint(json.dumps(result))"], capture_output=True, text=True
        )
        print(json.dumps({"status": result.status, "error": str(result.error), "layers": result.layers,
                          "inside": result.value, "left": left, "outside": json.loads(control.stdout),
                          "ok": report.ok, "notes": report.notes}))

    anyio.run(main)
    """
)


@pytest.fixture
def somebodys_folder() -> Iterator[Path]:
    with hosts.folder_of(hosts.SOMEBODY) as folder:
        yield folder


def test_nothing_of_the_same_user_is_reached_and_the_result_names_the_profile(
    sandbox: LocalSandbox, somebodys_folder: Path, lacking: Callable[[str], NoReturn]
) -> None:
    del sandbox
    folder = somebodys_folder
    before = hosts.readable(folder, lacking, hosts.SOMEBODY)
    command = [*before, sys.executable, "-B", "-c", PROGRAM, str(folder)]
    done = subprocess.run(
        command,
        env=hosts.environment(folder),
        cwd="/",
        input=ATTACKS,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer["status"] == "ok", answer["error"]
    assert answer["layers"][0] == "profile:landlock"
    assert "namespaces" not in answer["layers"]
    assert answer["ok"]
    assert "weaker than full" in answer["notes"][0]
    denied = {"Permission denied", "Operation not permitted"}
    assert {name: said for name, said in answer["inside"].items() if said not in denied} == {}
    names, text = answer["left"]
    assert (set(names) - {"interpreter"}, text) == ({"kernels", "other", "victim"}, "untouched")
    assert {name: said for name, said in answer["outside"].items() if said != "open"} == {}


@pytest.mark.anyio
async def test_a_landlock_that_cannot_hold_files_alone_is_a_refusal(sandbox: LocalSandbox) -> None:
    del sandbox
    denied = LocalSandbox([], profile="landlock", deny=["landlock_alone"])
    try:
        result = await denied.run(JOB)
    finally:
        await denied.aclose()
    assert (result.status, result.stdout) == ("refused", "")
    assert result.error is not None
    assert "denied on purpose" in result.error.message


def test_one_that_lets_files_be_truncated_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landlock, "abi", lambda: 2)
    with pytest.raises(kernel.DeniedError, match="truncated"):
        landlock.require_alone()
    monkeypatch.setattr(landlock, "abi", lambda: 3)
    landlock.require_alone()
