"""Attacks on the kernel's surface: calls that compute nothing, and other doors into the same kernel."""

# ruff: noqa: E501 - a table reads best with one attack a line

import platform

from tests.sandbox.attacks.attack import CHECKED, DIFFERS, DIFFERS_AS_ROOT, LIBC, Attack, call

_NUMBERS: dict[str, tuple[int | None, int]] = {
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "fsopen": (430, 430), "open_tree": (428, 428),
    "move_mount": (429, 429), "mount_setattr": (442, 442), "unshare": (272, 97), "setns": (308, 268), "keyctl": (250, 219),
    "add_key": (248, 217), "request_key": (249, 218), "bpf": (321, 280), "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426), "io_uring_register": (427, 427), "userfaultfd": (323, 282), "perf_event_open": (298, 241),
    "kexec_load": (246, 104), "kexec_file_load": (320, 294), "init_module": (175, 105), "finit_module": (313, 273),
    "delete_module": (176, 106), "reboot": (169, 142), "swapon": (167, 224), "swapoff": (168, 225), "acct": (163, 89),
    "open_by_handle_at": (304, 265), "name_to_handle_at": (303, 264), "fanotify_init": (300, 262), "quotactl": (179, 60),
    "quotactl_fd": (443, 443), "syslog": (103, 116), "personality": (135, 92), "seccomp": (317, 277), "vmsplice": (278, 75),
    "splice": (275, 76), "tee": (276, 77), "shmget": (29, 194), "msgget": (68, 186), "semget": (64, 190), "mq_open": (240, 180),
    "mbind": (237, 235), "move_pages": (279, 239), "migrate_pages": (256, 238), "remap_file_pages": (216, 234),
    "landlock_create_ruleset": (444, 444), "openat2": (437, 437), "timer_create": (222, 107), "timerfd_create": (283, 85),
    "signalfd4": (289, 74), "mlock": (149, 228), "mlockall": (151, 230), "memfd_secret": (447, 447), "pkey_alloc": (330, 289),
    "lookup_dcookie": (212, 18), "ioprio_set": (251, 30), "adjtimex": (159, 171), "vhangup": (153, 58), "cachestat": (451, 451),
    "lsm_get_self_attr": (459, 459), "statmount": (457, 457), "listmount": (458, 458), "futex_waitv": (449, 449),
    "copy_file_range": (326, 285), "sync": (162, 81), "process_vm_readv": (310, 270),
}  # fmt: skip


def _kills(title: str, name: str, *arguments: object, control: str = DIFFERS) -> Attack:
    return Attack(title, call(name, _NUMBERS, *arguments), "seccomp", control)


def _denies(title: str, name: str, *arguments: object, control: str = DIFFERS) -> Attack:
    return Attack(title, call(name, _NUMBERS, *arguments), "EPERM", control)


