"""Command lines that run a program as on another host: as another user, or with a readable interpreter."""

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

SOMEBODY = 65533
_READABLE = """
mount --make-rprivate / && mount --rbind "$1" "$2" && mount -t tmpfs -o mode=755 tmpfs "$3" \\
  && mkdir -p "$1" && mount --rbind "$2" "$1" && shift 3 && exec "$@"
"""


def environment(home: Path) -> dict[str, str]:
    """A bare environment in which the modules of these tests can be imported."""
    return {"HOME": str(home), "PATH": "/usr/bin:/bin", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def give(folder: Path, user: int) -> None:
    """Let another user have a folder of pytest's."""
    for parent in (folder, *folder.parents):
        if os.geteuid() == 0 and parent.name.startswith("pytest-"):
            parent.chmod(0o755)
    if os.geteuid() == 0:
        os.chown(folder, user, user)


def interpreter_hidden() -> bool:
    """Whether root's interpreter lies where no other user can read it, as pyenv and uv put it."""
    return os.geteuid() == 0 and _home().stat().st_mode & 0o005 != 0o005


def readable(folder: Path, lacking: Callable[[str], NoReturn], user: int | None = None) -> list[str]:
    """The start of a command line in which everybody can read the interpreter.

    Args:
        folder: Of this test; another one is made beside it.
        lacking: Ends the test where util-linux is not installed.
        user: Who runs it, where these tests run as root. None: root.
    """
    if os.geteuid() != 0:
        return []
    if shutil.which("unshare") is None or shutil.which("setpriv") is None:
        lacking("util-linux (unshare, setpriv) is not installed")
    become = [] if user is None else ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
    if not interpreter_hidden():
        return become
    aside = folder.parent / f"{folder.name}-aside"
    aside.mkdir(exist_ok=True)
    return ["unshare", "-m", "sh", "-c", _READABLE, "sh", sys.base_prefix, str(aside), str(_home()), *become]


def _home() -> Path:
    return Path(sys.base_prefix).parents[-2]
