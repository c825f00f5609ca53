"""The daemon inside a sandbox (port 49983): health, files and the file system calls.

The calls are Connect RPCs: their schema and framing are the e2b wheel's own server stubs.
"""

import asyncio
import gzip
import posixpath
import shutil
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from e2b.envd.filesystem import filesystem_connect, filesystem_pb
from protobuf import Oneof
from protobuf.wkt import Timestamp
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from tests.sandbox.e2b.service.control import problem
from tests.sandbox.e2b.service.disk import Disk, FullError, OutsideError
from tests.sandbox.e2b.service.machine import Machine

if TYPE_CHECKING:
    from tests.sandbox.e2b.service.server import Service

PORT = "49983"
WATCH_S = 0.05


async def files(request: Request, machine: Machine) -> Response:
    """`GET` and `POST /files`, and `/health`."""
    if request.url.path == "/health":
        return Response(status_code=204)
    if request.url.path == "/envs":
        return JSONResponse(machine.env)
    if request.url.path != "/files":
        return problem(404, "no such path")
    try:
        if request.method == "GET":
            return _download(request, machine.disk)
        return await _upload(request, machine.disk)
    except (OutsideError, IsADirectoryError, NotADirectoryError) as error:
        return problem(400, f"path is not usable: {error}")
    except FullError:
        return problem(507, "there is not enough disk space available")


def _download(request: Request, disk: Disk) -> Response:
    path = disk.path(request.query_params["path"])
    there = disk.host_path(path)
    if there.is_dir():
        return problem(400, f"path '{path}' is a directory")
    if not there.exists():
        return problem(404, f"path '{path}' does not exist")
    return FileResponse(there, media_type="application/octet-stream")


async def _upload(request: Request, disk: Disk) -> Response:
    path = request.query_params.get("path")
    prefix = "x-metadata-"
    metadata = {k.removeprefix(prefix): v for k, v in request.headers.items() if k.startswith(prefix)}
    uploads: list[tuple[str, bytes]] = []
    if request.headers.get("content-type", "").startswith("multipart/"):
        async with request.form() as form:
            for _, part in form.multi_items():
                if isinstance(part, UploadFile):
                    uploads.append((path or part.filename or "", await part.read()))
    elif path is not None:
        body = await request.body()
        uploads.append(
            (path, gzip.decompress(body) if request.headers.get("content-encoding") == "gzip" else body)
        )
    for where, data in uploads:
        disk.write(where, data, metadata)
    names = [disk.path(where) for where, _ in uploads]
    return JSONResponse(
        [
            {"name": posixpath.basename(n), "type": "file", "path": n, "metadata": metadata or None}
            for n in names
        ]
    )