MOUNTS = [
    _kills("mount", "mount", b"x", b"/nonexistent", b"tmpfs", 0, 0),
    _kills("unmount", "umount2", b"/nonexistent", 2),
    _kills("another root", "pivot_root", b"/nonexistent", b"/nonexistent"),
    _kills("open a file system", "fsopen", b"tmpfs", 0),
    _kills("clone a mount", "open_tree", -100, b"/", 1),
    _kills("move a mount", "move_mount", -1, b"", -1, b"", 0),
    _kills("make a mount writable", "mount_setattr", -1, b"", 0, 0, 0),
    _kills("a user namespace", "unshare", 0x10000000),
    _kills("a network namespace", "unshare", 0x40000000),
    _kills("enter a namespace", "setns", -1, 0),
    _kills("open a file by its handle", "open_by_handle_at", -100, 0, 0),
    _kills("a file's handle", "name_to_handle_at", -100, b"/", 0, 0, 0),
    _denies("watch every file", "fanotify_init", 0, 0, control=DIFFERS_AS_ROOT),
    _denies("quotas", "quotactl", 0x800002, 0, 0, 0, control=DIFFERS_AS_ROOT),
    _denies("quotas by a descriptor", "quotactl_fd", -1, 0x800002, 0, 0),
    _denies("open with its own rules", "openat2", -100, b"/etc/passwd", 0, 0),
    _denies("list mounts", "listmount", 0, 0, 0, 0),
]
KERNEL = [
    _kills("the keyring", "keyctl", 0, -3, 0),
    _kills("add a key", "add_key", b"user", b"x", b"x", 1, -2),
    _kills("ask for a key", "request_key", b"user", b"x", 0, -2),
    _kills("load a program into the kernel", "bpf", 0, 0, 0),
    _kills("an io_uring", "io_uring_setup", 1, 0),
    _kills("enter an io_uring", "io_uring_enter", -1, 0, 0, 0, 0),
    _kills("register with an io_uring", "io_uring_register", -1, 0, 0, 0),
    _kills("handle page faults", "userfaultfd", 1),
    _kills("count events", "perf_event_open", 0, 0, -1, -1, 0),
    _kills("another kernel", "kexec_load", 0, 17, 0, 0),
    _kills("another kernel from a file", "kexec_file_load", -1, -1, 0, 0, 0),
    _kills("load a module", "init_module", 0, 0, 0),
    _kills("load a module from a file", "finit_module", -1, 0, 0),
    _kills("unload a module", "delete_module", b"nonexistent", 0),
    _kills("restart the machine", "reboot", 0, 0, 0, 0),
    _kills("swap", "swapon", b"/nonexistent", 0),
    _kills("stop swapping", "swapoff", b"/nonexistent"),
    _kills("process accounting", "acct", b"/nonexistent"),
    _denies("the kernel's log", "syslog", 10, 0, 0, control=DIFFERS_AS_ROOT),
    _denies("another personality", "personality", 0x0040000),
    _denies("replace the filter", "seccomp", 1, 0, 0),
    Attack("replace the filter by prctl", CHECKED + "result = checked(libc.prctl(22, 2, 0, 0, 0))", "EPERM", "EFAULT|EACCES|EINVAL"),
    _denies("a ruleset of one's own", "landlock_create_ruleset", 0, 0, 1, control="won|ENOSYS|EOPNOTSUPP"),
    _denies("give pages to a pipe", "vmsplice", -1, 0, 0, 0),
    _denies("splice", "splice", -1, 0, -1, 0, 1, 0),
    _denies("tee", "tee", -1, -1, 1, 0),
    _denies("System V memory", "shmget", 0, 4096, 0o1600),
    _denies("System V messages", "msgget", 0, 0o1600),
    _denies("System V semaphores", "semget", 0, 1, 0o1600),
    _denies("a POSIX queue", "mq_open", b"nonexistent", 0, 0, 0),
    _denies("place memory", "mbind", 0, 0, 99, 0, 0, 0),
    _denies("move pages", "move_pages", 0, 0, 0, 0, 0, 0, control="won|ENODEV|ENOSYS|EINVAL"),
    _denies("move a process's pages", "migrate_pages", 0, 0, 0, 0),
    _denies("remap pages", "remap_file_pages", 0, 0, 1, 0, 0),
    _denies("a timer", "timer_create", 99, 0, 0),
    _denies("a timer's descriptor", "timerfd_create", 1, 0),
    _denies("signals as a file", "signalfd4", -1, 0, 8, 0),
    _denies("lock memory", "mlock", 0, 4096),
    _denies("lock all memory", "mlockall", 1, control="won|EPERM|ENOMEM"),
    _denies("secret memory", "memfd_secret", 0),
    _denies("memory keys", "pkey_alloc", 0, 9),
    _denies("raise disk priority", "ioprio_set", 1, 0, 0x2001),
    _denies("adjust the clock", "adjtimex", 0),
    _denies("hang up the terminal", "vhangup", control="none: as root it would end the test's terminal"),
    _denies("flush every disk", "sync", control="won"),
    _denies("copy between files in the kernel", "copy_file_range", -1, 0, -1, 0, 1, 0),
]  # fmt: skip
_MACHINE_CODE = (
    "import ctypes, mmap\nm = mmap.mmap(-1, 4096, prot=7)\nm.write(bytes.fromhex('{code}'))\n"
    "a = ctypes.addressof(ctypes.c_char.from_buffer(m))\nr = ctypes.CFUNCTYPE(ctypes.c_int)(a)()\n"
    "result = [r] if r >= 0 else None\nif r < 0: raise OSError(-r, 'denied')"
)
DOORS = [
    # mov eax, 20 (getpid of i386); int 0x80; ret
    Attack("the 32-bit door", _MACHINE_CODE.format(code="b814000000cd80c3"), "seccomp", "won|signal SIGSEGV"),
    # mov eax, 2 (fork of i386); int 0x80; ret
    Attack("fork by the 32-bit door", _MACHINE_CODE.format(code="b802000000cd80c3"), "seccomp", "none: it would fork the test"),
    # mov eax, 11 (execve of i386); int 0x80; ret
    Attack("exec by the 32-bit door", _MACHINE_CODE.format(code="31db31c931d2b80b000000cd80c3"), "seccomp", DIFFERS),
    Attack("the x32 door", CHECKED + "result = checked(libc.syscall(ctypes.c_long(0x40000000 + 39)))", "seccomp", "won|ENOSYS"),
    Attack("x32's own numbers", CHECKED + "result = checked(libc.syscall(ctypes.c_long(0x40000000 + 520), 0, 0, 0))", "seccomp", DIFFERS),
    Attack("a number with high bits", LIBC + "libc.syscall.restype = ctypes.c_long\nresult = [libc.syscall(ctypes.c_long((1 << 32) | 101), 0, 0, 0, 0)]", "seccomp", "won"),
    Attack("a negative number", CHECKED + "result = checked(libc.syscall(ctypes.c_long(-7)))", "seccomp|EPERM|ENOSYS", "none: the kernel answers ENOSYS to both"),
    Attack("a local descriptor table", CHECKED + "result = checked(libc.syscall(ctypes.c_long(154), 0, 0, 0))", "seccomp", DIFFERS),
    Attack("all ports", CHECKED + "result = checked(libc.syscall(ctypes.c_long(172), 3))", "seccomp", "won|EPERM|ENOSYS"),
    Attack("one port", CHECKED + "result = checked(libc.syscall(ctypes.c_long(173), ctypes.c_long(0x80), ctypes.c_long(1), 1))", "seccomp", "won|EPERM|ENOSYS"),
    Attack("call the processor's ports", _MACHINE_CODE.format(code="e680c3"), "SIGSEGV", "signal SIGSEGV"),
    Attack("fork by its number", CHECKED + "import os\nn = checked(libc.syscall(57))[0]\nif n == 0: os._exit(0)\nresult = [n]", "EPERM"),
    Attack("vfork by its number", CHECKED + "import os\nn = checked(libc.syscall(58))[0]\nif n == 0: os._exit(0)\nresult = [n]", "EPERM",
        "none: the child would return into the stack of the test"),
    Attack("a segment's base", CHECKED + "result = checked(libc.syscall(ctypes.c_long(158), ctypes.c_long(0x1004), ctypes.addressof(ctypes.create_string_buffer(8))))", "EPERM", "won|EFAULT"),
] if platform.machine() == "x86_64" else []  # fmt: skip
