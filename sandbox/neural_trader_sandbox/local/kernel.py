"""Linux primitives through ctypes: each raises `DeniedError` on any failure, none has a fallback.

Only the standard library: this runs before anything else is imported, and inside the locked child.
"""

import ctypes
import errno
import os
import platform
import resource
import socket
import struct
from functools import cache

CLONE_NEWNS = 0x0002_0000
CLONE_NEWCGROUP = 0x0200_0000
CLONE_NEWUTS = 0x0400_0000
CLONE_NEWIPC = 0x0800_0000
CLONE_NEWUSER = 0x1000_0000
CLONE_NEWPID = 0x2000_0000
CLONE_NEWNET = 0x4000_0000

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 0x20, 0x1000, 0x4000, 0x40000
MNT_DETACH = 2
_MOUNT_ATTR = {MS_RDONLY: 1, MS_NOSUID: 2, MS_NODEV: 4, MS_NOEXEC: 8}
_AT_FDCWD, _AT_RECURSIVE = -100, 0x8000
_OPEN_TREE_CLONE, _OPEN_TREE_CLOEXEC, _MOVE_MOUNT_F_EMPTY_PATH = 1, os.O_CLOEXEC, 4

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_CAPBSET_DROP = 1, 4, 24
PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 38, 47, 4
_CAPABILITY_VERSION_3 = 0x20080522
_PROT_READ_WRITE, _MAP_PRIVATE, _MAP_FAILED = 3, 2, (1 << 64) - 1

_NUMBERS = {
    "x86_64": {"pivot_root": 155, "seccomp": 317},
    "aarch64": {"pivot_root": 41, "seccomp": 277},
}
# From Linux 5.0 on, new calls have one number on every architecture.
_NUMBERS_EVERYWHERE = {
    "open_tree": 428,
    "move_mount": 429,
    "close_range": 436,
    "mount_setattr": 442,
    "landlock_create_ruleset": 444,
    "landlock_add_rule": 445,
    "landlock_restrict_self": 446,
}

denied_on_purpose: set[str] = set()
"""Primitives that must fail: tests deny each in turn. Naming one can only make the sandbox stricter."""


class DeniedError(Exception):
    """The kernel, or this host's configuration, refused a primitive.

    Args:
        primitive: Which one, such as ``unshare``.
        reason: The kernel's answer.
    """

    def __init__(self, primitive: str, reason: str) -> None:
        self.primitive = primitive
        self.reason = reason
        super().__init__(f"{primitive}: {reason}")


def require(primitive: str) -> None:
    """Fail where a test denies the primitive."""
    if primitive in denied_on_purpose:
        raise DeniedError(primitive, "denied on purpose by a test")


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def architecture() -> str:
    """`x86_64` or `aarch64`.

    Raises:
        DeniedError: Another machine: there is no system call table for it.
    """
    require("architecture")
    machine = platform.machine()
    if machine not in _NUMBERS:
        raise DeniedError(
            "architecture", f"{machine} has no system call table here (x86_64 and aarch64 have)"
        )
    return machine


