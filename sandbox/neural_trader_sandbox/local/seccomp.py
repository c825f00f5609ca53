"""The seccomp filter: a list of what may be called; everything else fails or kills.

Classic BPF over `struct seccomp_data {nr, arch, instruction_pointer, args[6]}`, see seccomp(2). The
little end of a 64-bit argument is checked where the kernel itself reads only 32 bits of it.
"""

import ctypes
import struct

from neural_trader_sandbox.local import kernel
from neural_trader_sandbox.local.syscalls import ALLOWED, CONDITIONAL, KILLED

_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32_BIT = 0x4000_0000
_LOAD, _IF_EQUAL, _IF_AT_LEAST, _IF_ANY_BIT, _AND, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
_ALLOW, _KILL_PROCESS, _ERRNO = 0x7FFF0000, 0x80000000, 0x0005_0000
_EPERM, _ENOTTY, _ENOSYS = _ERRNO | 1, _ERRNO | 25, _ERRNO | 38
_SET_MODE_FILTER = 1

_CLONE_THREAD = 0x1_0000
_AF_UNIX, _SOCK_STREAM, _SOCK_TYPE_MASK = 1, 1, 0xF
_SOL_SOCKET, _SO_TYPE, _SO_ERROR, _SO_PROTOCOL, _SO_DOMAIN = 1, 3, 4, 38, 39
_MSG_OOB = 1
_DATA = 3
_PR_SET_NAME, _PR_GET_NAME, _PR_SET_VMA = 15, 16, 0x53564D41
_FCNTL = [0, 1, 2, 3, 4, 5, 6, 7, 36, 37, 38, 1030, 1032, 1034]
"""Duplicating, flags, locks of both kinds, F_DUPFD_CLOEXEC, F_GETPIPE_SZ, F_GET_SEALS."""
_FIONREAD, _FIONBIO, _FIONCLEX, _FIOCLEX = 0x541B, 0x5421, 0x5450, 0x5451


def _step(code: int, if_true: int, if_false: int, operand: int) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, operand)


def _answer(action: int) -> bytes:
    return _step(_RETURN, 0, 0, action)


def _argument(index: int, high: bool = False) -> bytes:
    return _step(_LOAD, 0, 0, 16 + 8 * index + (4 if high else 0))


def _one_of(values: list[int], otherwise: int) -> list[bytes]:
    """Allow where the loaded word is one of `values`."""
    tests = [_step(_IF_EQUAL, len(values) - i, 0, value) for i, value in enumerate(values)]
    return [*tests, _answer(otherwise), _answer(_ALLOW)]


def _conditions(own_pid: int) -> dict[str, list[bytes]]:
    to_self = [_argument(0), *_one_of([own_pid], _EPERM)]
    in_band = [_argument(3), _step(_IF_ANY_BIT, 0, 1, _MSG_OOB), _answer(_EPERM), _answer(_ALLOW)]
    return {
        # a new thread, never a new process; clone3 hides its flags in memory, so glibc must fall back
        "clone": [_argument(0), _step(_IF_ANY_BIT, 0, 1, _CLONE_THREAD), _answer(_ALLOW), _answer(_EPERM)],
        "clone3": [_answer(_ENOSYS)],
        # no F_SETOWN, F_SETSIG (signals to others), F_NOTIFY, F_SETLEASE, F_SETPIPE_SZ
        "fcntl": [_argument(1), *_one_of(_FCNTL, _EPERM)],
        "ioctl": [_argument(1), *_one_of([_FIONREAD, _FIONBIO, _FIONCLEX, _FIOCLEX], _ENOTTY)],
        # limits may be read, and not set: own process (or its own pid), new_limit == NULL
        "prlimit64": [
            _argument(0),
            _step(_IF_EQUAL, 2, 0, 0),
            _step(_IF_EQUAL, 1, 0, own_pid),
            _answer(_EPERM),
            _argument(2),
            _step(_IF_EQUAL, 1, 0, 0),
            _answer(_EPERM),
            _argument(2, high=True),
            *_one_of([0], _EPERM),
        ],
        "prctl": [_argument(0), *_one_of([_PR_SET_NAME, _PR_GET_NAME, _PR_SET_VMA], _EPERM)],
        # asyncio's own wake-up pair; a stream pair cannot address anybody else
        "socketpair": [
            _argument(0),
            _step(_IF_EQUAL, 1, 0, _AF_UNIX),
            _answer(_EPERM),
            _argument(1),
            _step(_AND, 0, 0, _SOCK_TYPE_MASK),
            *_one_of([_SOCK_STREAM], _EPERM),
        ],
        # what Python asks of a socket it is handed; SO_PEERPIDFD would be a handle on the desk's process
        "getsockopt": [
            _argument(1),
            _step(_IF_EQUAL, 1, 0, _SOL_SOCKET),
            _answer(_EPERM),
            _argument(2),
            *_one_of([_SO_TYPE, _SO_ERROR, _SO_PROTOCOL, _SO_DOMAIN], _EPERM),
        ],
        # out-of-band bytes on Unix sockets: a corner of the kernel that was broken before (CVE-2025-38236)
        "sendto": in_band,
        "recvfrom": in_band,
        # on the data socket the host passes descriptors that read the job's tables, and nothing later
        "recvmsg": [_argument(0), *_one_of([_DATA], _EPERM)],
        "kill": to_self,
        "tgkill": to_self,
    }


def program(machine: str, own_pid: int) -> bytes:
    """The filter for one architecture and one process.

    Args:
        machine: `x86_64` or `aarch64`.
        own_pid: The only process that may be signalled, as its own namespace numbers it.
    """
    column = ("x86_64", "aarch64").index(machine)
    steps = [_step(_LOAD, 0, 0, 4), _step(_IF_EQUAL, 1, 0, _AUDIT_ARCH[machine]), _answer(_KILL_PROCESS)]
    steps.append(_step(_LOAD, 0, 0, 0))
    if machine == "x86_64":
        steps += [_step(_IF_AT_LEAST, 0, 1, _X32_BIT), _answer(_KILL_PROCESS)]
    for name, body in _conditions(own_pid).items():
        number = CONDITIONAL[name][column]
        if number is not None:
            steps += [_step(_IF_EQUAL, 0, len(body), number), *body]
    for table, action in ((ALLOWED, _ALLOW), (KILLED, _KILL_PROCESS)):
        for numbers in table.values():
            number = numbers[column]
            if number is not None:
                steps += [_step(_IF_EQUAL, 0, 1, number), _answer(action)]
    steps.append(_answer(_EPERM))
    return b"".join(steps)


def install(own_pid: int) -> None:
    """Filter this process and every thread it will have; there is no way back.

    Raises:
        kernel.DeniedError: The kernel has no seccomp filters, or the architecture has no table.
    """
    instructions = program(kernel.architecture(), own_pid)
    buffer = ctypes.create_string_buffer(instructions, len(instructions))
    header = struct.pack("=HxxxxxxQ", len(instructions) // 8, ctypes.addressof(buffer))
    kernel.call("seccomp", _SET_MODE_FILTER, 0, header)