class Filesystem(filesystem_connect.Filesystem):
    """File system calls. Not imitated: owners, links, network mounts, polled watchers (`CreateWatcher`)."""

    def __init__(self, service: "Service") -> None:
        self._service = service

    async def stat(self, request: filesystem_pb.StatRequest, ctx: Any) -> filesystem_pb.StatResponse:
        """What lies at a path."""
        return filesystem_pb.StatResponse(entry=_entry(self._disk(ctx), request.path))

    async def make_dir(
        self, request: filesystem_pb.MakeDirRequest, ctx: Any
    ) -> filesystem_pb.MakeDirResponse:
        """A new folder, with those on the way."""
        disk = self._disk(ctx)
        there = _there(disk, request.path)
        if there.exists():
            raise ConnectError(Code.ALREADY_EXISTS, f"path already exists: {disk.path(request.path)}")
        there.mkdir(parents=True)
        return filesystem_pb.MakeDirResponse(entry=_entry(disk, request.path))

    async def list_dir(
        self, request: filesystem_pb.ListDirRequest, ctx: Any
    ) -> filesystem_pb.ListDirResponse:
        """What lies below a folder, down to `depth`."""
        disk = self._disk(ctx)
        there = _there(disk, request.path)
        if not there.exists():
            raise ConnectError(Code.NOT_FOUND, f"path not found: {disk.path(request.path)}")
        if not there.is_dir():
            raise ConnectError(Code.INVALID_ARGUMENT, f"path is not a directory: {disk.path(request.path)}")
        below = [path.relative_to(there) for path in sorted(there.rglob("*"))]
        near = [str(path) for path in below if len(path.parts) <= max(request.depth, 1)]
        start = disk.path(request.path)
        return filesystem_pb.ListDirResponse(entries=[_entry(disk, f"{start}/{path}") for path in near])

    async def remove(self, request: filesystem_pb.RemoveRequest, ctx: Any) -> filesystem_pb.RemoveResponse:
        """Take a file or a folder away; what is not there is gone already, as for the real one."""
        there = _there(self._disk(ctx), request.path)
        if there.is_dir():
            shutil.rmtree(there)
        else:
            there.unlink(missing_ok=True)
        return filesystem_pb.RemoveResponse()

    async def move(self, request: filesystem_pb.MoveRequest, ctx: Any) -> filesystem_pb.MoveResponse:
        """Rename."""
        disk = self._disk(ctx)
        source, destination = _there(disk, request.source), _there(disk, request.destination)
        if not source.exists():
            raise ConnectError(Code.NOT_FOUND, f"path not found: {disk.path(request.source)}")
        destination.parent.mkdir(parents=True, exist_ok=True)
        source.rename(destination)
        return filesystem_pb.MoveResponse(entry=_entry(disk, request.destination))

    async def watch_dir(
        self, request: filesystem_pb.WatchDirRequest, ctx: Any
    ) -> AsyncIterator[filesystem_pb.WatchDirResponse]:
        """Tell what changes in a folder."""
        machine, disk = self._service.machine_of(ctx), self._disk(ctx)
        there = _there(disk, request.path)
        if not there.is_dir():
            raise ConnectError(Code.NOT_FOUND, f"path not found: {disk.path(request.path)}")
        reply = filesystem_pb.WatchDirResponse
        before = _snapshot(there, is_recursive=request.recursive)
        yield reply(event=Oneof("start", reply.StartEvent()))
        kinds = filesystem_pb.EventType
        while machine.is_running:
            await asyncio.sleep(WATCH_S)
            after = _snapshot(there, is_recursive=request.recursive)
            news = [(name, kinds.CREATE) for name in after.keys() - before.keys()]
            news += [
                (name, kinds.WRITE) for name in after.keys() & before.keys() if after[name] != before[name]
            ]
            news += [(name, kinds.REMOVE) for name in before.keys() - after.keys()]
            before = after
            for name, kind in sorted(news):
                event = filesystem_pb.FilesystemEvent(name=name, type=kind)
                yield reply(event=Oneof("filesystem", event))

    def _disk(self, ctx: Any) -> Disk:
        return self._service.machine_of(ctx).disk


def _there(disk: Disk, path: str) -> Path:
    try:
        return disk.host_path(path)
    except OutsideError:
        raise ConnectError(Code.INVALID_ARGUMENT, f"path is not usable: {path}") from None


def _entry(disk: Disk, path: str) -> filesystem_pb.EntryInfo:
    path, there = disk.path(path), _there(disk, path)
    if not there.exists():
        raise ConnectError(Code.NOT_FOUND, f"path not found: {path}")
    state, is_folder = there.stat(), there.is_dir()
    kinds = filesystem_pb.FileType
    return filesystem_pb.EntryInfo(
        name=posixpath.basename(path),
        type=kinds.DIRECTORY if is_folder else kinds.FILE,
        path=path,
        size=state.st_size,
        mode=state.st_mode & 0o7777,
        permissions="drwxr-xr-x" if is_folder else "-rw-r--r--",
        owner="user",
        group="user",
        modified_time=Timestamp.from_datetime(datetime.fromtimestamp(state.st_mtime, UTC)),
        metadata=disk.metadata.get(path),
    )


def _snapshot(folder: Path, *, is_recursive: bool) -> dict[str, tuple[int, int]]:
    found = folder.rglob("*") if is_recursive else folder.iterdir()
    return {str(f.relative_to(folder)): (f.stat().st_mtime_ns, f.stat().st_size) for f in found if f.exists()}
