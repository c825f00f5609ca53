"""The same sandbox on awkward hosts: an ordinary user, no working directory, a home that is not there."""

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from tests.sandbox.local import hosts

from neural_trader_governance.errors import ConfigurationError
from neural_trader_sandbox.local.sandbox import LocalSandbox
from neural_trader_sandbox.port import Job

SCRIPT = "neural_trader_sandbox.script:run_script"
PROGRAM = textwrap.dedent(
    """
    import anyio, json, os, sys
    if "--leave" in sys.argv:
        gone = os.path.join(os.environ["TMPDIR"], "gone")
        os.mkdir(gone); os.chdir(gone); os.rmdir(gone)
    from neural_trader_sandbox.local.sandbox import LocalSandbox
    from neural_trader_sandbox.port import Job

    async def main():
        sandbox = LocalSandbox(["numpy"])
        report = await sandbox.probe()
        source = "import numpy.fft, encodings.cp037, os\\n"
        source += "result = [os.getuid(), float(numpy.fft.fft([1, 1])[0].real)]"
        result = await sandbox.run(Job("neural_trader_sandbox.script:run_script", {"source": source}))
        await sandbox.aclose()
        print(json.dumps({"ok": report.ok, "layers": [[l.name, l.holds, l.detail] for l in report.layers],
                          "notes": report.notes,
                          "status": result.status, "value": result.value, "error": str(result.error)}))

    anyio.run(main)
    """
)


def run(command: list[str], home: str, tmp: Path, *options: str) -> dict[str, Any]:
    environment = {**hosts.environment(Path(home)), "TMPDIR": str(tmp)}
    command = [*command, sys.executable, "-B", "-c", PROGRAM, *options]
    done = subprocess.run(command, env=environment, cwd="/", capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


def test_a_deleted_working_directory_and_a_missing_home_do_not_matter(
    sandbox: LocalSandbox, tmp_path: Path
) -> None:
    del sandbox
    leave = "import os, sys; os.chdir(sys.argv[1]); os.rmdir(sys.argv[1]); import socket"
    (tmp_path / "gone").mkdir()
    if subprocess.run([sys.executable, "-c", leave, str(tmp_path / "gone")], check=False).returncode:
        pytest.skip("this interpreter cannot import in a deleted working directory (Python 3.13.0)")
    answer = run([], "/nonexistent/höme with spaces", tmp_path, "--leave")
    assert (answer["ok"], answer["status"], answer["value"]) == (True, "ok", [1000, 2.0]), answer


@pytest.fixture
def folder(request: pytest.FixtureRequest) -> Iterator[Path]:
    with hosts.folder_of(getattr(request, "param", None)) as found:
        yield found


@pytest.mark.parametrize("folder", [hosts.SOMEBODY], indirect=True)
def test_an_ordinary_user_gets_the_same_layers(
    sandbox: LocalSandbox, folder: Path, lacking: Callable[[str], NoReturn]
) -> None:
    del sandbox
    answer = run(hosts.readable(folder, lacking, hosts.SOMEBODY), str(folder), folder)
    assert (answer["ok"], answer["status"], answer["value"]) == (True, "ok", [1000, 2.0]), answer
    user = hosts.SOMEBODY if os.geteuid() == 0 else os.geteuid()
    assert ["unprivileged_user", True, f"runs as host user {user}"] in answer["layers"]


@pytest.mark.parametrize("user", [None, hosts.SOMEBODY])
def test_an_interpreter_in_a_home_that_nobody_else_can_read_is_shown_and_no_more_of_it(
    user: int | None, sandbox: LocalSandbox, lacking: Callable[[str], NoReturn]
) -> None:
    del sandbox
    if not hosts.interpreter_hidden():
        lacking("these tests do not run as root from an interpreter in root's own home")
    with hosts.folder_of(user) as folder:
        before = hosts.readable(folder, lacking, user, private=True)
        answer = run(before, str(hosts.home()), folder)
    assert (answer["ok"], answer["status"], answer["value"]) == (True, "ok", [1000, 2.0]), answer
    [files] = [detail for name, _, detail in answer["layers"] if name == "filesystem"]
    assert f"read {hosts.home()}:" in files


def test_a_home_that_cannot_be_written_costs_the_cache_only(
    sandbox: LocalSandbox, folder: Path, lacking: Callable[[str], NoReturn]
) -> None:
    del sandbox
    home = folder / "home"
    home.mkdir(mode=0o555)
    before = hosts.readable(folder, lacking, hosts.SOMEBODY)
    answer = run(before, str(home), folder)
    assert (answer["ok"], answer["status"], answer["value"]) == (True, "ok", [1000, 2.0]), answer
    assert list(home.iterdir()) == []


@pytest.mark.anyio
async def test_a_cache_folder_that_cannot_be_made_is_an_error_that_says_so(
    sandbox: LocalSandbox, tmp_path: Path
) -> None:
    del sandbox
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match=r"sandbox_cache_unusable.*choose a folder"):
        await LocalSandbox([], cache_dir=tmp_path / "file" / "cache").run(Job(SCRIPT, {"source": "x = 1"}))


def test_without_control_groups_the_other_layers_hold_and_none_is_claimed(
    sandbox: LocalSandbox, folder: Path, lacking: Callable[[str], NoReturn]
) -> None:
    del sandbox
    if os.geteuid() != 0 or not os.path.ismount("/sys/fs/cgroup"):
        lacking("control groups can only be taken away by root, where they are mounted")
    without = ["unshare", "-m", "sh", "-c", 'umount -R /sys/fs/cgroup && exec "$@"', "sh"]
    answer = run(without, str(folder), folder)
    assert (answer["ok"], answer["status"], answer["value"]) == (True, "ok", [1000, 2.0]), answer
    assert "cgroup" not in [name for name, _, _ in answer["layers"]]
    assert any("no control group bounds" in note for note in answer["notes"])
