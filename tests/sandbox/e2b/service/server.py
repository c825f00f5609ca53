"""An E2B-compatible service on loopback, for tests: one port for the control plane and all sandboxes.

It speaks the wire protocol that `e2b` 2.63 and `e2b-code-interpreter` 2.11 speak: `control` (the API host),
`envd` and `commands` (port 49983 of a sandbox) and `interpreter` (port 49999). Sandboxes are found by the
headers E2b-Sandbox-Id and E2b-Sandbox-Port that the SDK sends, as behind `sandbox_url`. Each module says
what it does not imitate; besides that, a sandbox here is no virtual machine: kernels are locked children of
the local backend, commands are locked in by its primitives (`cell`), and all share this host's kernel.
"""

import asyncio
import contextlib
import json
import socket
import threading
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from e2b.envd.filesystem import filesystem_connect
from e2b.envd.process import process_connect
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import Receive, Scope, Send
from tests.sandbox.e2b.service import commands, envd, interpreter
from tests.sandbox.e2b.service.control import Control, problem
from tests.sandbox.e2b.service.faults import DroppedError, Fault, FaultySend
from tests.sandbox.e2b.service.kernels import MODULE
from tests.sandbox.e2b.service.machine import Machine

from neural_trader_sandbox.local.sandbox import LocalSandbox

