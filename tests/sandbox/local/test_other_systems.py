"""On a system that is not Linux the package imports, and every run is refused with what to do instead."""

import json
import subprocess
import sys
import textwrap

PROGRAM = textwrap.dedent(
    """
    import asyncio, json, os, select, socket, sys
    import anyio, e2b_code_interpreter, numpy, platformdirs, polars, pydantic, structlog

    # what Darwin's interpreter does not have
    for module, names in {
        os: ("memfd_create", "pidfd_open", "unshare", "setns", "O_PATH", "MFD_CLOEXEC", "setresuid"),
        select: ("epoll", "POLLRDHUP"),
        socket: ("AF_NETLINK", "AF_VSOCK", "SO_PEERCRED"),
    }.items():
        for name in names:
            if hasattr(module, name):
                delattr(module, name)
    sys.platform = "darwin"

    from neural_trader_governance.errors import HostError
    from neural_trader_sandbox.backends import open_sandbox
    from neural_trader_sandbox.e2b.settings import E2BSettings
    from neural_trader_sandbox.port import Job

    async def main():
        sandbox = open_sandbox("local", ["numpy"])
        job = Job("neural_trader_sandbox.script:run_script", {"source": "print('user code ran')"})
        result = await sandbox.run(job)
        report = await sandbox.probe()
        try:
            await sandbox.open_stream(job)
        except HostError as error:
            stream = error.code
        open_sandbox("e2b", ["numpy"], e2b=E2BSettings(), consent=lambda destination: None)
        print(json.dumps({
            "status": result.status, "stdout": result.stdout, "stream": stream,
            "message": result.error.message,
            "layers": [[each.name, each.holds, each.next_step] for each in report.layers], "ok": report.ok,
        }))

    anyio.run(main)
    """
)


def test_without_linux_nothing_runs_and_the_refusal_names_a_backend_that_would() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["status"], answer["stdout"], answer["stream"]) == ("refused", "", "sandbox_unavailable")
    assert "the sandbox needs platform and this host answers: darwin has neither" in answer["message"]
    assert "use an E2B service" in answer["message"]
    [(name, holds, next_step)] = answer["layers"]
    assert (name, holds, answer["ok"]) == ("platform", False, False)
    assert "run on Linux" in next_step
