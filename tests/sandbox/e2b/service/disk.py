"""The disk of a test sandbox: a private folder of the host that stands for its /."""

import os
import posixpath
import shutil
import tempfile
from pathlib import Path

HOME = "/home/user"
NOBODY = 65534


class FullError(Exception):
    """The disk has no room for that."""


class OutsideError(Exception):
    """A path that would leave the disk."""


def _give(there: Path) -> None:
    if os.geteuid() == 0:
        os.chown(there, NOBODY, NOBODY, follow_symlinks=False)
        if not there.is_symlink():
            there.chmod(there.stat().st_mode | 0o600)


class Disk:
    """A folder; processes of the sandbox see its /home/user and /tmp at these places.

    Args:
        size_bytes: Room for what is uploaded; what processes write is not counted.
        image: What lies on it from the beginning; None: two empty folders.
    """

    def __init__(self, size_bytes: int, image: Path | None = None) -> None:
        self.size_bytes = size_bytes
        self.root = Path(tempfile.mkdtemp(prefix="e2b-test-"))
        self.metadata: dict[str, dict[str, str]] = {}
        for folder in (HOME, "/tmp"):  # noqa: S108 - of the test sandbox
            self.host_path(folder).mkdir(parents=True)
        if image is not None:
            shutil.copytree(image, self.root, dirs_exist_ok=True, symlinks=True)

    @staticmethod
    def path(path: str) -> str:
        """Absolute and normal; relative paths begin at the home folder."""
        return posixpath.normpath("/" + posixpath.join(HOME, path).lstrip("/"))

    def host_path(self, path: str) -> Path:
        """Where it lies on the host; links that lead out of the disk are not followed.

        Raises:
            OutsideError: It would lie elsewhere.
        """
        there = self.root / self.path(path).lstrip("/")
        parent = Path(os.path.realpath(there.parent))
        is_inside = parent.is_relative_to(os.path.realpath(self.root)) and not there.is_symlink()
        if there != self.root and not is_inside:
            raise OutsideError(path)
        return there

    def write(self, path: str, data: bytes, metadata: dict[str, str] | None = None) -> None:
        """Create or replace a file, with the folders on the way.

        Raises:
            FullError: There is no room.
            OSError: As the host's file system says.
        """
        there = self.host_path(path)
        used = sum(file.stat().st_size for file in self.root.rglob("*") if file.is_file() and file != there)
        if used + len(data) > self.size_bytes:
            raise FullError(path)
        there.parent.mkdir(parents=True, exist_ok=True)
        there.write_bytes(data)
        _give(there)
        self.metadata[self.path(path)] = metadata or {}

    def give_to_commands(self) -> None:
        """Commands are nobody on the host, also where the service is root: what lies here becomes theirs."""
        for there in self.root.rglob("*"):
            _give(there)

    def states(self) -> dict[str, tuple[int, int]]:
        """Every file by path, with what tells one content from another: time of change and size."""
        found: dict[str, tuple[int, int]] = {}
        for file in self.root.rglob("*"):
            if file.is_file() and not file.is_symlink():
                state = file.stat()
                found["/" + str(file.relative_to(self.root))] = (state.st_mtime_ns, state.st_size)
        return found

    def folders(self) -> list[str]:
        """Every folder."""
        return ["/" + str(f.relative_to(self.root)) for f in self.root.rglob("*") if f.is_dir()]

    def remove(self) -> None:
        """Take the disk itself away."""
        shutil.rmtree(self.root, ignore_errors=True)
