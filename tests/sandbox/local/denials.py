"""A program: runs one job on many poor hosts, each a fork of its own; see `test_fail_closed.py`.

Reads a list of `Case` as JSON and writes what became of each, in order.
"""

import ctypes
import json
import os
import struct
import sys
from pathlib import Path
from typing import Any, TypedDict

import anyio

from neural_trader_sandbox.local import kernel
from neural_trader_sandbox.local.instances import LocalInstance
from neural_trader_sandbox.local.sandbox import LocalSandbox
from neural_trader_sandbox.port import Job, SandboxResult, Watch

AT_ONCE = 4
JOB = Job("neural_trader_sandbox.script:run_script", {"source": "print('user code ran'); result = 1"})


class Case(TypedDict):
    """A poor host.

    Attributes:
        profile: Of the sandbox.
        deny: Primitives that fail by `denied_on_purpose`.
        answers: Rows of system call, first argument (-1: whichever), and the kernel's errno.
    """

    profile: str
    deny: list[str]
    answers: list[tuple[int, int, int]]


def answer_with_errors(rows: list[tuple[int, int, int]]) -> None:
    """A filter over this process and all it starts, as a container's or an older kernel's would answer."""
    steps: list[bytes] = []
    for number, argument, error in rows:
        body = [(0x06, 0, 0, 0x0005_0000 | error)]
        if argument >= 0:
            body = [(0x20, 0, 0, 16), (0x15, 0, 1, argument), *body]
        body = [(0x20, 0, 0, 0), (0x15, 0, len(body), number), *body]
        steps += [struct.pack("=HBBI", *step) for step in body]
    steps.append(struct.pack("=HBBI", 0x06, 0, 0, 0x7FFF_0000))
    program = ctypes.create_string_buffer(b"".join(steps))
    if os.geteuid() != 0:
        kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    kernel.call("seccomp", 1, 0, struct.pack("=HxxxxxxQ", len(steps), ctypes.addressof(program)))


async def outcome(case: Case, preload: list[str], cache: Path) -> dict[str, Any]:
    """The result of one job, and whether it was handed to a child at all."""
    handed_over: list[Job] = []
    run = LocalInstance.run

    async def record(self: LocalInstance, job: Job, *, watch: Watch | None = None) -> SandboxResult:
        handed_over.append(job)
        return await run(self, job, watch=watch)

    LocalInstance.run = record
    sandbox = LocalSandbox(preload, profile=case["profile"], warm=0, cache_dir=cache, deny=case["deny"])  # type: ignore[arg-type]
    try:
        result = await sandbox.run(JOB)
    finally:
        await sandbox.aclose()
    return {
        "status": result.status,
        "said": [result.stdout, result.value, list(result.layers), len(handed_over)],
        "message": result.error.message if result.error else "",
    }


def start(case: Case, preload: list[str], cache: Path) -> tuple[int, int]:
    """A fork that runs one case, and the pipe that its answer comes through."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if case["answers"]:
                answer_with_errors(case["answers"])
            said = anyio.run(outcome, case, preload, cache)
        except BaseException as error:  # the test shows it
            said = {"status": "crashed", "message": repr(error)}
        os.write(writer, json.dumps(said).encode())
        os._exit(0)
    os.close(writer)
    return child, reader


def main() -> None:
    """Run the cases, a few at once."""
    plan = json.load(sys.stdin)
    answers: list[dict[str, Any]] = []
    cases: list[Case] = plan["cases"]
    for first in range(0, len(cases), AT_ONCE):
        started = [
            start(case, plan["preload"], Path(plan["cache"])) for case in cases[first : first + AT_ONCE]
        ]
        for child, reader in started:
            with os.fdopen(reader, "rb") as pipe:
                answers.append(json.loads(pipe.read()))
            os.waitpid(child, 0)
    sys.stdout.write("\n" + json.dumps(answers))  # below what was logged


if __name__ == "__main__":
    main()
