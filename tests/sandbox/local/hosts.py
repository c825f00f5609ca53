"""Command lines that run a program as on another host: as another user, or with a readable interpreter."""

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Generator
from pathlib import Path
from typing import NoReturn

SOMEBODY = 65533
_READABLE = """
mount --make-rprivate / && mount --rbind "$1" "$2" && mount -t tmpfs -o "$4" tmpfs "$3" \\
  && mkdir -p "$1" && mount --rbind "$2" "$1" && shift 4 && exec "$@"
"""


def environment(own: Path) -> dict[str, str]:
    """A bare environment in which the modules of these tests can be imported."""
    places = [str(Path(__file__).parents[3]), *filter(None, sys.path)]
    return {"HOME": str(own), "PATH": "/usr/bin:/bin", "PYTHONPATH": os.pathsep.join(places)}


@contextlib.contextmanager
def folder_of(user: int | None) -> Generator[Path]:
    """A folder that this user owns, where these tests run as root, and everybody can find.

    Not one of pytest's, whose parent every other session of pytest closes to other users again.
    """
    with tempfile.TemporaryDirectory(prefix="neural-trader-") as name:
        os.chmod(name, 0o755)  # noqa: S103 - only the sandbox is to keep others out
        if user is not None and os.geteuid() == 0:
            os.chown(name, user, user)
        yield Path(name)


def interpreter_hidden() -> bool:
    """Whether root's interpreter lies where no other user can read it, as pyenv and uv put it."""
    return os.geteuid() == 0 and home().stat().st_mode & 0o005 != 0o005


def readable(
    folder: Path, lacking: Callable[[str], NoReturn], user: int | None = None, *, private: bool = False
) -> list[str]:
    """The start of a command line in which everybody can read the interpreter.

    Args:
        folder: Of this test; the interpreter is found in it for the time being.
        lacking: Ends the test where util-linux is not installed.
        user: Who runs it, where these tests run as root. None: root.
        private: It lies in a home that this user alone can read, instead.
    """
    if os.geteuid() != 0:
        return []
    if shutil.which("unshare") is None or shutil.which("setpriv") is None:
        lacking("util-linux (unshare, setpriv) is not installed")
    become = [] if user is None else ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
    if not interpreter_hidden():
        return become
    mode = f"mode=700,uid={user or 0}" if private else "mode=755"
    aside = folder / "interpreter"
    aside.mkdir(exist_ok=True)
    return [
        "unshare",
        "-m",
        "sh",
        "-c",
        _READABLE,
        "sh",
        sys.base_prefix,
        str(aside),
        str(home()),
        mode,
        *become,
    ]


def home() -> Path:
    """The folder at the root that the interpreter lies under."""
    return Path(sys.base_prefix).parents[-2]
