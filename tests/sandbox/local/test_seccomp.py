"""The filter itself, interpreted: both architectures' tables are tested on either machine."""

import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neural_trader_sandbox.local import kernel, seccomp
from neural_trader_sandbox.local.syscalls import ALLOWED, CONDITIONAL, KILLED

MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
ALLOW, KILL, EPERM, ENOTTY, ENOSYS = 0x7FFF0000, 0x80000000, 0x50001, 0x50019, 0x50026
ACTIONS = {ALLOW, KILL, EPERM, ENOTTY, ENOSYS}


def answer(
    machine: str, number: int, arguments: tuple[int, ...] = (), architecture: int | None = None
) -> int:
    """Interpret the program over `struct seccomp_data` (Linux's seccomp(2), classic BPF)."""
    padded = [*arguments, *[0] * (6 - len(arguments))]
    data = struct.pack("=IIQ6Q", number, architecture or MACHINES[machine][1], 0, *padded)
    program = seccomp.program(machine, own_pid=1)
    steps = [struct.unpack_from("=HBBI", program, at) for at in range(0, len(program), 8)]
    accumulator, at = 0, 0
    while True:
        code, if_true, if_false, operand = steps[at]
        at += 1
        if code == 0x20:
            (accumulator,) = struct.unpack_from("=I", data, operand)
        elif code == 0x54:
            accumulator &= operand
        elif code == 0x06:
            return operand
        else:
            holds = {
                0x15: accumulator == operand,
                0x35: accumulator >= operand,
                0x45: bool(accumulator & operand),
            }[code]
            at += if_true if holds else if_false


@pytest.mark.parametrize("machine", MACHINES)
def test_each_table_gets_its_action(machine: str) -> None:
    column = MACHINES[machine][0]
    for table, action in ((ALLOWED, ALLOW), (KILLED, KILL)):
        for name, numbers in table.items():
            number = numbers[column]
            if number is not None:
                assert answer(machine, number) == action, name


@pytest.mark.parametrize("machine", MACHINES)
def test_the_tables_do_not_overlap(machine: str) -> None:
    column = MACHINES[machine][0]
    numbers = [entry[column] for table in (ALLOWED, KILLED, CONDITIONAL) for entry in table.values()]
    known = [number for number in numbers if number is not None]
    assert len(known) == len(set(known))


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(
    ("name", "arguments", "action"),
    [
        ("clone", (0x10000 | 0x100,), ALLOW),
        ("clone", (17,), EPERM),
        ("clone", (0x10000000,), EPERM),
        ("clone3", (), ENOSYS),
        ("fcntl", (3, 1030), ALLOW),
        ("fcntl", (3, 8, 1), EPERM),
        ("fcntl", (3, 10, 9), EPERM),
        ("fcntl", (3, 15), EPERM),
        ("ioctl", (1, 0x541B), ALLOW),
        ("ioctl", (0, 0x5412), ENOTTY),
        ("prlimit64", (0, 7, 0), ALLOW),
        ("prlimit64", (1, 7, 0), ALLOW),
        ("prlimit64", (0, 7, 0x7FFF_0000_0000), EPERM),
        ("prlimit64", (0, 7, 0x1000), EPERM),
        ("prlimit64", (2, 7, 0), EPERM),
        ("prctl", (15,), ALLOW),
        ("prctl", (4, 1), EPERM),
        ("prctl", (22, 2), EPERM),
        ("socketpair", (1, 1), ALLOW),
        ("socketpair", (1, 0x80801), ALLOW),
        ("socketpair", (1, 2), EPERM),
        ("socketpair", (2, 1), EPERM),
        ("getsockopt", (3, 1, 3), ALLOW),
        ("getsockopt", (3, 1, 77), EPERM),
        ("getsockopt", (3, 1, 17), EPERM),
        ("getsockopt", (3, 6, 3), EPERM),
        ("sendto", (3, 0, 1, 0x4000), ALLOW),
        ("sendto", (3, 0, 1, 1), EPERM),
        ("recvfrom", (3, 0, 1, 0), ALLOW),
        ("recvfrom", (3, 0, 1, 0x101), EPERM),
        ("kill", (1, 9), ALLOW),
        ("kill", (0xFFFFFFFF, 9), EPERM),
        ("kill", (0, 9), EPERM),
        ("kill", (2, 0), EPERM),
        ("tgkill", (1, 1, 6), ALLOW),
        ("tgkill", (7, 7, 9), EPERM),
    ],
)
def test_conditional_calls_depend_on_their_arguments(
    machine: str, name: str, arguments: tuple[int, ...], action: int
) -> None:
    number = CONDITIONAL[name][MACHINES[machine][0]]
    assert number is not None
    assert answer(machine, number, arguments) == action


def test_another_architecture_and_the_x32_numbers_kill() -> None:
    assert answer("x86_64", 39, architecture=0x40000003) == KILL
    assert answer("aarch64", 172, architecture=0x40000028) == KILL
    assert answer("x86_64", 0x4000_0000 | 39) == KILL


@given(
    st.sampled_from(sorted(MACHINES)),
    st.integers(0, 2**32 - 1),
    st.lists(st.integers(0, 2**64 - 1), max_size=6),
)
def test_every_call_gets_an_answer_and_the_unknown_is_not_allowed(
    machine: str, number: int, arguments: list[int]
) -> None:
    action = answer(machine, number, tuple(arguments))
    assert action in ACTIONS
    column = MACHINES[machine][0]
    known = {entry[column] for table in (ALLOWED, CONDITIONAL) for entry in table.values()}
    if number not in known:
        assert action in {EPERM, KILL}


@pytest.mark.parametrize(
    "name", ["socket", "connect", "bind", "sendmsg", "recvmsg", "execve", "fork", "vfork", "kill", "fcntl"]
)
def test_no_call_that_reaches_outside_is_simply_allowed(name: str) -> None:
    assert name not in ALLOWED


HEADERS = {
    "x86_64": "/usr/include/x86_64-linux-gnu/asm/unistd_64.h",
    "aarch64": "/usr/include/asm-generic/unistd.h",
}


@pytest.mark.parametrize("machine", HEADERS)
def test_every_number_is_the_one_of_the_kernels_own_header(
    machine: str, lacking: Callable[[str], NoReturn]
) -> None:
    header = Path(HEADERS[machine])
    if not header.exists():
        lacking(f"the kernel's header {header} (linux-libc-dev) is not installed")
    defined = re.findall(r"^#define __NR(?:3264)?_(\w+)\s+(\d+)\s*$", header.read_text(), re.MULTILINE)
    numbers = {name: int(number) for name, number in defined}
    if machine == "aarch64":
        numbers["newfstatat"] = numbers.pop("fstatat")  # the header's name for 32 and 64 bits alike
    column = MACHINES[machine][0]
    tables = {
        name: entry[column] for table in (ALLOWED, KILLED, CONDITIONAL) for name, entry in table.items()
    }
    own = {**kernel._NUMBERS[machine], **kernel._NUMBERS_EVERYWHERE}  # pyright: ignore[reportPrivateUsage]: tables
    # an older header lacks the newest calls, whose numbers are the same everywhere
    theirs = {name: numbers.get(name, own.get(name)) for name in (*tables, *own)}
    assert {**tables, **own} == theirs