def _checked(primitive: str, result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise DeniedError(primitive, f"{os.strerror(code)} ({errno.errorcode.get(code, code)})")
    return result


def call(name: str, *arguments: object) -> int:
    """One system call by name, its arguments already ctypes-able (ints are passed as longs)."""
    require(name)
    number = _NUMBERS_EVERYWHERE.get(name)
    if number is None:
        number = _NUMBERS[architecture()][name]
    passed = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    return _checked(name, int(_libc().syscall(ctypes.c_long(number), *passed)))


def map_private(fd: int, size: int) -> "ctypes.Array[ctypes.c_char]":
    """The file's pages as this process's memory, until `unmap`; what is written there changes no file.

    Not `mmap.mmap`, which would keep a copy of the descriptor.

    Raises:
        DeniedError: The kernel refused, as where the limit of address space is reached.
    """
    if not size:
        return (ctypes.c_char * 0)()
    libc = _libc()
    libc.mmap.restype = ctypes.c_void_p
    passed = (None, ctypes.c_size_t(size), _PROT_READ_WRITE, _MAP_PRIVATE, fd, ctypes.c_long(0))
    address = libc.mmap(*passed)
    _checked("mmap", -1 if address == _MAP_FAILED else 0)
    return (ctypes.c_char * size).from_address(address)


def unmap(address: int, size: int) -> None:
    """Give back what `map_private` mapped; nothing may refer to it any more."""
    _libc().munmap(ctypes.c_void_p(address), ctypes.c_size_t(size))


def unshare(flags: int) -> None:
    """Leave the namespaces in `flags` for fresh ones."""
    require("unshare")
    _checked("unshare", int(_libc().unshare(ctypes.c_int(flags))))


def mount(source: str | None, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    """`mount(2)`; None where the kernel ignores an argument."""
    require("mount")
    texts = [None if t is None else os.fsencode(t) for t in (source, target, kind)]
    data = None if options is None else options.encode()
    result = _libc().mount(texts[0], texts[1], texts[2], ctypes.c_ulong(flags), data)
    try:
        _checked("mount", int(result))
    except DeniedError as denied:
        raise DeniedError("mount", f"{target}: {denied.reason}") from None


def bind(source: str, target: str, flags: int) -> None:
    """Show `source` and every mount below it at `target`, with `flags` on all of them."""
    mount(source, target, None, MS_BIND | MS_REC)
    attributes = sum(bit for flag, bit in _MOUNT_ATTR.items() if flags & flag)
    # struct mount_attr {attr_set, attr_clr, propagation, userns_fd}; propagation becomes private
    attr = struct.pack("=QQQQ", attributes, 0, MS_PRIVATE, 0)
    call("mount_setattr", _AT_FDCWD, ctypes.c_char_p(os.fsencode(target)), _AT_RECURSIVE, attr, len(attr))


def clone_tree(path: str) -> int:
    """A detached copy of what is mounted at `path`, its flags included, to be put elsewhere."""
    flags = _OPEN_TREE_CLONE | _OPEN_TREE_CLOEXEC | _AT_RECURSIVE
    return call("open_tree", _AT_FDCWD, ctypes.c_char_p(os.fsencode(path)), flags)


def attach_tree(tree: int, path: str) -> None:
    """Put a detached copy at `path` and let go of it."""
    empty, target = ctypes.c_char_p(b""), ctypes.c_char_p(os.fsencode(path))
    try:
        call("move_mount", tree, empty, _AT_FDCWD, target, _MOVE_MOUNT_F_EMPTY_PATH)
    finally:
        os.close(tree)


def unmount(target: str) -> None:
    """Detach a mount at once."""
    require("umount")
    _checked("umount", int(_libc().umount2(os.fsencode(target), MNT_DETACH)))


def pivot_root_here() -> None:
    """Make the working directory the root and let go of the old root entirely."""
    call("pivot_root", ctypes.c_char_p(b"."), ctypes.c_char_p(b"."))
    unmount(".")
    os.chdir("/")


def prctl(option: int, argument: int = 0) -> None:
    """`prctl(2)` with one argument."""
    require(f"prctl:{option}")
    words = [ctypes.c_ulong(n) for n in (option, argument, 0, 0, 0)]
    _checked(f"prctl:{option}", int(_libc().prctl(*words)))


def die_with_parent() -> None:
    """Ask for SIGKILL when the process that forked this one ends."""
    prctl(PR_SET_PDEATHSIG, 9)


def drop_capabilities() -> None:
    """Empty every capability set, the bounding set included, for good."""
    require("capset")
    for capability in range(64):
        words = [ctypes.c_ulong(n) for n in (PR_CAPBSET_DROP, capability, 0, 0, 0)]
        if int(_libc().prctl(*words)) < 0:
            if ctypes.get_errno() == errno.EINVAL:
                break  # past the last capability that this kernel knows
            if ctypes.get_errno() == errno.EPERM:
                break  # no CAP_SETPCAP: nothing can be gained anyway under no_new_privs
            _checked("capset", -1)
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    _checked("capset", int(_libc().capset(header, bytes(24))))
    prctl(PR_SET_NO_NEW_PRIVS, 1)


def become(user: int) -> None:
    """Give up root for good: `user` is the real, effective and saved user and group; no other groups."""
    require("setuid")
    try:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    except OSError as error:
        raise DeniedError("setuid", f"{user}: {error.strerror}") from None


def fork() -> int:
    """`fork(2)`."""
    require("fork")
    try:
        return os.fork()
    except OSError as error:
        raise DeniedError("fork", str(error.strerror)) from None


def pidfd(pid: int) -> int:
    """A descriptor that tells of the process's end, whoever gets its number next."""
    require("pidfd_open")
    try:
        return os.pidfd_open(pid)
    except OSError as error:
        raise DeniedError("pidfd_open", str(error.strerror)) from None


def new_session() -> None:
    """Leave the terminal and the process group."""
    require("setsid")
    try:
        os.setsid()
    except OSError as error:
        raise DeniedError("setsid", str(error.strerror)) from None


def set_host_name(name: str) -> None:
    """Name the machine, in a namespace of its own."""
    require("sethostname")
    try:
        socket.sethostname(name)
    except OSError as error:
        raise DeniedError("sethostname", str(error.strerror)) from None


def set_limit(which: int, value: int) -> None:
    """A hard and soft resource limit."""
    require("setrlimit")
    try:
        resource.setrlimit(which, (value, value))
    except (OSError, ValueError) as error:
        raise DeniedError("setrlimit", f"{which} to {value}: {error}") from None


def join_group(door: int) -> None:
    """Move this process into the control group whose `cgroup.procs` is open as `door`."""
    require("cgroup")
    try:
        os.write(door, b"0")
        os.close(door)
    except OSError as error:
        raise DeniedError("cgroup", str(error.strerror)) from None


def close_from(first: int) -> None:
    """Close every descriptor from `first` on."""
    call("close_range", first, 0xFFFFFFFF, 0)


def map_identity(proc: int, inside: int, uid: int, gid: int) -> None:
    """In a fresh user namespace, be `inside`; outside stay `uid`:`gid`.

    Args:
        proc: A descriptor of a mounted /proc.
        inside: User and group id within the namespace.
        uid: User id outside.
        gid: Group id outside.
    """
    require("uid_map")
    lines = (("setgroups", "deny"), ("uid_map", f"{inside} {uid} 1"), ("gid_map", f"{inside} {gid} 1"))
    for name, line in lines:
        try:
            fd = os.open(f"self/{name}", os.O_WRONLY | os.O_CLOEXEC, dir_fd=proc)
            try:
                os.write(fd, line.encode())
            finally:
                os.close(fd)
        except OSError as error:
            raise DeniedError("uid_map", f"{name}: {error.strerror}") from None
