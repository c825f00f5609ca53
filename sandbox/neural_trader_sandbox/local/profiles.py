"""What a run is locked in by: the full profile, and a weaker one that is only ever chosen by name.

`landlock` is for hosts that forbid user namespaces. The guest sees the host's paths through Landlock
and its calls through seccomp, and has no writable folder at all. docs/sandbox.md says what that cannot
hold. Standard library only: the guest reads this too.
"""

from typing import Final, Literal

Profile = Literal["full", "landlock"]
PROFILES: Final = ("full", "landlock")

LAYERS: Final[dict[str, tuple[str, ...]]] = {
    "full": (
        "unprivileged_user",
        "namespaces",
        "network",
        "processes",
        "environment",
        "descriptors",
        "filesystem",
        "limits",
        "privileges",
        "landlock",
        "seccomp",
        "wall_clock",
    ),
    "landlock": (
        "profile:landlock",
        "unprivileged_user",
        "network",
        "processes",
        "environment",
        "descriptors",
        "limits",
        "privileges",
        "landlock",
        "seccomp",
        "wall_clock",
    ),
}
"""In force before the first byte of a job is read; `probe` attacks each of them."""

CGROUP: Final = "cgroup"
"""One more layer, where the host delegates a subtree of its control groups."""

WARNING: Final = (
    "profile landlock is weaker than full: no namespaces and no root of its own, so the guest runs as the "
    "zygote's user, can learn which paths exist, and shares the host's process numbers; docs/sandbox.md "
    "lists what it cannot hold"
)
INSTEAD: Final = "where you can, allow user namespaces (docs/sandbox.md) and go back to the profile full"
