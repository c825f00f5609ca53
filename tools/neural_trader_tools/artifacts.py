"""Artifacts: frames too big for an answer, kept in the home behind a handle that a tool reads.

An artifact is an Arrow IPC file named by what it is and by its content, such as
`bars-3f2a9c1b5d7e8f60`: putting the same frame twice gives the same handle, and a handle read
tomorrow holds what it held today.
"""

import hashlib
import os
import re
import tempfile
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from neural_trader_governance.errors import InputError, IntegrityError, StorageError

if TYPE_CHECKING:  # polars costs 0.1 s to import; only a call that holds a frame pays for it
    import polars as pl

BYTES_MAX = 256 << 20
_KIND = re.compile(r"^[a-z][a-z0-9_]{0,31}$")
_HANDLE = re.compile(r"^[a-z][a-z0-9_]{0,31}-[0-9a-f]{16}$")


class Artifacts:
    """A folder of content-named, immutable frames.

    Args:
        root: The folder; created with mode 0700 when the first frame arrives.
        bytes_max: The largest file accepted.
    """

    def __init__(self, root: Path, bytes_max: int = BYTES_MAX) -> None:
        self._root = root
        self._bytes_max = bytes_max

    def put(self, frame: "pl.DataFrame", kind: str) -> str:
        """Keeps a frame and returns its handle; the file is durable when this returns.

        Args:
            frame: Any frame that Arrow can write.
            kind: What it is, as lower-case words: `bars`, `features`, `equity`.

        Raises:
            InputError: `kind` is no plain word, or the frame is larger than the cap.
            StorageError: the folder cannot be written.
        """
        if not _KIND.match(kind):
            raise InputError(
                "invalid_kind", f"{kind!r:.40} names no artifact kind", "use lower-case letters, such as bars"
            )
        buffer = BytesIO()
        frame.write_ipc(buffer)
        content = buffer.getvalue()
        if len(content) > self._bytes_max:
            raise InputError(
                "artifact_too_large",
                f"the {kind} frame takes {len(content):,} bytes, above the cap of {self._bytes_max:,}",
                "ask for fewer rows or columns",
            )
        handle = f"{kind}-{hashlib.sha256(content).hexdigest()[:16]}"
        try:
            self._write(self._root / f"{handle}.arrow", content)
        except OSError as error:
            raise StorageError(
                "artifact_not_written",
                f"{handle} could not be written: {error.strerror or error}",
                "free some disk space or fix the permissions of the home folder",
            ) from error
        return handle

    def get(self, handle: str) -> "pl.DataFrame":
        """Returns the frame behind a handle.

        Raises:
            InputError: no such handle here.
            IntegrityError: the file no longer holds what its name says.
        """
        import polars as pl

        return pl.read_ipc(BytesIO(self.content(handle)))

    def content(self, handle: str) -> bytes:
        """Returns the Arrow IPC file behind a handle, uncompressed.

        Raises:
            InputError: no such handle here.
            IntegrityError: the file no longer holds what its name says.
        """
        content = self._read(handle)
        if hashlib.sha256(content).hexdigest()[:16] != handle.rsplit("-", 1)[1]:
            raise IntegrityError(
                "artifact_changed",
                f"the file of {handle} was changed after it was written",
                "make the artifact again with the tool that made it",
            )
        return content

    def handles(self) -> list[str]:
        """Returns every handle kept here, sorted."""
        if not self._root.is_dir():
            return []
        return sorted(path.stem for path in self._root.glob("*.arrow") if _HANDLE.match(path.stem))

    def _read(self, handle: str) -> bytes:
        # The pattern admits no separator and no dot: a handle can never leave the folder.
        if _HANDLE.match(handle):
            try:
                return (self._root / f"{handle}.arrow").read_bytes()
            except FileNotFoundError:
                pass
        raise InputError(
            "unknown_handle",
            f"there is no artifact {handle!r:.60}",
            "use a handle exactly as a tool returned it, such as the `handle` of market_get_bars",
        )

    def _write(self, path: Path, content: bytes) -> None:
        if path.exists() and path.stat().st_size == len(content):
            return
        self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor, name = tempfile.mkstemp(prefix=".", suffix=".part", dir=self._root)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        folder = os.open(self._root, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
