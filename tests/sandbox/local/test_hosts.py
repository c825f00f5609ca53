"""The same sandbox on awkward hosts: an ordinary user, no working directory, a home that is not there."""

import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from neural_trader_sandbox.local.sandbox import LocalSandbox

SOMEBODY = 65533
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
                          "status": result.status, "value": result.value, "error": str(result.error)}))

    anyio.run(main)
    """
)


def run(python: str, home: str, tmp: Path, *options: str, user: int | None = None) -> dict[str, object]:
    environment = {
        "HOME": home,
        "PATH": "/usr/bin:/bin",
        "TMPDIR": str(tmp),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    command = [python, "-c", PROGRAM, *options]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=60, user=user, group=user,
        extra_groups=None if user is None else [],
    )  # fmt: skip
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
    answer = run(sys.executable, "/nonexistent/höme with spaces", tmp_path, "--leave")
    assert (answer["ok"], answer["status"], answer["value"]) == (True, "ok", [1000, 2.0]), answer


def test_an_ordinary_user_gets_the_same_layers(
    sandbox: LocalSandbox, tmp_path_factory: pytest.TempPathFactory
) -> None:
    del sandbox
    if os.geteuid() != 0:
        pytest.skip("this whole suite runs as an ordinary user already")
    python = _readable_python()
    if python is None:
        pytest.skip(
            "no interpreter of this version, with these packages, can be read by an ordinary user here"
        )
    folder = tmp_path_factory.mktemp("somebody")
    for parent in (folder, *folder.parents):
        if parent.owner() == "root" and parent.name.startswith("pytest-"):
            parent.chmod(0o755)
    os.chown(folder, SOMEBODY, SOMEBODY)
    answer = run(python, str(folder), folder, user=SOMEBODY)
    assert (answer["ok"], answer["status"], answer["value"]) == (True, "ok", [1000, 2.0]), answer
    layers = answer["layers"]
    assert isinstance(layers, list)
    assert ["unprivileged_user", True, f"runs as host user {SOMEBODY}"] in layers


def _readable_python() -> str | None:
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    check = "import numpy, pydantic, neural_trader_sandbox.local.sandbox"
    environment = {"PYTHONPATH": os.pathsep.join(sys.path), "HOME": "/nonexistent"}
    for python in (sys.executable, shutil.which(version, path="/usr/bin:/usr/local/bin"), "/usr/bin/python3"):
        if python is None:
            continue
        try:
            done = subprocess.run(
                [python, "-c", check], env=environment, capture_output=True, timeout=60, cwd="/",
                user=SOMEBODY, group=SOMEBODY, extra_groups=[],
            )  # fmt: skip
        except OSError:
            continue
        if done.returncode == 0:
            return python
    return None