API_KEY = "e2b_0123456789abcdef0123456789abcdef01234567"
PLANES = {envd.PORT: "envd", interpreter.PORT: "code"}
START_S = 20.0
END_S = 20.0


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, as it arrived.

    Attributes:
        plane: `api`, `envd` or `code`.
        headers: Lower-case names.
        body: Of the API's requests, parsed.
    """

    plane: str
    method: str
    path: str
    sandbox_id: str | None
    headers: dict[str, str]
    body: dict[str, Any]


class Service:
    """The service, its knobs and its log. Tests read and write the attributes while it runs.

    Attributes:
        url: Both `api_url` and `sandbox_url`.
        api_key: The only one it takes.
        templates: Images by the names that it knows: a folder that is copied into each new sandbox's disk.
        faults: What goes wrong with the next requests; see `Fault`.
        wedged: Sandboxes whose code never ends.
        envd_version: What new sandboxes announce.
        sandboxes_max: Running at once, before creation answers 429.
        disk_bytes: Of new sandboxes, before uploads answer 507.
        clock_skew_s: Of new sandboxes.
        keepalive_s: Between the keepalive lines of silent code.
        machines: Every sandbox there ever was, by id; `ended_by` says how it ended.
        log: Every request.
    """

    def __init__(self, cache_dir: Path) -> None:
        self.sandbox = LocalSandbox(["numpy", "polars", MODULE], warm=0, cache_dir=cache_dir)
        self.url = ""
        self.api_key = API_KEY
        self.machines: dict[str, Machine] = {}
        self._control = Control(self)
        self._interpreter = interpreter.Interpreter(self)
        self._filesystem = filesystem_connect.FilesystemASGIApplication(envd.Filesystem(self))
        self._processes = process_connect.ProcessASGIApplication(commands.Processes(self))
        self._loop: asyncio.AbstractEventLoop | None = None
        self.reset()

    def reset(self) -> None:
        """Forget the log, the faults and every knob; running sandboxes are killed."""
        self.templates: dict[str, Path | None] = dict.fromkeys(
            ("neural-trader", "code-interpreter-v1", "base")
        )
        self.faults: list[Fault] = []
        self.wedged: set[str] = set()
        self.envd_version = "0.6.13"
        self.sandboxes_max = 20
        self.disk_bytes = 256 << 20
        self.clock_skew_s = 0.0
        self.keepalive_s = 1.0
        self.log: list[Asked] = []
        if self._loop is not None:
            asyncio.run_coroutine_threadsafe(self.kill_all("reset"), self._loop).result()

    def running(self) -> list[Machine]:
        """Sandboxes that answer."""
        return [machine for machine in self.machines.values() if machine.is_running]

    def kill(self, sandbox_id: str) -> None:
        """End a sandbox as the service itself would, from the test's thread."""
        assert self._loop is not None
        asyncio.run_coroutine_threadsafe(self.machines[sandbox_id].kill("service"), self._loop).result()

    async def kill_all(self, reason: str) -> None:
        """End every sandbox."""
        await asyncio.gather(*(machine.kill(reason) for machine in self.machines.values()))
        self.machines.clear()

    def machine_of(self, ctx: Any) -> Machine:
        """The sandbox that a Connect call is for."""
        return self.machines[ctx.request_headers["e2b-sandbox-id"]]

    @contextlib.contextmanager
    def serve(self) -> Generator[None]:
        """Run in a thread of its own, with a loop of its own, while the context is open."""
        # bound with the protocol named: only then asyncio sets TCP_NODELAY, which saves 40 ms an answer
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.bind(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        config = uvicorn.Config(
            self, log_config=None, lifespan="off", timeout_graceful_shutdown=1, timeout_keep_alive=60
        )
        server = uvicorn.Server(config)

        async def run() -> None:
            self._loop = asyncio.get_running_loop()
            await server.serve(sockets=[listener])
            await self.kill_all("shutdown")
            await self.sandbox.aclose()

        thread = threading.Thread(target=asyncio.run, args=[run()], name="e2b-test-service")
        thread.start()
        deadline = time.monotonic() + START_S
        while not server.started and thread.is_alive() and time.monotonic() < deadline:
            time.sleep(0.005)  # uvicorn offers no event to wait on
        try:
            yield
        finally:
            server.should_exit = True
            thread.join(END_S)
            listener.close()
        assert not thread.is_alive(), f"the test service did not end in {END_S:g} s"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Log a request, let a fault have its way, and pass it to its plane."""
        request = Request(scope, receive)
        headers = dict(request.headers)
        sandbox_id = headers.get("e2b-sandbox-id")
        plane = PLANES.get(headers.get("e2b-sandbox-port", ""), "envd") if sandbox_id else "api"
        body = await self._body(request) if plane == "api" else {}
        self.log.append(Asked(plane, request.method, request.url.path, sandbox_id, headers, body))
        what = f"{plane} {request.method} {request.url.path}"
        fault = next((fault for fault in self.faults if fault.meets(what, sandbox_id)), None)
        if fault is None:
            await self._pass(scope, receive, send, request, sandbox_id, plane, body)
            return
        fault.times -= 1
        await asyncio.sleep(fault.delay_s)
        if fault.status is not None:
            await fault.answer(send, plane)
            return
        faulty = FaultySend(send, fault)
        await self._pass(scope, receive, faulty, request, sandbox_id, plane, body)
        if faulty.is_dropped:
            raise DroppedError

    async def _pass(
        self, scope: Scope, receive: Receive, send: Send, request: Request, sandbox_id: str | None,
        plane: str, body: dict[str, Any],
    ) -> None:  # fmt: skip
        if sandbox_id is None:
            await (await self._control(request, body))(scope, receive, send)
            return
        machine = self.machines.get(sandbox_id)
        if machine is None or not machine.is_running:
            gone = {"sandboxId": sandbox_id, "message": "The sandbox was not found", "code": 502}
            await JSONResponse(gone, 502)(scope, receive, send)
            return
        answer = await self._in_sandbox(request, machine, plane)
        if answer is not None:
            await answer(scope, receive, send)
        elif request.url.path.startswith("/process.Process/"):
            await self._processes(scope, receive, send)
        else:
            await self._filesystem(scope, receive, send)

    async def _in_sandbox(self, request: Request, machine: Machine, plane: str) -> Response | None:
        """The answer; None where it is a Connect call."""
        if plane == "code":
            return await self._interpreter(request, machine)
        if request.headers.get("e2b-sandbox-port") != envd.PORT:
            return PlainTextResponse("The sandbox is running but port is not open", 502)
        is_open = request.url.path == "/health"
        if not is_open and request.headers.get("x-access-token") != machine.access_token:
            return problem(401, "unauthorized access, please provide a valid access token")
        if request.url.path.startswith(("/process.Process/", "/filesystem.Filesystem/")):
            return None
        return await envd.files(request, machine)

    @staticmethod
    async def _body(request: Request) -> dict[str, Any]:
        with contextlib.suppress(ValueError):
            return json.loads(await request.body() or b"{}")
        return {}
