"""A private root folder: what a guest can see is what is bound here, and nothing else exists.

Built while the launcher may still read everything (the interpreter may lie under a 0700 home), before
it becomes an unprivileged user. Standard library only.
"""

import os
from collections.abc import Iterable

from neural_trader_sandbox.local import kernel

_STAGING = ("/tmp", "/mnt", "/run", "/srv")  # noqa: S108 - a mount point in a private namespace, not a file
DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")
_FLAGS = kernel.MS_NOSUID | kernel.MS_NODEV
CACHE = "/tmp/cache"  # noqa: S108 - inside the private root
CANARY = "/landlock-canary"
"""Readable by everybody as far as mounts and modes go: only Landlock keeps a guest from it."""


def build(visible: Iterable[str], cache: str | None) -> list[str]:
    """Replace this process's root. It needs a mount namespace of its own and the right to mount.

    Args:
        visible: Absolute paths to show read-only, at the same place (and at their real place).
        cache: A folder to show writable at `CACHE`, or None.

    Returns:
        The paths that a guest may read: what was bound, not the bare folders that lead to it.

    Raises:
        kernel.DeniedError: The host forbids a mount.
    """
    kernel.mount(None, "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    links, sources = _plan(visible)
    devices = [d for d in DEVICES if os.path.exists(d)]
    opened = {path: os.open(path, os.O_PATH | os.O_CLOEXEC) for path in [*sources, *devices]}
    cache_fd = None if cache is None else os.open(cache, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    staging = next((d for d in _STAGING if os.path.isdir(d)), None)
    if staging is None:
        raise kernel.DeniedError("mount", f"none of {', '.join(_STAGING)} exists to build a root on")
    kernel.mount("tmpfs", staging, "tmpfs", _FLAGS, "size=1m,mode=755")
    os.chdir(staging)
    os.mkdir("tmp")
    kernel.mount("tmpfs", "tmp", "tmpfs", _FLAGS, "size=64m,mode=1777")  # first: packages may lie below it
    with open(CANARY[1:], "w") as canary:
        canary.write("only Landlock stands before this file\n")
    for link, target in links.items():
        os.makedirs(os.path.dirname(link)[1:] or ".", exist_ok=True)
        os.symlink(target, link[1:])
    for path in sources:
        _bind(opened[path], path, _FLAGS | kernel.MS_RDONLY)
    for path in devices:
        _bind(opened[path], path, kernel.MS_NOSUID)
    if cache_fd is not None:
        _bind(cache_fd, CACHE, _FLAGS | kernel.MS_NOEXEC)
    flags = kernel.MS_REMOUNT | kernel.MS_BIND | kernel.MS_RDONLY | _FLAGS
    for fd in (*opened.values(), *([] if cache_fd is None else [cache_fd])):
        os.close(fd)
    kernel.pivot_root_here()
    kernel.mount(None, "/", None, flags)
    return [*sources, *devices]


def _plan(visible: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """Top-level links to repeat (`/lib -> usr/lib`), and the folders and files to bind, parents first."""
    links: dict[str, str] = {}
    wanted: set[str] = set()
    for path in visible:
        if not os.path.isabs(path) or not os.path.exists(path):
            continue
        if path.count("/") == 1 and os.path.islink(path):
            links[path] = os.readlink(path)
            wanted.add(os.path.realpath(path))
        else:
            wanted.update((os.path.normpath(path), os.path.realpath(path)))
    chosen: list[str] = []
    for path in sorted(wanted, key=lambda p: (p.count("/"), p)):
        if not any(path == parent or path.startswith(parent + "/") for parent in (*chosen, *links)):
            chosen.append(path)
    return links, chosen


def mapped_libraries() -> list[str]:
    """Shared libraries that this very process has loaded, wherever they lie."""
    with open("/proc/self/maps") as maps:
        paths = {line.split(maxsplit=5)[-1].strip() for line in maps if ".so" in line}
    return sorted(p for p in paths if p.startswith("/") and os.path.isfile(p))


def _bind(source: int, path: str, flags: int) -> None:
    target = path[1:]
    if os.path.isdir(f"/proc/self/fd/{source}"):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o444))
    kernel.bind(f"/proc/self/fd/{source}", target, flags)
