"""What to do on a host where a primitive is denied."""

_NAMESPACES = (
    "allow unprivileged user namespaces: `sysctl -w user.max_user_namespaces=15000`, on Debian "
    "`kernel.unprivileged_userns_clone=1`, on Ubuntu 24.04+ `kernel.apparmor_restrict_unprivileged_userns=0`"
    "; in a container run it with `--security-opt seccomp=unconfined --security-opt apparmor=unconfined` "
    "(and `--cap-add SYS_ADMIN` where it runs as root), or run the server on the host itself"
)
_KERNEL = "run on a Linux kernel of 5.13 or later that has it compiled in and enabled at boot"
_REMEDIES = {
    "unshare": _NAMESPACES,
    "uid_map": _NAMESPACES,
    "mount": _NAMESPACES,
    "umount": _NAMESPACES,
    "pivot_root": _NAMESPACES,
    "mount_setattr": "run on a Linux kernel of 5.12 or later; in a container relax its seccomp profile",
    "landlock_create_ruleset": f"{_KERNEL}: boot with `lsm=landlock,…` (CONFIG_SECURITY_LANDLOCK)",
    "landlock_add_rule": _KERNEL,
    "landlock_restrict_self": _KERNEL,
    "landlock_alone": "run on Linux 6.2 or later, or use the profile full",
    "seccomp": "run on a kernel with CONFIG_SECCOMP_FILTER",
    "architecture": "run on an x86-64 or AArch64 machine",
    "platform": "run on Linux, in a Linux virtual machine or container, or use an E2B service "
    "(`sandbox_backend` e2b, docs/sandbox.md); on other systems this backend runs no code at all",
    "readable": "start the server as the user who owns the interpreter and its packages, or install them "
    "where every user can read them (the profile landlock shows nothing that its user cannot read)",
    "cgroup": "restart the server; if it happens again, read docs/sandbox.md on delegating control groups",
    "pidfd_open": "run on Linux 5.3 or later; in a container relax its seccomp profile",
    "close_range": "run on Linux 5.9 or later; in a container relax its seccomp profile",
    "open_tree": "run on Linux 5.2 or later; in a container relax its seccomp profile",
    "move_mount": "run on Linux 5.2 or later; in a container relax its seccomp profile",
    "setsid": "in a container relax its seccomp profile",
    "sethostname": _NAMESPACES,
    "capset": "in a container relax its seccomp profile",
    "prctl": "in a container relax its seccomp profile",
    "setrlimit": "raise the hard limits of the server (`ulimit -H`) above those of `Limits`",
    "setuid": "start the server as an ordinary user, or in a container that maps user 65534",
    "descriptors": "close streams, or raise the limit of open files (`ulimit -n`, LimitNOFILE of systemd): "
    "each child takes two",
    "fork": "free memory or raise the process limit, then run again",
    "preload": "install the server's packages again, and run `neural-trader sandbox doctor`",
    "single_thread": "preload only modules that start no threads when they are imported",
    "start": "run `neural-trader sandbox doctor` and read what the interpreter said",
}
DELEGATE = (
    "have systemd delegate a subtree: `Delegate=yes` in the server's unit, or start it by "
    "`systemd-run --user --scope -p Delegate=yes neural-trader serve`"
)
_OTHERWISE = "run `neural-trader sandbox doctor`; docs/sandbox.md lists what the host must offer"


def next_step(primitive: str) -> str:
    """The imperative that goes with a denied primitive."""
    return _REMEDIES.get(primitive.partition(":")[0], _OTHERWISE)
