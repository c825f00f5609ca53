"""The process calls of the daemon inside a sandbox: start, listen, feed, signal.

They are Connect RPCs: their schema and framing are the e2b wheel's own server stubs.
"""

import asyncio
import signal
from collections.abc import AsyncGenerator, AsyncIterator
from typing import TYPE_CHECKING, Any

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from e2b.envd.process import process_connect, process_pb
from protobuf import Oneof
from tests.sandbox.e2b.service.processes import Event, Process

if TYPE_CHECKING:
    from tests.sandbox.e2b.service.server import Service

KEEPALIVE_S = 5.0
_ProcessEvent = process_pb.ProcessEvent


class Processes(process_connect.Process):
    """Process calls. Not imitated: pseudo-terminals, the shell (see `processes.Process`), `Update`."""

    def __init__(self, service: "Service") -> None:
        self._service = service

    async def list(self, request: process_pb.ListRequest, ctx: Any) -> process_pb.ListResponse:
        """What runs."""
        del request
        running = [p for p in self._service.machine_of(ctx).processes.values() if not p.is_over]
        return process_pb.ListResponse(
            processes=[
                process_pb.ProcessInfo(
                    pid=process.pid,
                    tag=process.tag,
                    config=process_pb.ProcessConfig(
                        cmd=process.command, args=process.args, envs=process.env, cwd=process.cwd
                    ),
                )
                for process in running
            ]
        )

    async def start(
        self, request: process_pb.StartRequest, ctx: Any
    ) -> AsyncIterator[process_pb.StartResponse]:
        """Start a command and tell how it goes; it goes on when nobody listens."""
        config = request.process or process_pb.ProcessConfig()
        process = await self._service.machine_of(ctx).start_process(
            config.cmd,
            list(config.args),
            dict(config.envs),
            config.cwd if config.has_field("cwd") else None,
            request.tag if request.has_field("tag") else None,
            has_stdin=request.stdin if request.has_field("stdin") else True,
        )
        async for event in _told(process, 0):
            yield process_pb.StartResponse(event=event)

    async def connect(
        self, request: process_pb.ConnectRequest, ctx: Any
    ) -> AsyncIterator[process_pb.ConnectResponse]:
        """Listen to a running command from now on."""
        process = self._process(request, ctx)
        async for event in _told(process, process.said):
            yield process_pb.ConnectResponse(event=event)

    async def send_signal(
        self, request: process_pb.SendSignalRequest, ctx: Any
    ) -> process_pb.SendSignalResponse:
        """SIGTERM or SIGKILL."""
        is_kill = request.signal == process_pb.Signal.SIGKILL
        self._process(request, ctx).signal(signal.SIGKILL if is_kill else signal.SIGTERM)
        return process_pb.SendSignalResponse()

    async def send_input(
        self, request: process_pb.SendInputRequest, ctx: Any
    ) -> process_pb.SendInputResponse:
        """Standard input."""
        match request.input.input if request.input is not None else None:
            case Oneof(field="stdin", value=data) if await self._process(request, ctx).feed(bytes(data)):
                return process_pb.SendInputResponse()
            case _:
                raise ConnectError(Code.FAILED_PRECONDITION, "stdin is not enabled or is closed")

    async def close_stdin(
        self, request: process_pb.CloseStdinRequest, ctx: Any
    ) -> process_pb.CloseStdinResponse:
        """The end of standard input."""
        if not await self._process(request, ctx).feed(None):
            raise ConnectError(Code.FAILED_PRECONDITION, "stdin is not enabled or is closed")
        return process_pb.CloseStdinResponse()

    async def stream_input(
        self, request: AsyncIterator[process_pb.StreamInputRequest], ctx: Any
    ) -> process_pb.StreamInputResponse:
        """Standard input, in order, over one call."""
        process: Process | None = None
        async for piece in request:
            match piece.event:
                case Oneof(field="start", value=start):
                    process = self._process(start, ctx)
                case Oneof(field="data", value=data) if process is not None and data.input is not None:
                    if data.input.input is not None:
                        await process.feed(bytes(data.input.input.value))
                case _:
                    pass
        return process_pb.StreamInputResponse()

    def _process(self, request: Any, ctx: Any) -> Process:
        selector = request.process.selector
        for process in self._service.machine_of(ctx).processes.values():
            if selector.value in (process.pid, process.tag) and not process.is_over:
                return process
        raise ConnectError(Code.NOT_FOUND, f"process with {selector.field} {selector.value} not found")


async def _told(process: Process, since: int) -> AsyncGenerator[process_pb.ProcessEvent, None]:
    yield _ProcessEvent(event=Oneof("start", _ProcessEvent.StartEvent(pid=process.pid)))
    events = process.events(since)
    pending = asyncio.ensure_future(anext(events))
    try:
        while True:
            done, _ = await asyncio.wait([pending], timeout=KEEPALIVE_S)
            if not done:
                yield _ProcessEvent(event=Oneof("keepalive", _ProcessEvent.KeepAlive()))
                continue
            event = pending.result()
            yield _event(event)
            if event[0] == "end":
                return
            pending = asyncio.ensure_future(anext(events))
    finally:
        pending.cancel()


def _event(event: Event) -> process_pb.ProcessEvent:
    kind, value = event
    if isinstance(value, int):
        code = value
        status = f"exit status {code}" if code >= 0 else f"signal: {signal.strsignal(-code)}".lower()
        end = _ProcessEvent.EndEvent(
            exit_code=max(code, -1), exited=code >= 0, status=status, error=status if code else None
        )
        return _ProcessEvent(event=Oneof("end", end))
    if kind == "stdout":
        return _ProcessEvent(event=Oneof("data", _ProcessEvent.DataEvent(output=Oneof("stdout", value))))
    return _ProcessEvent(event=Oneof("data", _ProcessEvent.DataEvent(output=Oneof("stderr", value))))
