"""A program: the attack suite against the profile `landlock`; see `test_profiles.py`.

Writes for each attack the mechanism that answered, and what it reached.
"""

import json
import os
import sys
from pathlib import Path

import anyio
from tests.sandbox.attacks import files, network, processes, surface
from tests.sandbox.attacks.attack import inside
from tests.sandbox.attacks.conftest import Prey

from neural_trader_sandbox.local.sandbox import LocalSandbox
from neural_trader_sandbox.port import Job

KINDS = {
    "files and links": files.ATTACKS,
    "network": network.NETWORK,
    "unix sockets": network.UNIX_SOCKETS,
    "descriptors": network.DESCRIPTORS,
    "/proc and ptrace": processes.PROC,
    "signals": processes.SIGNALS,
    "exec": processes.EXEC,
    "fork and threads": processes.COPIES,
    "privileges": processes.PRIVILEGES,
    "mounts and namespaces": surface.MOUNTS,
    "kernel surface": surface.KERNEL,
    "other ABIs": surface.DOORS,
}


async def main() -> None:
    """Make every attack, then an honest run."""
    folder = Path(sys.argv[1])
    prey = Prey(folder)
    sandbox = LocalSandbox(["numpy"], profile="landlock", cache_dir=folder / "kernels")
    answers: dict[str, list[object]] = {}
    try:
        for kind, attacks in KINDS.items():
            for attack in attacks:
                job = Job("neural_trader_sandbox.script:run_script", {"source": prey.fill(attack.source)})
                result = await sandbox.run(job, attack.limits)
                answers[f"{kind}: {attack.name}"] = [inside(result), prey.harm(), list(result.layers)]
        honest = Job("neural_trader_sandbox.script:run_script", {"source": "import numpy\nresult = 7"})
        result = await sandbox.run(honest)
        report = await sandbox.probe()
    finally:
        prey.close()
        await sandbox.aclose()
    left = sorted(os.listdir(folder))
    answer = {
        "attacks": answers,
        "honest": result.value,
        "left": left,
        "ok": report.ok,
        "notes": list(report.notes),
    }
    sys.stdout.write("\n" + json.dumps(answer))


if __name__ == "__main__":
    anyio.run(main)
