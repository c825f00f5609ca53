"""Landlock: the file system rights that remain, on top of what the mount namespace shows.

Numbers from Linux's `include/uapi/linux/landlock.h`. A second lock behind the mounts: rights that an
older kernel does not know yet are still denied by the mounts themselves.
"""

import ctypes
import os
import struct

from neural_trader_sandbox.local import kernel

ABI_MIN = 1
ABI_ALONE_MIN = 3
"""Older ones cannot forbid `truncate`: without mounts of its own a guest could empty its user's files."""
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
_WRITE_FILE, _TRUNCATE = 1 << 1, 1 << 14
_REMOVE_DIR, _REMOVE_FILE, _MAKE_DIR, _MAKE_REG = 1 << 4, 1 << 5, 1 << 7, 1 << 8
READ = _READ_FILE | _READ_DIR
WRITE = READ | _WRITE_FILE | _TRUNCATE | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_REG
_FILE_ONLY = _READ_FILE | _WRITE_FILE | _TRUNCATE
_RULE_PATH_BENEATH = 1
_CREATE_RULESET_VERSION = 1


def abi() -> int:
    """The version of Landlock that this kernel enforces.

    Raises:
        kernel.DeniedError: It has none, or it is switched off at boot.
    """
    return kernel.call("landlock_create_ruleset", ctypes.c_void_p(None), 0, _CREATE_RULESET_VERSION)


def require_alone() -> None:
    """Fail where Landlock cannot hold the file system by itself, without a mount namespace before it.

    Raises:
        kernel.DeniedError: It is missing or too old.
    """
    kernel.require("landlock_alone")
    version = abi()
    if version < ABI_ALONE_MIN:
        raise kernel.DeniedError(
            "landlock_alone",
            f"Landlock ABI {version} is older than {ABI_ALONE_MIN} and lets files be truncated",
        )


def restrict(readable: list[str], writable: list[str]) -> None:
    """Deny every file system right but reading `readable` and writing beneath `writable`.

    TCP is denied too from ABI 4 on, abstract Unix sockets and signals to others from ABI 6 on.

    Raises:
        kernel.DeniedError: Landlock is missing or refused a rule.
    """
    version = abi()
    if version < ABI_MIN:
        raise kernel.DeniedError("landlock_create_ruleset", f"Landlock ABI {version} is older than {ABI_MIN}")
    handled = (1 << 13) - 1
    for since, right in ((2, 1 << 13), (3, _TRUNCATE), (5, 1 << 15)):
        if version >= since:
            handled |= right
    tcp = 0b11 if version >= 4 else 0
    scopes = 0b11 if version >= 6 else 0
    attr = struct.pack("=QQQ", handled, tcp, scopes)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    ruleset = kernel.call("landlock_create_ruleset", attr, size, 0)
    try:
        for paths, rights in ((readable, READ), (writable, WRITE)):
            for path in paths:
                _allow(ruleset, path, rights & handled)
        kernel.call("landlock_restrict_self", ruleset, 0)
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: str, rights: int) -> None:
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not os.path.isdir(path):
            rights &= _FILE_ONLY
        kernel.call("landlock_add_rule", ruleset, _RULE_PATH_BENEATH, struct.pack("=Qi", rights, fd), 0)
    finally:
        os.close(fd)
