"""Every attack is stopped by the mechanism that is meant to stop it; the desk is as it was and goes on.

`pytest -s tests/sandbox/attacks` prints the mechanism that answered each.
"""

import os
import re
from collections.abc import Awaitable, Callable

import pytest
from tests.sandbox.attacks import files, interpreter, network, processes, resources, surface
from tests.sandbox.attacks.attack import (
    DIFFERS,
    DIFFERS_AS_ROOT,
    RUNS_ON,
    WINS,
    WINS_AS_ROOT,
    Attack,
    inside,
    outside,
)
from tests.sandbox.attacks.conftest import Prey, Steady
from tests.sandbox.attacks.controls import Controls

from neural_trader_sandbox.port import SandboxResult

RunScript = Callable[..., Awaitable[SandboxResult]]
HONEST = "import numpy, polars\nresult = int(numpy.arange(4).sum()) + polars.DataFrame({'a': [1]}).height"
KINDS: dict[str, list[Attack]] = {
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
    "memory": resources.MEMORY,
    "disk and inodes": resources.DISK,
    "processor and time": resources.PROCESSOR,
    "floods and silence": resources.FLOODS,
    "the interpreter": interpreter.ATTACKS,
}
ATTACKS = [
    pytest.param(kind, attack, id=f"{kind}: {attack.name}")
    for kind, attacks in KINDS.items()
    for attack in attacks
]
CONTROLLED = [
    pytest.param(attack, id=f"{kind}: {attack.name}")
    for kind, attacks in KINDS.items()
    for attack in attacks
    if not attack.control.startswith("none")
]


@pytest.mark.anyio
@pytest.mark.parametrize(("kind", "attack"), ATTACKS)
async def test_the_attack_is_stopped_and_the_desk_goes_on(
    kind: str,
    attack: Attack,
    run_script: RunScript,
    prey: Prey,
    steady: Steady,
    outcomes: dict[str, list[tuple[str, str]]],
) -> None:
    desk = os.getpid()
    result = await run_script(prey.fill(attack.source), limits=attack.limits)
    mechanism = inside(result)
    outcomes[kind].append((attack.name, mechanism))
    print(f"{kind}: {attack.name}: {mechanism}")  # noqa: T201 - read with -s
    assert re.search(attack.stopped_by, mechanism), mechanism
    assert not result.value
    assert not result.columns
    assert prey.harm() == []
    honest = await run_script(HONEST)
    assert (honest.status, honest.value) == ("ok", 7)
    steady.check()
    assert os.getpid() == desk


@pytest.mark.parametrize("attack", CONTROLLED)
def test_outside_the_same_code_gets_further(attack: Attack, prey: Prey, controls: Controls) -> None:
    """Without this, a broken attack would look like a sandbox that holds."""
    if attack.control in (WINS_AS_ROOT, DIFFERS_AS_ROOT) and os.geteuid() != 0:
        pytest.skip("only root could get further outside")
    try:
        outcome = outside(controls, prey.fill(attack.source))
    finally:
        prey.recover()
    if attack.control in (WINS, WINS_AS_ROOT):
        assert outcome.startswith("won"), outcome
    elif attack.control in (DIFFERS, DIFFERS_AS_ROOT):
        assert not re.search(attack.stopped_by, outcome), outcome
    else:
        assert re.match(RUNS_ON if attack.control == RUNS_ON else f"(?:{attack.control})", outcome), outcome


def test_most_attacks_have_a_control_and_names_are_unique() -> None:
    names = [f"{kind}: {attack.name}" for kind, attacks in KINDS.items() for attack in attacks]
    assert len(set(names)) == len(names)
    assert len(names) >= 200
    assert len(CONTROLLED) >= 0.85 * len(names)
