"""An attack, what stopped it, and the same code outside: a defeat proves something only if the code works.

The source of an attack sets `result` to what it won (anything truthy). It is stopped where it raises, is
ended, or finds nothing. Words such as ``@port@`` stand for real prey of the host, see `conftest.Prey`.
"""

import errno
import json
import os
import re
import signal
from dataclasses import dataclass, field
from typing import Final

from tests.sandbox.attacks.controls import TIMEOUT_S, Controls

from neural_trader_sandbox.port import Limits, SandboxResult

WINS: Final = "wins"
"""Control: outside, the same code gets what it wants."""
WINS_AS_ROOT: Final = "wins as root"
"""Control: outside, root gets what it wants; a plain user's control says nothing and is skipped."""
DIFFERS: Final = "differs"
"""Control: outside, another answer comes (the call is made with arguments that cannot do harm)."""
DIFFERS_AS_ROOT: Final = "differs as root"
"""Control: outside, root gets another answer."""
RUNS_ON: Final = "runs on"
"""Control: outside, nothing ends it."""
CONTROL_TIMEOUT_S: Final = 0.5

LIBC: Final = "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
CHECKED: Final = (
    LIBC
    + "import os\ndef checked(answer):\n"
    + "    if answer < 0: raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))\n"
    + "    return [answer]\n"
)
_ERRNO = re.compile(r"\[Errno (-?\d+)\]")


@dataclass(frozen=True)
class Attack:
    """One attack.

    Attributes:
        name: A sentence's worth.
        source: Python; sets `result` to what it won.
        stopped_by: Pattern of the mechanism that must answer, see `inside`.
        control: One of the constants above, or the pattern of the outcome outside, or "none: why".
        limits: Of the run inside.
    """

    name: str
    source: str
    stopped_by: str = "EPERM|EACCES|ENOENT"
    control: str = WINS
    limits: Limits = field(default_factory=lambda: Limits(wall_time_s=20))


def call(name: str, numbers: dict[str, tuple[int | None, int]], *arguments: object) -> str:
    """Source of one system call by number; None where x86-64 has it and AArch64 has not is never asked."""
    column = 1 if os.uname().machine == "aarch64" else 0
    number = numbers[name][column]
    passed = "".join(f", {a!r}" if isinstance(a, bytes) else f", ctypes.c_long({a!r})" for a in arguments)
    return f"{CHECKED}result = checked(libc.syscall(ctypes.c_long({number}){passed}))"


def inside(result: SandboxResult) -> str:
    """The mechanism that answered: an errno, an exception, a limit, a signal, or that there was nothing."""
    if result.status == "ok":
        return f"WON {result.value!r:.200}" if result.value else "nothing to find"
    if result.error is None:
        return f"{result.status} without a reason"
    if result.status == "error":
        return _mechanism(result.error.type, result.error.message)
    return result.error.message


def outside(controls: Controls, source: str, environment: dict[str, str] | None = None) -> str:
    """The same source in a throwaway process without a sandbox: what it gets."""
    timeout_s = CONTROL_TIMEOUT_S if "# endless" in source else TIMEOUT_S
    status, text = controls.run(source, timeout_s, environment or {})
    if status is None:
        return RUNS_ON
    if status < 0:
        return f"signal {signal.Signals(-status).name}"
    _, spoke, said = text.rpartition("@@")
    if status or not spoke:
        return f"exit code {status}: {text[-200:]}"
    kind, message = json.loads(said)
    return f"won {message}" if kind == "won" else _mechanism(kind, message)


def _mechanism(kind: str, message: str) -> str:
    found = _ERRNO.search(message)
    if found is not None and int(found[1]) in errno.errorcode:
        return errno.errorcode[int(found[1])]
    return "nothing to find" if kind == "nothing" else f"{kind}: {message}"[:160]
