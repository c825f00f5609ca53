"""Cold tier: parts of past years lie in an object store or on another disk, and come when they are read.

A part is uploaded, read back and compared by its digest; then the manifest says where it is; then the local
file goes. Killed in between, it is in both places and counts once. Reads fetch what they need into
`cold/` below the archive, check the digest, and keep it there until the folder grows above its bound.

`s3:`, `gs:`, `az:` and `file:` go through pyarrow's own clients (a dependency anyway). Keys come from the
environment or profile that the store's client reads, never from the manifest.
`?endpoint_override=HOST:PORT&scheme=http` points to another service that speaks S3.
"""

import hashlib
import os
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from neural_trader_governance.errors import InputError, IntegrityError, NetworkError
from neural_trader_tools.market.durable import write_durably
from neural_trader_tools.market.manifest import Part

SCHEMES = ("s3", "gs", "az", "file")
PIECE = 1 << 20
CACHE_BYTES_MAX = 4 << 30
TIMEOUT_S = 10.0


def checked_uri(uri: str) -> str:
    """Returns the URI without a slash at its end.

    Raises:
        InputError: another scheme, no bucket or folder, or a key in it.
    """
    parts = urlsplit(uri)
    if parts.scheme not in SCHEMES or not (parts.netloc or (parts.scheme == "file" and len(parts.path) > 1)):
        raise InputError(
            "invalid_store",
            f"{uri!r:.100} is no store",
            "use s3://BUCKET/PATH, gs://BUCKET/PATH, az://CONTAINER@ACCOUNT.dfs.core.windows.net/PATH or file:///PATH",
        )
    has_key = ("@" in parts.netloc and parts.scheme != "az") or {"access_key", "secret_key"} & set(
        parse_qs(parts.query)
    )
    if has_key or parts.fragment:
        raise InputError(
            "key_in_uri",
            "a store's URI is kept in the manifest, so it must hold no key",
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or the store's own variables) instead",
        )
    return parts._replace(path=parts.path.rstrip("/")).geturl()


def location_of(uri: str, part: Part) -> str:
    """Returns where a part lies below a store's URI."""
    parts = urlsplit(checked_uri(uri))
    return parts._replace(path=f"{parts.path}/{part.file}").geturl()


def upload(path: Path, part: Part, location: str) -> None:
    """Puts a part's file to its location and reads it back.

    Raises:
        IntegrityError: the file is not what the manifest says, or did not arrive so.
        NetworkError: the store cannot be reached, or refuses.
    """
    system, target = _opened(location)
    digest = hashlib.sha256()
    try:
        if urlsplit(location).scheme == "file":
            system.create_dir(os.path.dirname(target), recursive=True)
        with path.open("rb") as source, system.open_output_stream(target) as out:
            while piece := source.read(PIECE):
                digest.update(piece)
                out.write(piece)
        back = hashlib.sha256()
        with system.open_input_stream(target) as stream:
            while piece := stream.read(PIECE):
                back.update(piece)
    except OSError as error:
        raise _unreachable(location, error) from error
    if digest.hexdigest() != part.digest or back.hexdigest() != part.digest:
        raise IntegrityError(
            "part_damaged",
            f"{part.file} is not what the manifest says, or did not arrive whole",
            "check the disk and the store; the local file is still in force",
        )


def fetched(part: Part, cache: Path) -> Path:
    """Returns a local copy of a cold part, fetched where there is none.

    Raises:
        NetworkError: the store cannot be reached, or lacks it.
        IntegrityError: what the store holds is not what was put there.
        StorageError: the disk refused.
    """
    path = cache / f"{part.digest}.parquet"
    if path.exists():
        os.utime(path)  # the last used stays longest
        return path
    system, source = _opened(part.location)
    digest = hashlib.sha256()

    def copy(out: Any) -> None:
        try:
            with system.open_input_stream(source) as stream:
                while piece := stream.read(PIECE):
                    digest.update(piece)
                    out.write(piece)
        except OSError as error:
            if error.errno in _OF_THE_DISK:
                raise
            raise _unreachable(part.location, error) from error
        if digest.hexdigest() != part.digest:
            raise IntegrityError(
                "cold_part_damaged",
                f"{part.location} is not what was put there",
                "restore the object from a version or a copy of the store",
            )

    _make_room(cache, part.size)
    write_durably(path, copy)
    return path


_OF_THE_DISK = frozenset({27, 28, 30, 122})
"""EFBIG, ENOSPC, EROFS, EDQUOT: what only the local disk says."""


def _make_room(cache: Path, size: int) -> None:
    """Drops copies, the longest unused first, until the new one fits below the bound."""
    held = sorted(cache.glob("*.parquet"), key=lambda each: each.stat().st_mtime) if cache.exists() else []
    total = sum(each.stat().st_size for each in held)
    for each in held:
        if total + size <= CACHE_BYTES_MAX:
            return
        total -= each.stat().st_size
        each.unlink(missing_ok=True)


def _opened(location: str) -> tuple[Any, str]:
    """Returns pyarrow's file system for a location, and the path in it."""
    import pyarrow.fs  # pyright: ignore[reportMissingTypeStubs] (lazy; the package ships no stubs)

    arrow: Any = pyarrow.fs
    parts = urlsplit(location)
    try:
        if parts.scheme == "s3":
            options: dict[str, Any] = {name: values[-1] for name, values in parse_qs(parts.query).items()}
            store = arrow.S3FileSystem(
                connect_timeout=TIMEOUT_S,
                request_timeout=TIMEOUT_S * 3,
                retry_strategy=arrow.AwsStandardS3RetryStrategy(max_attempts=2),
                **options,
            )
            return store, f"{parts.netloc}{parts.path}"
        scheme = "abfs" if parts.scheme == "az" else parts.scheme
        system, path = arrow.FileSystem.from_uri(parts._replace(scheme=scheme).geturl())
    except (OSError, ValueError, TypeError) as error:
        raise _unreachable(location, error) from error
    return system, path


def _unreachable(location: str, error: Exception) -> NetworkError:
    parts = urlsplit(location)
    return NetworkError(
        "cold_store_unreachable",
        f"{parts.scheme}://{parts.netloc}{parts.path} cannot be used ({str(error).splitlines()[0]:.200})",
        "check the network, the store's address and its keys; data on this disk reads on",
    )
