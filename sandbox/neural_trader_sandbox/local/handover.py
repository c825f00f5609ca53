"""The hand-over: machine code that this process compiled, put where a zygote looks for it.

Trusted code compiles the same kernels here and in the zygote, for some twenty seconds each. The zygote's
cache belongs to a user that may be nobody's friend, so nothing there is followed or written in place.
"""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from neural_trader_sandbox.local.zygotes import prepare_cache

_KINDS = ("*.nbi", "*.nbc")
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def give_machine_code(roots: Iterable[Path], cache_dir: Path | None = None) -> int:
    """Copies what numba cached beside the modules below some folders, where the zygote has none or older.

    Args:
        roots: Folders of trusted modules.
        cache_dir: As `LocalSandbox` is given it.

    Returns:
        How many files were copied. Numba's own name for a module's folder is used; if that ever changes, the
        zygote finds nothing and compiles for itself.

    Raises:
        OSError: the cache cannot be written.
        ConfigurationError: see `zygotes.prepare_cache`.
    """
    cache = prepare_cache(cache_dir)
    if cache is None:
        return 0
    copied = 0
    into = os.open(cache, _FOLDER)
    try:
        for folder in sorted({found.parent for root in roots for found in root.rglob("__pycache__/*.nbi")}):
            source = str(folder.parent)
            name = f"{folder.parent.name}_{hashlib.sha1(source.encode()).hexdigest()}"  # noqa: S324  # as numba does
            copied += _copy(folder, into, name)
    finally:
        os.close(into)
    return copied


def _copy(folder: Path, into: int, name: str) -> int:
    owner, copied = os.fstat(into), 0
    try:
        os.mkdir(name, 0o700, dir_fd=into)
        os.chown(name, owner.st_uid, owner.st_gid, dir_fd=into, follow_symlinks=False)
    except FileExistsError:
        pass
    target = os.open(name, _FOLDER, dir_fd=into)
    try:
        for file in (file for kind in reversed(_KINDS) for file in sorted(folder.glob(kind))):  # indexes last
            if _is_current(target, file):
                continue
            whole = f".{os.getpid()}.{file.name}"
            handle = os.open(whole, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=target)
            with os.fdopen(handle, "wb") as out:
                out.write(file.read_bytes())
                os.fchown(out.fileno(), owner.st_uid, owner.st_gid)
            os.replace(whole, file.name, src_dir_fd=target, dst_dir_fd=target)
            copied += 1
    finally:
        os.close(target)
    return copied


def _is_current(target: int, file: Path) -> bool:
    try:
        return os.stat(file.name, dir_fd=target, follow_symlinks=False).st_mtime >= file.stat().st_mtime
    except FileNotFoundError:
        return False
